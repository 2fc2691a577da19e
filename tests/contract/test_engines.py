"""The engines that come with kvs, and the naive one of the tests, keep the contract: written as a third party would."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, closing
from pathlib import Path

import pytest

from kvs.adapters.storage.memory.storage import MemoryStorage
from kvs.adapters.storage.sqlite.engine import SQLITE
from kvs.domain.values import Key, Write
from kvs.ports.storage import Storage
from kvs.testing import DurableStorageContract, StorageContract, open_engine
from tests.support.naive_storage import LockedStorage, NaiveStorage


class TestMemory(StorageContract):
    records = True

    def open_storage(self) -> AbstractContextManager[Storage]:
        return closing(MemoryStorage(0, 1 << 40))


class TestMemoryWithALimit(StorageContract):
    records = True

    def open_storage(self) -> AbstractContextManager[Storage]:
        return closing(MemoryStorage(1 << 20, 1 << 40))

    def refused_writes(self) -> Mapping[Key, Write]:
        return {b"k": b"v" * (1 << 19), b"l": b"v" * (1 << 19)}


class TestSqlite(DurableStorageContract):
    records = True

    def open_storage_in(self, directory: Path) -> AbstractContextManager[Storage]:
        return open_engine(SQLITE, directory)


@pytest.mark.one_build
class TestNaive(StorageContract):
    records = True

    def open_storage(self) -> AbstractContextManager[Storage]:
        return closing(NaiveStorage())


@pytest.mark.one_build
class TestLocked(StorageContract):
    records = True

    def open_storage(self) -> AbstractContextManager[Storage]:
        return closing(LockedStorage())

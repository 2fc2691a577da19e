"""The engine keeps the contract of kvs."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from kvs.domain.values import Key, Write
from kvs.ports.storage import Storage
from kvs.testing import DurableStorageContract, open_engine
from kvs_wholefile import ENGINE

MAX_KEYS = 5000


class TestWholeFile(DurableStorageContract):
    records = True

    def open_storage_in(self, directory: Path) -> AbstractContextManager[Storage]:
        return open_engine(ENGINE, directory, max_keys=MAX_KEYS)

    def refused_writes(self) -> Mapping[Key, Write]:
        return dict.fromkeys((b"%d" % number for number in range(MAX_KEYS + 1)), b"")

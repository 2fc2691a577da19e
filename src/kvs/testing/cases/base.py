"""What all cases share: opening the engine, edge cases of keys and values, and steps."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import ClassVar, Final

import pytest

from kvs.domain.commit import CommitRequest, Committed, Conflict, KeyRange, ReadSet, prefix_range
from kvs.domain.values import Key, Value, Write
from kvs.ports.storage import Snapshot, Storage

EDGE_CASE_KEYS: Final[list[Key]] = [
    b"\0",
    b"\0\0",
    b"\xff",
    b"\xff\xff",
    b"a\xff",
    b"a\xff\xff",
    b"b",
    b" ",
    b"\n",
    b"\xc3",
    b"a" * 5000,
]
"""Keys that are not UTF-8, that lie at the end of a prefix, or that are long."""

EDGE_CASE_VALUES: Final[list[Value]] = [b"", b"\0", b"\xff\xfe", b"x" * 100_000]
"""Values that could be mistaken for an absent one, that are not UTF-8, or that are long."""


def short_id(data: bytes) -> str:
    """Return the id of a parameter; pytest's own would be as long as the key."""
    return repr(data[:8])


class StorageCases(ABC):
    """The base of all classes of cases.

    Attributes:
        records: Whether the engine stores records, as its ``EngineSpec`` says.
    """

    records: ClassVar[bool] = False

    @abstractmethod
    def open_storage(self) -> AbstractContextManager[Storage]:
        """Open an empty engine; the context manager closes it. May be called while another one is open."""

    @pytest.fixture
    def storage(self) -> Iterator[Storage]:
        """An empty engine, closed after the test."""
        with self.open_storage() as storage:
            yield storage


def put_all(storage: Storage, *keys: Key) -> None:
    """Store a value under each key."""
    for key in keys:
        storage.put(key, b"value of " + key)


def commit(
    storage: Storage,
    snapshot: Snapshot,
    writes: Mapping[Key, Write],
    keys: Collection[Key] = (),
    ranges: Collection[KeyRange] = (),
) -> Committed | Conflict:
    """Commit as a session does: the snapshot is closed afterwards, even if the commit fails."""
    try:
        return storage.commit(CommitRequest((ReadSet(snapshot, keys, ranges),), writes))
    finally:
        snapshot.close()
        end_tick(storage)


def under(*prefixes: Key) -> list[KeyRange]:
    """Return the ranges of all keys with these prefixes."""
    return [prefix_range(prefix) for prefix in prefixes]


def end_tick(storage: Storage) -> None:
    """Make applied writes durable, as the end of a tick does. A blocking engine has done so, and gets no ``sync``."""
    if not storage.blocking:
        storage.sync()


def contents(storage: Storage) -> dict[Key, Value | None]:
    """Return everything that is stored."""
    return {key: storage.get(key) for key in storage.scan(b"", b"", 1 << 20)}

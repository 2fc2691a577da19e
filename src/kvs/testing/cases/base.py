"""What all cases share: how an engine is opened, and the steps that they are made of."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Final

import pytest

from kvs.domain.commit import CommitRequest, Committed, Conflict, KeyRange, ReadSet, prefix_range
from kvs.domain.values import Key, Value, Write
from kvs.ports.storage import Snapshot, Storage

ODD_KEYS: Final[list[Key]] = [
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
"""Keys that are no text, that end where prefixes end, or that are long."""

ODD_VALUES: Final[list[Value]] = [b"", b"\0", b"\xff\xfe", b"x" * 100_000]
"""Values that may be taken for none, that are no text, or that are long."""


def abridged(data: bytes) -> str:
    """Return a name for a parameter; pytest's own would be as long as the longest key."""
    return repr(data[:8])


class StorageCases(ABC):
    """Cases about one engine."""

    @abstractmethod
    def open_storage(self) -> AbstractContextManager[Storage]:
        """Open an engine that is empty; the context manager closes it. May be called again while another is open."""

    @pytest.fixture
    def storage(self) -> Iterator[Storage]:
        """An empty engine, closed after the test."""
        with self.open_storage() as storage:
            yield storage


def put_all(storage: Storage, *keys: Key) -> None:
    """Store these keys."""
    for key in keys:
        storage.put(key, b"value of " + key)


def commit(
    storage: Storage,
    snapshot: Snapshot,
    writes: Mapping[Key, Write],
    keys: Collection[Key] = (),
    ranges: Collection[KeyRange] = (),
) -> Committed | Conflict:
    """Commit as a session does: the snapshot is closed afterwards, whatever came of it."""
    try:
        return storage.commit(CommitRequest((ReadSet(snapshot, keys, ranges),), writes))
    finally:
        snapshot.close()
        settle(storage)


def under(*prefixes: Key) -> list[KeyRange]:
    """Return the ranges of all keys with these prefixes."""
    return [prefix_range(prefix) for prefix in prefixes]


def settle(storage: Storage) -> None:
    """End a tick, so that what was applied is durable. A blocking engine has seen to that, and is never asked."""
    if not storage.blocking:
        storage.sync()


def contents(storage: Storage) -> dict[Key, Value | None]:
    """Return everything that is stored."""
    return {key: storage.get(key) for key in storage.scan(b"", b"", 1 << 20)}

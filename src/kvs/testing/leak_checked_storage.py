"""Wraps an engine, and checks that each snapshot is closed exactly once and not used afterwards."""

import threading
from collections.abc import Callable, Mapping
from typing import cast

from kvs.adapters.storage.indexed import IndexedStorage, keeps_deadlines
from kvs.domain.commit import CommitRequest, Committed, Conflict, ReadSet
from kvs.domain.updates import Update, Updated
from kvs.domain.values import Key, Value
from kvs.override import override
from kvs.ports.storage import Snapshot, Storage


class LeakCheckedSnapshot(Snapshot):
    """A snapshot that records misuse."""

    def __init__(self, storage: "LeakCheckedStorage", inner: Snapshot) -> None:
        self.inner = inner
        self._storage = storage
        self._closed = False
        with storage.counting:
            storage.open_snapshots += 1

    @property
    @override
    def expired(self) -> bool:
        return self._open().expired

    @override
    def get(self, key: Key) -> Value | None:
        return self._open().get(key)

    @override
    def scan(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        return self._open().scan(prefix, after, limit)

    @override
    def count(self, prefix: Key) -> int:
        return self._open().count(prefix)

    @override
    def close(self) -> None:
        with self._storage.counting:
            if self._closed:
                self._storage.misuses.append("closed twice")
            else:
                self._storage.open_snapshots -= 1
            self._closed = True
        self.inner.close()

    def _open(self) -> Snapshot:
        if self._closed:
            self._storage.misuses.append("used after it was closed")
        return self.inner


class LeakCheckedStorage(Storage):
    """Wraps an engine.

    Attributes:
        open_snapshots: Number of open snapshots.
        taken: Number of snapshots taken so far.
        misuses: Uses of snapshots that had been closed.
        counting: Protects the figures.
    """

    def __init__(self, inner: Storage) -> None:
        self.inner = inner
        self.open_snapshots = 0
        self.taken = 0
        self.misuses: list[str] = []
        self.counting = threading.Lock()

    @property
    @override
    def blocking(self) -> bool:
        return self.inner.blocking

    @override
    def get(self, key: Key) -> Value | None:
        return self.inner.get(key)

    @override
    def put(self, key: Key, value: Value) -> None:
        self.inner.put(key, value)

    @override
    def put_all(self, keys: list[Key], values: list[Value]) -> None:
        self.inner.put_all(keys, values)

    @override
    def delete(self, key: Key) -> bool:
        return self.inner.delete(key)

    @override
    def update(self, key: Key, update: Update) -> Updated:
        return self.inner.update(key, update)

    @override
    def clear(self) -> None:
        self.inner.clear()

    @override
    def scan(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        return self.inner.scan(prefix, after, limit)

    @override
    def count(self, prefix: Key) -> int:
        return self.inner.count(prefix)

    @override
    def snapshot(self) -> LeakCheckedSnapshot:
        with self.counting:
            self.taken += 1
        inner = self.inner.snapshot()
        if not hasattr(inner, "close"):
            return cast("LeakCheckedSnapshot", inner)  # of a broken engine: there is nothing to check
        return LeakCheckedSnapshot(self, inner)

    @override
    def commit(self, request: CommitRequest) -> Committed | Conflict:
        inner: list[ReadSet] = []
        for reads in request.reads:
            snapshot = reads.snapshot
            assert isinstance(snapshot, LeakCheckedSnapshot)
            inner.append(ReadSet(snapshot._open(), reads.keys, reads.ranges))
        return self.inner.commit(CommitRequest(tuple(inner), request.writes, request.clears))

    @override
    def expire(self, now_ms: int, max_steps: int) -> list[Key]:
        return self.inner.expire(now_ms, max_steps)

    @override
    def earliest_deadline_ms(self) -> int:
        return self.inner.earliest_deadline_ms()

    @property
    @override
    def horizon_ms(self) -> int:
        return self.inner.horizon_ms

    @property
    @override
    def clock(self) -> Callable[[], float] | None:
        return self.inner.clock

    @override
    def note_horizon(self, now_ms: int) -> None:
        self.inner.note_horizon(now_ms)

    @override
    def sync(self) -> None:
        self.inner.sync()

    @override
    def seal(self) -> int:
        return self.inner.seal()

    @property
    @override
    def durable_mark(self) -> int:
        return self.inner.durable_mark

    @property
    @override
    def in_flight_bytes(self) -> int:
        return self.inner.in_flight_bytes

    @override
    def when_durable(self, wake: Callable[[], None]) -> None:
        self.inner.when_durable(wake)

    @override
    def check(self) -> None:
        self.inner.check()

    @override
    def retire(self) -> None:
        self.inner.retire()

    @override
    def stats(self) -> Mapping[str, int]:
        return self.inner.stats()

    @override
    def close(self) -> None:
        self.inner.close()


def as_served(storage: Storage) -> LeakCheckedStorage:
    """Return an engine with what the server gives it if it has none: an index of deadlines. Its leaks are checked."""
    return LeakCheckedStorage(storage if keeps_deadlines(storage) else IndexedStorage(storage))

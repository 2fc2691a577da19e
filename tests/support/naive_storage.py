"""Engines that copy everything: the simplest that keep the storage port's promises, to compare others with."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from threading import RLock

from kvs.domain.commit import MAX_CONFLICTS_NAMED, CommitRequest, Committed, Conflict, KeyRange
from kvs.domain.values import TOMBSTONE, Key, Value, Write
from kvs.ports.storage import Snapshot, Storage


def under(keys: Iterable[Key], prefix: Key) -> list[Key]:
    """Return the keys that begin with a prefix, in byte order."""
    return sorted(key for key in keys if key.startswith(prefix))


def within(keys: Iterable[Key], wanted: KeyRange) -> list[Key]:
    """Return the keys in a range, in byte order."""
    return sorted(key for key in keys if wanted.holds(key))


class NaiveSnapshot(Snapshot):
    """A copy of the whole data set."""

    def __init__(self, data: dict[Key, Value], log_length: int) -> None:
        self.data = data
        self.log_length = log_length

    def get(self, key: Key) -> Value | None:
        """See :class:`kvs.ports.storage.Snapshot`."""
        return self.data.get(key)

    def scan(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        """See :class:`kvs.ports.storage.Snapshot`."""
        return [key for key in under(self.data, prefix) if key > after][:limit]

    def count(self, prefix: Key) -> int:
        """See :class:`kvs.ports.storage.Snapshot`."""
        return len(under(self.data, prefix))

    def close(self) -> None:
        """See :class:`kvs.ports.storage.Snapshot`."""


class NaiveStorage(Storage):
    """A dict, copied for each snapshot, and a log of every key that ever changed."""

    def __init__(self) -> None:
        self._data: dict[Key, Value] = {}
        self._log: list[Key] = []
        self._version = 0

    def get(self, key: Key) -> Value | None:
        """See :class:`kvs.ports.storage.Storage`."""
        return self._data.get(key)

    def put(self, key: Key, value: Value) -> None:
        """See :class:`kvs.ports.storage.Storage`."""
        self._apply({key: value})

    def put_all(self, keys: list[Key], values: list[Value]) -> None:
        """See :class:`kvs.ports.storage.Storage`."""
        self._apply(dict(zip(keys, values, strict=True)))

    def delete(self, key: Key) -> bool:
        """See :class:`kvs.ports.storage.Storage`."""
        if key not in self._data:
            return False
        del self._data[key]
        self._log.append(key)
        return True

    def scan(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        """See :class:`kvs.ports.storage.Storage`."""
        return self.snapshot().scan(prefix, after, limit)

    def count(self, prefix: Key) -> int:
        """See :class:`kvs.ports.storage.Storage`."""
        return self.snapshot().count(prefix)

    def snapshot(self) -> NaiveSnapshot:
        """See :class:`kvs.ports.storage.Storage`."""
        return NaiveSnapshot(dict(self._data), len(self._log))

    def commit(self, request: CommitRequest) -> Committed | Conflict:
        """See :class:`kvs.ports.storage.Storage`."""
        keys: list[Key] = []
        ranges: list[KeyRange] = []
        for reads in request.reads:
            snapshot = reads.snapshot
            assert isinstance(snapshot, NaiveSnapshot)
            changed = set(self._log[snapshot.log_length :])
            keys += [key for key in reads.keys if key in changed]
            ranges += [each for each in reads.ranges if within(self._data, each) != within(snapshot.data, each)]
        if keys or ranges:
            return Conflict(tuple(keys[:MAX_CONFLICTS_NAMED]), tuple(ranges[:MAX_CONFLICTS_NAMED]))
        if request.clears:
            for key in list(self._data):
                self.delete(key)
        self._apply(request.writes)
        return Committed(self._next_version())

    def stats(self) -> Mapping[str, int]:
        """See :class:`kvs.ports.storage.Storage`."""
        return {"keys": len(self._data)}

    def close(self) -> None:
        """See :class:`kvs.ports.storage.Storage`."""

    def _next_version(self) -> int:
        self._version += 1
        return self._version

    def _apply(self, writes: Mapping[Key, Write]) -> None:
        for key, pending in writes.items():
            if pending is TOMBSTONE:
                self.delete(key)
            else:
                self._data[key] = pending
                self._log.append(key)


class LockedStorage(NaiveStorage):
    """The same for many threads: one lock around every call that is more than one step."""

    lock: AbstractContextManager[object]

    def __init__(self) -> None:
        super().__init__()
        self.lock = RLock()

    @property
    def blocking(self) -> bool:
        """See :class:`kvs.ports.storage.Storage`."""
        return True

    def put(self, key: Key, value: Value) -> None:
        """See :class:`kvs.ports.storage.Storage`."""
        with self.lock:
            super().put(key, value)

    def put_all(self, keys: list[Key], values: list[Value]) -> None:
        """See :class:`kvs.ports.storage.Storage`."""
        with self.lock:
            super().put_all(keys, values)

    def delete(self, key: Key) -> bool:
        """See :class:`kvs.ports.storage.Storage`."""
        with self.lock:
            return super().delete(key)

    def snapshot(self) -> NaiveSnapshot:
        """See :class:`kvs.ports.storage.Storage`. Reads of the engine itself come here, too."""
        with self.lock:
            return super().snapshot()

    def commit(self, request: CommitRequest) -> Committed | Conflict:
        """See :class:`kvs.ports.storage.Storage`."""
        with self.lock:
            return super().commit(request)

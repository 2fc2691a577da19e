"""Engines that copy everything: the simplest that keep the storage port's promises, to compare others with."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from threading import RLock

from kvs.domain.transaction import (
    COMMITTED,
    MAX_CONFLICTS_NAMED,
    CommitRequest,
    Committed,
    Conflict,
)
from kvs.domain.values import Key, Pending, Value
from kvs.ports.storage import Snapshot, Storage


def under(keys: Iterable[Key], prefix: Key) -> list[Key]:
    """Return the keys that begin with a prefix, in byte order."""
    return sorted(key for key in keys if key.startswith(prefix))


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

    def get(self, key: Key) -> Value | None:
        """See :class:`kvs.ports.storage.Storage`."""
        return self._data.get(key)

    def put(self, key: Key, value: Value) -> None:
        """See :class:`kvs.ports.storage.Storage`."""
        self._apply({key: value})

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
        prefixes: list[Key] = []
        for validation in request.validations:
            snapshot = validation.snapshot
            assert isinstance(snapshot, NaiveSnapshot)
            changed = set(self._log[snapshot.log_length :])
            keys += [key for key in validation.keys if key in changed]
            prefixes += [
                prefix for prefix in validation.prefixes if under(self._data, prefix) != under(snapshot.data, prefix)
            ]
        if keys or prefixes:
            return Conflict(tuple(keys[:MAX_CONFLICTS_NAMED]), tuple(prefixes[:MAX_CONFLICTS_NAMED]))
        self._apply(request.writes)
        return COMMITTED

    def sync(self) -> None:
        """See :class:`kvs.ports.storage.Storage`."""

    def stats(self) -> Mapping[str, int]:
        """See :class:`kvs.ports.storage.Storage`."""
        return {"keys": len(self._data)}

    def close(self) -> None:
        """See :class:`kvs.ports.storage.Storage`."""

    def _apply(self, writes: Mapping[Key, Pending]) -> None:
        for key, pending in writes.items():
            if isinstance(pending, bytes):
                self._data[key] = pending
                self._log.append(key)
            else:
                self.delete(key)


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

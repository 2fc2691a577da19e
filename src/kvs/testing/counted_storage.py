"""Any engine, with its snapshots counted: each is closed exactly once, and asked nothing afterwards."""

import threading
from collections.abc import Mapping
from typing import cast

from kvs.domain.commit import CommitRequest, Committed, Conflict, ReadSet
from kvs.domain.updates import Update, Updated
from kvs.domain.values import Key, Value
from kvs.ports.storage import Snapshot, Storage


class CountedSnapshot(Snapshot):
    """A snapshot that knows whether it is open."""

    def __init__(self, storage: "CountedStorage", inner: Snapshot) -> None:
        self.inner = inner
        self._storage = storage
        self._closed = False
        with storage.counting:
            storage.open_snapshots += 1

    @property
    def expired(self) -> bool:
        """See :class:`kvs.ports.storage.Snapshot`."""
        return self._open().expired

    def get(self, key: Key) -> Value | None:
        """See :class:`kvs.ports.storage.Snapshot`."""
        return self._open().get(key)

    def scan(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        """See :class:`kvs.ports.storage.Snapshot`."""
        return self._open().scan(prefix, after, limit)

    def count(self, prefix: Key) -> int:
        """See :class:`kvs.ports.storage.Snapshot`."""
        return self._open().count(prefix)

    def close(self) -> None:
        """See :class:`kvs.ports.storage.Snapshot`."""
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


class CountedStorage(Storage):
    """Passes everything on to an engine.

    Attributes:
        open_snapshots: Taken and not closed yet.
        taken: Ever taken.
        misuses: What was done to a snapshot after it had been closed.
        counting: Held while it counts.
    """

    def __init__(self, inner: Storage) -> None:
        self.inner = inner
        self.open_snapshots = 0
        self.taken = 0
        self.misuses: list[str] = []
        self.counting = threading.Lock()

    @property
    def blocking(self) -> bool:
        """See :class:`kvs.ports.storage.Storage`."""
        return self.inner.blocking

    def get(self, key: Key) -> Value | None:
        """See :class:`kvs.ports.storage.Storage`."""
        return self.inner.get(key)

    def put(self, key: Key, value: Value) -> None:
        """See :class:`kvs.ports.storage.Storage`."""
        self.inner.put(key, value)

    def delete(self, key: Key) -> bool:
        """See :class:`kvs.ports.storage.Storage`."""
        return self.inner.delete(key)

    def update(self, key: Key, update: Update) -> Updated:
        """See :class:`kvs.ports.storage.Storage`."""
        return self.inner.update(key, update)

    def clear(self) -> None:
        """See :class:`kvs.ports.storage.Storage`."""
        self.inner.clear()

    def scan(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        """See :class:`kvs.ports.storage.Storage`."""
        return self.inner.scan(prefix, after, limit)

    def count(self, prefix: Key) -> int:
        """See :class:`kvs.ports.storage.Storage`."""
        return self.inner.count(prefix)

    def snapshot(self) -> CountedSnapshot:
        """See :class:`kvs.ports.storage.Storage`."""
        with self.counting:
            self.taken += 1
        inner = self.inner.snapshot()
        if not hasattr(inner, "close"):
            return cast("CountedSnapshot", inner)  # a broken engine's: there is nothing to count
        return CountedSnapshot(self, inner)

    def commit(self, request: CommitRequest) -> Committed | Conflict:
        """See :class:`kvs.ports.storage.Storage`."""
        inner: list[ReadSet] = []
        for reads in request.reads:
            snapshot = reads.snapshot
            assert isinstance(snapshot, CountedSnapshot)
            inner.append(ReadSet(snapshot._open(), reads.keys, reads.ranges))
        return self.inner.commit(CommitRequest(tuple(inner), request.writes, request.clears))

    def sync(self) -> None:
        """See :class:`kvs.ports.storage.Storage`."""
        self.inner.sync()

    def stats(self) -> Mapping[str, int]:
        """See :class:`kvs.ports.storage.Storage`."""
        return self.inner.stats()

    def close(self) -> None:
        """See :class:`kvs.ports.storage.Storage`."""
        self.inner.close()

"""The memory engine with a journal behind it: reads as ever, and every write also goes to where it lasts.

What is written between two syncs is one batch, and a sync hands it to the journal, which makes all of it durable or
fails. So one wait for the disk serves every client of a tick.
"""

from collections.abc import Mapping
from typing import Protocol, TypeAlias, final

from kvs.adapters.storage.memory.storage import MemorySnapshot, MemoryStorage
from kvs.domain.commit import CommitRequest, Committed, Conflict
from kvs.domain.updates import Update, Updated
from kvs.domain.values import Key, Value
from kvs.ports.storage import Storage

Row: TypeAlias = tuple[Key, Value | None]
"""A key and its new value; None: it was deleted."""


class Journal(Protocol):
    """**Protocol:** Where batches last."""

    def append(self, batch: list[Row]) -> None:
        """Make a batch durable, all of it or nothing. After it has raised, nothing may be told or written any more."""

    def check(self) -> None:
        """Raise if what was appended may not last after all."""

    def stats(self) -> Mapping[str, int]:
        """Return figures for people."""

    def close(self) -> None:
        """Release everything. No call follows."""


@final
class JournaledStorage(Storage):
    """The engine; see the head of this module. Not thread-safe: one loop calls it.

    Args:
        memory: Holds what the journal tells, and is written to by nobody else.
        journal: Gets what is written from now on.
    """

    __slots__ = ("_batch", "_journal", "_memory")

    def __init__(self, memory: MemoryStorage, journal: Journal) -> None:
        self._memory = memory
        self._journal = journal
        self._batch: list[Row] = []

    def get(self, key: Key) -> Value | None:
        """See :class:`kvs.ports.storage.Storage`. O(1)."""
        return self._memory.get(key)

    def put(self, key: Key, value: Value) -> None:
        """See :class:`kvs.ports.storage.Storage`. O(1), and O(log n) for a new key."""
        self._memory.put(key, value)
        self._batch.append((key, value))

    def delete(self, key: Key) -> bool:
        """See :class:`kvs.ports.storage.Storage`. O(log n)."""
        present = self._memory.delete(key)
        if present:
            self._batch.append((key, None))
        return present

    def update(self, key: Key, update: Update) -> Updated:
        """See :class:`kvs.ports.storage.Storage`. As the put or the delete that comes of it."""
        old, new = self._memory.update(key, update)
        if new is not old:
            self._batch.append((key, new))
        return old, new

    def clear(self) -> None:
        """See :class:`kvs.ports.storage.Storage`. O(n): the journal has a row for each key."""
        keys = self._memory.scan(b"", b"", self._memory.count(b""))
        self._memory.clear()
        for key in keys:
            self._batch.append((key, None))

    def scan(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        """See :class:`kvs.ports.storage.Storage`. O(limit + log n)."""
        return self._memory.scan(prefix, after, limit)

    def count(self, prefix: Key) -> int:
        """See :class:`kvs.ports.storage.Storage`. O(log n)."""
        return self._memory.count(prefix)

    def snapshot(self) -> MemorySnapshot:
        """See :class:`kvs.ports.storage.Storage`. O(1)."""
        return self._memory.snapshot()

    def commit(self, request: CommitRequest) -> Committed | Conflict:
        """See :class:`kvs.ports.storage.Storage`."""
        keys = self._memory.scan(b"", b"", self._memory.count(b"")) if request.clears else []
        answer = self._memory.commit(request)
        if isinstance(answer, Committed):
            for key in keys:
                self._batch.append((key, None))
            for key, pending in request.writes.items():
                self._batch.append((key, pending if isinstance(pending, bytes) else None))
        return answer

    def sync(self) -> None:
        """See :class:`kvs.ports.storage.Storage`. Waits for the disk if anything was written."""
        self._memory.sync()
        if self._batch:
            batch, self._batch = self._batch, []
            self._journal.append(batch)
        else:
            self._journal.check()

    def check(self) -> None:
        """See :class:`kvs.ports.storage.Storage`."""
        self._journal.check()

    def stats(self) -> Mapping[str, int]:
        """See :class:`kvs.ports.storage.Storage`."""
        return {**self._memory.stats(), **self._journal.stats()}

    def close(self) -> None:
        """See :class:`kvs.ports.storage.Storage`. What was not synced was told to nobody, and is dropped."""
        self._journal.close()
        self._memory.close()

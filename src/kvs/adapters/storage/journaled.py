"""The memory engine with a journal: reads are served from memory, writes also go to the journal.

The writes of a tick are one batch, which is made durable while the loop goes on, unless that is quicker without. So one
wait for the disk serves every client of a tick, and of the ticks that have passed during the wait before.
"""

from collections import deque
from collections.abc import Callable, Mapping
from typing import TypeAlias, final

from kvs.adapters.storage.journal_writer import Journal, JournalWriter, Row
from kvs.adapters.storage.memory.snapshot import MemorySnapshot
from kvs.adapters.storage.memory.storage import MemoryStorage
from kvs.domain.commit import CommitRequest, Committed, Conflict
from kvs.domain.errors import LimitError
from kvs.domain.updates import Update, Updated
from kvs.domain.values import TOMBSTONE, Key, Value
from kvs.override import override
from kvs.ports.histogram import Counts
from kvs.ports.storage import Storage

Question: TypeAlias = Callable[[MemoryStorage, int], None]
"""Takes the memory, which it only reads, and the mark of the batch with which all that is there is durable."""


@final
class JournaledStorage(Storage):
    """The engine; see the module docstring. Not thread-safe: one loop calls it.

    Args:
        memory: Holds the journal's data; only this engine may write to it.
        journal: Receives the writes.
        horizon_ms: The server's time that is stored.
        clock: See :attr:`kvs.ports.storage.Storage.clock`.
    """

    def __init__(
        self,
        memory: MemoryStorage,
        journal: Journal,
        horizon_ms: int = 0,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._memory = memory
        self._journal = journal
        self._writer = JournalWriter(journal)
        self._horizon_ms = horizon_ms
        self._clock = clock
        self._batch: list[Row] = []
        self._clears = False  # before the batch
        self._refusal = ""
        self._questions: deque[Question] = deque()

    @override
    def get(self, key: Key) -> Value | None:
        return self._memory.get(key)

    @override
    def put(self, key: Key, value: Value) -> None:
        if self._refusal:
            raise LimitError(self._refusal)
        self._memory.put(key, value)
        self._batch.append((key, value))

    @override
    def put_all(self, keys: list[Key], values: list[Value]) -> None:
        if self._refusal:
            raise LimitError(self._refusal)
        self._memory.put_all(keys, values)
        self._batch += zip(keys, values, strict=True)

    @override
    def delete(self, key: Key) -> bool:
        present = self._memory.delete(key)
        if present:
            self._batch.append((key, None))
        return present

    @override
    def update(self, key: Key, update: Update) -> Updated:
        if self._refusal:
            return self._update_without_put(key, update)
        old, new = self._memory.update(key, update)
        if new is not old:
            self._batch.append((key, new))
        return old, new

    @override
    def clear(self) -> None:
        if self._memory.count(b""):
            self._memory.clear()
            self._note_clear()

    @override
    def scan(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        return self._memory.scan(prefix, after, limit)

    @override
    def count(self, prefix: Key) -> int:
        return self._memory.count(prefix)

    @override
    def snapshot(self) -> MemorySnapshot:
        return self._memory.snapshot()

    @override
    def commit(self, request: CommitRequest) -> Committed | Conflict:
        if self._refusal:
            self._refuse_any_put(request)
        clears = request.clears and self._memory.count(b"") > 0
        result = self._memory.commit(request)
        if isinstance(result, Committed):
            if clears:
                self._note_clear()
            for key, pending in request.writes.items():
                self._batch.append((key, None if pending is TOMBSTONE else pending))
        return result

    @override
    def expire(self, now_ms: int, max_steps: int) -> list[Key]:
        keys = self._memory.expire(now_ms, max_steps)
        self._batch += [(key, None) for key in keys]
        return keys

    @override
    def earliest_deadline_ms(self) -> int:
        return self._memory.earliest_deadline_ms()

    @property
    @override
    def horizon_ms(self) -> int:
        return self._horizon_ms

    @property
    @override
    def clock(self) -> Callable[[], float] | None:
        return self._clock

    @override
    def note_horizon(self, now_ms: int) -> None:
        self._horizon_ms = now_ms

    @override
    def sync(self) -> None:
        self.seal()
        self._writer.wait()

    @override
    def seal(self) -> int:
        self._memory.sync()
        if self._batch or self._clears or self._journal.needs_confirmation():
            batch, self._batch = self._batch, []
            clears, self._clears = self._clears, False
            self._writer.seal(batch, clears=clears, horizon_ms=self._horizon_ms)
        return self._writer.sealed_mark

    @property
    @override
    def durable_mark(self) -> int:
        return self._writer.durable_mark

    @property
    @override
    def in_flight_bytes(self) -> int:
        return self._writer.in_flight_bytes

    @override
    def when_durable(self, wake: Callable[[], None]) -> None:
        self._writer.wake = wake

    def refuse_puts(self, reason: str) -> None:
        """From now on, refuse what adds to the journal more than deletes, or accept it again. By any thread.

        Args:
            reason: The text of clients' errors; empty: accept.
        """
        self._refusal = reason

    def wake(self) -> None:
        """Have the server look whether the engine goes on. By any thread."""
        self._writer.wake()

    def ask(self, question: Question) -> None:
        """Have a question asked, by the loop and soon. By any thread."""
        self._questions.append(question)
        self._writer.wake()

    @override
    def check(self) -> None:
        self._writer.check()
        self._memory.check()
        if self._questions:  # one at a time, and each wakes the loop
            self._questions.popleft()(self._memory, self._writer.sealed_mark + bool(self._batch or self._clears))

    @override
    def retire(self) -> None:
        self._journal.retire()

    @property
    @override
    def has_work(self) -> bool:
        return self._memory.has_work

    @override
    def stats(self) -> Mapping[str, int]:
        writer = self._writer
        return {
            **self._memory.stats(),
            **self._journal.stats(),
            "batches_in_flight": writer.sealed_mark - writer.durable_mark,
            "in_flight_bytes": writer.in_flight_bytes,
        }

    @override
    def distributions(self) -> Mapping[str, Counts]:
        return self._writer.distributions()

    @override
    def close(self) -> None:
        self._writer.stop()
        self._memory.close()

    def _update_without_put(self, key: Key, update: Update) -> Updated:
        old = self._memory.get(key)
        pending = update(old)
        if pending is None:
            return old, old
        if pending is not TOMBSTONE:
            raise LimitError(self._refusal)
        self.delete(key)
        return old, None

    def _refuse_any_put(self, request: CommitRequest) -> None:
        for pending in request.writes.values():
            if pending is not TOMBSTONE:
                raise LimitError(self._refusal)

    def _note_clear(self) -> None:
        self._batch = []  # whatever it put is gone
        self._clears = True

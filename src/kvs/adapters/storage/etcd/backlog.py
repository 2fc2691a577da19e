"""What the journal has behind the checkpoint: the newest value of each key that it has changed.

The journal's thread adds what is durable, and only that. The checkpoint's thread takes it, and gives it back when the
checkpoint has it.
"""

from collections.abc import Callable, Iterable
from itertools import islice
from threading import Condition
from typing import Final, final

from kvs.adapters.storage.etcd.changes import STEP_KEYS, Changes
from kvs.adapters.storage.etcd.layout import Head
from kvs.adapters.storage.journal_writer import Row
from kvs.domain.values import Key, Value

ENTRY_OVERHEAD_BYTES: Final = 512
"""Charged for an entry on top of its own size: etcd also keeps its key, and the former value of ``head``."""

LOOK_S: Final = 0.1


@final
class Span:
    """Entries that follow each other.

    Attributes:
        changes: What they have changed, but for what is earlier.
        earlier: What they had changed when this server took the lead, in parts; what is later counts.
        cleared: Whether one of them has deleted everything before.
        head: The last of them.
        horizon_ms: The server's time as of the last.
        entries: Their number.
        size: Their bytes in etcd.
    """

    __slots__ = ("changes", "cleared", "earlier", "entries", "head", "horizon_ms", "size")

    def __init__(self, head: Head, horizon_ms: int) -> None:
        self.changes = Changes()
        self.earlier: list[dict[Key, Value | None]] = []
        self.cleared = False
        self.head = head
        self.horizon_ms = horizon_ms
        self.entries = 0
        self.size = 0

    def settle(self, pace: Callable[[], object]) -> None:
        """Have all in ``changes``.

        Args:
            pace: Called between steps; it may wait.
        """
        while self.earlier:
            part = iter(self.earlier[-1].items())
            while rows := list(islice(part, STEP_KEYS)):
                self.changes.add_older(rows)
                pace()
            self.earlier.pop()


@final
class Backlog:
    """The entries that no checkpoint has yet. Thread-safe.

    Args:
        head: The last entry.
        horizon_ms: The server's time as of that entry.
        max_bytes: Size of the entries at which further ones wait.

    Attributes:
        size: Their bytes.
        trouble: Why no checkpoint can be written, so that they will not become fewer; empty if one can.
    """

    def __init__(self, head: Head, horizon_ms: int, max_bytes: int) -> None:
        self.size = 0
        self.trouble = ""
        self._max_bytes = max_bytes
        self._changed = Condition()
        self._gathering = Span(head, horizon_ms)
        self._taken: Span | None = None
        self._dropped: list[Changes] = []
        self._dropped_parts: list[dict[Key, Value | None]] = []

    @property
    def gathering(self) -> Span:
        """What will be taken next."""
        return self._gathering

    @property
    def is_pressing(self) -> bool:
        """Whether entries will soon have to wait."""
        return self.size * 4 > self._max_bytes * 3

    def begin(self, earlier: list[dict[Key, Value | None]], entries: int, size: int, *, clears: bool) -> None:
        """Add what the journal has when this server takes the lead. O(1).

        Args:
            earlier: What it has changed, in parts; what is later counts.
            entries: Number of the entries.
            size: Their bytes.
            clears: Whether one of them deletes everything before it.
        """
        span = self._gathering
        span.earlier, span.entries, span.cleared = earlier, entries, clears
        span.size = self.size = size + entries * ENTRY_OVERHEAD_BYTES

    def add(self, rows: Iterable[Row], head: Head, horizon_ms: int, size: int, *, clears: bool = False) -> None:
        """Add an entry that is durable.

        Args:
            rows: What it has.
            head: It, as the head of the journal.
            horizon_ms: The server's time.
            size: Bytes.
            clears: Whether it deletes everything before its rows.
        """
        size += ENTRY_OVERHEAD_BYTES
        with self._changed:
            span = self._gathering
            if clears:
                self._dropped.append(span.changes)
                self._dropped_parts += span.earlier
                span.changes, span.earlier = Changes(), []
                span.cleared = True
            span.changes.update(rows)
            span.entries += 1
            span.size += size
            span.head = head
            span.horizon_ms = max(span.horizon_ms, horizon_ms)
            self.size += size

    def wait_for_room(self, check: Callable[[], None]) -> None:
        """Wait until the entries that no checkpoint has are few enough.

        Args:
            check: Called at intervals; raises to end the wait.
        """
        with self._changed:
            while self.size > self._max_bytes:
                check()
                self._changed.wait(LOOK_S)

    def take(self) -> Span:
        """Take what is there; what has been taken before and was not given back is taken again, and nothing else."""
        with self._changed:
            if self._taken is None:
                self._taken = self._gathering
                self._gathering = Span(self._taken.head, self._taken.horizon_ms)
            return self._taken

    def give_back(self, pace: Callable[[], object]) -> None:
        """Forget what was taken: a checkpoint has it.

        Args:
            pace: Called between steps; it may wait.
        """
        with self._changed:
            span, self._taken = self._taken, None
            if span is None:
                return
            self.size -= span.size
            dropped, self._dropped = [*self._dropped, span.changes], []
            parts, self._dropped_parts = self._dropped_parts, []
            self._changed.notify_all()
        for changes in dropped:
            changes.free(pace)
        while parts:
            parts.pop().clear()
            pace()

"""Makes commits durable: by a thread while the loop goes on, or by the loop where that takes less.

While one call of the journal waits for the disk, the writes of further ticks gather in the next batch. So the slower
the disk, the more commits share a wait.

When a call has ended, clients get their replies, and many of them come back at once. If the next call began before
that, they would wait for the one after it, and every batch would have half of the clients. So the next call begins when
as many rows have gathered as there were in the last batch and had gathered by its end, but after at most half the time
that the last call took: a disk that is fast beside the requests is not waited for.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from threading import Condition, Thread
from typing import Final, TypeAlias, final

from mypy_extensions import mypyc_attr

from kvs.adapters.storage.inline_appends import InlineAppends
from kvs.domain.values import Key, Value
from kvs.ports.histogram import Counts, Distribution

Row: TypeAlias = tuple[Key, Value | None]
"""A key and its new value; None: it was deleted."""

GATHERING_SHARE: Final = 0.5
"""The half of the last call's time; without it durable commits of 64 clients took a quarter more processor time."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Batch(ABC):
    """The writes of one or several ticks, as a journal takes them.

    Attributes:
        clears: Whether everything before them is deleted.
        rows: Their number.
        held_bytes: The memory they take here.
    """

    __slots__ = ("clears", "held_bytes", "rows")

    def __init__(self) -> None:
        self.clears = False
        self.rows = 0
        self.held_bytes = 0

    @abstractmethod
    def add(self, rows: list[Row], *, clears: bool, horizon_ms: int) -> None:
        """Add the writes of a tick. By the loop: what can be prepared is prepared here. O(bytes).

        Args:
            rows: In the order in which they were written.
            clears: Whether everything before these rows is deleted.
            horizon_ms: The server's time, to be stored with it unless it has moved by less than a second.
        """


@mypyc_attr(allow_interpreted_subclasses=True)
class Journal(ABC):
    """Stores batches durably."""

    __slots__ = ()

    @abstractmethod
    def begin(self) -> Batch:
        """Return an empty batch."""

    @abstractmethod
    def append(self, batch: Batch) -> None:
        """Make a batch durable, all of it or nothing. It may wait.

        Raises:
            Exception: It may or may not be durable; nothing may be written any more.
        """

    def append_at_once(self, batch: Batch) -> bool:  # noqa: ARG002  # for those that override it
        """Append, unless that would wait for anything but a disk; return whether it was done.

        By the loop, while the thread does not append.

        Raises:
            Exception: As ``append``.
        """
        return False

    def needs_confirmation(self) -> bool:
        """Whether what this server knows may be out of date, so that even a tick without writes needs a batch.

        An empty batch is durable when the journal has found that nobody else writes.
        """
        return False

    @abstractmethod
    def check(self) -> None:
        """Raise if appended batches may not be durable after all. By the loop."""

    def retire(self) -> None:  # noqa: B027  # nothing to do, by default
        """Let others write: nothing is appended, and nothing answered, from now on. By the loop; must not wait."""

    @abstractmethod
    def stats(self) -> Mapping[str, int]:
        """Return figures for people."""


def _sleep_on() -> None:
    """Wake nobody."""


@final
class JournalWriter:
    """Hands batches to a journal, in order.

    The lock is never held during a call of the journal. So the loop waits for the disk only where it calls by itself.

    Args:
        journal: Called by the thread, or by the loop while the thread does not call it.
        gathering_share: How long rows gather for the next batch, as a share of the time that the last one took.

    Attributes:
        sealed_mark: Mark of the last tick with writes; they are numbered from 1.
        durable_mark: Mark of the last of them whose writes are durable.
        in_flight_bytes: Memory of what is not durable yet.
        progress: Its lock, and what is notified of any change.
        wake: Called by the thread when ``durable_mark`` has grown by what it did, or the journal has failed.
    """

    def __init__(self, journal: Journal, gathering_share: float = GATHERING_SHARE) -> None:
        self.sealed_mark = 0
        self.durable_mark = 0
        self.in_flight_bytes = 0
        self.wake: Callable[[], None] = _sleep_on
        self._journal = journal
        self._gathering_share = gathering_share
        self.progress = Condition()
        self._inline_appends = InlineAppends()
        self._append_ns = Distribution()
        self._batch_rows = Distribution()
        self._gathering = journal.begin()
        self._enough_rows = 1  # for the next call to begin
        self._busy = False  # the journal is called
        self._ended = False
        self._failure: Exception | None = None
        self._runner = Thread(target=self._run, name="kvs-journal", daemon=True)
        self._runner.start()

    def seal(self, rows: list[Row], *, clears: bool, horizon_ms: int) -> None:
        """Take the writes of a tick; see :meth:`Batch.add`. By the loop.

        Raises:
            Exception: The journal has failed in a call by the loop.
        """
        with self.progress:
            batch = self._gathering
            before = batch.held_bytes
            batch.add(rows, clears=clears, horizon_ms=horizon_ms)
            self.in_flight_bytes += batch.held_bytes - before
            self.sealed_mark += 1
            may_append = not (self._busy or batch.clears or self._failure is not None)
            at_once = may_append and self._inline_appends.allow(batch.rows, batch.held_bytes, time.monotonic())
            self._busy = self._busy or at_once
        if at_once and self._append_at_once(batch):
            return
        with self.progress:
            if not rows or batch.rows >= self._enough_rows:
                self.progress.notify_all()

    def _append_at_once(self, batch: Batch) -> bool:
        """Make durable what has gathered while the thread is idle, if that is quick; return whether it was done."""
        began_s = time.monotonic()
        try:
            done = self._journal.append_at_once(batch)
        except Exception as error:
            with self.progress:
                self._failure = error
                self._busy = False
                self.progress.notify_all()
            raise
        now_s = time.monotonic()
        if done:
            self._inline_appends.note(now_s - began_s, now_s)
        with self.progress:
            self._busy = False
            if done:
                self._measure(batch, now_s - began_s)
                self._gathering = self._journal.begin()
                self.in_flight_bytes -= batch.held_bytes
                self.durable_mark = self.sealed_mark
        return done

    def wait(self) -> None:
        """Wait until everything that was sealed is durable.

        Raises:
            Exception: The journal has failed.
        """
        with self.progress:
            while self.durable_mark < self.sealed_mark and self._failure is None:
                self.progress.wait()
        self.check()

    def check(self) -> None:
        """Raise what a call of the journal has raised, now or earlier."""
        if self._failure is not None:
            raise self._failure
        self._journal.check()

    def distributions(self) -> Mapping[str, Counts]:
        """Return how long calls of the journal have taken, in nanoseconds, and how many rows the batches had."""
        return {"append_ns": self._append_ns.read(), "batch_rows": self._batch_rows.read()}

    def stop(self) -> None:
        """End when everything that was sealed is durable, or the journal has failed."""
        with self.progress:
            self._ended = True
            self.progress.notify_all()
        self._runner.join()

    def _run(self) -> None:
        took_s = 0.0
        while taken := self._take(took_s * self._gathering_share):
            batch, mark = taken
            began_s = time.monotonic()
            failure = self._append(batch)
            took_s = self._inline_appends.thread_s = time.monotonic() - began_s
            with self.progress:
                self._busy = False
                if failure is None:
                    self._measure(batch, took_s)
                    self.durable_mark = mark
                    self.in_flight_bytes -= batch.held_bytes
                self._failure = failure
                self._enough_rows = batch.rows + self._gathering.rows
                self.progress.notify_all()
            self.wake()

    def _measure(self, batch: Batch, took_s: float) -> None:
        """Count a batch that is durable. Under the lock."""
        self._append_ns.add(int(took_s * 1e9))
        self._batch_rows.add(batch.rows)

    def _take(self, patience_s: float) -> tuple[Batch, int] | None:
        """Wait until the next batch is to be made durable, and take it with its mark; None: there is no next one."""
        deadline_s = time.monotonic() + patience_s
        with self.progress:
            while not (self._ended or self._gathering.rows >= self._enough_rows):
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    break
                self.progress.wait(left_s)
            self._enough_rows = 1
            while self._busy or (self.sealed_mark == self.durable_mark and not self._ended):
                self.progress.wait()
            if self.sealed_mark == self.durable_mark or self._failure is not None:
                return None
            self._busy = True
            batch, self._gathering = self._gathering, self._journal.begin()
            return batch, self.sealed_mark

    def _append(self, batch: Batch) -> Exception | None:
        """Return what has failed."""
        try:
            self._journal.append(batch)
        except Exception as error:  # noqa: BLE001  # whatever it is, the loop reports it
            return error
        return None

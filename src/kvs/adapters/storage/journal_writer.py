"""The thread that makes batches durable while the loop goes on.

While one call of the journal waits for the disk, further batches are sealed; the next call takes all of them. So the
slower the disk, the more commits share a wait.

The loop and the thread share no lock that is held during a call of the journal, and each figure has one writer.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Condition, Thread
from typing import Final, TypeAlias, final

from mypy_extensions import mypyc_attr

from kvs.domain.values import Key, Value

Row: TypeAlias = tuple[Key, Value | None]
"""A key and its new value; None: it was deleted."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Batch:
    """The writes of a tick, encoded by a journal.

    Attributes:
        held_bytes: Memory of the encoded rows.
    """

    __slots__ = ("held_bytes",)

    def __init__(self, held_bytes: int) -> None:
        self.held_bytes: Final = held_bytes


@mypyc_attr(allow_interpreted_subclasses=True)
class Journal(ABC):
    """Stores batches durably."""

    __slots__ = ()

    @abstractmethod
    def encode(self, rows: list[Row], *, clears: bool, horizon_ms: int) -> Batch:
        """Encode a batch. By the loop, so that the thread has little to do in Python. O(bytes).

        Args:
            rows: In the order in which they were written.
            clears: Whether everything before the batch is deleted.
            horizon_ms: The server's time, to be stored with it unless it has moved by less than a second.
        """

    @abstractmethod
    def append(self, batches: Sequence[Batch]) -> None:
        """Make batches, or none, durable: all of them or the first ones. By the thread; it may wait.

        Raises:
            Exception: They may or may not be durable; nothing may be written any more.
        """

    @abstractmethod
    def check(self) -> None:
        """Raise if appended batches may not be durable after all."""

    @abstractmethod
    def stats(self) -> Mapping[str, int]:
        """Return figures for people."""


def _sleep_on() -> None:
    """Wake nobody."""


@final
class JournalWriter:
    """Hands batches to a journal, in order.

    Args:
        journal: Its ``append`` is called by the thread only.

    Attributes:
        sealed_mark: Mark of the last batch that was sealed; they are numbered from 1.
        durable_mark: Mark of the last batch that is durable.
        wake: Called by the thread when ``durable_mark`` has grown, or the journal has failed.
    """

    def __init__(self, journal: Journal) -> None:
        self.sealed_mark = 0
        self.durable_mark = 0
        self.wake: Callable[[], None] = _sleep_on
        self._journal = journal
        self._sealed: SimpleQueue[Batch | None] = SimpleQueue()  # None: the end
        self._sealed_bytes = 0
        self._durable_bytes = 0
        self._failure: Exception | None = None
        self._progress = Condition()
        self._runner = Thread(target=self._run, name="kvs-journal", daemon=True)
        self._runner.start()

    @property
    def in_flight_bytes(self) -> int:
        """Memory of the batches that are sealed and not durable."""
        return self._sealed_bytes - self._durable_bytes

    def seal(self, batch: Batch) -> None:
        """Queue a batch. O(1). By the loop."""
        self.sealed_mark += 1
        self._sealed_bytes += batch.held_bytes
        self._sealed.put(batch)

    def wait(self) -> None:
        """Wait until everything that was sealed is durable.

        Raises:
            Exception: The journal has failed.
        """
        with self._progress:
            while self.durable_mark < self.sealed_mark and self._failure is None:
                self._progress.wait()
        self.check()

    def check(self) -> None:
        """Raise what a call of the journal has raised, now or earlier."""
        if self._failure is not None:
            raise self._failure
        self._journal.check()

    def stop(self) -> None:
        """End when everything that was sealed is durable, or the journal has failed."""
        self._sealed.put(None)
        self._runner.join()

    def _run(self) -> None:
        ended = False
        while not ended:
            batches, ended = self._take()
            try:
                if batches:
                    self._journal.append(batches)
            except Exception as error:  # noqa: BLE001  # whatever it is, it is reported by the loop
                self._failure = error
                ended = True
            else:
                self._durable_bytes += sum([batch.held_bytes for batch in batches])
                self.durable_mark += len(batches)
            with self._progress:
                self._progress.notify_all()
            self.wake()

    def _take(self) -> tuple[list[Batch], bool]:
        """Wait for a batch, and return all that are sealed, and whether no more will follow."""
        batches: list[Batch] = []
        with suppress(Empty):
            batch = self._sealed.get()
            while batch is not None:
                batches.append(batch)
                batch = self._sealed.get_nowait()
            return batches, True
        return batches, False

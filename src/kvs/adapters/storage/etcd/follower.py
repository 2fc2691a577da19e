"""Keeps a server that stands by up to date: a thread, which makes one pass of its replica after another.

It rests for half of the time, unless it lags behind, so that one processor is enough for it and the loop, which relays
clients meanwhile. What is not read yet waits in etcd, not here. The thread ends before the server leads, and then the
candidate owns the replica.
"""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from threading import Event, Thread
from typing import Final, final

from kvs.adapters.storage.etcd.client.errors import CompactedError, EtcdError
from kvs.adapters.storage.etcd.complaints import Complaints
from kvs.adapters.storage.etcd.layout import LayoutError
from kvs.adapters.storage.etcd.replica import Replica
from kvs.log_type import FilteringBoundLogger

LOOK_S: Final = 0.2
"""How long it waits between two passes."""

RETRY_S: Final = 1.0

SLICE_S: Final = 0.004
"""Processor time after which there is a pause as long. Shorter ones are of no use to relays, which get Python's lock
between any two steps, and on a busy machine each pause is a few milliseconds longer than it is meant to be."""

PATIENCE_S: Final = 20.0
"""A pass that takes longer goes on without pauses: a checkpoint that is read, or a journal, does not stay for ever."""


@final
class Follower:
    """The thread.

    Args:
        replica: What is kept up to date.
        passed: Called after each pass.
        complaints: What has been logged of what keeps it from reading.
        log: For that, and for when everything has been read.
    """

    def __init__(
        self, replica: Replica, passed: Callable[[], None], complaints: Complaints, log: FilteringBoundLogger
    ) -> None:
        self._replica = replica
        self._passed = passed
        self._log = log
        self._stopping = Event()
        self._used_s = 0.0  # by the thread, until the last pause
        self._hurries = False
        self._complaints = complaints
        self._runner = Thread(target=self._run, name="kvs-follower", daemon=True)
        self._runner.start()

    def stop_soon(self) -> None:
        """Have the thread end. By any thread."""
        self._stopping.set()

    def close(self) -> None:
        """End the thread, after the current step, and wait for that; a pass that is under way stays so."""
        self._stopping.set()
        self._runner.join()

    def _run(self) -> None:
        began_s = time.monotonic()
        follows = False
        while not self._stopping.is_set():
            pause_s = LOOK_S
            try:
                with nullcontext() if follows else _collector_off():
                    if not self._make_pass():
                        return
                self._complaints.over()
                self._passed()
                if not follows:
                    follows = True
                    self._announce(time.monotonic() - began_s)
            except CompactedError:
                self._hurries, pause_s = True, 0.0
            except (EtcdError, LayoutError) as error:  # who waits for the lead meets it, too
                pause_s = RETRY_S
                self._complain(error)
            self._stopping.wait(pause_s)

    def _make_pass(self) -> bool:
        """Return whether it was made to its end."""
        began_s, self._used_s = time.monotonic(), time.thread_time()
        while self._replica.advance():
            if self._stopping.is_set():
                return False
            if not self._hurries:
                self._pace()
                self._hurries = time.monotonic() - began_s > PATIENCE_S
        self._hurries = False
        return True

    def _pace(self) -> None:
        used_s = time.thread_time() - self._used_s
        if used_s >= SLICE_S:
            self._stopping.wait(used_s)
            self._used_s = time.thread_time()

    def _announce(self, took_s: float) -> None:
        replica = self._replica
        keys, entries = replica.memory.count(b""), replica.head.number
        self._log.info("following", keys=keys, journal_entries=entries, seconds=round(took_s, 3))

    def _complain(self, error: Exception) -> None:
        reason = self._complaints.reason(error)
        if reason:
            self._log.warning("not_following", reason=reason)


@contextmanager
def _collector_off() -> Iterator[None]:
    """Let the cyclic collector not look again and again through data that grow: what is read is in no cycle."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if was_on:
            gc.enable()

"""Threads for what would hold up the loop: checking passwords, saving users.

They are started with the first job, so a server that never has one has no thread for it.
"""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from threading import get_native_id
from typing import Final, Protocol, final

from mypy_extensions import mypyc_attr

from kvs.application.executor import Job, WorkerThreads

NICENESS: Final = 10
"""Priority of polite threads beneath the loop's: a tenth of a processor for which both compete."""


class Loop(Protocol):
    """What is used of an event loop of asyncio."""

    def call_soon_threadsafe(self, callback: Job, /) -> object:
        """Call back on the loop; called by any thread.

        Raises:
            RuntimeError: The loop has ended.
        """

    def call_later(self, delay: float, callback: Job, /) -> object:
        """Call back after a number of seconds; called on the loop."""


@mypyc_attr(allow_interpreted_subclasses=True)  # as tests have it
class Background:
    """A bounded number of threads that run jobs in order of arrival, each of which ends on the loop.

    Args:
        number: How many threads.
        loop: Returns the loop that is running.
        polite: The threads give way to the loop where both want the same processor.

    Attributes:
        loop: Returns the loop that is running.
    """

    def __init__(self, number: int, loop: Callable[[], Loop], *, polite: bool = False) -> None:
        self._number = number
        self.loop: Final = loop
        self._polite = polite
        self._threads: WorkerThreads | None = None

    def run(self, job: Job, done: Job) -> None:
        """Have a job run by a thread, and then a callback by the loop that is running now. The job must not raise.

        Raises:
            RuntimeError: No thread can be started.
        """
        threads = self._threads
        if threads is None:
            threads = self._threads = WorkerThreads(self._number)
            if self._polite:
                for _ in range(self._number):
                    threads.run(_give_way)
        threads.run(_Errand(job, done, self.loop()).run)

    def close(self) -> None:
        """End the threads after the jobs that they have."""
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.close()


@final
class _Errand:
    """A job on its way to a thread and back."""

    __slots__ = ("_done", "_job", "_loop")

    def __init__(self, job: Job, done: Job, loop: Loop) -> None:
        self._job = job
        self._done = done
        self._loop = loop

    def run(self) -> None:
        self._job()
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._done)


def _give_way() -> None:
    """Lower the priority of this thread; elsewhere than on Linux it would be that of a process."""
    if sys.platform == "linux":
        with suppress(OSError):
            thread = get_native_id()
            if os.getpriority(os.PRIO_PROCESS, thread) < NICENESS:  # root could raise it, too
                os.setpriority(os.PRIO_PROCESS, thread, NICENESS)

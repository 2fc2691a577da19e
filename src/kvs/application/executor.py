"""Worker threads for blocking engines, so that a slow call delays no other client.

A worker runs a whole packet of requests of one connection, and hands the connection back to the loop. So a session
belongs to one thread at a time: to a worker while its connection is busy, to the loop otherwise. It reaches a worker
through the queue of jobs, returns through ``post``, and needs no lock.

A connection has at most one job at a time, also after its client has disconnected, and a client counts until its
session has ended; so the queue is bounded by ``max_clients``.
"""

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from time import monotonic
from typing import Final, TypeAlias, final

from kvs.application.memory_budget import MemoryBudget

Job: TypeAlias = Callable[[], None]

Post: TypeAlias = Callable[[Job], None]
"""Schedules a callback on the loop. Called by any thread; does nothing once the loop has ended."""


@final
class WorkerThreads:
    """A fixed number of threads that run jobs in order of arrival.

    They are daemons: one that hangs in a job does not keep the process from ending.

    Args:
        number: How many.

    Raises:
        RuntimeError: Not all threads can be started.
    """

    def __init__(self, number: int) -> None:
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._threads: list[Thread] = []
        try:
            for _ in range(number):
                thread = Thread(target=self._work, name="kvs-worker", daemon=True)
                thread.start()
                self._threads.append(thread)
        except RuntimeError:
            self.close()
            raise

    def run(self, job: Job) -> None:
        """Queue a job for the next free thread. It must not raise."""
        self._jobs.put(job)

    def close(self) -> None:
        """End the threads after the last of their jobs."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            job()
            del job  # or the idle thread would keep a disconnected client alive


@final
class WorkerExecutor:
    """Runs the jobs of one connection on worker threads.

    Args:
        threads: The workers.
        post: Schedules a callback on the connection's loop.
        budget: Memory budget of all clients, which only the loop may touch.
        clock: Monotonic seconds.

    Attributes:
        clock: The clock.
        budget: Charged by the connection's session, on any thread; the loop moves it to that of all clients.
    """

    __slots__ = ("_shared_budget", "_threads", "budget", "clock", "post")

    def __init__(
        self, threads: WorkerThreads, post: Post, budget: MemoryBudget, clock: Callable[[], float] = monotonic
    ) -> None:
        self.clock: Final = clock
        self._threads = threads
        self.post: Final = post
        self._shared_budget = budget
        self.budget: Final = MemoryBudget(budget.limit_bytes)

    def run(self, job: Job, done: Job) -> None:
        """Have a job run by a worker, and then a callback by the loop. The job must not raise."""
        self._threads.run(_Hop(self, job, done).run)

    def settle(self) -> None:
        """Move the session's charges to the budget of all clients. On the loop."""
        self._shared_budget.settle(self.budget)


@final
class _Hop:
    """A job on its way to a worker and back. Not two nested functions: when compiled, those are in a cycle."""

    __slots__ = ("_done", "_executor", "_job")

    def __init__(self, executor: WorkerExecutor, job: Job, done: Job) -> None:
        self._executor = executor
        self._job = job
        self._done = done

    def run(self) -> None:
        """Run the job, and go back. By a worker."""
        self._job()
        self._executor.post(self._finish)

    def _finish(self) -> None:
        self._executor.settle()
        self._done()

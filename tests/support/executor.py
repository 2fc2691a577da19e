"""What tests of sessions on worker threads share: the threads, a loop that the test runs, and an engine with a gate."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from kvs.application.executor import WorkerSession, WorkerSessions, WorkerThreads
from kvs.ports.session import Unfinished
from kvs.testing.drivers import Loop
from tests.support.gated_storage import GatedStorage
from tests.support.sessions import UNLIMITED, Bench

P = ParamSpec("P")
R = TypeVar("R")


class WorkerBench(Bench):
    """Sessions on worker threads over an engine with a gate.

    Attributes:
        gate: Where its calls wait, if they are to.
        loop: Runs what the workers post, when the test says so.
        threads: The workers.
    """

    def __init__(self, worker_threads: int, max_transaction_depth: int = UNLIMITED) -> None:
        engine = GatedStorage()
        super().__init__(engine, max_transaction_depth=max_transaction_depth)
        self.gate = engine.gate
        self.loop = Loop()
        self.threads = WorkerThreads(worker_threads)
        self._workers = WorkerSessions(self.sessions, self.threads, lambda: self.loop.post)

    def open_worker(self) -> WorkerSession:
        """Open a session."""
        return self._workers.open()

    def run_until_ended(self, session: WorkerSession) -> None:
        """Let the loop run until nothing of a session is in flight."""
        self.loop.run_until(lambda: not session.in_flight)

    def asked(self, session: WorkerSession, question: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Ask, and ask again when the call has ended."""
        try:
            return question(*args, **kwargs)
        except Unfinished:
            assert session.unanswered
        self.run_until_ended(session)
        return question(*args, **kwargs)


@contextmanager
def worker_bench(worker_threads: int = 2, max_transaction_depth: int = UNLIMITED) -> Iterator[WorkerBench]:
    """Return a bench whose threads end with the test."""
    bench = WorkerBench(worker_threads, max_transaction_depth)
    try:
        yield bench
    finally:
        bench.gate.open()
        bench.threads.close()

"""Worker threads: which run jobs, in which order, and how an executor charges what they hold."""

import gc
import threading
from functools import partial
from queue import SimpleQueue
from time import monotonic

import pytest

from kvs.application.executor import Job, WorkerExecutor, WorkerThreads
from kvs.application.memory_budget import MemoryBudget
from kvs.testing.drivers import Loop
from tests.support.gated_storage import TIMEOUT_S


class TestWorkerThreads:
    """The threads."""

    def test_run_jobs_in_order_as_many_at_a_time_as_there_are(self) -> None:
        """Two of five run at once; those that wait begin in the order they came in."""
        threads = WorkerThreads(2)
        started: SimpleQueue[int] = SimpleQueue()
        gates = [threading.Event() for _ in range(5)]

        def job(number: int) -> Job:
            def run() -> None:
                started.put(number)
                assert gates[number].wait(TIMEOUT_S)

            return run

        for number in range(5):
            threads.run(job(number))
        assert {started.get(timeout=TIMEOUT_S), started.get(timeout=TIMEOUT_S)} == {0, 1}
        for ended, next_one in ((1, 2), (2, 3), (0, 4)):
            assert started.empty()
            gates[ended].set()
            assert started.get(timeout=TIMEOUT_S) == next_one
        gates[3].set()
        gates[4].set()
        threads.close()

    def test_close_ends_them_behind_their_jobs(self) -> None:
        """Nothing that was to be done is left undone, and no thread is left."""
        before = threading.active_count()
        threads = WorkerThreads(3)
        assert threading.active_count() == before + 3
        done: list[int] = []
        for number in range(100):
            threads.run(partial(done.append, number))
        threads.close()
        assert sorted(done) == list(range(100))
        assert threading.active_count() == before

    def test_that_cannot_be_started_leave_none_behind(self) -> None:
        """There is no half of them."""
        before = threading.active_count()
        default = threading.stack_size(1 << 46)  # more than there are addresses for
        try:
            with pytest.raises(RuntimeError):
                WorkerThreads(2)
        finally:
            threading.stack_size(default)
        assert threading.active_count() == before

    def test_do_not_hold_on_to_a_job_that_is_done(self) -> None:
        """Though no other comes."""

        class Held:
            def run(self) -> None:
                pass

        def held() -> int:
            return sum(type(thing) is Held for thing in gc.get_objects())

        threads = WorkerThreads(1)
        threads.run(Held().run)
        deadline_s = monotonic() + TIMEOUT_S
        while held():
            assert monotonic() < deadline_s
        threads.close()


class TestWorkerExecutor:
    """The executor of one connection."""

    def test_runs_the_job_by_a_worker_and_what_follows_by_the_loop(self) -> None:
        """In this order."""
        threads, loop = WorkerThreads(1), Loop()
        ran: list[tuple[str, int]] = []
        executor = WorkerExecutor(threads, loop.post, MemoryBudget(100))
        executor.run(
            lambda: ran.append(("job", threading.get_ident())), lambda: ran.append(("done", threading.get_ident()))
        )
        loop.run_until(lambda: len(ran) == 2)
        assert [name for name, _ in ran] == ["job", "done"]
        assert ran[0][1] != threading.get_ident()
        assert ran[1][1] == threading.get_ident()
        threads.close()

    def test_charges_the_budget_of_all_clients_on_the_loop_only(self) -> None:
        """What a job has charged is known there when the loop takes the connection back."""
        threads, loop = WorkerThreads(1), Loop()
        budget = MemoryBudget(100)
        executor = WorkerExecutor(threads, loop.post, budget)
        seen: list[int] = []

        def charge() -> None:
            executor.budget.used_bytes += 60

        executor.run(charge, lambda: seen.append(budget.used_bytes))
        threads.close()  # the worker is through with it, and the loop has not been told
        assert budget.used_bytes == 0
        loop.run_until(lambda: len(seen) > 0)
        assert seen == [60]
        assert executor.budget.used_bytes == 0
        assert executor.budget.limit_bytes == 100

"""Concurrency: many threads call a blocking engine at a time."""

import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import pytest

from kvs.domain.commit import Committed
from kvs.domain.updates import Add, PutIfAbsent
from kvs.domain.values import string_of
from kvs.ports.storage import Storage
from kvs.testing.cases.base import StorageCases, commit

THREADS: Final = 4
ROUNDS: Final = 20
SWITCH_INTERVAL_S: Final = 1e-6  # with the default of 5 ms, races would hardly ever occur
PAUSES: Final = 0.1
PAUSE_S: Final = 1e-4
TIMEOUT_S: Final = 60.0


def run_concurrently(*calls: Callable[[], None]) -> None:
    """Make calls, each on its own thread, all started at the same moment; raise the first error."""
    barrier = threading.Barrier(len(calls))
    errors: list[BaseException] = []

    def run(call: Callable[[], None]) -> None:
        barrier.wait(TIMEOUT_S)
        try:
            call()
        except BaseException as error:  # noqa: BLE001  # raised below, where the test sees it
            errors.append(error)

    threads = [threading.Thread(target=run, args=[call], daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
        assert not thread.is_alive(), f"calls of several threads have not returned in {TIMEOUT_S:g} s: a deadlock?"
    if errors:
        raise errors[0]


def jitter(*_: object) -> None:
    """Yield to other threads, sometimes for longer; threads call it at every function call and return.

    A race can hide between any two of these. If threads only took turns, they would stay in step and miss it.
    """
    time.sleep(PAUSE_S if random.random() < PAUSES else 0)


def increment(storage: Storage) -> None:
    """Add one to the key ``n``, as a client does: read, commit, and retry after a conflict."""
    while True:
        snapshot = storage.snapshot()
        number = int(string_of(snapshot.get(b"n") or b"0"))
        if isinstance(commit(storage, snapshot, {b"n": b"%d" % (number + 1)}, [b"n"]), Committed):
            return


class ThreadCases(StorageCases):
    """Concurrent calls of several threads. Skipped for an engine that is called from one thread only."""

    @pytest.fixture
    def blocking(self, storage: Storage) -> Iterator[Storage]:
        """The engine, if it is blocking, with threads that switch as often as possible."""
        if not storage.blocking:
            pytest.skip("not a blocking engine: the server calls it from one thread only")
        interval_s, profile = sys.getswitchinterval(), threading.getprofile()
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        threading.setprofile(jitter)
        try:
            yield storage
        finally:
            threading.setprofile(profile)
            sys.setswitchinterval(interval_s)

    def test_no_update_of_a_thread_is_lost(self, blocking: Storage) -> None:
        """Concurrency: of several threads that increment a counter, each retrying, every increment counts."""

        def increments() -> None:
            for _ in range(ROUNDS):
                increment(blocking)

        run_concurrently(*[increments] * THREADS)
        assert blocking.get(b"n") == b"%d" % (THREADS * ROUNDS)

    def test_updates_of_several_threads_all_count(self, blocking: Storage) -> None:
        """``update``: no other thread writes between an update's old value and its new one."""

        def increments() -> None:
            for _ in range(ROUNDS):
                blocking.update(b"n", Add(1))

        run_concurrently(*[increments] * THREADS)
        assert blocking.get(b"n") == b"%d" % (THREADS * ROUNDS)

    def test_a_put_where_there_is_nothing_is_done_by_one_thread_only(self, blocking: Storage) -> None:
        """``update``: if several threads put a key that is absent, one succeeds, and only its result says so."""
        keys = [b"%d" % number for number in range(5 * ROUNDS)]
        winners: list[tuple[bytes, bytes]] = []

        def claim(name: bytes) -> None:
            for key in keys:
                before, after = blocking.update(key, PutIfAbsent(name))
                assert after is not None
                if before is None:
                    winners.append((key, name))
                else:
                    assert before == after

        run_concurrently(*[partial(claim, b"%d" % number) for number in range(THREADS)])
        assert sorted(winners) == sorted((key, blocking.get(key)) for key in keys)

    def test_a_clear_is_seen_whole_or_not_at_all(self, blocking: Storage) -> None:
        """Consistency: a clear is atomic with respect to every other call."""
        written = threading.Event()
        keys = [b"p%d" % number for number in range(10)]

        def write() -> None:
            try:
                for _ in range(ROUNDS):
                    commit(blocking, blocking.snapshot(), dict.fromkeys(keys, b""))
                    blocking.clear()
            finally:
                written.set()

        def read() -> None:
            while not written.is_set():
                snapshot = blocking.snapshot()
                assert len(snapshot.scan(b"", b"", 100)) in (0, len(keys))
                snapshot.close()

        run_concurrently(write, *[read] * (THREADS - 1))
        assert blocking.count(b"") == 0

    def test_a_delete_returns_true_on_one_thread_only(self, blocking: Storage) -> None:
        """Consistency: every call is atomic with respect to every other, so a key is deleted once for each put."""
        gone: list[bytes] = []
        done = threading.Event()

        def puts() -> None:
            try:
                for _ in range(10 * ROUNDS):  # two threads seldom meet in so short a call
                    blocking.put(b"k", b"v")
                    while blocking.get(b"k") is not None and not done.is_set():
                        time.sleep(0)
            finally:
                done.set()

        def deletes() -> None:
            try:
                while not done.is_set():
                    if blocking.delete(b"k"):
                        gone.append(b"k")
            finally:
                done.set()

        run_concurrently(puts, *[deletes] * (THREADS - 1))
        assert len(gone) == 10 * ROUNDS

    def test_a_snapshot_is_stable_while_other_threads_commit(self, blocking: Storage) -> None:
        """Consistency: a snapshot shows all of a commit or nothing, and reads of it are repeatable."""
        written = threading.Event()

        def write() -> None:
            try:
                for number in range(1, 2 * ROUNDS + 1):
                    pair = b"%d" % number
                    commit(blocking, blocking.snapshot(), {b"a": pair, b"b": pair, b"p%d" % number: b""})
            finally:
                written.set()

        def read() -> None:
            while not written.is_set():
                snapshot = blocking.snapshot()
                first, count = snapshot.get(b"a"), snapshot.count(b"p")
                assert count == int(string_of(first or b"0"))
                assert len(snapshot.scan(b"p", b"", 4 * ROUNDS)) == count
                assert snapshot.get(b"b") == snapshot.get(b"a") == first
                snapshot.close()

        run_concurrently(write, *[read] * (THREADS - 1))

    def test_a_snapshot_may_be_used_on_any_thread(self, blocking: Storage) -> None:
        """Concurrency: a session makes one call at a time, but each may come from another thread."""
        blocking.put(b"k", b"v")
        snapshot = blocking.snapshot()
        blocking.put(b"k", b"later")
        seen: list[object] = []
        run_concurrently(lambda: seen.append(snapshot.get(b"k")))
        run_concurrently(lambda: seen.append(snapshot.scan(b"", b"", 10)))
        run_concurrently(lambda: seen.append(type(commit(blocking, snapshot, {b"mine": b""}, [b"k"])).__name__))
        assert seen == [b"v", [b"k"], "Conflict"]

"""Sessions on worker threads: who calls the engine, when there is an answer, what is shared, what closing leaves."""

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from time import monotonic

import pytest

from kvs.application.executor import Task, WorkerSession, WorkerThreads
from kvs.domain.commit import Committed, Conflict
from kvs.domain.errors import (
    InternalError,
    KvsError,
    LimitError,
    NoTransactionError,
    OutcomeUnknownError,
    StorageUnavailableError,
)
from kvs.ports.session import Session, Unfinished
from tests.support.executor import WorkerBench, worker_bench
from tests.support.gated_storage import TIMEOUT_S

Use = Callable[[WorkerSession], object]

CALLS: dict[str, Use] = {
    "get": lambda session: session.get(b"k"),
    "put": lambda session: session.put(b"k", b"v"),
    "delete": lambda session: session.delete(b"k"),
    "scan": lambda session: session.keys(b"", b"", 10),
    "count": lambda session: session.count(b""),
    "snapshot": lambda session: session.start(),
    "stats": lambda session: session.info(),
}
"""What a session may be asked outside a transaction, by the call of the engine that it takes."""

CALLS_INSIDE: dict[str, Use] = {
    "snapshot.get": lambda session: session.get(b"k"),
    "snapshot.scan": lambda session: session.keys(b"", b"", 10),
    "snapshot.count": lambda session: session.count(b""),
    "commit": lambda session: session.commit(),
    "snapshot.close": lambda session: session.rollback(),
    "stats": lambda session: session.info(),
}
"""The same inside a transaction that writes ``w``."""


@pytest.fixture
def bench() -> Iterator[WorkerBench]:
    """Return sessions over an engine whose gate is open."""
    with worker_bench() as bench:
        yield bench


def begun(bench: WorkerBench) -> WorkerSession:
    """Return a session in a transaction that writes ``w`` and has read nothing."""
    session = bench.open_worker()
    bench.asked(session, session.start)
    session.put(b"w", b"1")
    return session


def hand_over(bench: WorkerBench, session: WorkerSession, use: Use) -> None:
    """Ask, and have the call wait at the gate."""
    bench.gate.shut()
    with pytest.raises(Unfinished):
        use(session)
    bench.gate.wait_for_calls(1)


# Who calls the engine, and when there is an answer.


@pytest.mark.parametrize("inside", [False, True])
def test_the_engine_is_called_by_workers_only(bench: WorkerBench, inside: bool) -> None:
    """None of its calls comes from the thread that asks."""
    for name, use in (CALLS_INSIDE if inside else CALLS).items():
        session = begun(bench) if inside else bench.open_worker()
        bench.asked(session, use, session)
        assert name in bench.gate.names()
        session.close()
        bench.run_until_ended(session)
    assert threading.get_ident() not in {thread for _, thread in bench.gate.calls}
    bench.assert_nothing_is_held()


@pytest.mark.parametrize("name", CALLS)
def test_there_is_no_answer_while_the_call_is_in_flight(bench: WorkerBench, name: str) -> None:
    """Asking again does not call again; whoever waits is woken once, and then there is the answer."""
    session = bench.open_worker()
    woken: list[str] = []
    hand_over(bench, session, CALLS[name])
    session.when_ended(lambda: woken.append("before"))
    session.when_ended(lambda: woken.append("in its place"))
    assert session.in_flight
    for _ in range(3):
        with pytest.raises(Unfinished):
            CALLS[name](session)
    assert woken == []
    bench.gate.open()
    bench.run_until_ended(session)
    assert woken == ["in its place"]
    assert session.unanswered
    CALLS[name](session)
    assert not session.unanswered
    assert bench.gate.names() == [name]


def test_answers_are_those_of_the_session_inside(bench: WorkerBench) -> None:
    """A transaction with everything in it, and the conflict that another brings about."""
    session, other = bench.open_worker(), bench.open_worker()
    assert bench.asked(session, session.get, b"k") is None
    bench.asked(session, session.put, b"k", b"1")
    assert bench.asked(session, session.get, b"k") == b"1"
    bench.asked(session, session.start)
    assert session.depth == 1
    assert bench.asked(session, session.delete, b"k")
    session.put(b"l", b"2")
    assert bench.asked(session, session.keys, b"", b"", 10) == [b"l"]
    assert bench.asked(session, session.count, b"") == 1
    assert bench.asked(session, session.info)["session"]["pending_writes"] == 2
    bench.asked(other, other.put, b"k", b"3")
    conflict = bench.asked(session, session.commit)
    assert isinstance(conflict, Conflict)
    assert (conflict.keys, conflict.ranges) == ((b"k",), ())
    assert session.depth == 0
    bench.asked(session, session.start)
    bench.asked(session, session.delete, b"k")
    assert isinstance(bench.asked(session, session.commit), Committed)
    assert not bench.asked(other, other.delete, b"k")
    assert (session.totals.committed, session.totals.conflicted) == (1, 1)
    bench.assert_nothing_is_held()


AT_ONCE: dict[str, Use] = {
    "START of a frame": lambda session: session.start(),
    "PUT": lambda session: session.put(b"k", b"v"),
    "GET of what is written": lambda session: session.get(b"w"),
    "GET of what is deleted": lambda session: session.get(b"d"),
    "DEL of what is written": lambda session: session.delete(b"w"),
    "DEL of what is deleted": lambda session: session.delete(b"d"),
    "COMMIT of a frame": lambda session: session.commit(),
    "ROLLBACK of a frame": lambda session: session.rollback(),
    "the depth": lambda session: session.depth,
    "the age": lambda session: session.started_at_s,
    "whether it has expired": lambda session: session.expired,
}


@pytest.mark.parametrize("name", AT_ONCE)
def test_what_takes_no_call_of_the_engine_is_answered_at_once(bench: WorkerBench, name: str) -> None:
    """Though every worker is busy."""
    session = begun(bench)
    bench.asked(session, session.delete, b"d")
    session.put(b"d", b"")
    session.delete(b"d")
    session.start()
    busy = [bench.open_worker(), bench.open_worker()]
    bench.gate.shut()
    for other in busy:
        with pytest.raises(Unfinished):
            other.get(b"k")
    AT_ONCE[name](session)
    assert not session.unanswered
    assert bench.budget.used_bytes == session._inner.retained_bytes


@pytest.mark.parametrize("use", [WorkerSession.commit, WorkerSession.rollback])
def test_without_a_transaction_there_is_nothing_to_ask_the_engine(bench: WorkerBench, use: Use) -> None:
    """COMMIT and ROLLBACK are refused at once."""
    with pytest.raises(NoTransactionError):
        use(bench.open_worker())
    assert bench.gate.calls == []


def test_a_limit_refuses_at_once_and_leaves_everything_as_it_was() -> None:
    """The depth, in this case."""
    with worker_bench(max_transaction_depth=2) as bench:
        session = begun(bench)
        session.start()
        held = bench.budget.used_bytes
        with pytest.raises(LimitError):
            session.start()
        assert (session.depth, bench.budget.used_bytes) == (2, held)


def test_a_listing_of_many_pending_writes_is_one_question(bench: WorkerBench) -> None:
    """A worker need not make way for others."""
    session = begun(bench)
    for number in range(5000):
        session.put(b"%04d" % number, b"")
    assert bench.asked(session, session.count, b"") == 5001
    assert len(bench.asked(session, session.keys, b"", b"", 6000)) == 5001


def test_calls_of_one_session_do_not_wait_for_those_of_another(bench: WorkerBench) -> None:
    """INFO of one that is busy is what is known of it."""
    busy, session = bench.open_worker(), bench.open_worker()
    hand_over(bench, busy, CALLS["snapshot"])
    woken: list[bool] = []
    with pytest.raises(Unfinished):
        session.info()
    session.when_ended(lambda: woken.append(True))
    bench.gate.wait_for_calls(2)
    bench.gate.open()
    bench.run_until_ended(session)
    assert woken == [True]
    figures = session.info()["server"]
    assert figures["clients"] == 2
    assert figures["open_transactions"] in (0, 1)


def test_another_question_while_an_answer_is_due_is_a_mistake(bench: WorkerBench) -> None:
    """One question must not get the answer of another: not even of the same kind."""
    session = bench.open_worker()
    with pytest.raises(Unfinished):
        session.put(b"k", b"1")
    bench.run_until_ended(session)
    others: list[Use] = [lambda session: session.put(b"k", b"2"), lambda session: session.get(b"k"), CALLS["snapshot"]]
    for other in others:
        with pytest.raises(RuntimeError):
            other(session)
    session.put(b"k", b"1")
    assert bench.asked(session, session.get, b"k") == b"1"


# What an engine raises.


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (StorageUnavailableError("away"), StorageUnavailableError),
        (LimitError("full"), LimitError),
        (OutcomeUnknownError("who knows"), OutcomeUnknownError),
        (ValueError("a bug"), OutcomeUnknownError),
    ],
)
def test_a_commit_that_fails_fails_as_inside(bench: WorkerBench, raised: Exception, expected: type[KvsError]) -> None:
    """The error is raised where the question is asked again, once."""
    session = begun(bench)
    bench.gate.raises = lambda: raised
    with pytest.raises(expected):
        bench.asked(session, session.commit)
    stays_open = expected in (StorageUnavailableError, LimitError)
    assert session.depth == int(stays_open)
    if not stays_open:
        bench.assert_nothing_is_held()
        bench.asked(session, session.start)
    assert isinstance(bench.asked(session, session.commit), Committed)
    assert ("engine_failed" in bench.log.getvalue()) == isinstance(raised, ValueError)


def test_a_read_that_fails_ends_the_transaction(bench: WorkerBench) -> None:
    """And its snapshot is closed by a worker."""
    session = begun(bench)
    bench.gate.raises = lambda: ValueError("a bug")
    with pytest.raises(InternalError):
        bench.asked(session, session.get, b"k")
    assert session.depth == 0
    bench.assert_nothing_is_held()
    assert threading.get_ident() not in {thread for _, thread in bench.gate.calls}


def test_a_worker_lives_on_whatever_an_engine_raises() -> None:
    """What is no Exception is raised where it was asked, as it would be without workers."""
    with worker_bench(worker_threads=1) as bench:
        session = bench.open_worker()
        bench.gate.raises = SystemExit
        with pytest.raises(SystemExit):
            bench.asked(session, session.get, b"k")
        assert bench.asked(session, session.get, b"k") is None


@pytest.mark.parametrize("fetched", [True, False], ids=["fetched", "dropped"])
@pytest.mark.parametrize("raises", [lambda: StorageUnavailableError("away"), lambda: ValueError("a bug")])
def test_an_error_leaves_no_cycle_behind(
    bench: WorkerBench, raises: Callable[[], BaseException], fetched: bool
) -> None:
    """Errors have tracebacks, these have frames, and those have sessions; reference counts are to free it all."""
    gc.collect()
    gc.disable()
    try:
        before = sessions_in_memory()
        session = begun(bench)
        bench.gate.raises = raises
        with suppress(Unfinished):
            session.get(b"k")
        bench.run_until_ended(session)
        if fetched:
            with suppress(KvsError):
                session.get(b"k")
        session.close()
        bench.run_until_ended(session)
        bench.threads.close()
        del session
        assert sessions_in_memory() == before
    finally:
        gc.enable()


def sessions_in_memory() -> int:
    """Return how many sessions there are.

    By their bases: of compiled abstract classes ``isinstance`` remembers what it has said of any of them.
    """
    return sum(Session in type(thing).__mro__ for thing in gc.get_objects())


# What sessions share.


def test_the_budget_is_told_by_the_loop(bench: WorkerBench) -> None:
    """A worker never touches what all clients share: what a call has added is known when the loop takes it back."""
    session = begun(bench)
    before = bench.budget.used_bytes
    with pytest.raises(Unfinished):
        session.get(b"key")
    bench.loop.run_until(lambda: not session.in_flight)
    assert bench.budget.used_bytes == session._inner.retained_bytes > before
    assert session.get(b"key") is None
    hand_over(bench, session, CALLS_INSIDE["commit"])
    assert bench.budget.used_bytes > before
    bench.gate.open()
    bench.threads.close()  # the worker is through with it, and the loop has not been told
    assert bench.budget.used_bytes > before
    bench.run_until_ended(session)
    bench.assert_nothing_is_held()


def test_the_age_of_a_transaction_is_known_when_it_has_begun(bench: WorkerBench) -> None:
    """By whoever ends those that are too old."""
    session = bench.open_worker()
    bench.clock.now_s = 2000.0
    bench.asked(session, session.start)
    assert session.started_at_s == 2000.0
    assert session.id == bench.asked(session, session.info)["session"]["id"]


def test_whether_a_snapshot_has_expired_is_not_asked_while_a_worker_has_it(bench: WorkerBench) -> None:
    """It will be when the call has ended."""
    session = begun(bench)
    hand_over(bench, session, CALLS_INSIDE["snapshot.get"])
    bench.gate.expired = True
    assert not session.expired
    bench.gate.open()
    bench.run_until_ended(session)
    assert session.expired


def test_workers_do_not_hold_on_to_a_session_that_has_ended(bench: WorkerBench) -> None:
    """Though no other call comes."""
    gc.collect()
    before = sessions_in_memory()
    session = bench.open_worker()
    bench.asked(session, session.get, b"k")
    session.close()
    del session
    deadline_s = monotonic() + TIMEOUT_S
    while sessions_in_memory() > before:  # until the worker, which has told the loop, has done the rest
        assert monotonic() < deadline_s


# Closing.


def open_sessions(bench: WorkerBench) -> object:
    """Return how many sessions are open."""
    return bench.sessions.info()["clients"]


def test_an_idle_session_is_closed_at_once(bench: WorkerBench) -> None:
    """There is nothing that the engine has to do."""
    session = bench.open_worker()
    session.close()
    session.close()
    assert not session.in_flight
    assert open_sessions(bench) == 0
    assert bench.gate.calls == []


def test_an_open_transaction_is_aborted_by_a_worker(bench: WorkerBench) -> None:
    """To close a snapshot is a call of the engine. The session has ended when that has."""
    session = begun(bench)
    session.start()
    bench.gate.shut()
    session.close()
    session.close()
    assert session.in_flight
    assert open_sessions(bench) == 1
    totals: list[int] = []
    session.when_ended(lambda: totals.append(session.totals.aborted))
    bench.gate.wait_for_calls(1)
    bench.gate.open()
    bench.run_until_ended(session)
    assert totals == [1]
    assert open_sessions(bench) == 0
    bench.assert_nothing_is_held()
    assert bench.gate.names() == ["snapshot", "snapshot.close"]


@pytest.mark.parametrize(
    ("inside", "name"), [*((False, name) for name in CALLS), *((True, name) for name in CALLS_INSIDE)]
)
@pytest.mark.parametrize("ended", [False, True], ids=["in flight", "ended"])
def test_a_call_runs_to_its_end_though_its_client_has_left(
    bench: WorkerBench, inside: bool, name: str, ended: bool
) -> None:
    """Its answer is dropped, and whatever it was leaves nothing behind."""
    session = begun(bench) if inside else bench.open_worker()
    hand_over(bench, session, (CALLS_INSIDE if inside else CALLS)[name])
    if ended:
        bench.gate.open()
        bench.run_until_ended(session)
    session.close()
    session.close()
    totals: list[tuple[int, int]] = []
    session.when_ended(lambda: totals.append((session.totals.committed, session.totals.aborted)))
    bench.gate.open()
    bench.run_until_ended(session)
    committed = name == "commit"
    begun_and_aborted = (name == "snapshot") or (inside and name not in ("commit", "snapshot.close"))
    assert totals == [(int(committed), int(begun_and_aborted))]
    assert open_sessions(bench) == 0
    bench.assert_nothing_is_held()
    assert bench.gate.names().count(name) == 1
    assert bench.storage.get(b"k") == (b"v" if name == "put" else None)
    assert bench.storage.get(b"w") == (b"1" if committed else None)


@pytest.mark.parametrize("raised", [StorageUnavailableError("away"), ValueError("a bug")])
def test_a_call_that_fails_when_its_client_has_left_is_told_to_nobody(bench: WorkerBench, raised: Exception) -> None:
    """But for the log, where it is a bug of the engine's."""
    session = begun(bench)
    hand_over(bench, session, CALLS_INSIDE["commit"])
    session.close()
    bench.gate.raises = lambda: raised
    bench.gate.open()
    bench.run_until_ended(session)
    bench.assert_nothing_is_held()
    assert session.totals.aborted == 1
    assert bench.log.getvalue().count("engine_failed") == int(isinstance(raised, ValueError))


def test_a_snapshot_that_cannot_be_closed_does_not_keep_a_session_from_ending(bench: WorkerBench) -> None:
    """It is logged, and tried once."""
    session = begun(bench)
    bench.gate.raises = lambda: ValueError("cannot close")
    session.close()
    bench.run_until_ended(session)
    assert open_sessions(bench) == 0
    assert bench.gate.names().count("snapshot.close") == 1
    assert "Snapshot.close" in bench.log.getvalue()


def test_what_is_no_error_of_a_command_is_not_dropped_with_the_answer(bench: WorkerBench) -> None:
    """The loop gets it, when everything has been cleared up."""
    session = begun(bench)
    hand_over(bench, session, CALLS_INSIDE["snapshot.get"])
    session.close()
    bench.gate.raises = SystemExit
    bench.gate.open()
    with pytest.raises(SystemExit):
        bench.run_until_ended(session)
    bench.run_until_ended(session)
    assert open_sessions(bench) == 0
    bench.assert_nothing_is_held()


# The threads.


def test_there_are_so_many_threads_and_tasks_wait_for_them_in_order() -> None:
    """Two of five run at once; those that wait begin in the order they came in."""
    threads = WorkerThreads(2)
    started: SimpleQueue[int] = SimpleQueue()
    gates = [threading.Event() for _ in range(5)]

    def task(number: int) -> Task:
        def run() -> None:
            started.put(number)
            assert gates[number].wait(TIMEOUT_S)

        return run

    for number in range(5):
        threads.run(task(number))
    assert {started.get(timeout=TIMEOUT_S), started.get(timeout=TIMEOUT_S)} == {0, 1}
    for ended, next_one in ((1, 2), (2, 3), (0, 4)):
        assert started.empty()
        gates[ended].set()
        assert started.get(timeout=TIMEOUT_S) == next_one
    gates[3].set()
    gates[4].set()
    threads.close()


def test_closing_ends_the_threads_behind_their_tasks() -> None:
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


def test_threads_that_cannot_be_started() -> None:
    """There is no half of them, either."""
    before = threading.active_count()
    default = threading.stack_size(1 << 46)  # more than there are addresses for
    try:
        with pytest.raises(RuntimeError):
            WorkerThreads(2)
    finally:
        threading.stack_size(default)
    assert threading.active_count() == before

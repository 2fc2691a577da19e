"""Sessions on worker threads: updates, several calls as one, and what is watched."""

import threading
from collections.abc import Callable, Iterator

import pytest

from kvs.application.executor import WorkerSession
from kvs.application.operations import FindKeys, GetMany, PutManyIfAbsent
from kvs.application.watch import BASELINE_BYTES
from kvs.domain.commit import Committed, Conflict
from kvs.domain.errors import KvsError, OutcomeUnknownError, StorageUnavailableError, UsageError
from kvs.domain.updates import Add, PutIfAbsent, PutIfPresent
from kvs.ports.session import Session, Unfinished
from tests.support.executor import WorkerBench, worker_bench

Use = Callable[[WorkerSession], object]


def write(session: Session) -> str:
    """Read and write; a unit."""
    session.put(b"mine", session.get(b"k") or b"")
    return "done"


CALLS: dict[str, Use] = {
    "update": lambda session: session.update(b"n", Add(1)),
    "clear": lambda session: session.clear(),
    "atomically": lambda session: session.atomically(PutManyIfAbsent({b"n": b"1"})),
    "atomically, to read": lambda session: session.atomically(GetMany((b"n",), 5), read_only=True),
    "watch": lambda session: session.watch((b"k",)),
    "execute": lambda session: session.execute(write),
}
"""What a session may be asked that takes calls of the engine."""


@pytest.fixture
def bench() -> Iterator[WorkerBench]:
    """Return sessions over an engine whose gate is open."""
    with worker_bench() as bench:
        yield bench


def watching(bench: WorkerBench) -> WorkerSession:
    """Return a session that watches ``k``."""
    session = bench.open_worker()
    bench.asked(session, session.watch, (b"k",))
    return session


def assert_workers_alone_called(bench: WorkerBench) -> None:
    """Assert that no call of the engine came from this thread, the loop."""
    assert bench.gate.calls
    assert threading.get_ident() not in {thread for _, thread in bench.gate.calls}


# Who calls the engine, and when there is an answer.


@pytest.mark.parametrize("name", CALLS)
def test_there_is_no_answer_while_the_call_is_in_flight(bench: WorkerBench, name: str) -> None:
    """Asking again does not call again, and every call of the engine is made by a worker."""
    session = bench.open_worker()
    bench.gate.shut()
    for _ in range(3):
        with pytest.raises(Unfinished):
            CALLS[name](session)
    bench.gate.wait_for_calls(1)
    assert session.in_flight
    bench.gate.open()
    bench.run_until_ended(session)
    assert session.unanswered
    CALLS[name](session)
    assert not session.unanswered
    assert bench.gate.names().count("snapshot") == (name != "clear")  # which reads nothing
    session.close()
    bench.run_until_ended(session)
    bench.assert_nothing_is_held()
    assert_workers_alone_called(bench)


def test_answers_are_those_of_the_session_inside(bench: WorkerBench) -> None:
    """Outside a transaction and inside."""
    session = bench.open_worker()
    assert bench.asked(session, session.update, b"n", Add(5)) == (None, b"5")
    with pytest.raises(UsageError, match="not an integer"):
        bench.asked(
            session, session.atomically, lambda session: (session.put(b"n", b"x"), session.update(b"n", Add(1)))
        )
    bench.asked(session, session.start)
    assert bench.asked(session, session.update, b"n", Add(5)) == (b"5", b"10")
    assert bench.asked(session, session.put_all, {b"m": b"1"}) is None
    assert bench.asked(session, session.atomically, GetMany((b"m", b"n"), 9), read_only=True) == [b"1", b"10"]
    assert isinstance(bench.asked(session, session.commit), Committed)
    assert bench.storage.get(b"n") == b"10"
    bench.asked(session, session.clear)
    assert bench.storage.count(b"") == 0
    bench.assert_nothing_is_held()


def test_a_unit_is_run_by_a_worker(bench: WorkerBench) -> None:
    """All of it in one go, however much it reads: a worker need not make way for others."""
    for number in range(10_000):
        bench.storage.put(b"%05d" % number, b"")
    session = bench.open_worker()
    threads: list[int] = []

    def matches(key: bytes) -> bool:
        threads.append(threading.get_ident())
        return key.endswith(b"99")

    question = FindKeys(b"", b"", matches, 1000, 1000)
    found = bench.asked(session, session.atomically, question, read_only=True)
    assert found.keys == [b"%05d" % number for number in range(99, 10_000, 100)]
    assert len(threads) == 10_000
    assert threading.get_ident() not in threads
    bench.assert_nothing_is_held()


@pytest.mark.parametrize(
    "use",
    [
        lambda session: session.update(b"k", PutIfPresent(b"1")),
        lambda session: session.update(b"l", PutIfAbsent(b"1")),
        lambda session: session.update(b"k", PutIfAbsent(b"2")),
    ],
)
def test_one_question_never_gets_the_answer_of_another(bench: WorkerBench, use: Use) -> None:
    """Not even of one that is made of the same."""
    session = bench.open_worker()
    with pytest.raises(Unfinished):
        session.update(b"k", PutIfAbsent(b"1"))
    bench.run_until_ended(session)
    with pytest.raises(RuntimeError):
        use(session)
    assert session.update(b"k", PutIfAbsent(b"1")) == (None, b"1")


# What takes no call of the engine.


def refused(use: Callable[[], object]) -> None:
    """Assert that something is a mistake of the client's."""
    with pytest.raises(UsageError):
        use()


AT_ONCE_INSIDE: dict[str, Use] = {
    "update of what is written": lambda session: session.update(b"w", Add(1)),
    "WATCH": lambda session: refused(lambda: session.watch((b"k",))),
    "EXEC": lambda session: refused(lambda: session.execute(write)),
    "UNWATCH": lambda session: session.unwatch(),
    "whether anything is watched": lambda session: session.watching,
}
AT_ONCE_OUTSIDE: dict[str, Use] = {
    "UNWATCH": lambda session: session.unwatch(),
    "RESET": lambda session: session.reset(),
    "whether anything is watched": lambda session: session.watching,
}
AT_ONCE_WATCHING: dict[str, Use] = {
    "START": lambda session: refused(session.start),
    "whether anything is watched": lambda session: session.watching,
}


@pytest.mark.parametrize(
    ("state", "name"),
    [
        *[("inside", name) for name in AT_ONCE_INSIDE],
        *[("outside", name) for name in AT_ONCE_OUTSIDE],
        *[("watching", name) for name in AT_ONCE_WATCHING],
    ],
)
def test_what_takes_no_call_of_the_engine_is_answered_at_once(bench: WorkerBench, state: str, name: str) -> None:
    """Though every worker is busy."""
    session = bench.open_worker()
    if state == "inside":
        bench.asked(session, session.start)
        session.put(b"w", b"1")
    elif state == "watching":
        bench.asked(session, session.watch, (b"k",))
    bench.gate.shut()
    for _ in range(2):
        with pytest.raises(Unfinished):
            bench.open_worker().get(b"k")
    {"inside": AT_ONCE_INSIDE, "outside": AT_ONCE_OUTSIDE, "watching": AT_ONCE_WATCHING}[state][name](session)
    assert not session.unanswered
    assert session.watching == (state == "watching")


# What is watched.


@pytest.mark.parametrize("changed", [False, True])
def test_a_baseline_is_held_and_let_go_of_by_workers(bench: WorkerBench, changed: bool) -> None:
    """And broken by whoever changes its key; the budget is told by the loop."""
    session, other = watching(bench), bench.open_worker()
    assert session.watching
    assert bench.budget.used_bytes > BASELINE_BYTES
    assert bench.asked(session, session.get, b"k") is None
    if changed:
        bench.asked(other, other.update, b"k", Add(1))
        assert bench.asked(session, session.get, b"k") == b"1"
    answer = bench.asked(session, session.execute, write)
    if changed:
        assert isinstance(answer, Conflict)
        assert answer.keys == (b"k",)
    else:
        assert answer == "done"
    assert_workers_alone_called(bench)
    assert bench.storage.get(b"mine") == (None if changed else b"")
    assert (session.totals.committed, session.totals.conflicted) == (int(not changed), int(changed))
    assert not session.watching
    bench.assert_nothing_is_held()


@pytest.mark.parametrize("end", [WorkerSession.unwatch, WorkerSession.reset])
def test_what_is_watched_is_forgotten_by_a_worker(bench: WorkerBench, end: Use) -> None:
    """To close a snapshot is a call of the engine."""
    session = watching(bench)
    bench.asked(session, end, session)
    assert not session.watching
    bench.assert_nothing_is_held()
    assert_workers_alone_called(bench)


def test_a_unit_is_tried_again_by_the_worker(bench: WorkerBench) -> None:
    """While the client waits for one answer."""
    session, other = watching(bench), bench.storage
    ran: list[bytes | None] = []

    def unit(session: Session) -> str:
        ran.append(session.get(b"read"))
        if len(ran) == 1:
            other.put(b"read", b"5")
        return write(session)

    assert bench.asked(session, session.execute, unit) == "done"
    assert ran == [None, b"5"]
    bench.assert_nothing_is_held()


@pytest.mark.parametrize(
    ("raised", "expected"),
    [(StorageUnavailableError("away"), StorageUnavailableError), (ValueError("a bug"), OutcomeUnknownError)],
)
@pytest.mark.parametrize("name", ["update", "clear"])
def test_what_an_engine_raises_fails_as_inside(
    bench: WorkerBench, name: str, raised: Exception, expected: type[KvsError]
) -> None:
    """Once, where the question is asked again."""
    session = bench.open_worker()
    bench.gate.raises = lambda: raised
    with pytest.raises(expected):
        bench.asked(session, CALLS[name], session)
    bench.asked(session, CALLS[name], session)
    bench.assert_nothing_is_held()


# Closing.


def test_what_is_watched_when_a_client_leaves_is_let_go_of_by_a_worker(bench: WorkerBench) -> None:
    """The session has ended when that has."""
    session = watching(bench)
    bench.gate.shut()
    session.close()
    session.close()
    assert session.in_flight
    bench.gate.wait_for_calls(1)
    assert bench.sessions.info()["clients"] == 1
    bench.gate.open()
    bench.run_until_ended(session)
    assert bench.sessions.info()["clients"] == 0
    assert session.totals.aborted == 0
    bench.assert_nothing_is_held()
    assert bench.gate.names() == ["snapshot", "snapshot.close"]
    assert_workers_alone_called(bench)


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("ended", [False, True], ids=["in flight", "ended"])
@pytest.mark.parametrize("name", CALLS)
def test_a_call_runs_to_its_end_though_its_client_has_left(
    bench: WorkerBench, name: str, ended: bool, watched: bool
) -> None:
    """Its answer is dropped, and nothing is left behind, of what it has watched least of all."""
    session = watching(bench) if watched else bench.open_worker()
    bench.gate.shut()
    with pytest.raises(Unfinished):
        CALLS[name](session)
    if not watched or name != "watch":  # what is watched already takes no call
        bench.gate.wait_for_calls(1)
    if ended:
        bench.gate.open()
        bench.run_until_ended(session)
    session.close()
    bench.gate.open()
    bench.run_until_ended(session)
    assert bench.sessions.info()["clients"] == 0
    bench.assert_nothing_is_held()
    assert bench.storage.get(b"mine") == (b"" if name == "execute" else None)
    assert bench.storage.get(b"n") == (b"1" if name in ("update", "atomically") else None)

"""Watched keys: which changes make EXEC conflict, which do not, and when their snapshots are closed."""

from collections.abc import Callable
from typing import Any

import pytest

from kvs.application.session import EngineSession
from kvs.application.watch import WATCH_OVERHEAD_BYTES
from kvs.domain.commit import Committed, Conflict
from kvs.domain.errors import LimitError, OutcomeUnknownError, StorageUnavailableError, UsageError
from kvs.domain.updates import Add, PutIfPresent, Replace
from kvs.domain.values import ENTRY_OVERHEAD_BYTES
from kvs.ports.session import Operation, Session, Steps
from tests.support.scripted_storage import ScriptedStorage, each
from tests.support.sessions import Bench, fail, filled, in_one_step, is_watching, run, stored, write

Use = Callable[[EngineSession], object]

ONE_BYTES = WATCH_OVERHEAD_BYTES + 1 + ENTRY_OVERHEAD_BYTES
"""What it takes to watch one key of one byte."""


def nothing(_: Session) -> Steps[str]:
    """Neither read nor write; an operation."""
    return "done"
    yield


CHANGES: dict[str, Use] = {
    "put": lambda session: session.put(b"k", b"new"),
    "put of equal bytes": lambda session: session.put(b"k", b"1"),
    "deleted": lambda session: session.delete(b"k"),
    "deleted and put back": lambda session: (session.delete(b"k"), session.update(b"k", Replace(b"1"))),
    "updated": lambda session: session.update(b"k", Add(1)),
    "updated to equal bytes": lambda session: session.update(b"k", Replace(b"1")),
    "cleared": lambda session: session.clear(),
    "put with others": lambda session: session.put_all([b"j", b"k"], [b"", b""]),
    "put where it was not": lambda session: session.put(b"absent", b""),
}
NO_CHANGES: dict[str, Use] = {
    "read": lambda session: session.get(b"k"),
    "another key put": lambda session: session.put(b"other", b""),
    "an absent one deleted": lambda session: session.delete(b"absent"),
    "left by an update": lambda session: session.update(b"absent", PutIfPresent(b"")),
}


# Which changes conflict.


@pytest.mark.parametrize("operation", [write, nothing])
@pytest.mark.parametrize("by_itself", [False, True], ids=["by another", "by itself"])
@pytest.mark.parametrize("name", CHANGES)
def test_watched_key_that_changed_is_a_conflict_and_nothing_is_applied(
    name: str, by_itself: bool, operation: "Operation[Any]"
) -> None:
    """Whoever changed it, however, and be there anything to apply or not."""
    bench = Bench()
    session, other = filled(bench, {b"k": b"1"}, inside=False), bench.open()
    session.watch([b"k", b"absent"])
    CHANGES[name](session if by_itself else other)
    before = stored(bench)
    answer = run(session.execute(operation))
    assert isinstance(answer, Conflict)
    assert set(answer.keys) <= {b"k", b"absent"}
    assert len(answer.keys) == 1
    assert stored(bench) == before
    assert (session.counters.committed, session.counters.conflicted) == (0, 1)
    assert not is_watching(session)
    assert run(session.execute(operation)) == "done"  # nothing is watched any more
    bench.assert_nothing_is_held()


@pytest.mark.parametrize("operation", [write, nothing])
@pytest.mark.parametrize("name", NO_CHANGES)
def test_watched_key_that_did_not_change_is_no_conflict(name: str, operation: "Operation[Any]") -> None:
    """And the operation is done."""
    bench = Bench()
    session = filled(bench, {b"k": b"1"}, inside=False)
    session.watch([b"k", b"absent"])
    NO_CHANGES[name](session)
    assert run(session.execute(operation)) == "done"
    assert (bench.storage.get(b"mine") == b"") == (operation is write)
    assert (session.counters.committed, session.counters.conflicted) == (1, 0)
    bench.assert_nothing_is_held()


def test_watch_opens_no_transaction() -> None:
    """What is read is what there is by then, and what is written is there at once."""
    bench = Bench()
    session, other = filled(bench, {b"k": b"1"}, inside=False), bench.open()
    session.watch([b"other"])
    assert is_watching(session)
    assert session.depth == 0
    other.put(b"k", b"2")
    assert session.get(b"k") == b"2"
    session.put(b"k", b"3")
    assert other.get(b"k") == b"3"
    assert run(session.execute(in_one_step(lambda session: session.get(b"k")))) == b"3"


def test_watch_of_a_watched_key_keeps_its_first_snapshot() -> None:
    """A key that is watched again keeps it; one that is new has its own, from then on."""
    bench = Bench()
    session, other = bench.open(), bench.open()
    session.watch([b"k"])
    other.put(b"l", b"before it was watched")
    session.watch([b"l", b"k"])
    assert run(session.execute(write)) == "done"
    session.watch([b"k"])
    other.put(b"k", b"changed")
    session.watch([b"k", b"l"])
    conflict = run(session.execute(write))
    assert isinstance(conflict, Conflict)
    assert conflict.keys == (b"k",)
    session.watch([b"k"])
    session.watch([b"l"])
    other.put(b"l", b"after it was watched")
    conflict = run(session.execute(write))
    assert isinstance(conflict, Conflict)
    assert conflict.keys == (b"l",)
    bench.assert_nothing_is_held()


def test_watch_takes_a_key_once_however_often_it_is_named() -> None:
    """Nothing is taken and nothing charged for what is watched already, nor for nothing at all."""
    bench = Bench()
    session = bench.open()
    session.watch([])
    assert (is_watching(session), bench.storage.taken) == (False, 0)
    session.watch([b"k", b"k"])
    for _ in range(3):
        session.watch([b"k"])
        session.watch([])
    assert (bench.storage.taken, bench.budget.used_bytes) == (1, ONE_BYTES)
    for _ in range(3):  # whether they were named in the first WATCH or later
        session.watch([b"l"])
        session.watch([b"m", b"k", b"l"])
    assert (bench.storage.taken, bench.budget.used_bytes) == (3, 3 * ONE_BYTES)


# What it takes.


@pytest.mark.parametrize(("spare", "refused"), [(1, False), (0, False), (-1, True)])
def test_watch_is_limited(spare: int, refused: bool) -> None:
    """Just below max_transaction_bytes, at it, and not a byte above; what was watched before still is."""
    bench = Bench(max_transaction_bytes=2 * ONE_BYTES + spare)
    session = bench.open()
    session.watch([b"k"])
    if refused:
        with pytest.raises(LimitError, match="max_transaction_bytes"):
            session.watch([b"l"])
    else:
        session.watch([b"l"])
    assert bench.budget.used_bytes == (1 if refused else 2) * ONE_BYTES
    assert bench.storage.open_snapshots == (1 if refused else 2)
    bench.storage.put(b"l", b"")
    answer = run(session.execute(nothing))
    assert answer == "done" if refused else isinstance(answer, Conflict)
    bench.assert_nothing_is_held()


def test_watch_of_too_much_at_once_watches_nothing() -> None:
    """Nor is anything held for it."""
    bench = Bench(max_transaction_bytes=ONE_BYTES)
    session = bench.open()
    with pytest.raises(LimitError):
        session.watch([b"k", b"l"])
    assert not is_watching(session)
    bench.assert_nothing_is_held()
    session.watch([b"k"])
    assert is_watching(session)


# What it does not go together with.


def test_start_is_refused_while_keys_are_watched() -> None:
    """They would be watched for nothing; both go on as they were."""
    bench = Bench()
    session = bench.open()
    session.watch([b"k"])
    for read_only in (False, True):
        with pytest.raises(UsageError, match="UNWATCH"):
            session.start(read_only=read_only)
    assert (session.depth, is_watching(session)) == (0, True)
    session.unwatch()
    session.start()
    assert session.depth == 1


def test_watch_and_execute_are_refused_in_a_transaction() -> None:
    """It validates what it reads by itself, and goes on."""
    bench = Bench()
    session = bench.open()
    session.start()
    session.put(b"p", b"pending")
    with pytest.raises(UsageError, match="WATCH"):
        session.watch([b"k"])
    with pytest.raises(UsageError, match="EXEC"):
        run(session.execute(write))
    session.unwatch()
    assert (session.depth, is_watching(session), session.get(b"p")) == (1, False, b"pending")
    assert isinstance(session.commit(), Committed)
    assert stored(bench) == {b"p": b"pending"}
    bench.assert_nothing_is_held()


# The end of it.


ENDS: dict[str, Use] = {
    "unwatch": lambda session: session.unwatch(),
    "execute": lambda session: run(session.execute(nothing)),
    "reset": lambda session: session.reset(),
    "close": lambda session: session.close(),
}


@pytest.mark.parametrize("name", ENDS)
def test_watch_has_its_snapshots_closed_once_on_every_way_out(name: str) -> None:
    """And pays everything back."""
    bench = Bench()
    session = bench.open()
    for key in (b"a", b"b", b"c"):
        session.watch([key])
    assert (bench.storage.open_snapshots, bench.budget.used_bytes) == (3, 3 * ONE_BYTES)
    for _ in range(2):
        ENDS[name](session)
    assert not is_watching(session)
    assert stored(bench) == {}
    bench.assert_nothing_is_held()


def test_watch_ends_with_an_operation_that_fails() -> None:
    """What was watched is forgotten whatever comes of EXEC, so a client begins again with WATCH."""
    bench = Bench()
    session = bench.open()
    session.watch([b"k"])
    with pytest.raises(UsageError):
        run(session.execute(fail))
    assert (session.depth, is_watching(session)) == (0, False)
    assert stored(bench) == {}
    bench.assert_nothing_is_held()


@pytest.mark.parametrize("error", [StorageUnavailableError("not now"), LimitError("full"), OutcomeUnknownError("?")])
def test_watch_ends_with_a_commit_that_the_engine_refuses(error: Exception) -> None:
    """And leaves no transaction open, as there was none before."""
    bench = Bench(ScriptedStorage({"commit": each([error])}))
    session = bench.open()
    session.watch([b"k"])
    with pytest.raises(type(error)):
        run(session.execute(write))
    assert (session.depth, is_watching(session)) == (0, False)
    bench.assert_nothing_is_held()
    assert run(session.execute(write)) == "done"

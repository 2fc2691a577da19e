"""What a session executes: what is tried again, what makes way for others, and what an engine may give up meanwhile."""

from collections.abc import Callable
from functools import partial

import pytest

from kvs.adapters.inbound.resp.glob import Glob
from kvs.adapters.storage.memory.storage import MemoryStorage
from kvs.application.operations import find_keys
from kvs.application.session import EngineSession
from kvs.domain.commit import MAX_CONFLICTS_NAMED, Conflict
from kvs.domain.errors import StorageUnavailableError, TimedOutError
from kvs.domain.values import Key, Value
from kvs.ports.session import Operation, Session, Steps
from tests.support.scripted_storage import GO_ON, ScriptedStorage, returning
from tests.support.sessions import UNLIMITED, Bench, fail, filled, is_watching, run, shares, suspend, write

Use = Callable[[EngineSession], object]

MANY = [b"%05d" % number for number in range(10_000)]
"""More than is looked at in two shares."""


# What the operation itself reads.


@pytest.mark.parametrize("sneaked", [b"read", b"watched", b"watched and read", b"other"])
def test_execute_is_retried_unless_a_watched_key_has_changed(sneaked: Key) -> None:
    """For only that is for the client to know; what the operation has read it reads again."""
    storage = ScriptedStorage()

    def sneak(_: object) -> object:
        del storage.on["commit"]
        storage.put(sneaked, b"5")  # just before the first commit
        return GO_ON

    storage.on["commit"] = sneak
    bench = Bench(storage)
    session = bench.open()
    session.watch([b"watched", b"watched and read"])
    ran: list[tuple[Value | None, Value | None]] = []

    def operation(session: Session) -> Steps[str]:
        ran.append((session.get(b"read"), session.get(b"watched and read")))
        return (yield from write(session))

    answer = run(session.execute(operation))
    if sneaked.startswith(b"watched"):
        assert isinstance(answer, Conflict)
        assert set(answer.keys) == {sneaked}
        assert bench.storage.get(b"mine") is None
    else:
        assert answer == "done"
        assert bench.storage.get(b"mine") == b""
    assert ran == ([(None, None), (b"5", None)] if sneaked == b"read" else [(None, None)])
    bench.assert_nothing_is_held()


# An operation that makes way for others.


def searching(search: "Operation[list[Key]]") -> "Operation[list[Key]]":
    """Return an operation that takes several shares."""

    def operation(session: Session) -> Steps[list[Key]]:
        session.put(b"mine", b"")
        return (yield from session.view(search))

    return operation


@pytest.mark.parametrize("changed", [False, True])
def test_execute_of_a_long_operation_makes_way_and_depends_on_what_is_watched(changed: bool) -> None:
    """What is no conflict with it is none; if what is watched has changed meanwhile, it was for nothing."""
    bench = Bench(MemoryStorage(0, UNLIMITED))
    session = filled(bench, dict.fromkeys(MANY, b""), inside=False)
    session.watch([b"k"])
    operation = searching(partial(find_keys, b"", Glob(b"*99"), 100_000))

    def change() -> None:
        assert is_watching(session)
        bench.storage.put(MANY[99], b"overwritten, which is no other key")
        if changed:
            bench.storage.put(b"k", b"")

    yields, answer = shares(session.execute(operation), session.work, 5000, change)
    assert yields >= 2
    if changed:
        assert isinstance(answer, Conflict)
    else:
        assert answer == MANY[99::100]
    assert bench.storage.get(b"mine") == (None if changed else b"")
    assert (session.depth, is_watching(session)) == (0, False)
    bench.assert_nothing_is_held()


def test_execute_that_is_closed_leaves_nothing_behind() -> None:
    """No transaction, no snapshot, and nothing watched: its client had sent EXEC."""
    bench = Bench(MemoryStorage(0, UNLIMITED))
    session = filled(bench, dict.fromkeys(MANY, b""), inside=False)
    session.watch([b"k"])
    steps = session.execute(searching(partial(find_keys, b"", None, 100_000)))
    suspend(steps, session.work, 100)
    assert (session.depth, is_watching(session)) == (1, True)
    steps.close()
    assert (session.depth, is_watching(session)) == (0, False)
    assert bench.storage.get(b"mine") is None
    bench.assert_nothing_is_held()


# What an engine gives up.


def test_execute_conflicts_if_a_watched_snapshot_was_evicted() -> None:
    """Whether the key has changed cannot be told; the operation is not even run. A bounded number of keys is named."""
    bench = Bench(MemoryStorage(0, 1000))
    session = bench.open()
    keys = [b"%d" % number for number in range(20)]
    session.watch(keys)
    for number in range(100):
        bench.storage.put(b"k", b"%d" % number)
        reader = bench.storage.snapshot()  # so that each value has to be kept
        bench.storage.put(b"l%d" % number, bytes(100))
        reader.close()
    assert is_watching(session)
    answer = run(session.execute(fail))
    assert isinstance(answer, Conflict)
    assert len(answer.keys) == MAX_CONFLICTS_NAMED
    assert set(answer.keys) < set(keys)
    assert not is_watching(session)
    assert run(session.execute(write)) == "done"
    bench.assert_nothing_is_held()


@pytest.mark.parametrize("lost", [False, True])
def test_execute_conflicts_if_a_watched_snapshot_is_evicted_meanwhile(lost: bool) -> None:
    """An engine on worker threads may do so at any time; a transaction's own snapshot is something else."""
    storage = ScriptedStorage()

    def give_up(_: object) -> object:
        storage.on["Snapshot.expired"] = returning(lost)
        raise TimedOutError("too old")

    storage.on["commit"] = give_up
    bench = Bench(storage)
    session = bench.open()
    session.watch([b"k"])
    if lost:
        answer = run(session.execute(write))
        assert isinstance(answer, Conflict)
        assert answer.keys == (b"k",)
    else:
        with pytest.raises(StorageUnavailableError):
            run(session.execute(write))
    assert not is_watching(session)
    bench.assert_nothing_is_held()


def test_execute_ends_if_a_watched_snapshot_is_evicted_between_two_shares() -> None:
    """A long operation makes way for others, and what they write may be too much to be kept."""
    bench = Bench(MemoryStorage(0, 100_000))
    session = filled(bench, dict.fromkeys(MANY, b"") | {b"1": bytes(60_000), b"2": bytes(60_000)}, inside=False)
    session.watch([b"k"])
    bench.storage.put(b"1", b"")

    operation = searching(partial(find_keys, b"", Glob(b"*9"), 100_000))
    steps = suspend(session.execute(operation), session.work)
    assert session.depth == 1
    for _ in range(10):
        bench.storage.put(b"2", b"")  # too much together with what the watched snapshot sees
    assert bench.storage.stats()["snapshots"] == 1
    assert isinstance(run(steps), Conflict)
    assert (session.depth, is_watching(session)) == (0, False)
    assert bench.storage.get(b"mine") is None
    bench.assert_nothing_is_held()

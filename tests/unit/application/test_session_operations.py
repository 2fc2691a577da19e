"""A session's updates, and several calls as one: what is observed, what is tried again, and what is watched."""

from collections.abc import Callable
from functools import partial

import pytest

from kvs.adapters.storage.memory.storage import MemoryStorage
from kvs.application.operations import delete_all, get_many, random_key, update_all_if
from kvs.application.session import EngineSession
from kvs.domain.commit import Committed, Conflict
from kvs.domain.errors import LimitError, OutcomeUnknownError, StorageUnavailableError, UsageError
from kvs.domain.transaction import FRAME_OVERHEAD_BYTES
from kvs.domain.updates import Add, PutIfAbsent, PutIfPresent, Remove, Replace, Update, is_absent
from kvs.domain.values import TOMBSTONE, Key, Value, Write, entry_bytes
from kvs.ports.autocommit import MAX_RETRIES
from kvs.ports.session import Operation, Session, Steps
from tests.support.scripted_storage import GO_ON, ScriptedStorage, raising, returning
from tests.support.sessions import UNLIMITED, Bench, filled, in_one_step, is_watching, run, shares, stored, suspend

Use = Callable[[EngineSession], object]
Way = Callable[[EngineSession, "Operation[object]"], Steps[object]]


def without_commits() -> ScriptedStorage:
    """Return an engine that is not to be asked to commit."""
    return ScriptedStorage({"commit": raising(AssertionError())})


class Crowded(ScriptedStorage):
    """An engine in which others write just before a commit.

    Attributes:
        key: What they put.
        times: How often they still will.
        commits: How often somebody wanted to commit.
    """

    def __init__(self, key: Key, times: int) -> None:
        super().__init__({"commit": self._write_before})
        self.key = key
        self.times = times
        self.commits = 0

    def _write_before(self, _: object) -> object:
        self.commits += 1
        if self.times:
            self.times -= 1
            self.put(self.key, b"%d" % self.commits)
        return GO_ON


# Several values.


def test_several_values_outside_a_transaction_are_one_commit() -> None:
    """Which depends on nothing, and needs no snapshot."""
    bench = Bench(ScriptedStorage({"put": raising(AssertionError())}))
    bench.open().put_all([b"a", b"b"], [b"1", b"2"])
    assert stored(bench) == {b"a": b"1", b"b": b"2"}
    assert bench.storage.taken == 0
    bench.assert_nothing_is_held()


def test_a_conflict_of_what_depends_on_nothing_is_a_failure() -> None:
    """Nobody would be told that nothing was stored."""
    bench = Bench(ScriptedStorage({"commit": returning(Conflict((b"a",), ()))}))
    with pytest.raises(OutcomeUnknownError):
        bench.open().put_all([b"a"], [b"1"])
    assert "engine_failed" in bench.log.getvalue()


def test_several_values_in_a_transaction_are_pending_all_or_none() -> None:
    """A limit that only the last of them would exceed leaves none."""
    bench = Bench(max_transaction_bytes=FRAME_OVERHEAD_BYTES + 2 * entry_bytes(b"a", b"1"))
    session, other = bench.open(), bench.open()
    session.start()
    with pytest.raises(LimitError):
        session.put_all([b"a", b"b", b"c"], [b"1", b"2", b"3"])
    session.put_all([b"a", b"b"], [b"1", b"2"])  # for which there is room, since nothing is left of the others
    assert (session.get(b"a"), session.get(b"b"), other.get(b"a")) == (b"1", b"2", None)
    assert isinstance(session.commit(), Committed)
    assert stored(bench) == {b"a": b"1", b"b": b"2"}
    bench.assert_nothing_is_held()


# Update.


def test_an_update_outside_a_transaction_is_the_engines() -> None:
    """Its own way of doing it, which may be one step."""

    def update(key: Key, change: Callable[[Value | None], Write | None]) -> object:
        assert (key, change(b"1")) == (b"n", b"3")
        return b"1", b"3"

    bench = Bench(ScriptedStorage({"update": update, "commit": raising(AssertionError())}))
    assert bench.open().update(b"n", Add(2)) == (b"1", b"3")
    assert bench.storage.taken == 0


@pytest.mark.parametrize("inside", [False, True], ids=["outside", "inside"])
def test_an_update_returns_the_value_before_and_after(inside: bool) -> None:
    """The same in a transaction as outside: what it has written itself is what there is."""
    bench = Bench()
    session = filled(bench, {b"n": b"1"}, inside=inside)
    assert session.update(b"n", Add(2)) == (b"1", b"3")
    assert session.update(b"n", Add(2)) == (b"3", b"5")
    assert session.update(b"n", PutIfAbsent(b"no")) == (b"5", b"5")
    assert session.update(b"x", PutIfPresent(b"no")) == (None, None)
    assert session.update(b"n", Remove()) == (b"5", None)
    assert session.update(b"n", Remove()) == (None, None)
    assert session.update(b"n", lambda _: TOMBSTONE) == (None, None)
    assert session.update(b"n", PutIfAbsent(b"7")) == (None, b"7")
    if inside:
        assert stored(bench) == {b"n": b"1"}
        assert isinstance(session.commit(), Committed)
    assert stored(bench) == {b"n": b"7"}
    bench.assert_nothing_is_held()


@pytest.mark.parametrize("inside", [False, True], ids=["outside", "inside"])
def test_what_a_change_raises_comes_out_and_nothing_is_changed(inside: bool) -> None:
    """The transaction goes on; the client has been told something of the value, so that is observed."""
    bench = Bench()
    session = filled(bench, {b"k": b"text"}, inside=inside)
    for _ in range(2):
        with pytest.raises(UsageError, match="not a whole number"):
            session.update(b"k", Add(1))
        assert session.depth == int(inside)
    if inside:
        session.put(b"mine", b"")
        bench.storage.put(b"k", b"1")
        assert isinstance(session.commit(), Conflict)
    else:
        assert session.get(b"k") == b"text"
    bench.assert_nothing_is_held()
    assert bench.log.getvalue() == ""


@pytest.mark.parametrize(
    ("use", "observes"),
    [
        (lambda session: session.update(b"k", Add(1)), True),
        (lambda session: session.update(b"k", PutIfAbsent(b"left as it is")), True),
        (lambda session: session.update(b"absent", Remove()), True),
        (lambda session: (session.put(b"k", b"5"), session.update(b"k", Add(1))), False),
        (lambda session: (session.put(b"k", b"5"), session.update(b"k", Remove())), False),
    ],
)
def test_an_update_in_a_transaction_reads(use: Use, observes: bool) -> None:
    """Whatever comes of it, unless it is answered by what the transaction has written itself."""
    bench = Bench()
    session = filled(bench, {b"k": b"1"}, inside=True)
    use(session)
    session.put(b"mine", b"")
    for key in (b"k", b"absent"):
        bench.storage.put(key, b"changed")
    assert isinstance(session.commit(), Conflict if observes else Committed)
    bench.assert_nothing_is_held()


@pytest.mark.parametrize("change", [PutIfPresent(b""), Remove(), lambda _: TOMBSTONE])
def test_an_update_that_leaves_everything_as_it_is_writes_nothing(change: Update) -> None:
    """So a transaction of such alone never conflicts, and asks the engine nothing."""
    bench = Bench(without_commits())
    session = filled(bench, {}, inside=True)
    session.update(b"absent", change)
    assert isinstance(session.commit(), Committed)


def test_a_read_only_transaction_refuses_updates_unasked() -> None:
    """Neither the engine nor the change is asked, whatever it would have said."""
    bench = Bench()
    session = bench.open()
    session.start(read_only=True)

    def change(old: Value | None) -> Write | None:
        raise AssertionError(old)

    refused: list[Use] = [
        lambda session: session.update(b"k", change),
        lambda session: session.clear(),
        lambda session: session.put_all([b"k"], [b""]),
        lambda session: run(session.transact(partial(update_all_if, is_absent, {b"k": Replace(b"")}))),
    ]
    for use in refused:
        with pytest.raises(UsageError, match="READONLY"):
            use(session)
        assert session.depth == 1
    assert run(session.view(partial(get_many, [b"k"], 5))) == [None]


# Clear.

MANY = {b"%04d" % number: b"" for number in range(2500)}


def test_a_clear_in_a_transaction_deletes_what_is_seen() -> None:
    """What is stored, more than a page of it, and what is pending; for others not before the commit."""
    bench = Bench(MemoryStorage(0, UNLIMITED))
    session = filled(bench, MANY, inside=True)
    session.put(b"mine", b"")
    session.delete(b"0001")
    session.clear()
    assert (session.depth, run(session.count(b""))) == (1, 0)
    session.put(b"new", b"")
    assert bench.storage.count(b"") == len(MANY)
    assert isinstance(session.commit(), Committed)
    assert stored(bench) == {b"new": b""}
    bench.assert_nothing_is_held()


@pytest.mark.parametrize("change", [None, b"come", b"0001"])
def test_a_clear_in_a_transaction_is_blind(change: Key | None) -> None:
    """It deletes what is there at the COMMIT, whether the transaction has seen it or not."""
    bench = Bench(MemoryStorage(0, UNLIMITED))
    session = filled(bench, MANY, inside=True)
    session.clear()
    session.put(b"mine", b"")
    if change is not None:
        bench.storage.put(change, b"")
    assert isinstance(session.commit(), Committed)
    assert stored(bench) == {b"mine": b""}
    bench.assert_nothing_is_held()


def test_what_is_read_after_a_clear_is_pending_or_absent_and_observes_nothing() -> None:
    """GET, DEL, KEYS and COUNT see what was written since, and no change by others is a conflict."""
    bench = Bench(MemoryStorage(0, UNLIMITED))
    session = filled(bench, MANY, inside=True)
    session.clear()
    session.put(b"mine", b"1")
    session.put(b"gone", b"1")
    assert session.delete(b"gone")
    assert (session.get(b"0001"), session.get(b"mine"), session.get(b"gone")) == (None, b"1", None)
    assert not session.delete(b"0001")
    assert run(session.keys(b"", b"", 10)) == [b"mine"]
    assert (run(session.count(b"")), run(session.count(b"0"))) == (1, 0)
    for key in (b"0001", b"mine", b"gone", b"come"):
        bench.storage.put(key, b"others")
    assert isinstance(session.commit(), Committed)
    assert stored(bench) == {b"mine": b"1"}


def test_what_was_read_before_a_clear_is_validated() -> None:
    """The client has seen it, and may have acted on it."""
    bench = Bench(MemoryStorage(0, UNLIMITED))
    session = filled(bench, MANY, inside=True)
    session.get(b"0001")
    session.clear()
    bench.storage.put(b"0001", b"others")
    assert isinstance(session.commit(), Conflict)
    assert bench.storage.get(b"0001") == b"others"


def test_a_clear_in_a_frame_that_is_rolled_back_deletes_nothing() -> None:
    """The frame beneath sees its snapshot again, and observes it."""
    bench = Bench(MemoryStorage(0, UNLIMITED))
    session = filled(bench, {b"k": b"1"}, inside=True)
    session.start()
    session.clear()
    assert session.get(b"k") is None
    session.rollback()
    assert run(session.keys(b"", b"", 10)) == [b"k"]
    session.put(b"mine", b"")
    bench.storage.put(b"come", b"")
    assert isinstance(session.commit(), Conflict)


def test_a_page_is_no_conflict_with_what_comes_behind_it() -> None:
    """KEYS observes the page that it showed, and not the whole prefix."""
    for key, conflicts in ((b"p2", True), (b"p3", True), (b"p31", False), (b"p9", False), (b"o", False)):
        bench = Bench(MemoryStorage(0, UNLIMITED))
        session = filled(bench, {b"p1": b"", b"p3": b"", b"p5": b""}, inside=True)
        assert run(session.keys(b"p", b"", 2)) == [b"p1", b"p3"]
        session.put(b"mine", b"")
        bench.storage.delete(key) if key == b"p3" else bench.storage.put(key, b"")
        assert isinstance(session.commit(), Conflict if conflicts else Committed), key


# Several calls as one.


def test_an_operation_is_a_transaction_of_its_own() -> None:
    """Nobody sees part of it, and it sees one moment."""
    bench = Bench()
    session, other = filled(bench, {b"k": b"1"}, inside=False), bench.open()

    def operation(session: Session) -> list[Value | None]:
        first = session.get(b"k")
        if first == b"1":
            other.put(b"k", b"2")
        session.put(b"a", b"")
        assert other.get(b"a") is None
        return [first, session.get(b"k"), session.get(b"a")]

    assert run(session.transact(in_one_step(operation))) == [
        b"2",
        b"2",
        b"",
    ]  # the second time: others came before the first
    assert stored(bench) == {b"k": b"2", b"a": b""}
    bench.assert_nothing_is_held()


@pytest.mark.parametrize("read_only", [False, True])
def test_an_operation_that_only_reads_never_asks_the_engine_to_commit(read_only: bool) -> None:
    """A snapshot is consistent by itself, whatever others do meanwhile."""
    bench = Bench(without_commits())
    session, other = filled(bench, {b"k": b"1"}, inside=False), bench.open()

    def operation(session: Session) -> list[Value | None]:
        before = session.get(b"k")
        other.put(b"k", b"2")
        return [before, session.get(b"k")]

    assert run((session.view if read_only else session.transact)(in_one_step(operation))) == [b"1", b"1"]
    bench.assert_nothing_is_held()


def test_an_operation_that_is_read_only_cannot_write() -> None:
    """Outside a transaction as inside one that is."""
    bench = Bench()
    session = bench.open()
    with pytest.raises(UsageError, match="READONLY"):
        run(session.view(partial(update_all_if, is_absent, {b"k": Replace(b"")})))
    assert session.depth == 0
    assert stored(bench) == {}
    bench.assert_nothing_is_held()


def test_operations_nest_however_deep_a_client_may() -> None:
    """An operation within an operation is a frame of it, and an error that is met there undoes no more than that."""
    bench = Bench(max_transaction_depth=1)

    def inner(session: Session) -> Steps[None]:
        session.put(b"inner", b"")
        yield from session.transact(partial(delete_all, [b"k"]))
        raise UsageError("no")

    def outer(session: Session) -> Steps[int]:
        session.put(b"outer", b"")
        with pytest.raises(UsageError):
            yield from session.transact(inner)
        assert session.get(b"k") == b"1"
        return (yield from session.transact(partial(delete_all, [b"l", b"x"])))

    for inside in (False, True):
        session = filled(bench, {b"k": b"1", b"l": b"2"}, inside=inside)
        assert run(session.transact(outer)) == 1
        if inside:
            assert session.depth == 1
            session.commit()
        assert stored(bench) == {b"k": b"1", b"outer": b""}
    bench.assert_nothing_is_held()


@pytest.mark.parametrize("way", [EngineSession.transact, EngineSession.execute])
def test_an_operation_is_run_again_if_others_came_before(way: Way) -> None:
    """From a fresh snapshot, with what they wrote in it."""
    engine = Crowded(b"n", 3)
    bench = Bench(engine)
    session = bench.open()
    ran: list[Value | None] = []

    def increment(session: Session) -> tuple[Value | None, Value | None]:
        ran.append(session.get(b"n"))
        return session.update(b"n", Add(10))

    assert run(way(session, in_one_step(increment))) == (b"3", b"13")
    assert ran == [None, b"1", b"2", b"3"]
    assert stored(bench) == {b"n": b"13"}
    bench.assert_nothing_is_held()


@pytest.mark.parametrize("way", [EngineSession.transact, EngineSession.execute])
@pytest.mark.parametrize("watching", [False, True])
def test_an_operation_that_others_come_before_every_time_is_given_up(way: Way, watching: bool) -> None:
    """Nothing was applied, and there is an end."""
    engine = Crowded(b"n", UNLIMITED)
    bench = Bench(engine)
    session = bench.open()
    if watching:
        session.watch([b"k"])
    with pytest.raises(StorageUnavailableError, match="nothing was applied"):
        run(way(session, in_one_step(lambda session: (session.put(b"mine", b""), session.update(b"n", Add(1))))))
    assert engine.commits == MAX_RETRIES
    assert session.depth == 0
    session.unwatch()
    assert bench.storage.get(b"mine") is None
    assert (session.counters.committed, session.counters.conflicted) == (0, 0)
    bench.assert_nothing_is_held()


@pytest.mark.parametrize("way", [EngineSession.transact, EngineSession.execute])
def test_an_operation_that_is_run_again_makes_way_first(way: Way) -> None:
    """If its share is used up: else a crowd could keep the loop."""
    engine = Crowded(b"n", 3)
    bench = Bench(engine)
    session = bench.open()

    def increment(session: Session) -> None:
        session.work.left -= 10
        session.update(b"n", Add(10))

    assert shares(way(session, in_one_step(increment)), session.work, 10) == (3, None)
    assert stored(bench) == {b"n": b"13"}
    engine.times = 1
    suspend(way(session, in_one_step(increment)), session.work, 10).close()
    assert session.depth == 0
    bench.assert_nothing_is_held()


def test_the_default_of_an_update_is_tried_again_and_given_up_likewise() -> None:
    """As an engine does that has no way of its own."""
    engine = Crowded(b"n", 3)
    assert engine.update(b"n", Add(10)) == (b"3", b"13")
    engine.times = UNLIMITED
    with pytest.raises(StorageUnavailableError):
        engine.update(b"n", Add(10))
    engine = Crowded(b"come", 1)
    engine.put(b"k", b"")
    engine.clear()  # reads nothing, so others cannot come before
    assert (engine.commits, engine.count(b"")) == (1, 0)


@pytest.mark.parametrize("limit", [FRAME_OVERHEAD_BYTES - 1, FRAME_OVERHEAD_BYTES])
def test_an_operation_is_limited_as_any_transaction(limit: int) -> None:
    """Where a frame alone is too much there is none."""
    bench = Bench(max_transaction_bytes=limit)
    session = bench.open()
    if limit < FRAME_OVERHEAD_BYTES:
        with pytest.raises(LimitError):
            run(session.view(random_key))
        assert session.depth == 0
    else:
        assert run(session.view(random_key)) is None
    bench.assert_nothing_is_held()


def test_reset_leaves_no_transaction_and_nothing_watched() -> None:
    """Of any depth; and it may be asked of a session that has neither."""
    bench = Bench()
    session = bench.open()
    for _ in range(3):
        session.reset()
        session.watch([b"k"])
        session.reset()
        assert not is_watching(session)
        session.start()
        session.start()
        session.put(b"k", b"")
        session.reset()
        assert session.depth == 0
        bench.assert_nothing_is_held()
    assert stored(bench) == {}

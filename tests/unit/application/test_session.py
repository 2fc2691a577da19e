"""A session: its limits, what it observes, what ends its transaction, and what it is charged."""

from collections.abc import Callable

import pytest

from kvs.application.session import EngineSession
from kvs.domain.commit import Committed, Conflict, prefix_range
from kvs.domain.errors import (
    KvsError,
    LimitError,
    NoTransactionError,
    OutcomeUnknownError,
    StorageUnavailableError,
    TimedOutError,
    UsageError,
)
from kvs.domain.transaction import FRAME_OVERHEAD_BYTES
from kvs.domain.updates import PutIfPresent, Remove, Replace
from kvs.domain.values import ENTRY_OVERHEAD_BYTES, Key, entry_bytes
from tests.support.scripted_storage import ScriptedStorage, each, raising
from tests.support.sessions import Bench, run

READ = 1 + ENTRY_OVERHEAD_BYTES
WRITE = entry_bytes(b"k", b"value")

Use = Callable[[EngineSession], object]

GROWING: list[tuple[str, Use, int]] = [
    ("start", lambda session: session.start(), FRAME_OVERHEAD_BYTES),
    ("put", lambda session: session.put(b"k", b"value"), WRITE),
    ("get", lambda session: session.get(b"k"), READ),
    ("delete a stored key", lambda session: session.delete(b"s"), READ + entry_bytes(b"s", None)),
    ("delete an absent key", lambda session: session.delete(b"k"), READ),
    ("update", lambda session: session.update(b"k", Replace(b"value")), READ + WRITE),
    ("update that leaves things as they are", lambda session: session.update(b"k", PutIfPresent(b"value")), READ),
    ("update that deletes", lambda session: session.update(b"s", Remove()), READ + entry_bytes(b"s", None)),
    ("keys", lambda session: run(session.keys(b"k", b"", 10)), READ + 1),
    ("count", lambda session: run(session.count(b"k")), READ + 1),
]
growing = pytest.mark.parametrize(("name", "use", "cost"), GROWING, ids=[name for name, _, _ in GROWING])


# Limits: the one command is refused, everything else is as it was.


@growing
@pytest.mark.parametrize(("spare", "refused"), [(1, False), (0, False), (-1, True)])
def test_transaction_bytes_are_limited(name: str, use: Use, cost: int, spare: int, refused: bool) -> None:
    """Each command is done just below and at max_transaction_bytes, and refused a byte above."""
    held = FRAME_OVERHEAD_BYTES + entry_bytes(b"p", b"pending")
    bench = Bench(max_transaction_bytes=held + cost + spare)
    bench.storage.put(b"s", b"stored")
    session = bench.open()
    session.start()
    session.put(b"p", b"pending")
    if not refused:
        use(session)
        assert session.held_bytes == bench.budget.used_bytes == held + cost
        session.close()
        bench.assert_nothing_is_held()
        return
    with pytest.raises(LimitError, match="max_transaction_bytes"):
        use(session)
    assert session.depth == 1
    assert session.held_bytes == bench.budget.used_bytes == held
    # A refused read was not observed, and a refused write is not pending: this commit sees no conflict.
    for key in (b"k", b"s"):
        bench.storage.put(key, b"changed")
    assert isinstance(session.commit(), Committed)
    assert bench.storage.get(b"p") == b"pending"
    assert (bench.storage.get(b"k"), bench.storage.get(b"s")) == (b"changed", b"changed")
    bench.assert_nothing_is_held()


@pytest.mark.parametrize(("spare", "refused"), [(1, False), (0, False), (-1, True)])
def test_start_is_refused_if_a_transaction_may_hold_nothing(spare: int, refused: bool) -> None:
    """START is refused where a frame alone is too much, and leaves no snapshot behind."""
    bench = Bench(max_transaction_bytes=FRAME_OVERHEAD_BYTES + spare)
    session = bench.open()
    if refused:
        with pytest.raises(LimitError):
            session.start()
        assert session.depth == 0
        assert (session.counters.committed, session.counters.aborted) == (0, 0)
    else:
        session.start()
        assert session.depth == 1
        session.rollback()
    bench.assert_nothing_is_held()


def test_depth_is_limited() -> None:
    """The last START allowed is the one that reaches max_transaction_depth."""
    bench = Bench(max_transaction_depth=3)
    session = bench.open()
    for depth in (1, 2, 3):
        session.start()
        assert session.depth == depth
    session.put(b"k", b"v")
    held = session.held_bytes
    for _ in range(2):
        with pytest.raises(LimitError, match="max_transaction_depth"):
            session.start()
        assert (session.depth, session.held_bytes, session.get(b"k")) == (3, held, b"v")
    session.commit()
    session.start()
    assert session.depth == 3


def test_depth_of_one_allows_no_nesting() -> None:
    """The least limit there is."""
    session = Bench(max_transaction_depth=1).open()
    session.start()
    with pytest.raises(LimitError):
        session.start()
    assert session.depth == 1


def test_shadowed_values_count_against_the_limit() -> None:
    """A value hidden by an inner frame is still held, until the frame is merged."""
    bench = Bench(max_transaction_bytes=2 * FRAME_OVERHEAD_BYTES + 2 * WRITE)
    session = bench.open()
    session.start()
    session.put(b"k", bytes(5))
    session.start()
    session.put(b"k", bytes(5))
    with pytest.raises(LimitError):
        session.put(b"k", bytes(6))
    session.commit()
    session.put(b"k", bytes(6))
    assert session.get(b"k") == bytes(6)


# What is observed.


def conflicts_after(prepare: Use, change: Use, *, fill: dict[Key, bytes] | None = None) -> Conflict | None:
    """Let one session do something and then write; return the conflict that another's change brings, if it does."""
    bench = Bench()
    for key, value in (fill or {}).items():
        bench.storage.put(key, value)
    session, other = bench.open(), bench.open()
    session.start()
    prepare(session)
    session.put(b"mine", b"")
    change(other)
    answer = session.commit()
    assert session.depth == 0
    bench.assert_nothing_is_held()
    return answer if isinstance(answer, Conflict) else None


def test_get_of_an_absent_key_that_comes_is_a_conflict() -> None:
    """GET of an absent key observes that it is absent."""
    conflict = conflicts_after(lambda session: session.get(b"k"), lambda other: other.put(b"k", b""))
    assert conflict is not None
    assert (conflict.keys, conflict.ranges) == ((b"k",), ())


def test_delete_of_an_absent_key_observes_it() -> None:
    """DEL tells whether the key was there, so it reads, and its answer false is no write."""
    assert conflicts_after(lambda session: session.delete(b"k"), lambda other: other.put(b"k", b"")) is not None


def test_delete_of_a_stored_key_observes_it() -> None:
    """DEL's answer true is a read as well."""
    conflict = conflicts_after(
        lambda session: session.delete(b"k"), lambda other: other.put(b"k", b""), fill={b"k": b""}
    )
    assert conflict is not None


def test_put_observes_nothing() -> None:
    """PUT reads nothing, whatever others did to the key."""
    assert conflicts_after(lambda session: session.put(b"k", b"1"), lambda other: other.put(b"k", b"2")) is None


def test_get_of_a_pending_write_observes_nothing() -> None:
    """GET and DEL of a key that one has written, or deleted, are answered without the snapshot."""

    def own(session: EngineSession) -> None:
        session.put(b"k", b"1")
        assert session.get(b"k") == b"1"
        assert session.delete(b"k")
        assert session.get(b"k") is None
        assert not session.delete(b"k")

    assert conflicts_after(own, lambda other: other.put(b"k", b"2")) is None


def test_keys_observes_its_prefix_even_where_pending_writes_answer_it() -> None:
    """KEYS and COUNT always observe, so that a phantom is a conflict."""
    for use in (lambda session: run(session.keys(b"k", b"", 5)), lambda session: run(session.count(b"k"))):

        def own(session: EngineSession, use: Use = use) -> None:
            session.put(b"k1", b"1")
            use(session)

        conflict = conflicts_after(own, lambda other: other.put(b"k2", b"2"))
        assert conflict is not None
        assert (conflict.keys, conflict.ranges) == ((), (prefix_range(b"k"),))


def test_keys_is_no_conflict_with_an_overwritten_key() -> None:
    """A prefix changes with the set of its keys, not with their values."""
    assert (
        conflicts_after(
            lambda session: run(session.keys(b"", b"", 5)), lambda other: other.put(b"k", b"2"), fill={b"k": b"1"}
        )
        is None
    )


def test_commit_of_what_only_reads_never_conflicts_and_never_asks_the_engine() -> None:
    """A snapshot is consistent by itself."""
    bench = Bench(ScriptedStorage({"commit": raising(AssertionError())}))
    session, other = bench.open(), bench.open()
    session.start()
    session.get(b"k")
    run(session.keys(b"", b"", 5))
    other.put(b"k", b"1")
    assert isinstance(session.commit(), Committed)
    assert session.counters.committed == 1
    bench.assert_nothing_is_held()


# Read-only transactions.


def test_read_only_transaction_reads_any_amount_and_holds_one_frame() -> None:
    """There is no read set to grow, so no limit is ever reached."""
    bench = Bench(max_transaction_bytes=FRAME_OVERHEAD_BYTES)
    bench.storage.put(b"1", b"one")
    session = bench.open()
    session.start(read_only=True)
    bench.storage.put(b"1", b"other")
    for number in range(100):
        assert session.get(b"%d" % number) == (b"one" if number == 1 else None)
        assert run(session.count(b"%d" % number)) == len(run(session.keys(b"%d" % number, b"", 5))) == (number == 1)
        assert session.held_bytes == bench.budget.used_bytes == FRAME_OVERHEAD_BYTES
    assert isinstance(session.commit(), Committed)
    assert session.counters.committed == 1
    bench.assert_nothing_is_held()


@pytest.mark.parametrize("key", [b"stored", b"absent"])
def test_read_only_transaction_refuses_writes_and_stays_open(key: Key) -> None:
    """A DEL is refused whether there is anything to delete or not, and asks the engine nothing."""
    bench = Bench(ScriptedStorage({"Snapshot.get": raising(AssertionError())}))
    bench.storage.put(b"stored", b"v")
    session = bench.open()
    session.start(read_only=True)
    for depth in (1, 2):
        assert session.depth == depth
        with pytest.raises(UsageError, match="READONLY"):
            session.put(key, b"w")
        with pytest.raises(UsageError, match="READONLY"):
            session.delete(key)
        assert session.held_bytes == depth * FRAME_OVERHEAD_BYTES
        session.start()
    session.close()
    assert bench.storage.get(b"stored") == b"v"
    bench.assert_nothing_is_held()


def test_start_read_only_is_refused_in_a_transaction_that_may_write() -> None:
    """START READONLY is refused in it, and it goes on as it was."""
    bench = Bench()
    session, other = bench.open(), bench.open()
    session.start()
    session.get(b"k")
    with pytest.raises(UsageError, match="READONLY"):
        session.start(read_only=True)
    assert session.depth == 1
    session.put(b"mine", b"")
    other.put(b"k", b"")
    assert isinstance(session.commit(), Conflict)
    session.start(read_only=True)
    session.rollback()
    session.start()
    session.put(b"mine", b"")
    assert isinstance(session.commit(), Committed)
    bench.assert_nothing_is_held()


# The end of a transaction.


def test_conflict_ends_the_transaction_and_applies_nothing() -> None:
    """The session is outside any transaction again, free to retry."""
    bench = Bench()
    session, other = bench.open(), bench.open()
    session.start()
    session.get(b"k")
    session.put(b"mine", b"")
    other.put(b"k", b"1")
    assert isinstance(session.commit(), Conflict)
    assert session.depth == 0
    assert bench.storage.get(b"mine") is None
    assert (session.counters.committed, session.counters.conflicted, session.counters.aborted) == (0, 1, 0)
    bench.assert_nothing_is_held()


# One's own writes are what one sees.


def test_get_shows_pending_writes_over_what_is_stored() -> None:
    """A pending value, and a pending delete, at any depth; nobody else sees either."""
    bench = Bench()
    for key in (b"a", b"b", b"c"):
        bench.storage.put(key, b"stored")
    session, other = bench.open(), bench.open()
    session.start()
    session.put(b"a", b"mine")
    assert session.delete(b"b")
    session.start()
    assert [session.get(key) for key in (b"a", b"b", b"c", b"n")] == [b"mine", None, b"stored", None]
    assert not session.delete(b"b")
    assert session.delete(b"c")
    assert session.get(b"c") is None
    session.rollback()
    assert [session.get(key) for key in (b"a", b"b", b"c")] == [b"mine", None, b"stored"]
    assert [other.get(key) for key in (b"a", b"b", b"c")] == [b"stored"] * 3
    assert isinstance(session.commit(), Committed)
    assert [other.get(key) for key in (b"a", b"b", b"c")] == [b"mine", None, b"stored"]


# Listing what is pending.


def test_keys_merges_pending_writes_into_the_snapshot() -> None:
    """Values appear, tombstones hide, and the page begins after the key it is told and ends at its limit."""
    bench = Bench()
    for key in (b"a1", b"a3", b"a5", b"a7", b"b"):
        bench.storage.put(key, b"")
    session = bench.open()
    session.start()
    session.delete(b"a3")
    session.put(b"a4", b"")
    session.put(b"a5", b"again")
    session.put(b"a0", b"")
    session.delete(b"a4")
    session.put(b"a6", b"")
    assert run(session.keys(b"a", b"", 10)) == [b"a0", b"a1", b"a5", b"a6", b"a7"]
    assert run(session.keys(b"a", b"a1", 2)) == [b"a5", b"a6"]
    assert run(session.keys(b"a", b"", 1)) == [b"a0"]
    assert run(session.keys(b"a", b"a7", 10)) == []
    assert run(session.keys(b"", b"a6", 10)) == [b"a7", b"b"]
    assert run(session.count(b"a")) == 5
    assert run(session.count(b"")) == 6


def test_keys_goes_past_whole_pages_that_were_deleted() -> None:
    """A limit of two still finds the keys behind ten tombstones."""
    bench = Bench()
    for number in range(20):
        bench.storage.put(b"%02d" % number, b"")
    session = bench.open()
    session.start()
    for number in range(10):
        session.delete(b"%02d" % number)
    session.put(b"05", b"")
    session.put(b"99", b"")
    found = read_all(session, 2)
    assert found == [b"05", *(b"%02d" % number for number in range(10, 20)), b"99"]


def read_all(session: EngineSession, limit: int) -> list[Key]:
    """Return all keys, a page at a time."""
    found = page = run(session.keys(b"", b"", limit))
    while len(page) == limit:
        page = run(session.keys(b"", found[-1], limit))
        found += page
    return found


# What an engine may refuse, and what a session then does.


@pytest.mark.parametrize("error", [StorageUnavailableError("not now"), LimitError("full")])
def test_commit_that_was_not_applied_can_be_retried(error: KvsError) -> None:
    """``unavailable`` and ``limit`` leave the transaction open, and the very same commit succeeds later."""
    bench = Bench(ScriptedStorage({"commit": each([error, error])}))
    session = bench.open()
    session.start()
    session.get(b"r")
    session.put(b"k", b"v")
    held = session.held_bytes
    for _ in range(2):
        with pytest.raises(type(error)):
            session.commit()
        assert (session.depth, session.held_bytes, bench.storage.open_snapshots) == (1, held, 1)
    assert bench.storage.get(b"k") is None
    assert isinstance(session.commit(), Committed)
    assert bench.storage.get(b"k") == b"v"
    assert (session.counters.committed, session.counters.aborted) == (1, 0)
    bench.assert_nothing_is_held()
    assert bench.log.getvalue() == ""


def test_commit_that_may_be_retried_still_conflicts() -> None:
    """Being refused once does not forget what was read."""
    bench = Bench(ScriptedStorage({"commit": each([StorageUnavailableError("not now")])}))
    session = bench.open()
    session.start()
    session.get(b"r")
    session.put(b"k", b"v")
    with pytest.raises(StorageUnavailableError):
        session.commit()
    bench.storage.put(b"r", b"")
    assert isinstance(session.commit(), Conflict)


@pytest.mark.parametrize("error", [OutcomeUnknownError("who knows"), TimedOutError("too old")])
def test_commit_whose_transaction_is_over_ends_it(error: KvsError) -> None:
    """``outcome_unknown`` and ``timeout`` are passed on as they are; the engine kept its contract."""
    bench = Bench(ScriptedStorage({"commit": each([error])}))
    session = bench.open()
    session.start()
    session.put(b"k", b"v")
    with pytest.raises(type(error), match=str(error)):
        session.commit()
    assert session.depth == 0
    assert session.counters.aborted == 1
    bench.assert_nothing_is_held()
    assert bench.log.getvalue() == ""


# Every way out closes the snapshot once, and pays everything back.


@pytest.mark.parametrize("ways", [["commit"], ["rollback"], ["close"], ["close", "close"], ["rollback", "close"]])
@pytest.mark.parametrize("writes", [False, True])
def test_snapshot_is_closed_once_on_every_way_out(ways: list[str], writes: bool) -> None:
    """Whether something was written or only read."""
    bench = Bench()
    session = bench.open()
    session.start()
    assert bench.storage.open_snapshots == 1
    run(session.count(b""))
    if writes:
        session.put(b"k", b"v")
    for way in ways:
        getattr(session, way)()
    assert session.depth == 0
    assert not session.expired
    bench.assert_nothing_is_held()


def test_close_aborts_all_frames_at_once() -> None:
    """A lost connection leaves nothing of any depth behind, and counts as one transaction aborted."""
    bench = Bench()
    session = bench.open()
    for number in range(10):
        session.start()
        session.put(b"%d" % number, b"v")
    assert bench.storage.taken == 1
    session.close()
    bench.assert_nothing_is_held()
    assert bench.storage.count(b"") == 0
    assert session.counters.aborted == 1


def test_start_of_a_nested_frame_takes_no_snapshot() -> None:
    """What others commit meanwhile stays out of sight, at every depth."""
    bench = Bench()
    session, other = bench.open(), bench.open()
    session.start()
    other.put(b"k", b"late")
    session.start()
    assert session.get(b"k") is None
    assert run(session.keys(b"", b"", 5)) == []
    assert bench.storage.taken == 1


@pytest.mark.parametrize("name", ["commit", "rollback"])
def test_without_a_transaction_there_is_nothing_to_end(name: str) -> None:
    """COMMIT and ROLLBACK are refused, and the session goes on."""
    bench = Bench()
    session = bench.open()
    with pytest.raises(NoTransactionError):
        getattr(session, name)()
    session.put(b"k", b"v")
    assert session.get(b"k") == b"v"
    bench.assert_nothing_is_held()


def test_held_bytes_are_charged_at_once_and_paid_back() -> None:
    """Two sessions share one figure."""
    bench = Bench()
    first, second = bench.open(), bench.open()
    first.start()
    second.start()
    assert bench.budget.used_bytes == 2 * FRAME_OVERHEAD_BYTES
    first.put(b"k", b"value")
    assert bench.budget.used_bytes == 2 * FRAME_OVERHEAD_BYTES + WRITE
    first.start()
    first.put(b"k", bytes(5))
    second.get(b"k")
    assert bench.budget.used_bytes == first.held_bytes + second.held_bytes
    first.rollback()
    assert first.held_bytes == FRAME_OVERHEAD_BYTES + WRITE
    first.commit()
    second.close()
    bench.assert_nothing_is_held()


# INFO.


def test_info_tells_of_this_session_and_of_the_server() -> None:
    """The figures people ask for first."""
    bench = Bench()
    session, other = bench.open(), bench.open()
    bench.storage.put(b"s", b"")
    other.start()
    bench.clock.now_s += 5
    session.start()
    session.put(b"k", b"v")
    session.start()
    bench.clock.now_s += 2.5
    about = session.info()
    assert about["session"]["depth"] == 2
    assert about["session"]["pending_writes"] == 1
    assert about["session"]["snapshot_age_s"] == 2.5
    server = about["server"]
    assert (server["version"], server["build"], server["engine"]) == ("1.2.3", "test", "naive")
    assert (server["keys"], server["clients"], server["open_transactions"]) == (1, 2, 2)
    assert (server["oldest_snapshot_s"], server["uptime_s"]) == (7.5, 7.5)
    assert (server["commits"], server["conflicts"], server["aborts"]) == (0, 0, 0)


def test_info_counts_transactions_of_sessions_that_have_left() -> None:
    """Commits, conflicts and aborts are the server's; a session takes its depth and age with it."""
    bench = Bench()
    watcher = bench.open()
    for ending in ("commit", "conflict", "abort"):
        session = bench.open()
        session.start()
        session.get(b"r")
        session.put(b"k", b"v")
        if ending == "conflict":
            bench.storage.put(b"r", b"")
        if ending != "abort":
            session.commit()
        session.close()
        session.close()
    server = watcher.info()["server"]
    assert (server["commits"], server["conflicts"], server["aborts"]) == (1, 1, 1)
    assert (server["clients"], server["open_transactions"], server["oldest_snapshot_s"]) == (1, 0, 0)


def test_session_numbers_are_never_used_again() -> None:
    """A number names one session in the life of the server."""
    bench = Bench()
    numbers = []
    for _ in range(5):
        session = bench.open()
        numbers.append(session.id)
        session.close()
    assert len(set(numbers)) == 5

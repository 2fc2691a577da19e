"""Listing and counting beside many pending writes: a share at a time, and never a stale answer."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvs.application.disposal import Disposal
from kvs.application.listing import RUN_KEYS, WriteIndex, count_keys, list_page
from kvs.application.session import EngineSession
from kvs.domain.commit import Committed, Conflict
from kvs.domain.errors import LimitError, StorageUnavailableError
from kvs.domain.keyspace import stored_key
from kvs.domain.values import TOMBSTONE, Key, Write
from kvs.ports.session import Steps, Work
from tests.support.naive_storage import NaiveSnapshot
from tests.support.scripted_storage import GO_ON, ScriptedStorage
from tests.support.sessions import UNLIMITED, Bench, run, shares, suspend

MANY = 5 * RUN_KEYS + 1
"""Writes that take several shares to put in order."""

SHARE_UNITS = 1000

Ask = Callable[[EngineSession], Steps[object]]


def listed(session: EngineSession) -> Steps[int]:
    """Return how many keys are listed."""
    return len((yield from session.keys(b"", b"", 1 << 20)))


QUESTIONS: list[tuple[str, Ask]] = [("count", lambda session: session.count(b"")), ("keys", listed)]
questions = pytest.mark.parametrize(("name", "ask"), QUESTIONS, ids=[name for name, _ in QUESTIONS])


class Watched(ScriptedStorage):
    """An engine whose snapshots count their look-ups, and cannot be read for a while.

    Attributes:
        gets: How many look-ups there were.
        failing: Whether look-ups fail.
    """

    def __init__(self) -> None:
        super().__init__({"Snapshot.get": self._look_up, "Snapshot.scan": self._read})
        self.gets = 0
        self.failing = False

    def _look_up(self, *_: object) -> object:
        self.gets += 1
        return self._read()

    def _read(self, *_: object) -> object:
        if self.failing:
            raise StorageUnavailableError("not now")
        return GO_ON


def busy_session(bench: Bench, writes: int = MANY) -> EngineSession:
    """Return a session with more pending writes than one share puts in order."""
    session = bench.open()
    session.start()
    for number in range(writes):
        session.put(b"%06d" % number, b"")
    return session


# In shares.


@questions
def test_listing_of_a_large_transaction_is_made_in_shares(name: str, ask: Ask) -> None:
    """None of them is much longer than it may be."""
    bench = Bench()
    bench.storage.put(b"stored", b"")
    session = busy_session(bench)
    over: list[int] = []
    yields, number = shares(ask(session), session.work, SHARE_UNITS, lambda: over.append(-session.work.left))
    assert number == MANY + 1
    assert yields >= MANY // SHARE_UNITS
    assert max(over) <= RUN_KEYS


@questions
def test_listing_after_another_has_the_index(name: str, ask: Ask) -> None:
    """The writes are put in order once, and what each of them adds is looked up once."""
    engine = Watched()
    bench = Bench(engine)
    session = busy_session(bench)
    first_yields, first = shares(ask(session), session.work, SHARE_UNITS)
    looked_up = engine.gets
    assert looked_up == (MANY if name == "count" else 0)
    yields, again = shares(ask(session), session.work, SHARE_UNITS)
    assert (again, engine.gets) == (first, looked_up)
    assert yields < first_yields
    session.work.left = UNLIMITED
    assert run(session.keys(b"", b"%06d" % (MANY // 2), 10)) == [b"%06d" % (MANY // 2 + at) for at in range(1, 11)]
    assert run(session.count(b"0000")) == 100
    assert UNLIMITED - session.work.left < (MANY + 100 if name == "keys" else 100)


@pytest.mark.parametrize("writes", [RUN_KEYS - 1, RUN_KEYS, RUN_KEYS + 1, 2 * RUN_KEYS])
def test_listing_of_exactly_a_run_is_right(writes: int) -> None:
    """Just below, at and just above what is sorted at a time."""
    session = busy_session(Bench(), writes)
    assert run(session.count(b"")) == writes
    assert run(session.keys(b"", b"", writes + 5)) == [b"%06d" % number for number in range(writes)]


@questions
def test_write_between_two_listings_is_seen(name: str, ask: Ask) -> None:
    """At any depth, and when it is undone, too."""
    session = busy_session(Bench())
    assert run(ask(session)) == MANY
    session.put(b"z", b"")
    assert run(ask(session)) == MANY + 1
    session.start()
    session.delete(b"z")
    assert run(ask(session)) == MANY
    session.start()
    session.clear()
    assert run(ask(session)) == 0
    session.rollback()
    assert run(ask(session)) == MANY
    session.rollback()
    assert run(ask(session)) == MANY + 1


@questions
def test_listing_that_is_closed_changes_nothing(name: str, ask: Ask) -> None:
    """The transaction goes on, and has observed nothing: neither a conflict nor the index is left of it."""
    bench = Bench()
    session = busy_session(bench)
    held = session.held_bytes
    suspend(ask(session), session.work).close()
    assert (session.depth, session.held_bytes) == (1, held)
    session.put(b"z", b"")
    bench.storage.put(b"phantom", b"")
    assert isinstance(session.commit(), Committed)
    session.start()
    assert run(ask(session)) == MANY + 2
    session.rollback()
    bench.assert_nothing_is_held()


@questions
def test_listing_in_a_new_transaction_does_not_go_on_with_the_old_one(name: str, ask: Ask) -> None:
    """ROLLBACK forgets the index."""
    bench = Bench()
    session = busy_session(bench)
    assert run(ask(session)) == MANY
    session.rollback()
    session.start()
    assert run(ask(session)) == 0
    session.rollback()
    bench.assert_nothing_is_held()


@questions
@pytest.mark.parametrize("healthy_shares", [0, 1, 4, 8])
def test_listing_that_failed_in_the_middle_is_right_when_asked_again(name: str, ask: Ask, healthy_shares: int) -> None:
    """``unavailable`` leaves everything as it was, a listing that had begun included."""
    engine = Watched()
    session = busy_session(Bench(engine))
    steps = ask(session)
    for _ in range(healthy_shares):
        suspend(steps, session.work, 500)
    engine.failing = True
    with pytest.raises(StorageUnavailableError):
        run(steps)
    engine.failing = False
    assert session.depth == 1
    assert run(ask(session)) == MANY


@pytest.mark.parametrize("changed", [False, True])
def test_listing_is_observed_when_it_is_answered(changed: bool) -> None:
    """A listing in shares makes a phantom a conflict as any other does; others may write between two of them."""
    bench = Bench()
    session = busy_session(bench)

    def change() -> None:
        if changed:
            bench.storage.put(b"phantom", b"")

    assert shares(session.count(b"p"), session.work, SHARE_UNITS, change)[1] == 0
    assert isinstance(session.commit(), Conflict if changed else Committed)


def test_listing_that_may_not_be_observed_is_refused() -> None:
    """Nothing is left of it."""
    bench = Bench()
    session = busy_session(bench)
    bench.limits.max_transaction_bytes = held = session.held_bytes
    for _ in range(2):
        with pytest.raises(LimitError):
            run(session.count(b""))
        with pytest.raises(LimitError):
            run(session.keys(b"", b"", 10))
        assert (session.depth, session.held_bytes) == (1, held)
    bench.limits.max_transaction_bytes *= 2
    assert run(session.count(b"")) == MANY


# Compared with a plain listing.

stored = st.sets(st.integers(0, 60))


@given(stored, st.dictionaries(st.integers(0, 60), st.booleans()), st.integers(0, 60), st.integers(1, 9))
def test_listing_agrees_with_a_dict(before: set[int], writes: dict[int, bool], after: int, limit: int) -> None:
    """Whatever is stored, written and deleted, in pages of any size."""
    bench = Bench()
    for number in before:
        bench.storage.put(b"%02d" % number, b"")
    session = bench.open()
    session.start()
    keys = {b"%02d" % number for number in before}
    for number, present in writes.items():
        key = b"%02d" % number
        if present:
            session.put(key, b"x")
            keys.add(key)
        else:
            assert session.delete(key) == (key in keys)
            keys.discard(key)
    for prefix in (b"", b"1", b"7"):
        under = sorted(key for key in keys if key.startswith(prefix))
        assert run(session.count(prefix)) == len(under)
        expected = [key for key in under if key > b"%02d" % after][:limit]
        assert run(session.keys(prefix, b"%02d" % after, limit)) == expected


some_keys = st.one_of(
    st.binary(min_size=1, max_size=3), st.text("a\xff", min_size=1, max_size=4).map(lambda text: text.encode("latin1"))
).map(stored_key)
"""Keys that are near each other: prefixes of one another, and ends of ranges."""


@given(
    st.frozensets(some_keys),
    st.dictionaries(some_keys, st.one_of(st.binary(max_size=2), st.just(TOMBSTONE))),
    st.lists(st.tuples(st.just(b"") | some_keys, st.just(b"") | some_keys, st.integers(0, 9)), min_size=1),
    st.integers(1, 3),
)
def test_write_index_agrees_with_a_plain_listing(
    before: frozenset[Key], writes: dict[Key, Write], asked: list[tuple[Key, Key, int]], units: int
) -> None:
    """Any writes and tombstones over any snapshot, any prefix, place and limit, in the smallest of shares."""
    snapshot = NaiveSnapshot(dict.fromkeys(before, b""), 0)
    kept = before - writes.keys()
    seen = sorted(kept | {key for key, write in writes.items() if write is not TOMBSTONE})
    work = Work()
    index = WriteIndex(writes)
    shares(index.sort(work, Disposal()), work, units)
    assert index.keys == sorted(writes)
    for prefix, after, limit in asked:
        under = [key for key in seen if key.startswith(prefix)]
        page = [key for key in under if key > after][:limit]
        assert shares(list_page(snapshot, index, prefix, after, limit, work), work, units)[1] == page
        assert shares(count_keys(snapshot, index, prefix, work), work, units)[1] == len(under)


@pytest.mark.parametrize("spare", [-1, 0, 1])
@pytest.mark.parametrize("runs", [1, 2, 5])
def test_write_index_of_many_runs_is_in_order(runs: int, spare: int) -> None:
    """More than are sorted at a time, written in no order."""
    keys = sorted(b"%d" % number for number in range(runs * RUN_KEYS + spare))
    shuffled = [keys[at * 977 % len(keys)] for at in range(len(keys))]  # 977 is a prime that divides no length here
    assert len(set(shuffled)) == len(keys)
    work = Work()
    index = WriteIndex(dict.fromkeys(shuffled, b""))
    shares(index.sort(work, Disposal()), work, 1)
    assert index.keys == keys

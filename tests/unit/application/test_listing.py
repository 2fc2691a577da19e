"""Listing and counting beside many pending writes: a share at a time, and never a stale answer."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvs.application.listing import SHARE_WRITES
from kvs.application.session import EngineSession
from kvs.domain.commit import Committed, Conflict
from kvs.domain.errors import LimitError, StorageUnavailableError
from kvs.domain.values import Key, Value
from kvs.ports.session import Unfinished
from tests.support.naive_storage import NaiveSnapshot, NaiveStorage
from tests.support.sessions import Bench, run

MANY = 2 * SHARE_WRITES + 1

Ask = Callable[[EngineSession], object]
QUESTIONS: list[tuple[str, Ask]] = [
    ("count", lambda session: run(session.count(b""))),
    ("keys", lambda session: len(run(session.keys(b"", b"", 1 << 20)))),
]
questions = pytest.mark.parametrize(("name", "ask"), QUESTIONS, ids=[name for name, _ in QUESTIONS])


def busy_session(bench: Bench) -> EngineSession:
    """Return a session with more pending writes than one share."""
    session = bench.open()
    session.start()
    for number in range(MANY):
        session.put(b"%06d" % number, b"")
    return session


def shares(session: EngineSession, ask: Ask) -> tuple[int, object]:
    """Ask until there is an answer; return how often it was not there, and the answer."""
    for unfinished in range(100):
        try:
            return unfinished, ask(session)
        except Unfinished:
            pass
    raise AssertionError("no answer after a hundred shares")


@questions
def test_a_large_transaction_is_looked_at_a_share_at_a_time(name: str, ask: Ask) -> None:
    """The answer comes after as many shares as there are, and the next one takes as many again."""
    bench = Bench()
    bench.storage.put(b"stored", b"")
    session = busy_session(bench)
    for _ in range(2):
        assert shares(session, ask) == (2, MANY + 1)


@pytest.mark.parametrize("writes", [SHARE_WRITES - 1, SHARE_WRITES, SHARE_WRITES + 1])
def test_exactly_a_share_is_counted_right(writes: int) -> None:
    """Just below, at and just above one share."""
    bench = Bench()
    session = bench.open()
    session.start()
    for number in range(writes):
        session.put(b"%06d" % number, b"")
    assert run(session.count(b"")) == writes
    assert len(run(session.keys(b"", b"", writes + 5))) == writes


@questions
def test_a_write_between_two_shares_is_seen(name: str, ask: Ask) -> None:
    """Whoever writes instead of asking again, and then asks the same, is told of the write."""
    session = busy_session(Bench())
    with pytest.raises(Unfinished):
        ask(session)
    session.put(b"z", b"")
    assert shares(session, ask)[1] == MANY + 1
    with pytest.raises(Unfinished):
        ask(session)
    session.start()
    session.delete(b"z")
    assert shares(session, ask)[1] == MANY
    with pytest.raises(Unfinished):
        ask(session)
    session.rollback()
    assert shares(session, ask)[1] == MANY + 1


@questions
def test_a_new_transaction_does_not_go_on_with_the_old_ones_listing(name: str, ask: Ask) -> None:
    """ROLLBACK in the middle of a listing forgets it."""
    bench = Bench()
    session = busy_session(bench)
    with pytest.raises(Unfinished):
        ask(session)
    session.rollback()
    session.start()
    assert shares(session, ask) == (0, 0)
    session.rollback()
    bench.assert_nothing_is_held()


def test_another_question_starts_afresh() -> None:
    """A count is not a listing, nor one prefix another, nor one page the next."""
    session = busy_session(Bench())
    for first in (
        lambda: run(session.count(b"")),
        lambda: run(session.keys(b"", b"", 10)),
        lambda: run(session.keys(b"0", b"", 10)),
        lambda: run(session.count(b"00000")),
    ):
        with pytest.raises(Unfinished):
            first()
        assert run(session.keys(b"", b"000001", 2)) == [b"000002", b"000003"]
        with pytest.raises(Unfinished):
            first()
        assert run(session.count(b"0000")) == 100


class Failing(NaiveStorage):
    """An engine whose snapshots cannot be read for a while."""

    failing = False

    @override
    def snapshot(self) -> NaiveSnapshot:
        storage = self

        class FailingSnapshot(NaiveSnapshot):
            def get(self, key: Key) -> Value | None:
                if storage.failing:
                    raise StorageUnavailableError("not now")
                return super().get(key)

            def scan(self, prefix: Key, after: Key, limit: int) -> list[Key]:
                if storage.failing:
                    raise StorageUnavailableError("not now")
                return super().scan(prefix, after, limit)

        plain = super().snapshot()
        return FailingSnapshot(plain.data, plain.log_length)


@questions
@pytest.mark.parametrize("healthy_shares", [0, 1, 2])
def test_a_listing_that_failed_in_the_middle_is_right_when_asked_again(
    name: str, ask: Ask, healthy_shares: int
) -> None:
    """``unavailable`` leaves everything as it was, a listing that had begun included."""
    engine = Failing()
    session = busy_session(Bench(engine))
    for _ in range(healthy_shares):
        with pytest.raises(Unfinished):
            ask(session)
    engine.failing = True
    with pytest.raises(StorageUnavailableError):
        shares(session, ask)
    engine.failing = False
    assert session.depth == 1
    assert shares(session, ask)[1] == MANY


def test_a_listing_is_observed_when_it_is_answered() -> None:
    """A listing in shares makes a phantom a conflict as any other does."""
    for changed in (False, True):
        bench = Bench()
        session = busy_session(bench)
        assert run(session.count(b"p")) == 0
        if changed:
            bench.storage.put(b"phantom", b"")
        assert isinstance(session.commit(), Conflict if changed else Committed)


def test_a_listing_that_may_not_be_observed_is_refused_at_once() -> None:
    """The limit on what a transaction holds is looked at first, and nothing is left behind."""
    bench = Bench()
    session = busy_session(bench)
    bench.sessions.limits.max_transaction_bytes = session.held_bytes
    for _ in range(2):
        with pytest.raises(LimitError):
            run(session.count(b""))
    bench.sessions.limits.max_transaction_bytes *= 2
    assert run(session.count(b"")) == MANY


stored = st.sets(st.integers(0, 60))


@given(stored, st.dictionaries(st.integers(0, 60), st.booleans()), st.integers(0, 60), st.integers(1, 9))
def test_pages_and_counts_agree_with_a_dict(before: set[int], writes: dict[int, bool], after: int, limit: int) -> None:
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

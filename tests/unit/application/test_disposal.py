"""What a client drops is freed in parts: values that count themselves show how many are freed at a time."""

import gc
from collections.abc import Callable

import pytest

from kvs.application.disposal import FREED_PER_STEP, Disposal
from kvs.application.session import EngineSession
from tests.support.sessions import Bench

KEYS = 8000
"""Enough writes for a map in parts."""


class Counted(bytes):
    """A value that counts how many of it there are."""

    alive = 0

    def __new__(cls, text: bytes) -> "Counted":
        """Count one more."""
        Counted.alive += 1
        return super().__new__(cls, text)

    def __del__(self) -> None:
        """Count one less."""
        Counted.alive -= 1


@pytest.fixture(autouse=True)
def _none_alive() -> None:
    gc.collect()
    Counted.alive = 0


def put_many(session: EngineSession) -> None:
    """Make many values pending."""
    for number in range(KEYS):
        session.put(b"k%d" % number, Counted(b"v"))


def rollback(session: EngineSession) -> None:
    """Roll the transaction back."""
    session.rollback()


def rollback_frame(session: EngineSession) -> None:
    """Roll back the frame that has the writes, and no other."""
    session.rollback()
    assert session.depth == 1


def clear(session: EngineSession) -> None:
    """Delete everything, and so drop what is pending."""
    session.clear()


def close(session: EngineSession) -> None:
    """Close the session, as when the client disconnects."""
    session.close()


class TestTransaction:
    @pytest.mark.parametrize(("end", "depth"), [(rollback, 1), (rollback_frame, 2), (clear, 1), (clear, 2), (close, 3)])
    def test_dropped_writes_are_freed_by_steps(self, end: Callable[[EngineSession], None], depth: int) -> None:
        bench = Bench()
        session = bench.open()
        for _ in range(depth):
            session.start()
        put_many(session)
        end(session)
        freed = []
        while bench.disposal.has_work:
            before = Counted.alive
            bench.disposal.step(1000)
            freed.append(before - Counted.alive)
        assert Counted.alive == 0
        assert sum(freed) == KEYS
        assert max(freed) < 1400

    def test_writes_of_a_frame_are_kept_when_another_is_rolled_back(self) -> None:
        bench = Bench()
        session = bench.open()
        session.start()
        put_many(session)
        session.start()
        put_many(session)
        session.rollback()
        while bench.disposal.has_work:
            bench.disposal.step()
        assert Counted.alive == KEYS
        assert session.get(b"k0") == b"v"

    def test_small_transaction_is_freed_at_once(self) -> None:
        bench = Bench()
        session = bench.open()
        session.start()
        session.put(b"k", Counted(b"v"))
        session.rollback()
        assert Counted.alive == 0
        assert not bench.disposal.has_work

    def test_watched_keys_are_freed_by_steps(self) -> None:
        bench = Bench()
        session = bench.open()
        for at in range(0, KEYS, 1000):
            session.watch([Counted(b"k%d" % number) for number in range(at, at + 1000)])
        session.unwatch()
        assert Counted.alive == KEYS
        bench.disposal.step(1000)
        assert Counted.alive == KEYS - 1000
        bench.disposal.step()
        assert Counted.alive == 0


class TestDisposal:
    def test_step_ends_after_its_number_of_objects(self) -> None:
        disposal = Disposal()
        disposal.add([[Counted(b"")] for _ in range(FREED_PER_STEP)])
        disposal.step()
        assert Counted.alive == FREED_PER_STEP // 2  # a container counts as one, too
        disposal.step()
        assert Counted.alive == 0
        assert not disposal.has_work

    def test_lists_are_freed_in_order(self) -> None:
        disposal = Disposal()
        disposal.add([[Counted(b"")]])
        disposal.add([[b""] for _ in range(10)])
        disposal.step(1)
        assert Counted.alive == 0
        assert disposal.has_work

    def test_nothing_to_free_is_no_work(self) -> None:
        disposal = Disposal()
        disposal.add([])
        assert not disposal.has_work


def test_long_values_are_freed_a_few_at_a_time() -> None:
    """By what their pages cost, and one at least, however long it is."""
    disposal = Disposal()
    values = [Counted(bytes(4 << 20)) for _ in range(100)]
    while values:
        disposal.add([values.pop()])
    disposal.step()
    assert 80 <= Counted.alive < 100
    while disposal.has_work:
        before = Counted.alive
        disposal.step()
        assert 0 < before - Counted.alive <= 20

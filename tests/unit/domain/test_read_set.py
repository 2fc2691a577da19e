"""The ranges of a read set, and the tombstone for all keys."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvs.domain.commit import KeyRange, prefix_range
from kvs.domain.read_set import MAX_RANGES
from kvs.domain.transaction import FRAME_OVERHEAD_BYTES, IDLE, TransactionStack
from kvs.domain.values import ENTRY_OVERHEAD_BYTES, TOMBSTONE, entry_bytes

ONE = IDLE.start(object())
ALL = prefix_range(b"")


def ranges_of(stack: TransactionStack) -> list[KeyRange]:
    """Return the ranges that a stack would have validated, were every frame committed."""
    request = None
    while request is None:
        stack, request = stack.commit()
    (reads,) = request.reads
    return list(reads.ranges)


def key_of(number: int) -> bytes:
    """Return a key of two bytes, in the order of the numbers."""
    return number.to_bytes(2, "big")


def observing(*ranges: tuple[bytes, bytes | None]) -> TransactionStack:
    """Return a stack that has observed these."""
    stack = ONE
    for low, high in ranges:
        stack = stack.observe_range(low, high)
    return stack


class TestRanges:
    """What observing one range after another comes to."""

    @pytest.mark.parametrize(
        ("ranges", "expected"),
        [
            pytest.param([(b"a", b"c"), (b"e", b"g")], [(b"a", b"c"), (b"e", b"g")], id="apart"),
            pytest.param([(b"e", b"g"), (b"a", b"c")], [(b"a", b"c"), (b"e", b"g")], id="in byte order"),
            pytest.param([(b"a", b"c"), (b"c", b"e")], [(b"a", b"e")], id="adjacent"),
            pytest.param([(b"c", b"e"), (b"a", b"c")], [(b"a", b"e")], id="adjacent before"),
            pytest.param([(b"a", b"e"), (b"b", b"c")], [(b"a", b"e")], id="contained"),
            pytest.param([(b"b", b"c"), (b"a", b"e")], [(b"a", b"e")], id="containing"),
            pytest.param([(b"a", b"c"), (b"e", b"g"), (b"b", b"f")], [(b"a", b"g")], id="bridging"),
            pytest.param([(b"c", None), (b"a", b"b"), (b"x", None)], [(b"a", b"b"), (b"c", None)], id="to the end"),
            pytest.param([(b"c", None), (b"", None)], [(b"", None)], id="everything"),
            pytest.param([(b"c", b"c"), (b"d", b"a")], [], id="nothing"),
        ],
    )
    def test_adjacent_and_contained_ranges_merge(
        self, ranges: list[tuple[bytes, bytes | None]], expected: list[tuple[bytes, bytes | None]]
    ) -> None:
        """They stay in byte order, and none of them touches the next."""
        assert ranges_of(observing(*ranges)) == [KeyRange(low, high) for low, high in expected]

    def test_observing_a_contained_range_returns_the_same_stack(self) -> None:
        """It costs nothing and changes nothing."""
        stack = observing((b"a", b"e"))
        assert stack.observe_range(b"b", b"c") is stack
        assert stack.observe_range(b"a", b"e") is stack

    @given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 41)), max_size=30))
    def test_the_keys_observed_are_those_of_the_ranges(self, spans: list[tuple[int, int]]) -> None:
        """Compared with sets; 41 stands for the end of all keys."""
        stack = ONE
        expected: set[int] = set()
        for first, end in spans:
            stack = stack.observe_range(key_of(first), None if end == 41 else key_of(end))
            expected.update(range(first, end))
        ranges = ranges_of(stack)
        assert {number for number in range(41) for each in ranges if each.holds(key_of(number))} == expected
        for one, other in pairwise(ranges):
            assert one.high is not None
            assert one.high < other.low

    def test_ranges_are_charged_by_their_bytes(self) -> None:
        """Both bounds count, and what has been merged does not count twice."""
        apart = observing((b"aa", b"ab"), (b"ac", None))
        assert apart.retained_bytes == FRAME_OVERHEAD_BYTES + 2 * ENTRY_OVERHEAD_BYTES + 6
        merged = apart.observe_range(b"ab", b"ac")
        assert merged.retained_bytes == FRAME_OVERHEAD_BYTES + ENTRY_OVERHEAD_BYTES + 2

    @pytest.mark.parametrize("order", [1, -1, 7919])
    def test_there_are_at_most_so_many(self, order: int) -> None:
        """Beyond that, neighbours are merged: what was observed stays so, whatever the order of the reads."""
        numbers = [at * order % 5000 * 3 for at in range(5000)]
        stack = ONE
        for number in numbers:
            stack = stack.observe_range(key_of(number), key_of(number + 1))
        ranges = ranges_of(stack)
        assert len(ranges) == MAX_RANGES
        assert ranges == sorted(ranges)
        for number in numbers:
            assert any(each.holds(key_of(number)) for each in ranges)
        assert stack.retained_bytes == FRAME_OVERHEAD_BYTES + MAX_RANGES * (ENTRY_OVERHEAD_BYTES + 4)

    @pytest.mark.parametrize(
        ("new", "joined"),
        [
            (b"b0005", (b"b0000", b"b0005\0")),
            (b"c0", (b"c0", b"c0001")),
            (b"a", (b"a", b"b0001")),
            (b"z", (b"y2044", b"z\0")),
        ],
    )
    def test_one_too_many_is_merged_with_its_nearer_neighbour(self, new: bytes, joined: tuple[bytes, bytes]) -> None:
        """The gap is the smaller the longer its ends are alike; at either end there is one neighbour."""
        lows = [b"b0000", b"c0000", *(b"y%04d" % (2 * number) for number in range(1, MAX_RANGES - 1))]
        stack = observing(*((low, low[:-1] + bytes((low[-1] + 1,))) for low in lows))
        assert len(ranges_of(stack)) == MAX_RANGES
        ranges = ranges_of(stack.observe_range(new, new + b"\0"))
        assert len(ranges) == MAX_RANGES
        (grown,) = (each for each in ranges if each.holds(new))
        assert grown == KeyRange(*joined)


class TestClear:
    """``clear``: every key is deleted, of whatever there will be when the transaction commits."""

    def test_what_was_pending_in_the_frame_is_dropped(self) -> None:
        """And so is what it was charged."""
        stack = ONE.put(b"a", b"1").delete(b"b").clear()
        assert stack.cleared
        assert dict(stack.writes) == {}
        assert stack.retained_bytes == ONE.retained_bytes

    def test_nothing_is_observed_after_it(self) -> None:
        """What is read then is pending or absent, whatever others do; what was read before stays read."""
        stack = ONE.observe(b"before").clear()
        assert stack.observe(b"k") is stack
        assert stack.observe_range(*ALL) is stack
        _, request = stack.put(b"k", b"v").commit()
        assert request is not None
        (reads,) = request.reads
        assert (list(reads.keys), list(reads.ranges)) == ([b"before"], [])

    def test_the_request_clears_and_then_writes(self) -> None:
        """Only what was written after the clear is left to write."""
        _, request = ONE.put(b"a", b"1").clear().put(b"b", b"2").delete(b"c").commit()
        assert request is not None
        assert request.clears
        assert dict(request.writes) == {b"b": b"2", b"c": TOMBSTONE}
        _, request = ONE.put(b"a", b"1").commit()
        assert request is not None
        assert not request.clears

    def test_a_rollback_undoes_the_clear_of_its_frame(self) -> None:
        """What was pending beneath is pending again."""
        outer = ONE.put(b"a", b"1")
        back = outer.nest().clear().put(b"b", b"2").rollback()
        assert not back.cleared
        assert back.writes is outer.writes
        assert back.retained_bytes == outer.retained_bytes

    def test_an_inner_commit_hands_it_on(self) -> None:
        """The parent has deleted every key then, and lost what was pending in it."""
        merged, request = ONE.put(b"a", b"1").nest().clear().put(b"b", b"2").commit()
        assert request is None
        assert merged.cleared
        assert dict(merged.writes) == {b"b": b"2"}
        assert merged.retained_bytes == ONE.retained_bytes + entry_bytes(b"b", b"2")

    def test_a_nested_frame_begins_as_its_parent_is(self) -> None:
        """It sees nothing of the snapshot either."""
        nested = ONE.clear().nest()
        assert nested.cleared
        assert nested.observe(b"k") is nested
        assert nested.rollback().cleared

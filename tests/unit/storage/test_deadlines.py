"""The index of deadlines beside a dict of them."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvs.adapters.storage.deadlines import DIGIT_BITS, DeadlineIndex
from kvs.domain.values import NEVER_MS, Key

EDGES = sorted({2**bits + step for bits in range(0, 50, DIGIT_BITS) for step in (-1, 0, 1)} | {0, 5, 1_764_000_000_123})
TIMES = st.one_of(st.integers(0, 300), st.sampled_from(EDGES), st.integers(0, 2**48))


class Indexed:
    """An index, and what must be in it."""

    def __init__(self) -> None:
        self.expected: dict[Key, int] = {}
        self.index = DeadlineIndex(lambda key: self.expected[key])
        self.now_ms = 0

    def set(self, key: Key, deadline_ms: int) -> None:
        """Set, move or remove a deadline, which is 0 for none."""
        old_ms = self.expected.get(key)
        if old_ms is None:
            if deadline_ms:
                self.index.add(key, deadline_ms)
        elif deadline_ms:
            self.index.move(key, old_ms, deadline_ms)
        else:
            self.index.remove(key, old_ms)
        if deadline_ms:
            self.expected[key] = deadline_ms
        else:
            self.expected.pop(key, None)
        self.check()

    def take(self, now_ms: int, max_steps: int) -> bool:
        """Let time pass, and take some keys; return whether all that were due have been taken."""
        self.now_ms = now_ms
        taken = self.index.take(now_ms, max_steps)
        assert len(taken) <= max_steps
        for key in taken:
            assert self.expected.pop(key) <= now_ms
        self.check()
        return self.index.earliest_ms() > now_ms

    def check(self) -> None:
        """Assert that the index counts the keys, and announces the earliest deadline in time."""
        assert self.index.count == len(self.expected)
        earliest_ms = self.index.earliest_ms()
        assert earliest_ms <= max(self.now_ms, min(self.expected.values(), default=NEVER_MS))
        assert (earliest_ms == NEVER_MS) == (not self.expected)


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.sampled_from([b"a", b"b", b"c", b"d"]), TIMES),
            st.tuples(st.just(b""), st.tuples(TIMES, st.integers(0, 6))),
        ),
        max_size=40,
    )
)
def test_keys_are_taken_when_they_are_due_and_not_before(
    steps: list[tuple[Key, int] | tuple[Key, tuple[int, int]]],
) -> None:
    """Whatever is set, moved and removed meanwhile, and however far apart the deadlines are."""
    indexed = Indexed()
    for key, step in steps:
        if isinstance(step, tuple):
            indexed.take(max(indexed.now_ms, step[0]), step[1])
        else:
            indexed.set(key, step)
    while not indexed.take(2**49, 3):
        pass
    assert indexed.expected == {}


@pytest.mark.parametrize("moved_ms", [2000, 1001, 3000])
def test_a_deadline_that_is_moved_within_its_bucket(moved_ms: int) -> None:
    """It counts, though the bucket of its neighbours moves as a whole."""
    indexed, start_ms = Indexed(), 1 << 3 * DIGIT_BITS  # of a bucket that is wide enough, as seen from 0
    for key in (b"a", b"b"):
        indexed.set(key, start_ms + 2000)
    indexed.set(b"a", start_ms + moved_ms)
    for now_ms in (0, 1, 1000, 1001, 1999, 2000, 2999, 3000):
        while not indexed.take(start_ms + now_ms, 1):
            pass
        assert list(indexed.expected) == [b"a"] * (now_ms < moved_ms) + [b"b"] * (now_ms < 2000)


class TestSize:
    """What the index holds."""

    def test_moves_leave_nothing_behind(self) -> None:
        draw = random.Random(1)
        indexed = Indexed()
        indexed.index.take(1_000_000, 1)
        for _ in range(20_000):
            indexed.set(b"%d" % draw.randrange(50), 1_000_001 + draw.randrange(10**9))
        sets = indexed.index.clear()
        assert sum(map(len, sets)) == len(indexed.expected) == 50
        assert indexed.index.count == 0
        assert indexed.index.earliest_ms() == NEVER_MS

    @pytest.mark.parametrize("span_ms", [1, 1000, 10**6, 10**9])
    def test_buckets_are_few(self, span_ms: int) -> None:
        draw = random.Random(span_ms)
        indexed = Indexed()
        indexed.index.begin(999_999)
        for number in range(5000):
            indexed.set(b"%d" % number, 1_000_000 + draw.randrange(span_ms))
        assert len(indexed.index.clear()) < 500


class TestSteps:
    """The work for what is due."""

    @pytest.mark.parametrize("span_ms", [1, 64, 10**4, 10**8])
    def test_each_key_is_moved_a_few_times(self, span_ms: int) -> None:
        draw = random.Random(span_ms)
        indexed = Indexed()
        indexed.index.begin(10**9)
        keys = 2000
        for number in range(keys):
            indexed.set(b"%d" % number, 10**9 + 1 + draw.randrange(span_ms))
        rounds = 0
        while not indexed.take(10**9 + span_ms + 1, 100):
            rounds += 1
        assert indexed.expected == {}
        assert rounds * 100 < keys * 12  # five digits, each a step for the key and at most one for its bucket

    @pytest.mark.parametrize("far_ms", [10, 10**4, 10**9])
    def test_keys_of_one_deadline_are_moved_together(self, far_ms: int) -> None:
        indexed = Indexed()
        indexed.index.begin(10**9)
        for number in range(2000):
            indexed.set(b"%d" % number, 10**9 + far_ms)
        for now_ms in sorted({10**9 + far_ms * part // 100 for part in range(100)}):
            indexed.take(now_ms, 10)
            assert indexed.index.earliest_ms() > now_ms
        rounds = 1
        while not indexed.take(10**9 + far_ms, 100):
            rounds += 1
        assert rounds <= 21
        assert indexed.expected == {}

    def test_a_bucket_that_falls_due_while_it_is_distributed_is_distributed_no_further(self) -> None:
        indexed, start_ms = Indexed(), 1 << 4 * DIGIT_BITS  # of a bucket as wide, as seen from 0
        keys, steps = 2000, 100
        for number in range(keys):
            indexed.set(b"%d" % number, 2 * start_ms - 1)
        indexed.take(start_ms, steps)
        rounds = 1
        while not indexed.take(2 * start_ms, steps):
            rounds += 1
        assert indexed.expected == {}
        assert rounds * steps <= keys + 3 * steps

    @pytest.mark.parametrize("seed", range(5))
    def test_moved_and_removed_keys_of_a_bucket_that_is_being_distributed(self, seed: int) -> None:
        draw = random.Random(seed)
        indexed = Indexed()
        for _ in range(3000):
            choice = draw.randrange(10)
            key = b"%d" % draw.randrange(100)
            if choice == 0:
                indexed.take(indexed.now_ms + draw.randrange(3000), draw.randrange(8))
            elif choice < 4:
                indexed.set(key, 0)
            else:
                indexed.set(key, indexed.now_ms + 1 + draw.randrange(100_000))
        while not indexed.take(10**9, 3):
            pass
        assert indexed.expected == {}

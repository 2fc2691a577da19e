"""The transaction stack by example: its table of transitions, row by row, and what it is charged."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvs.domain.commit import CommitRequest, KeyRange, prefix_range
from kvs.domain.errors import NoTransactionError, UsageError
from kvs.domain.transaction import FRAME_OVERHEAD_BYTES, IDLE, RANGE_BYTES, NestingError, TransactionStack
from kvs.domain.values import ENTRY_OVERHEAD_BYTES, TOMBSTONE, Key, Write, entry_bytes

SNAPSHOT = object()
ONE = IDLE.start(SNAPSHOT)
P = prefix_range(b"p")
READ_ONLY = IDLE.start(SNAPSHOT, read_only=True)

Observable = tuple[int, object, dict[Key, Write], int, frozenset[Key], frozenset[KeyRange]]


def request_of(stack: TransactionStack) -> CommitRequest:
    """Return what an open stack would ask the engine, were every frame committed."""
    stack, request = stack.commit()
    while request is None:
        stack, request = stack.commit()
    return request


def observable(stack: TransactionStack) -> Observable:
    """Return everything there is to see of a stack."""
    keys: frozenset[Key] = frozenset()
    ranges: frozenset[KeyRange] = frozenset()
    if stack.depth:
        (reads,) = request_of(stack).reads
        keys, ranges = frozenset(reads.keys), frozenset(reads.ranges)
    return stack.depth, stack.snapshot, dict(stack.writes), stack.retained_bytes, keys, ranges


# The table, row by row.


def test_idle_holds_nothing() -> None:
    """Outside a transaction there is no frame, no snapshot, no write, no read and nothing to pay for."""
    assert observable(IDLE) == (0, None, {}, 0, frozenset(), frozenset())
    assert IDLE.pending(b"k") is None


def test_start_opens_the_outermost_frame_on_the_given_snapshot() -> None:
    """START outside a transaction: depth 1, that snapshot, nothing pending, nothing read."""
    assert observable(ONE) == (1, SNAPSHOT, {}, FRAME_OVERHEAD_BYTES, frozenset(), frozenset())


def test_nest_pushes_a_frame_on_the_same_snapshot() -> None:
    """START inside a transaction: one deeper, the same snapshot, the parent's writes visible."""
    nested = ONE.put(b"k", b"v").nest()
    assert nested.depth == 2
    assert nested.snapshot is SNAPSHOT
    assert nested.pending(b"k") == b"v"


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_put_makes_a_value_pending_at_any_depth(depth: int) -> None:
    """PUT leaves the depth and the read set as they were."""
    before = nested_to(depth)
    after = before.put(b"k", b"v")
    assert after.pending(b"k") == b"v"
    assert after.depth == depth
    assert observable(after)[4:] == observable(before)[4:]


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_delete_makes_a_tombstone_pending_at_any_depth(depth: int) -> None:
    """DEL hides a pending value behind a tombstone, and reads nothing by itself."""
    before = nested_to(depth).put(b"k", b"v")
    after = before.delete(b"k")
    assert after.pending(b"k") is TOMBSTONE
    assert after.depth == depth
    assert observable(after)[4:] == observable(before)[4:]


def test_put_after_delete_brings_the_key_back() -> None:
    """The last write of a key is the one that counts."""
    assert ONE.delete(b"k").put(b"k", b"v").pending(b"k") == b"v"


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_observe_grows_the_read_set_at_any_depth(depth: int) -> None:
    """A key and a range that were read are validated, and nothing else has changed."""
    after = nested_to(depth).observe(b"k").observe_range(*P)
    assert observable(after)[4:] == (frozenset({b"k"}), frozenset({P}))
    assert (after.depth, dict(after.writes)) == (depth, {})


def test_observing_again_changes_nothing() -> None:
    """What is in the read set already costs nothing more."""
    stack = ONE.observe(b"k").observe_range(*P)
    assert stack.observe(b"k") is stack
    assert stack.observe_range(*P) is stack


def test_a_key_and_the_range_of_a_prefix_of_the_same_bytes_are_two_things() -> None:
    """Reading the key ``a`` is not listing what begins with ``a``, nor the other way round."""
    assert observable(ONE.observe(b"a"))[4:] == (frozenset({b"a"}), frozenset())
    assert observable(ONE.observe_range(*prefix_range(b"a")))[4:] == (frozenset(), frozenset({prefix_range(b"a")}))
    assert observable(ONE.observe_range(*prefix_range(b"a")).observe(b"a"))[4:] == (
        frozenset({b"a"}),
        frozenset({prefix_range(b"a")}),
    )


def test_inner_commit_merges_writes_and_tombstones_into_the_parent() -> None:
    """COMMIT of an inner frame asks the engine nothing; values and tombstones become the parent's."""
    nested = ONE.put(b"a", b"1").put(b"b", b"1").nest().put(b"a", b"2").delete(b"b").put(b"c", b"2")
    merged, request = nested.commit()
    assert request is None
    assert merged.depth == 1
    assert dict(merged.writes) == {b"a": b"2", b"b": TOMBSTONE, b"c": b"2"}


def test_outermost_commit_asks_for_everything_and_leaves_idle() -> None:
    """COMMIT of the outermost frame names the snapshot, the read set and the writes."""
    stack = ONE.observe(b"r").observe_range(*P).put(b"a", b"1").delete(b"b")
    after, request = stack.commit()
    assert after is IDLE
    assert request is not None
    (reads,) = request.reads
    assert reads.snapshot is SNAPSHOT
    assert set(reads.keys) == {b"r"}
    assert set(reads.ranges) == {P}
    assert dict(request.writes) == {b"a": b"1", b"b": TOMBSTONE}


def test_a_commit_request_of_a_reader_has_no_writes() -> None:
    """Whoever wrote nothing asks for nothing to be written."""
    assert not request_of(ONE.observe(b"k")).writes


def test_inner_rollback_discards_the_innermost_frame_only() -> None:
    """ROLLBACK of an inner frame brings back what was pending before its START."""
    outer = ONE.put(b"a", b"1").delete(b"b")
    back = outer.nest().put(b"a", b"2").put(b"b", b"2").delete(b"a").rollback()
    assert observable(back) == observable(outer)


def test_rollback_does_not_undo_what_an_inner_commit_merged() -> None:
    """A frame that was committed belongs to its parent, and shares its fate alone."""
    merged, _ = ONE.nest().nest().put(b"k", b"v").commit()
    assert merged.depth == 2
    assert merged.pending(b"k") == b"v"
    assert merged.rollback().pending(b"k") is None


def test_outermost_rollback_leaves_idle() -> None:
    """ROLLBACK of the outermost frame is the end of the transaction, whatever it did."""
    assert ONE.put(b"a", b"1").observe(b"k").rollback() is IDLE


def test_reads_survive_the_rollback_of_their_frame() -> None:
    """The client has seen what it read, and may have acted on it."""
    back = ONE.observe(b"a").nest().observe(b"b").observe_range(*P).rollback()
    assert observable(back)[4:] == (frozenset({b"a", b"b"}), frozenset({P}))
    assert back.retained_bytes == ONE.retained_bytes + 4 + 3 * ENTRY_OVERHEAD_BYTES


def test_reads_survive_two_rollbacks_and_an_inner_commit() -> None:
    """There is one read set for the whole stack."""
    deep = ONE.nest().nest().nest().observe(b"k")
    merged, _ = deep.commit()
    assert observable(merged.rollback().rollback())[4] == {b"k"}


ILLEGAL: list[tuple[str, Callable[[TransactionStack], object]]] = [
    ("nest", lambda stack: stack.nest()),
    ("nest read-only", lambda stack: stack.nest(read_only=True)),
    ("put", lambda stack: stack.put(b"k", b"v")),
    ("delete", lambda stack: stack.delete(b"k")),
    ("check_may_write", lambda stack: stack.check_may_write()),
    ("observe", lambda stack: stack.observe(b"k")),
    ("observe_range", lambda stack: stack.observe_range(b"k", None)),
    ("clear", lambda stack: stack.clear()),
    ("commit", lambda stack: stack.commit()),
    ("rollback", lambda stack: stack.rollback()),
]


@pytest.mark.parametrize(("name", "function"), ILLEGAL, ids=[name for name, _ in ILLEGAL])
def test_without_a_transaction_everything_but_start_is_refused(
    name: str, function: Callable[[TransactionStack], object]
) -> None:
    """The error is ``no_transaction``, and idle stays what it was."""
    before = observable(IDLE)
    with pytest.raises(NoTransactionError):
        function(IDLE)
    assert observable(IDLE) == before
    assert IDLE.pending(b"k") is None


@pytest.mark.parametrize("depth", [1, 2])
def test_start_is_refused_inside_a_transaction(depth: int) -> None:
    """A second snapshot in one transaction is a mistake in the caller, and changes nothing."""
    stack = nested_to(depth).put(b"k", b"v").observe(b"r").observe_range(*P)
    before = observable(stack)
    with pytest.raises(NestingError):
        stack.start(object())
    assert observable(stack) == before
    assert stack.snapshot is SNAPSHOT


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_a_read_only_transaction_notes_nothing_and_grows_by_nothing(frames: int) -> None:
    """Whatever it reads in any frame, it is the same stack: there is nothing to validate."""
    stack = READ_ONLY
    for _ in range(frames - 1):
        stack = stack.nest()
    assert stack.observe(b"k") is stack
    assert stack.observe_range(*P) is stack
    assert observable(stack) == (frames, SNAPSHOT, {}, frames * FRAME_OVERHEAD_BYTES, frozenset(), frozenset())


WRITES: list[tuple[str, Callable[[TransactionStack], object]]] = [
    ("put", lambda stack: stack.put(b"k", b"v")),
    ("delete", lambda stack: stack.delete(b"k")),
    ("clear", lambda stack: stack.clear()),
    ("check_may_write", lambda stack: stack.check_may_write()),
]


@pytest.mark.parametrize(
    "stack", [READ_ONLY, READ_ONLY.nest(), READ_ONLY.nest(read_only=True), READ_ONLY.nest().nest()]
)
@pytest.mark.parametrize(("name", "function"), WRITES, ids=[name for name, _ in WRITES])
def test_a_read_only_transaction_is_not_written_to(
    name: str, function: Callable[[TransactionStack], object], stack: TransactionStack
) -> None:
    """Not in a frame inside it either, however that was opened; and it is left as it was."""
    before = observable(stack)
    with pytest.raises(UsageError, match="READONLY"):
        function(stack)
    assert observable(stack) == before


def test_a_read_only_transaction_ends_as_any_other_does() -> None:
    """Frame by frame, and with nothing for the engine to apply; the frame beneath is as read-only as before."""
    merged, request = READ_ONLY.nest().commit()
    assert request is None
    for stack in (merged, READ_ONLY.nest().rollback()):
        assert observable(stack) == observable(READ_ONLY)
        with pytest.raises(UsageError):
            stack.put(b"k", b"v")
        after, request = stack.commit()
        assert after is IDLE
        assert request is not None
        assert not request.writes
        assert stack.rollback() is IDLE


def test_no_read_only_frame_inside_a_transaction_that_may_write() -> None:
    """Its reads would count for what is written around it."""
    for stack in (ONE, ONE.put(b"k", b"v").nest()):
        before = observable(stack)
        with pytest.raises(UsageError, match="READONLY"):
            stack.nest(read_only=True)
        assert observable(stack) == before


def test_one_that_may_write_checks_that_it_may() -> None:
    """In any frame."""
    for stack in (ONE, ONE.nest()):
        stack.check_may_write()


def test_a_stack_never_changes_once_it_is_made() -> None:
    """Every function returns another stack, so that not storing it refuses a request."""
    stack = ONE.put(b"a", b"1").nest().put(b"b", b"2").observe(b"r")
    before = observable(stack)
    stack.put(b"a", b"x")
    stack.delete(b"b")
    stack.observe(b"s")
    stack.observe_range(*P)
    stack.clear()
    stack.nest().put(b"c", b"3")
    stack.commit()
    stack.rollback()
    assert observable(stack) == before


def test_start_commit_and_rollback_share_the_map() -> None:
    """None of them looks at a single entry: they hand on the very map that was there."""
    outer = ONE.put(b"a", b"1")
    nested = outer.nest()
    assert nested.writes is outer.writes
    written = nested.put(b"b", b"2")
    merged, _ = written.commit()
    assert merged.writes is written.writes
    assert written.rollback().writes is outer.writes
    assert request_of(outer).writes is outer.writes


# What it is charged.


def nested_to(depth: int) -> TransactionStack:
    """Return a stack with this many empty frames."""
    stack = ONE
    while stack.depth < depth:
        stack = stack.nest()
    return stack


def fresh(size: int) -> bytes:
    """Return a value that is nobody else's object, as one read from a socket is (if it has more than one byte)."""
    return bytes(bytearray(size))


class Frames:
    """The frames of a stack as plain dicts, and what they hold by looking at every entry."""

    def __init__(self) -> None:
        self.frames: list[dict[Key, Write]] = [{}]
        self.read: set[Key] = set()
        self.ranges: list[KeyRange] = []
        self.ranges_beneath: list[int] = []  # how many there were at each nested START

    def retained_bytes(self) -> int:
        """Sum up every entry that is not the parent's very own object."""
        total = FRAME_OVERHEAD_BYTES * len(self.frames)
        below: dict[Key, Write] = {}
        for frame in self.frames:
            total += sum(entry_bytes(key, value) for key, value in frame.items() if below.get(key) is not value)
            below = frame
        total += RANGE_BYTES * sum(self.ranges_beneath)
        total += sum(len(low) + len(high or b"") + ENTRY_OVERHEAD_BYTES for low, high in self.ranges)
        return total + sum(len(key) + ENTRY_OVERHEAD_BYTES for key in self.read)

    def observe_range(self, new: KeyRange) -> None:
        """Keep the ranges in order, none of them touching the next."""
        joined: list[KeyRange] = []
        for each in sorted([*self.ranges, new]):
            if joined and joined[-1].high is not None and each.low <= joined[-1].high and each.high is not None:
                joined[-1] = KeyRange(joined[-1].low, max(joined[-1].high, each.high))
            else:
                joined.append(each)
        self.ranges = joined


def test_a_write_costs_its_entry_and_a_nested_start_one_frame() -> None:
    """The figures are those of ``entry_bytes`` and of the frame."""
    assert ONE.put(b"key", b"value").retained_bytes == FRAME_OVERHEAD_BYTES + entry_bytes(b"key", b"value")
    assert ONE.delete(b"key").retained_bytes == FRAME_OVERHEAD_BYTES + entry_bytes(b"key", None)
    assert ONE.put(b"key", b"value").nest().retained_bytes == 2 * FRAME_OVERHEAD_BYTES + entry_bytes(b"key", b"value")


def test_shadowed_values_are_charged_until_they_are_rolled_back() -> None:
    """A hundred frames over one key hold a hundred values."""
    stack = ONE.put(b"k", fresh(1000))
    for _ in range(99):
        stack = stack.nest().put(b"k", fresh(1000))
    assert stack.retained_bytes == 100 * (FRAME_OVERHEAD_BYTES + entry_bytes(b"k", fresh(1000)))
    while stack.depth > 1:
        stack = stack.rollback()
    assert stack.retained_bytes == FRAME_OVERHEAD_BYTES + entry_bytes(b"k", fresh(1000))


def test_merging_keeps_what_both_frames_held() -> None:
    """Different keys in parent and child, and a tombstone over a value of the parent's parent."""
    outer = ONE.put(b"a", fresh(1000)).nest().put(b"b", fresh(1000))
    merged, _ = outer.nest().put(b"c", fresh(1000)).delete(b"a").commit()
    held = 2 * FRAME_OVERHEAD_BYTES + 3 * entry_bytes(b"a", fresh(1000)) + entry_bytes(b"a", None)
    assert merged.retained_bytes == held
    merged, _ = merged.commit()
    assert merged.retained_bytes == held - FRAME_OVERHEAD_BYTES - entry_bytes(b"a", fresh(1000))


def test_merging_the_same_key_again_and_again_does_not_add_up() -> None:
    """What an inner commit has replaced is not charged for ever."""
    stack = ONE
    for _ in range(1000):
        stack, _ = stack.nest().put(b"k", fresh(1000)).commit()
    assert stack.retained_bytes == FRAME_OVERHEAD_BYTES + entry_bytes(b"k", fresh(1000))


@pytest.mark.parametrize("value", [b"", b"x"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_putting_an_interned_value_again_and_again_does_not_drift(value: bytes, depth: int) -> None:
    """Python has one object for ``b""`` and one for each single byte, in this frame and in its parent."""
    stack = ONE.put(b"k", value)
    while stack.depth < depth:
        stack = stack.nest()
    once = stack.put(b"k", value).retained_bytes
    for _ in range(100):
        stack = stack.put(b"k", value)
        assert stack.retained_bytes == once
        stack = stack.put(b"k", fresh(10)).delete(b"k").put(b"k", value)
        assert stack.retained_bytes == once
    while stack.depth > 1:
        stack = stack.rollback()
    assert stack.retained_bytes == FRAME_OVERHEAD_BYTES + entry_bytes(b"k", value)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["put", "put", "put", "delete", "nest", "nest", "commit", "rollback", "observe", "list", "clear"]
            ),
            st.sampled_from([b"a", b"b", b"long key"]),
            st.sampled_from([0, 1, 2, 50, 5000]),
        ),
        max_size=60,
    )
)
def test_retained_bytes_are_exact_until_a_merge_and_never_too_small(steps: list[tuple[str, Key, int]]) -> None:
    """Compared, after each step, with a sum over every entry of every frame."""
    stack, frames, merged = ONE, Frames(), False
    for step, key, size in steps:
        top = frames.frames[-1]
        if step == "put":
            value = fresh(size)
            stack = stack.put(key, value)
            top[key] = value
        elif step == "delete":
            stack = stack.delete(key)
            top[key] = TOMBSTONE
        elif step == "nest":
            stack = stack.nest()
            frames.frames.append(dict(top))
            frames.ranges_beneath.append(len(frames.ranges))
        elif step == "observe":
            stack = stack.observe(key)
            if not stack.cleared:
                frames.read.add(key)
        elif step == "list":
            if not stack.cleared:
                frames.observe_range(prefix_range(key))
            stack = stack.observe_range(*prefix_range(key))
        elif step == "clear":
            stack = stack.clear()
            top.clear()
        elif stack.depth > 1 and step == "commit":
            stack, _ = stack.commit()
            frames.frames[-2:] = [top]
            frames.ranges_beneath.pop()
            merged = True
        elif stack.depth > 1:
            stack = stack.rollback()
            frames.frames.pop()
            frames.ranges_beneath.pop()
        assert dict(stack.writes) == frames.frames[-1]
        if merged:
            visible = sum(entry_bytes(key, value) for key, value in stack.writes.items())
            assert stack.retained_bytes >= frames.retained_bytes()
            assert stack.depth > 1 or stack.retained_bytes <= ONE.observe(b"").retained_bytes * 8 + visible
        else:
            assert stack.retained_bytes == frames.retained_bytes()

"""What becomes of a value: each change against the plainest model of it, and at its bounds."""

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvs.domain.errors import NotANumberError, OutOfRangeError, TooLongError, WrongTypeError
from kvs.domain.updates import (
    INTEGER_MAX,
    INTEGER_MIN,
    Add,
    Append,
    Condition,
    IsEqual,
    IsUnequal,
    Overwrite,
    PutIf,
    PutIfAbsent,
    PutIfPresent,
    Remove,
    Replace,
    Update,
    add_one,
    always,
    byte_range,
    integer,
    is_absent,
    is_present,
    natural,
)
from kvs.domain.values import TOMBSTONE, Record, Value, Write

numbers = st.one_of(st.integers(INTEGER_MIN, INTEGER_MAX), st.sampled_from([INTEGER_MIN, -1, 0, 1, INTEGER_MAX]))


def named(part: object) -> str:
    """Return the name of an update, or what it makes."""
    return type(part).__name__ if callable(part) else repr(part)


@pytest.mark.parametrize(
    ("change", "of_absent", "of_present"),
    [
        (Replace(b"new"), b"new", b"new"),
        (PutIfAbsent(b"new"), b"new", None),
        (PutIfPresent(b"new"), None, b"new"),
        (Remove(), None, TOMBSTONE),
        (Append(b"new", 100), b"new", b"oldnew"),
        (Append(b"", 100), b"", b"old"),
        (Overwrite(1, b"new", 100), b"\0new", b"onew"),
        (Overwrite(5, b"", 100), None, None),
    ],
    ids=named,
)
def test_what_a_change_says(change: Update, of_absent: Write | None, of_present: Write | None) -> None:
    """A value, a tombstone, or None for nothing at all; the same however often it is asked."""
    for _ in range(2):
        assert change(None) == of_absent
        assert change(b"old") == of_present


@pytest.mark.parametrize("change", [PutIfAbsent(b"new"), PutIfPresent(b"new"), Remove()], ids=named)
def test_the_empty_value_is_a_value(change: Update) -> None:
    """And no absence."""
    assert change(b"") == change(b"old")


# Conditions.


@pytest.mark.parametrize(
    ("condition", "held"),
    [
        (always, (True, True, True, True)),
        (is_absent, (True, False, False, False)),
        (is_present, (False, True, True, True)),
        (IsEqual(b"old"), (False, True, True, False)),
        (IsUnequal(b"old"), (True, False, False, True)),
    ],
)
def test_conditions_on_the_old_value(condition: Condition, held: tuple[bool, ...]) -> None:
    """A deadline makes no difference to them, and only those that compare look at the value."""
    for old, holds in zip((None, b"old", Record(b"old", 5), b""), held, strict=True):
        assert condition(old) == holds
        assert PutIf(condition, b"new")(old) == (b"new" if holds else None)
        assert PutIf(condition, TOMBSTONE)(old) == (TOMBSTONE if holds else None)


@pytest.mark.parametrize("condition", [IsEqual(b"old"), IsUnequal(b"old")])
def test_what_is_no_string_is_not_compared(condition: Condition) -> None:
    """It is an error, and not unequal."""
    with pytest.raises(WrongTypeError):
        condition(Record(b"old", 0, 7))


def test_deadline_is_kept_if_asked_for() -> None:
    """It is that of the old value, if it has one."""
    assert PutIf(always, b"new")(Record(b"old", 5)) == b"new"
    keeping = PutIf(always, b"new", keeps_deadline=True)
    assert [keeping(old) for old in (None, b"old", Record(b"old", 5))] == [b"new", b"new", Record(b"new", 5)]
    assert PutIf(always, TOMBSTONE, keeps_deadline=True)(Record(b"old", 5)) is TOMBSTONE


# Lengths.


@pytest.mark.parametrize("make", [lambda limit: Append(b"new", limit), lambda limit: Overwrite(3, b"new", limit)])
def test_a_value_grows_to_its_limit(make: Callable[[int], Update]) -> None:
    """Just below it, at it, and not a byte above."""
    for limit in (7, 6):
        assert make(limit)(b"old") == b"oldnew"
    with pytest.raises(TooLongError, match="would have 6 bytes; 5 are allowed"):
        make(5)(b"old")


def test_what_is_beyond_the_limit_is_not_even_built() -> None:
    """An offset of a terabyte is refused for what it is."""
    with pytest.raises(TooLongError):
        Overwrite(1 << 40, b"x", 1 << 20)(b"old")


@given(st.one_of(st.none(), st.binary(max_size=12)), st.integers(0, 20), st.binary(max_size=12))
def test_overwrite_agrees_with_a_bytearray(old: bytes | None, offset: int, part: bytes) -> None:
    """Every byte in its place; zero bytes where there was none."""
    expected = bytearray(old or b"")
    for at, byte in enumerate(part, offset):
        while len(expected) <= at:
            expected.append(0)
        expected[at] = byte
    after = Overwrite(offset, part, 100)(old)
    assert after == (bytes(expected) if part else None)
    assert after is None or type(after) is bytes


@given(st.binary(max_size=6), st.integers(-9, 9), st.integers(-9, 9))
def test_a_section_is_those_bytes_whose_place_is_within_it(value: bytes, first: int, last: int) -> None:
    """A negative place is counted from the end, and is the first at the least; an end before its beginning is none."""
    if first < 0 and last < 0 and first > last:
        assert value[slice(*byte_range(len(value), first, last))] == b""
        return
    begin, end = (place if place >= 0 else max(0, place + len(value)) for place in (first, last))
    part = value[slice(*byte_range(len(value), first, last))]
    assert part == bytes(byte for place, byte in enumerate(value) if begin <= place <= end)


# Whole numbers.


@given(st.one_of(st.none(), numbers), numbers)
@example(INTEGER_MAX, 1)
@example(INTEGER_MIN, -1)
@example(INTEGER_MIN, INTEGER_MAX)
def test_add_agrees_with_numbers_of_any_size(old: int | None, amount: int) -> None:
    """As long as the sum has 64 bits."""
    total = (old or 0) + amount
    value = None if old is None else b"%d" % old
    if INTEGER_MIN <= total <= INTEGER_MAX:
        assert Add(amount)(value) == b"%d" % total
    else:
        with pytest.raises(OutOfRangeError):
            Add(amount)(value)


NO_INTEGERS = [
    b"",
    b"+1",
    b"01",
    b"-0",
    b"-01",
    b" 1",
    b"1 ",
    b"1\n",
    b"1_0",
    b"1.0",
    b"1e3",
    b"0x1",
    b"one",
    b"-",
    b"\xd9\xa1",  # a digit, but of another script
    b"%d" % (INTEGER_MAX + 1),
    b"%d" % (INTEGER_MIN - 1),
    b"1" * 10_000,
]


@pytest.mark.parametrize("text", NO_INTEGERS, ids=lambda text: repr(text[:20]))
def test_what_is_no_number_is_refused(text: bytes) -> None:
    """It has to be written as it would be stored."""
    assert natural(text) == -1
    for use in (integer, Add(1), add_one):
        with pytest.raises(NotANumberError):
            use(text)


@given(st.one_of(numbers.map(lambda number: b"%d" % number), st.binary(max_size=5)))
@example(b"%d" % INTEGER_MIN)
@example(b"%d" % INTEGER_MAX)
def test_what_is_a_number_is_read_as_it_is_written(text: bytes) -> None:
    """And nothing else is read at all."""
    try:
        number = integer(text)
    except NotANumberError:
        assert natural(text) == -1
        return
    assert INTEGER_MIN <= number <= INTEGER_MAX
    assert b"%d" % number == text
    assert natural(text) == (number if 0 <= number < 10**18 else -1)


@given(st.one_of(st.none(), st.binary(max_size=3), st.one_of(numbers, st.integers(0, 1100)).map(lambda n: b"%d" % n)))
@example(b"1022")
@example(b"1023")
@example(b"%d" % INTEGER_MAX)
@example(Record(b"7", 1))
def test_to_add_one_is_to_add_1(old: Value | None) -> None:
    """Whatever way it takes."""
    outcomes: list[object] = []
    for update in (add_one, Add(1)):
        try:
            outcomes.append(update(old))
        except (NotANumberError, OutOfRangeError) as error:
            outcomes.append(type(error))
    assert outcomes[0] == outcomes[1]

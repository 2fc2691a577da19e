"""What becomes of a value: each change against the plainest model of it, and at its bounds."""

from collections.abc import Callable
from decimal import Context, Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvs.domain.changes import (
    INTEGER_MAX,
    INTEGER_MIN,
    Add,
    AddFloat,
    Append,
    Change,
    Overwrite,
    PutIfAbsent,
    PutIfPresent,
    Remove,
    Replace,
    integer,
    section,
)
from kvs.domain.errors import TooLargeError, UsageError
from kvs.domain.values import TOMBSTONE, Pending, Value

numbers = st.one_of(st.integers(INTEGER_MIN, INTEGER_MAX), st.sampled_from([INTEGER_MIN, -1, 0, 1, INTEGER_MAX]))


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
    ids=repr,
)
def test_what_a_change_says(change: Change, of_absent: Pending | None, of_present: Pending | None) -> None:
    """A value, a tombstone, or None for nothing at all; the same however often it is asked."""
    for _ in range(2):
        assert change(None) == of_absent
        assert change(b"old") == of_present


@pytest.mark.parametrize("change", [PutIfAbsent(b"new"), PutIfPresent(b"new"), Remove()], ids=repr)
def test_the_empty_value_is_a_value(change: Change) -> None:
    """And no absence."""
    assert change(b"") == change(b"old")


# Lengths.


@pytest.mark.parametrize("make", [lambda limit: Append(b"new", limit), lambda limit: Overwrite(3, b"new", limit)])
def test_a_value_grows_to_its_limit(make: Callable[[int], Change]) -> None:
    """Just below it, at it, and not a byte above."""
    for limit in (7, 6):
        assert make(limit)(b"old") == b"oldnew"
    with pytest.raises(TooLargeError, match="exceeds maximum allowed size"):
        make(5)(b"old")


def test_what_is_beyond_the_limit_is_not_even_built() -> None:
    """An offset of a terabyte is refused for what it is."""
    with pytest.raises(TooLargeError):
        Overwrite(1 << 40, b"x", 1 << 20)(b"old")


@given(st.one_of(st.none(), st.binary(max_size=12)), st.integers(0, 20), st.binary(max_size=12))
def test_overwrite_agrees_with_a_bytearray(old: Value | None, offset: int, part: bytes) -> None:
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
        assert section(value, first, last) == b""
        return
    begin, end = (place if place >= 0 else max(0, place + len(value)) for place in (first, last))
    assert section(value, first, last) == bytes(byte for place, byte in enumerate(value) if begin <= place <= end)


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
        with pytest.raises(UsageError, match="increment or decrement would overflow"):
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
    for use in (integer, Add(1)):
        with pytest.raises(UsageError, match="value is not an integer or out of range"):
            use(text)


@given(st.one_of(numbers.map(lambda number: b"%d" % number), st.binary(max_size=5)))
@example(b"%d" % INTEGER_MIN)
@example(b"%d" % INTEGER_MAX)
def test_what_is_a_number_is_read_as_it_is_written(text: bytes) -> None:
    """And nothing else is read at all."""
    try:
        number = integer(text)
    except UsageError:
        return
    assert INTEGER_MIN <= number <= INTEGER_MAX
    assert b"%d" % number == text


# Decimal numbers.


@pytest.mark.parametrize(
    ("old", "amount", "total"),
    [
        (b"10.50", b"0.1", b"10.6"),
        (b"5.0e3", b"2.0e2", b"5200"),
        (b"3.0", b"0", b"3"),
        (b"3", b"0.0", b"3"),
        (b"100", b"0", b"100"),
        (None, b"0.1", b"0.1"),
        (b"0.1", b"0.2", b"0.3"),
        (b"-1", b"1", b"0"),
        (b"1e-18", b"-2e-18", b"0"),  # never -0
        (b"-0", b"-0", b"0"),
        (b".5", b"5.", b"5.5"),
        (b"+1", b"-1E+1", b"-9"),
        (b"0", b"0.000000000000000015", b"0.00000000000000002"),
        (b"0", b"0.000000000000000025", b"0.00000000000000002"),  # half to even
        (b"0e999999999", b"-0e-999999999", b"0"),
        (b"1e308", b"-1e308", b"0"),
        (b"1e-308", b"1", b"1"),
        (b"9e307", b"9e307", b"18" + b"0" * 307),
    ],
)
def test_sums_of_decimals(old: Value | None, amount: bytes, total: bytes) -> None:
    """Exact to 17 digits behind the point, without an exponent, zeros at the end, or a point without need."""
    assert AddFloat(amount)(old) == total


decimals = st.builds(
    lambda number, point, exponent: (b"%.*f" % (point, number)) + exponent,
    st.integers(-(10**15), 10**15),
    st.integers(0, 4),
    st.sampled_from([b"", b"", b"e0", b"e7", b"E-7", b"e+290", b"e-290"]),
)


@given(st.one_of(st.none(), decimals), decimals)
def test_add_float_agrees_with_decimals(old: Value | None, amount: bytes) -> None:
    """Of a thousand digits, of which 17 behind the point are kept; and what is stored can be added to again."""
    context = Context(prec=1000)
    total = context.add(Decimal((old or b"0").decode()), Decimal(amount.decode()))
    after = AddFloat(amount)(old)
    assert isinstance(after, bytes)
    assert Decimal(after.decode()) == total.quantize(Decimal("1e-17"), context=context)
    assert b"e" not in after.lower()
    assert after != b"-0"
    assert AddFloat(b"0")(after) == after


@pytest.mark.parametrize(
    "text",
    [
        *[b"", b" ", b".", b"-", b"e5", b"1e", b"1e+", b"1.2.3", b"1,5", b" 1", b"1 ", b"1\n", b"--1", b"one", b"1_0"],
        *[b"nan", b"inf", b"-Infinity", b"0x10", b"\xd9\xa1"],
        *[b"1e309", b"-1e309", b"1e-309", b"1e999999999", b"1e-999999999", b"1e9999999999999999999999", b"10e308"],
        *[b"1" * 310, b"0." + b"1" * 10_000],
    ],
    ids=lambda text: repr(text[:20]),
)
def test_what_is_no_decimal_or_would_be_endless_is_refused(text: bytes) -> None:
    """As the value that is stored, and as what is to be added; huge exponents before anything is computed."""
    for value, amount in ((text, b"1"), (b"1", text)):
        with pytest.raises(UsageError, match="value is not a valid float"):
            AddFloat(amount)(value)


def test_a_sum_grows_no_further_than_it_can_be_read_again() -> None:
    """The largest there is, with a digit in every place; and one more is refused."""
    largest = b"9" * 309 + b"." + b"9" * 17
    assert AddFloat(b"0")(largest) == largest
    assert AddFloat(b"-0")(b"-" + largest) == b"-" + largest
    assert AddFloat(b"1e-17")(b"9" * 309 + b"." + b"9" * 16 + b"8") == largest
    for amount in (b"1e-17", b"6e-18", b"1", b"9e308"):
        with pytest.raises(UsageError, match="increment would produce NaN or Infinity"):
            AddFloat(amount)(largest)

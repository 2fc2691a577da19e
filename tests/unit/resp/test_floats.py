"""Sums of decimal numbers, as Redis has them, against fractions."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvs.adapters.inbound.resp.floats import _NUMBER, AddFloat
from kvs.domain.errors import UsageError

pytestmark = pytest.mark.one_build


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
        (b"0x1p3", b"0X.8", b"8.5"),
        (b"-0x1.8p-1", b"0xA", b"9.25"),
        (b"1", b"1e-400", b"1"),  # nothing of it is left, but it is a number
        (b"9223372036854775807", b"1", b"9223372036854775808"),
        (b"18446744073709551615", b"1", b"18446744073709551616"),
        (b"18446744073709551616", b"1", b"18446744073709551616"),  # 65 bits: half to even
        (b"18446744073709551616", b"3", b"18446744073709551620"),
        (b"1e20", b"1", b"100000000000000000000"),
        (b"4611686018427387904", b"0.2", b"4611686018427387904"),
        (b"4611686018427387904", b"0.3", b"4611686018427387904.5"),
    ],
)
def test_sums_of_decimals(old: bytes | None, amount: bytes, total: bytes) -> None:
    """Of 64 bits, to 17 digits behind the point, without an exponent, zeros at the end, or a point without need."""
    assert AddFloat(amount)(old) == total


decimals = st.builds(
    lambda number, point, exponent: (b"%.*f" % (point, number)) + exponent,
    st.integers(-(10**15), 10**15),
    st.integers(0, 4),
    st.sampled_from([b"", b"", b"e0", b"e7", b"E-7", b"e+290", b"e-290", b"e4900", b"e-4900"]),
)

LARGEST = (2**64 - 1) << (16384 - 64)
"""All 64 bits, and the largest power of two."""


def nearest(number: Fraction) -> Fraction:
    """Return the floating-point number of 64 bits that is nearest; the even one of two. It is not too large."""
    unit = Fraction(2) ** -16445
    while abs(number) >= unit * 2**64:
        unit *= 2 ** max(1, abs(number // (unit * 2**64)).bit_length() - 1)
    return round(number / unit) * unit  # of a fraction, round() is to even


@given(st.one_of(st.none(), decimals), decimals)
def test_add_float_agrees_with_fractions(old: bytes | None, amount: bytes) -> None:
    """What is read is rounded, and what is added, and what is written; and what is stored can be added to again."""
    numbers = [nearest(Fraction(Decimal(text.decode()))) for text in (old or b"0", amount)]
    after = AddFloat(amount)(old)
    assert isinstance(after, bytes)
    assert Fraction(Decimal(after.decode())) == round(nearest(sum(numbers, Fraction())) * 10**17) / Fraction(10**17)
    assert b"e" not in after.lower()
    assert after != b"-0"
    assert AddFloat(b"0")(after) is not None


@pytest.mark.parametrize(
    "text",
    [
        *[b"", b" ", b".", b"-", b"e5", b"1e", b"1e+", b"1.2.3", b"1,5", b" 1", b"1 ", b"1\n", b"--1", b"one", b"1_0"],
        *[b"nan", b"-nan", b"infinit", b"0x", b"0x.", b"0x1p", b"0x1p+", b"0xg", b"\xd9\xa1", b"1\x00", b"\t1"],
        *[b"1e4933", b"-1e4933", b"1e-4952", b"1e999999999", b"1e-999999999", b"1e9999999999999999999999", b"10e4932"],
        *[b"0x1p16384", b"0x1p-16446", b"0x1p99999999999999999999", b"0x.ffffffffffffffffffffp16384"],
        *[b"1" * 4934, b"0." + b"1" * 10_000, b"0" * 5120],
    ],
    ids=lambda text: repr(text[:20]),
)
def test_what_is_no_float_is_refused(text: bytes) -> None:
    """As the value that is stored, and as what is to be added; huge exponents before anything is computed."""
    for value, amount in ((text, b"1"), (b"1", text)):
        with pytest.raises(UsageError, match="value is not a valid float"):
            AddFloat(amount)(value)


@pytest.mark.parametrize("prefix", [b"", b"-", b".", b"1.", b"0x", b"0x.", b"1e", b"0x1p"])
@pytest.mark.parametrize("suffix", [b"x", b"-", b"p", b".."])
def test_digits_are_looked_at_once(prefix: bytes, suffix: bytes) -> None:
    """A number that is wrong at its end takes time in proportion to its length; with its square, this takes hours."""
    assert _NUMBER.fullmatch(prefix + b"1" * 1_000_000 + suffix) is None


@pytest.mark.parametrize("infinite", [b"inf", b"-INF", b"+Infinity"])
def test_infinity_is_a_number_that_cannot_be_stored(infinite: bytes) -> None:
    """Whatever is added to it, but not what is no number."""
    for value, amount in ((infinite, b"1"), (b"1", infinite), (infinite, infinite)):
        with pytest.raises(UsageError, match="increment would produce NaN or Infinity"):
            AddFloat(amount)(value)
    with pytest.raises(UsageError, match="value is not a valid float"):
        AddFloat(b"x")(infinite)


def test_a_sum_grows_up_to_infinity() -> None:
    """What is as large as there is can be read again; what is half a unit more is none."""
    largest = format(Decimal(LARGEST), "f").encode()
    assert AddFloat(b"0")(largest) == largest
    assert AddFloat(b"-0")(b"-" + largest) == b"-" + largest
    half, quarter = (format(Decimal(1 << (16384 - bits)), "f").encode() for bits in (65, 66))
    assert AddFloat(quarter)(largest) == largest
    for amount in (half, largest):
        with pytest.raises(UsageError, match="increment would produce NaN or Infinity"):
            AddFloat(amount)(largest)

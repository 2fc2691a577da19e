"""The decimal numbers of Redis's INCRBYFLOAT: C's ``long double`` on x86-64, an 80-bit floating-point number.

It has a sign, 64 significant bits, and a power of two up to 2**16383. Numbers are parsed by the rules of strtold(),
which accepts decimal and hexadecimal ones; sums are rounded half to even; and they are formatted in decimal with 17
digits after the point, without trailing zeros. Python has no such type, but its integers of any size make this exact: a
float is kept as a 64-bit integer and a power of two.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from kvs.domain.errors import UsageError
from kvs.domain.values import Value, Write, string_of, with_string

BITS: Final = 64
MIN_EXPONENT: Final = -16445
"""Exponent of the smallest number: below 2**-16382 numbers have fewer bits and no smaller power of two."""
MAX_EXPONENT: Final = 16383 - BITS + 1

MAX_BYTES: Final = 5 * 1024 - 1
"""Longest number that is parsed; formatted ones are shorter."""

DECIMAL_EXPONENT: Final = 5000
"""Maximum digits before the point, and zeros after it, of a number that Redis would parse; others are not computed."""

DIGITS: Final = 17
"""Formatted digits after the point."""

_NUMBER: Final = re.compile(
    rb"([+-]?)(?:(?P<infinity>inf(?:inity)?)"
    rb"|0x(?P<hex>[0-9a-f]++\.?[0-9a-f]*+|\.[0-9a-f]++)(?:p(?P<power>[+-]?[0-9]++))?"
    rb"|(?P<decimal>[0-9]++\.?[0-9]*+|\.[0-9]++)(?:e(?P<exponent>[+-]?[0-9]++))?)",
    re.IGNORECASE,
)
"""Quantifiers are possessive (``++``): backtracking between two groups of digits would take quadratic time."""


@dataclass(init=False)
class AddFloat:
    """Add to a decimal number, as Redis does, in 80-bit floating point; an absent key counts as 0.

    Attributes:
        amount: The number as text.
    """

    amount: bytes

    def __init__(self, amount: bytes) -> None:
        self.amount = amount

    def __call__(self, old: Value | None) -> Write | None:
        return with_string(old, total(b"0" if old is None else string_of(old), self.amount))


def total(augend: bytes, addend: bytes) -> bytes:
    """Return the sum of two numbers as text.

    Raises:
        UsageError: One is not a number, underflows or overflows; or the sum is infinite.
    """
    numbers = [_read(text) for text in (augend, addend)]
    if None in numbers:
        raise UsageError("increment would produce NaN or Infinity")
    finite = [number for number in numbers if number is not None]
    exponent = min(power for _, power in finite)
    exact = sum(significand << power - exponent for significand, power in finite)
    rounded = _rounded(exact, 1, exponent)
    if rounded is None:
        raise UsageError("increment would produce NaN or Infinity")
    return _written(*rounded)


def _read(text: bytes) -> tuple[int, int] | None:
    """Return a number as a significand and a power of two; None: it is infinite."""
    match = _NUMBER.fullmatch(text) if len(text) <= MAX_BYTES else None
    if match is None:
        raise _no_float()
    if match["infinity"]:
        return None
    if match["hex"]:
        whole, _, fraction = match["hex"].partition(b".")
        # A power of so many digits is out of bounds, unless the number has more zeros than it may have bytes.
        power = _bounded(match["power"]) - 4 * len(fraction)
        numerator, denominator = int(whole + fraction, 16), 1
    else:
        whole, _, fraction = match["decimal"].partition(b".")
        digits = (whole + fraction).lstrip(b"0")
        if not digits:
            return 0, 0
        ten = _bounded(match["exponent"]) - len(fraction)
        if abs(ten + len(digits)) > DECIMAL_EXPONENT:
            raise _no_float()
        power = 0
        number = int(Decimal(digits.decode()))  # int() would refuse as many digits
        numerator, denominator = (number * 10**ten, 1) if ten > 0 else (number, 10**-ten)
    if not numerator:
        return 0, 0
    rounded = _rounded(-numerator if match[1] == b"-" else numerator, denominator, power)
    if rounded is None or not rounded[0]:
        raise _no_float()
    return rounded


def _bounded(exponent: bytes | None) -> int:
    """Return an exponent, or for one out of bounds another one out of the same bounds."""
    if not exponent:
        return 0
    digits = exponent.lstrip(b"+-0") or b"0"
    size = int(digits) if len(digits) < 10 else 10**9
    return -size if exponent.startswith(b"-") else size


def _rounded(numerator: int, denominator: int, power: int) -> tuple[int, int] | None:
    """Return the float next to a fraction times a power of two, as significand and power; None: it is infinite."""
    size = abs(numerator)
    if not size:
        return 0, 0
    # At least one bit more than are kept, or as many as the smallest power has.
    shift = size.bit_length() - denominator.bit_length() - BITS
    exponent = max(power + shift, MIN_EXPONENT)
    if exponent > MAX_EXPONENT + 1 or power + shift < MIN_EXPONENT - 2 * BITS:
        return None if exponent > MAX_EXPONENT + 1 else (0, 0)
    significand = _quotient(size, denominator, exponent - power)
    if significand >> BITS:
        exponent += 1
        significand = _quotient(size, denominator, exponent - power)  # from the fraction, to round only once
        if significand >> BITS:  # all ones, and rounded up
            significand >>= 1
            exponent += 1
    if exponent > MAX_EXPONENT:
        return None
    return (-significand if numerator < 0 else significand), exponent


def _quotient(numerator: int, denominator: int, shift: int) -> int:
    """Return a fraction divided by a power of two, rounded half to even."""
    if shift < 0:
        numerator <<= -shift
    else:
        denominator <<= shift
    quotient, rest = divmod(numerator, denominator)
    return quotient + (2 * rest > denominator or (2 * rest == denominator and quotient & 1))


def _written(significand: int, power: int) -> bytes:
    digits = _quotient(abs(significand) * 10**DIGITS, 1, -power)
    text = str(Decimal(digits)).rjust(DIGITS + 1, "0")  # str(int) would refuse as many digits
    text = f"{text[:-DIGITS]}.{text[-DIGITS:]}".rstrip("0").rstrip(".")
    return b"-" * (significand < 0 and text != "0") + text.encode()


def _no_float() -> UsageError:
    return UsageError("value is not a valid float")

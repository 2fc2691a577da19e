"""What can become of one key's value, as functions of the value it has.

A :data:`Update` is given to whoever can read the value and write the next one with nobody in between. It knows nothing
of where that is: an engine, or a transaction. It may be asked more than once, and what it is compares by value. (That
is what the data classes are for. Each has a constructor written out, since the compiler takes 40 ns for that, and 500
for the one it would be given.)

Numbers are stored as text, as people write them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from kvs.domain.errors import NotANumberError, OutOfRangeError, TooLongError
from kvs.domain.values import TOMBSTONE, Value, Write

Update: TypeAlias = Callable[[Value | None], Write | None]
"""Returns the next value, a tombstone, or None to leave everything as it is, given the value or None if it is absent.

It may raise ``UsageError`` or ``TooLargeError``; nothing is changed then.
"""

Updated: TypeAlias = tuple[Value | None, Value | None]
"""The value before a change and the value after it; None: absent."""

INTEGER_MIN: Final = -(2**63)
INTEGER_MAX: Final = 2**63 - 1

_REGISTER: Final = 2**62 - 1
"""Largest whole number that the compiler keeps in a register: to compare beyond it takes ten times as long."""

_INTEGER_BYTES: Final = 20
"""Longest number of 64 bits. What is longer is not even tried: the time to read a number grows as its square."""

_ZERO: Final = 48


def integer(text: bytes) -> int:
    """Return a whole number of 64 bits.

    Raises:
        NotANumberError: The text is none, or not as it would be written: ``+1``, ``01``, a blank.
    """
    size = len(text)
    if 0 < size < _INTEGER_BYTES - 1 and (text[0] != _ZERO or size == 1):  # as nearly always
        # Compiled, this takes a quarter of the instructions of isdigit() and int(), which are looked up and called.
        number = 0
        for at in range(size):
            digit = text[at] - _ZERO
            if not 0 <= digit <= 9:
                break
            number = number * 10 + digit
        else:
            return number
    if size <= _INTEGER_BYTES:
        try:
            number = int(text)
        except ValueError:
            pass
        else:
            if INTEGER_MIN <= number <= INTEGER_MAX and b"%d" % number == text:
                return number
    raise NotANumberError("This is not a whole number of 64 bits.")


def byte_range(value: Value, first: int, last: int) -> Value:
    """Return the bytes from one place to another, both included; a negative one is counted from the end."""
    size = len(value)
    if first < 0 and last < 0 and first > last:
        return b""  # and not the first byte, which both may come to
    if first < 0:
        first = max(0, first + size)
    if last < 0:
        last = max(0, last + size)
    if first > last or first >= size:
        return b""  # compiled, a slice like this raises SystemError
    return value[first : last + 1]


@dataclass(init=False)
class Replace:
    """Store a value."""

    value: Value

    def __init__(self, value: Value) -> None:
        self.value = value

    def __call__(self, _: Value | None) -> Write | None:
        """See :data:`Update`."""
        return self.value


@dataclass(init=False)
class PutIfAbsent:
    """Store a value where there is none."""

    value: Value

    def __init__(self, value: Value) -> None:
        self.value = value

    def __call__(self, old: Value | None) -> Write | None:
        """See :data:`Update`."""
        return self.value if old is None else None


@dataclass(init=False)
class PutIfPresent:
    """Store a value where there is one."""

    value: Value

    def __init__(self, value: Value) -> None:
        self.value = value

    def __call__(self, old: Value | None) -> Write | None:
        """See :data:`Update`."""
        return None if old is None else self.value


@dataclass
class Remove:
    """Delete the key."""

    def __call__(self, old: Value | None) -> Write | None:
        """See :data:`Update`."""
        return None if old is None else TOMBSTONE


@dataclass(init=False)
class Append:
    """Add bytes behind the value, up to a length in bytes."""

    suffix: Value
    max_bytes: int

    def __init__(self, suffix: Value, max_bytes: int) -> None:
        self.suffix = suffix
        self.max_bytes = max_bytes

    def __call__(self, old: Value | None) -> Write | None:
        """See :data:`Update`. O(length)."""
        value = self.suffix if old is None else old + self.suffix
        _check_length(len(value), self.max_bytes)
        return value


@dataclass(init=False)
class Overwrite:
    """Put bytes in place of those from an offset on, with zero bytes in between if the value ends before it."""

    offset: int
    part: Value
    max_bytes: int

    def __init__(self, offset: int, part: Value, max_bytes: int) -> None:
        self.offset = offset
        self.part = part
        self.max_bytes = max_bytes

    def __call__(self, old: Value | None) -> Write | None:
        """See :data:`Update`. O(length)."""
        if not self.part:
            return None
        end = self.offset + len(self.part)
        _check_length(end, self.max_bytes)
        value = bytearray(old or b"")
        value.extend(bytes(max(0, self.offset - len(value))))
        value[self.offset : end] = self.part
        return bytes(value)


@dataclass(init=False)
class Add:
    """Add to a whole number; an absent key counts as 0."""

    amount: int

    def __init__(self, amount: int) -> None:
        self.amount = amount

    def __call__(self, old: Value | None) -> Write | None:
        """See :data:`Update`."""
        number = (0 if old is None else integer(old)) + self.amount
        if not (-_REGISTER <= number <= _REGISTER or INTEGER_MIN <= number <= INTEGER_MAX):
            raise OutOfRangeError("The sum would have more than 64 bits.")
        return b"%d" % number


def _check_length(length: int, max_bytes: int) -> None:
    if length > max_bytes:
        raise TooLongError(f"The value would have {length} bytes; {max_bytes} are allowed.")

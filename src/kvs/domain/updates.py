"""Updates: functions from a key's old value to its new one.

An engine or a transaction applies an :data:`Update` atomically, and may call it more than once. Updates are data
classes, which compare by value; each has an explicit constructor, because compiled it takes 40 ns, a generated one 500.

Numbers are stored as decimal text. An update that changes the content of a value keeps its deadline; one that stores
another value stores the deadline of that one, if it has any.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from kvs.domain.errors import NotANumberError, OutOfRangeError, TooLongError
from kvs.domain.values import (
    NO_DEADLINE,
    TOMBSTONE,
    Record,
    Tombstone,
    Value,
    Write,
    deadline_of,
    string_of,
    with_deadline,
    with_string,
)

if TYPE_CHECKING:
    from mypy_extensions import i64  # an int in a register, to the compiler

Update: TypeAlias = Callable[[Value | None], Write | None]
"""Takes the old value, or None if it is absent; returns the new value, a tombstone, or None to change nothing.

It may raise ``UsageError`` or ``TooLargeError``; then nothing changes.
"""

Condition: TypeAlias = Callable[[Value | None], bool]
"""Takes the old value, or None if it is absent; decides whether an update changes anything."""

Updated: TypeAlias = tuple[Value | None, Value | None]
"""The value before and after an update; None: absent."""

INTEGER_MIN: Final = -(2**63)
INTEGER_MAX: Final = 2**63 - 1

_REGISTER: Final = 2**62 - 1
"""Largest integer that the compiler keeps in a register: comparing larger ones takes ten times as long."""

_INTEGER_BYTES: Final = 20
"""Longest 64-bit number. Longer text is not parsed: the time to parse a number grows as its square."""

_ZERO: Final = 48

_SHORT_TEXTS: Final = [b"%d" % number for number in range(1024)]
"""Texts of the most common numbers, shared as in Redis: to look one up takes a quarter of the time to format it."""


def natural(text: bytes) -> "i64":
    """Return the number that up to 18 digits in canonical form are, or -1: the text is none, or another.

    Compiled, this takes a tenth of the instructions of ``isdigit()`` and ``int()``, which are looked up and called.
    """
    size: i64 = len(text)
    if not 0 < size < _INTEGER_BYTES - 1 or (text[0] == _ZERO and size > 1):
        return -1
    number: i64 = 0
    at: i64 = 0
    while at < size:
        digit: i64 = text[at] - _ZERO
        if not 0 <= digit <= 9:
            return -1
        number = number * 10 + digit
        at += 1
    return number


def integer(text: bytes) -> int:
    """Return a 64-bit integer.

    Raises:
        NotANumberError: The text is not one in canonical form: ``+1``, ``01`` and blanks are refused.
    """
    usual = natural(text)
    if usual >= 0:
        return usual
    if len(text) <= _INTEGER_BYTES:
        try:
            number = int(text)
        except ValueError:
            pass
        else:
            if INTEGER_MIN <= number <= INTEGER_MAX and b"%d" % number == text:
                return number
    raise NotANumberError("This is not a whole number of 64 bits.")


def byte_range(size: int, first: int, last: int) -> tuple[int, int]:
    """Return where the bytes between two positions, both included, begin and end; negative ones count from the end."""
    if first < 0 and last < 0 and first > last:
        return 0, 0  # below, both could become 0, and select the first byte
    if first < 0:
        first = max(0, first + size)
    if last < 0:
        last = max(0, last + size)
    return (0, 0) if first > last or first >= size else (first, min(last + 1, size))


class Replace:
    """Store a value."""

    def __init__(self, value: Value) -> None:
        self.value = value

    def __call__(self, _: Value | None) -> Write | None:
        return self.value


class PutIfAbsent:
    """Store a value if the key is absent."""

    def __init__(self, value: Value) -> None:
        self.value = value

    def __call__(self, old: Value | None) -> Write | None:
        return self.value if old is None else None


class PutIfPresent:
    """Store a value if the key is present."""

    def __init__(self, value: Value) -> None:
        self.value = value

    def __call__(self, old: Value | None) -> Write | None:
        return None if old is None else self.value


def always(_: Value | None) -> bool:
    """Return True: a condition."""
    return True


def is_absent(old: Value | None) -> bool:
    """Return whether the key is absent: a condition."""
    return old is None


def is_present(old: Value | None) -> bool:
    """Return whether the key is present: a condition."""
    return old is not None


class IsEqual:
    """A condition: the value is this string. An absent key has none."""

    def __init__(self, string: bytes) -> None:
        self.string = string

    def __call__(self, old: Value | None) -> bool:
        return old is not None and string_of(old) == self.string


class IsUnequal:
    """A condition: the key is absent, or its value another string."""

    def __init__(self, string: bytes) -> None:
        self.string = string

    def __call__(self, old: Value | None) -> bool:
        return old is None or string_of(old) != self.string


class PutIf:
    """Store a value, or delete the key, if a condition holds.

    Args:
        condition: The condition.
        write: The value, or a tombstone.
        keeps_deadline: The value gets the deadline of the old one.
    """

    def __init__(self, condition: Condition, write: Write, *, keeps_deadline: bool = False) -> None:
        self.condition = condition
        self.write = write
        self.keeps_deadline = keeps_deadline

    def __call__(self, old: Value | None) -> Write | None:
        if not self.condition(old):
            return None
        write = self.write
        if self.keeps_deadline and isinstance(old, Record) and not isinstance(write, Tombstone):
            return with_deadline(write, old.deadline_ms)
        return write


class Remove:
    """Delete the key."""

    def __call__(self, old: Value | None) -> Write | None:
        return None if old is None else TOMBSTONE


class Expire:
    """Delete the key if its deadline has been reached at a time, in milliseconds since 1970."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms

    def __call__(self, old: Value | None) -> Write | None:
        return TOMBSTONE if NO_DEADLINE < deadline_of(old) <= self.now_ms else None


class Append:
    """Append bytes to the value, up to a maximum length."""

    def __init__(self, suffix: bytes, max_bytes: int) -> None:
        self.suffix = suffix
        self.max_bytes = max_bytes

    def __call__(self, old: Value | None) -> Write | None:
        before = b"" if old is None else string_of(old)
        _check_length(len(before) + len(self.suffix), self.max_bytes)
        return with_string(old, before + self.suffix)


class Overwrite:
    """Overwrite the bytes from an offset on; a value that ends before it is padded with zero bytes."""

    def __init__(self, offset: int, part: bytes, max_bytes: int) -> None:
        self.offset = offset
        self.part = part
        self.max_bytes = max_bytes

    def __call__(self, old: Value | None) -> Write | None:
        if not self.part:
            return None
        end = self.offset + len(self.part)
        _check_length(end, self.max_bytes)
        before = b"" if old is None else string_of(old)
        gap = bytes(max(0, self.offset - len(before)))
        view = memoryview(before)  # to copy the value only once
        return with_string(old, b"".join((view[: self.offset], gap, self.part, view[end:])))


class Add:
    """Add to an integer; an absent key counts as 0."""

    def __init__(self, amount: int) -> None:
        self.amount = amount

    def __call__(self, old: Value | None) -> Write | None:
        return _sum(old, self.amount)


def add_one(old: Value | None) -> Write | None:
    """Do as ``Add(1)`` does: compiled, a function is called in half of the time, and most counters are short."""
    if isinstance(old, bytes):
        number = natural(old)
        if 0 <= number < len(_SHORT_TEXTS) - 1:
            return _SHORT_TEXTS[number + 1]
    return _sum(old, 1)


ADD_ONE: Final[Update] = add_one
"""A constant: compiled, a function is looked up by its name each time."""


def _sum(old: Value | None, amount: int) -> Write | None:
    number = (0 if old is None else integer(string_of(old))) + amount
    if not (-_REGISTER <= number <= _REGISTER or INTEGER_MIN <= number <= INTEGER_MAX):
        raise OutOfRangeError("The sum would have more than 64 bits.")
    text = _SHORT_TEXTS[number] if 0 <= number < len(_SHORT_TEXTS) else b"%d" % number
    return with_string(old, text)


def _check_length(length: int, max_bytes: int) -> None:
    if length > max_bytes:
        raise TooLongError(f"The value would have {length} bytes; {max_bytes} are allowed.")

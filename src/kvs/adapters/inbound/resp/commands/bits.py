"""Commands about the bits of a value. The first bit is the highest of the first byte; behind the value all are 0."""

from collections.abc import Callable
from functools import partial
from operator import and_, or_, xor
from typing import Final, TypeAlias

from kvs.adapters.inbound.protocol.command import CONTENT, KEY, OTHER, Reply, of_pending_key
from kvs.adapters.inbound.resp import replies
from kvs.adapters.inbound.resp.command import RespCommand
from kvs.adapters.inbound.resp.commands.charged import STORED_BYTES_PER_UNIT, Charged
from kvs.adapters.inbound.resp.context import ClientContext
from kvs.adapters.inbound.resp.wording import c_string
from kvs.domain.errors import NotANumberError, TooLongError, UsageError
from kvs.domain.updates import integer
from kvs.domain.values import Key, Value, Write, string_or_empty, string_or_none, with_string
from kvs.ports.session import COPIED_BYTES_PER_UNIT, Session, Steps, Work

MAX_VALUE_BYTES: Final = 512 << 20
"""Longest value of Redis: bits behind it have no number, whatever fits here."""

STEP_BYTES: Final = 1 << 15
"""Bytes counted, inverted or combined in one step, which takes about 40 us."""

STEP_BITS: Final = 8 * STEP_BYTES
STEP_UNITS: Final = 32
BITS_PER_UNIT: Final = STEP_BITS // STEP_UNITS

BLANKS: Final = (bytes(STEP_BYTES), b"\xff" * STEP_BYTES)
"""Bytes without a 1, and without a 0."""

INVERTED: Final = bytes(range(255, -1, -1))

Combination: TypeAlias = Callable[[int, int], int]

COMBINATIONS: Final[dict[bytes, Combination]] = {b"and": and_, b"or": or_, b"xor": xor}


# Functions of bytes.


def bits_between(value: bytes | bytearray, first: int, last: int) -> int:
    """Return the bits from one position to another, both included, as a number."""
    at, end = first >> 3, (last >> 3) + 1
    part = value[at:end] if at < len(value) else b""
    number = int.from_bytes(part, "big")
    # Each of these copies the number, which may be long.
    if len(part) < end - at:
        number <<= 8 * (end - at - len(part))
    if last & 7 != 7:
        number >>= 7 - (last & 7)
    if first & 7:
        number &= (1 << (last - first + 1)) - 1
    return number


def find_bit(value: bytes, bit: int, first: int, last: int) -> int:
    """Return the position of the first 0 or 1 from one bit to another, both included; -1 if there is none."""
    number = bits_between(value, first, last)
    if bit == 0:
        number ^= (1 << (last - first + 1)) - 1
    return last + 1 - number.bit_length() if number else -1


def bit_range(size_bytes: int, first: int, last: int, *, in_bits: bool) -> tuple[int, int]:
    """Return the first and the last bit between two positions, both included; if there is none, the last is less.

    Args:
        size_bytes: The length of the value.
        first: Position; a negative one counts from the end.
        last: Likewise.
        in_bits: The positions are of bits, not of bytes.
    """
    size = size_bytes * 8 if in_bits else size_bytes
    first = max(0, first + size if first < 0 else first)
    last = min(size - 1, max(0, last + size if last < 0 else last))
    return (first, last) if in_bits else (first * 8, last * 8 + 7)


def count_ones_in_steps(value: bytes, first: int, last: int, work: Work) -> Steps[int]:
    """Return the number of 1s from one bit to another, both included."""
    ones = 0
    while first <= last:
        end = min(last + 1, ((first >> 3) + STEP_BYTES) * 8)
        ones += bits_between(value, first, end - 1).bit_count()
        first = end
        work.left -= STEP_UNITS
        if work.left <= 0:
            yield
    return ones


def find_bit_in_steps(value: bytes, bit: int, first: int, last: int, work: Work) -> Steps[int]:
    """Return the same as :func:`find_bit`."""
    blank = BLANKS[1 - bit]
    while first <= last:
        at = first >> 3
        end = min(last + 1, (at + STEP_BYTES) * 8)
        if value.startswith(blank, at):
            work.left -= STEP_BYTES // COPIED_BYTES_PER_UNIT
        else:
            found = find_bit(value, bit, first, end - 1)
            if found >= 0:
                return found
            work.left -= STEP_UNITS
        first = end
        if work.left <= 0:
            yield
    return -1


class SetBit:
    """Set or clear a bit; a value that ends before it is padded with zero bytes."""

    def __init__(self, offset: int, bit: int) -> None:
        self.offset = offset
        self.bit = bit

    def __call__(self, old: Value | None) -> Write | None:
        value = string_or_empty(old)
        at = self.offset >> 3
        mask = 0x80 >> (self.offset & 7)
        if at >= len(value):
            return with_string(old, b"".join((value, bytes(at - len(value)), bytes((mask * self.bit,)))))
        byte = value[at] | mask if self.bit else value[at] & ~mask
        if byte == value[at]:
            return None
        view = memoryview(value)  # to copy the value only once
        return with_string(old, b"".join((view[:at], bytes((byte,)), view[at + 1 :])))


# Operations.


def combine(combination: Combination, target: Key, sources: list[Key], session: Session) -> Steps[int]:
    """Store what a combination makes of values, padded with zero bytes to the longest; return its length.

    The values are combined one after the other, so that only the result is held.
    """
    work = session.work
    size = 0
    numbers: list[int] = []  # the result, a number for every step
    for position, source in enumerate(sources):
        value = string_or_empty(session.get(source))
        work.held_bytes += max(0, len(value) - size)
        size = max(size, len(value))
        work.left -= 1
        for number in range(-(-size // STEP_BYTES)):
            if work.left <= 0:
                yield
            at = number * STEP_BYTES
            operand = int.from_bytes(value[at : at + STEP_BYTES], "little") if at < len(value) else 0
            work.left -= STEP_UNITS if at < len(value) else 1
            if number == len(numbers):
                numbers.append(0)
            numbers[number] = combination(numbers[number], operand) if position else operand
        if work.left <= 0:
            yield
    pieces: list[bytes] = []
    for number in range(len(numbers)):
        pieces.append(numbers[number].to_bytes(min(STEP_BYTES, size - number * STEP_BYTES), "little"))
        numbers[number] = 0
        work.left -= STEP_UNITS
        if work.left <= 0:
            yield
    _store(session, target, pieces)
    return size


def invert(target: Key, source: Key, session: Session) -> Steps[int]:
    """Store a value with all bits inverted; return its length."""
    work = session.work
    value = string_or_empty(session.get(source))
    work.held_bytes += len(value)
    pieces: list[bytes] = []
    for at in range(0, len(value), STEP_BYTES):
        pieces.append(value[at : at + STEP_BYTES].translate(INVERTED))
        work.left -= STEP_UNITS
        if work.left <= 0:
            yield
    _store(session, target, pieces)
    return len(value)


def _store(session: Session, target: Key, pieces: list[bytes]) -> None:
    """Store a value; an empty one is not kept."""
    if not pieces:
        session.delete(target)
        return
    value = b"".join(pieces)
    session.work.left -= len(value) // STORED_BYTES_PER_UNIT
    session.put(target, value)


# Arguments.


def bit_offset(text: bytes, context: ClientContext, width: int = 0) -> int:
    """Return the position of a bit.

    Args:
        text: The number; if a width is given, ``#`` before it makes it one of fields.
        context: Has the limits.
        width: Bits of a field.

    Raises:
        UsageError: Redis has no such bit.
    """
    scaled = width > 0 and text.startswith(b"#")
    try:
        offset = integer(text[1:]) * width if scaled else integer(text)
    except NotANumberError:
        offset = -1
    if not 0 <= offset < 8 * max(MAX_VALUE_BYTES, context.limits.max_value_bytes):
        raise UsageError("bit offset is not an integer or out of range")
    return offset


def check_extent(last_bit: int, context: ClientContext) -> None:
    """Check the length of a value before it is extended to have a bit.

    Raises:
        TooLongError: It would be longer than allowed.
    """
    size_bytes = (last_bit >> 3) + 1
    if size_bytes > context.limits.max_value_bytes:
        raise TooLongError(f"The value would have {size_bytes} bytes; {context.limits.max_value_bytes} are allowed.")


def _is_in_bits(unit: bytes) -> bool:
    """Return whether the positions of a range are of bits, not of bytes."""
    word = c_string(unit).lower()
    if word not in (b"bit", b"byte"):
        raise UsageError("syntax error")
    return word == b"bit"


# Handlers.


def _setbit(session: Session, context: ClientContext, arguments: list[bytes]) -> Reply:
    offset = bit_offset(arguments[2], context)
    if arguments[3] not in (b"0", b"1"):
        raise UsageError("bit is not an integer or out of range")
    check_extent(offset, context)
    bit = SetBit(offset, 1 if arguments[3] == b"1" else 0)
    change = Charged(bit, session.work, (offset >> 3) + 1)
    old, _ = session.update(arguments[1], change)
    if change.postponed:
        return _setbit_later(session, arguments[1], change, offset)
    return replies.number(bits_between(string_or_empty(old), offset, offset))


def _setbit_later(session: Session, key: Key, change: Charged, offset: int) -> Steps[bytes]:
    yield from change.next_share()
    old, _ = session.update(key, change)
    return replies.number(bits_between(string_or_empty(old), offset, offset))


def _getbit(session: Session, context: ClientContext, arguments: list[bytes]) -> bytes:
    offset = bit_offset(arguments[2], context)
    return replies.number(bits_between(string_or_empty(session.get(arguments[1])), offset, offset))


def _bitcount(session: Session, _: ClientContext, arguments: list[bytes]) -> Reply:
    value = string_or_none(session.get(arguments[1]))
    if value is None:
        return replies.ZERO  # whatever else is asked for, as in Redis 7.0
    if len(arguments) == 2:
        first, last = 0, len(value) * 8 - 1
    elif len(arguments) in (4, 5):
        first, last = integer(arguments[2]), integer(arguments[3])
        if first < 0 and last < 0 and first > last:
            return replies.ZERO
        in_bits = len(arguments) == 5 and _is_in_bits(arguments[4])
        first, last = bit_range(len(value), first, last, in_bits=in_bits)
    else:
        raise UsageError("syntax error")
    if last - first >= STEP_BITS:
        return _number(count_ones_in_steps(value, first, last, session.work))
    session.work.left -= max(0, last - first) // BITS_PER_UNIT
    return replies.number(bits_between(value, first, last).bit_count() if first <= last else 0)


def _bitpos(session: Session, _: ClientContext, arguments: list[bytes]) -> Reply:
    bit = integer(arguments[2])
    if bit not in (0, 1):
        raise UsageError("The bit argument must be 1 or 0.")
    value = string_or_none(session.get(arguments[1]))
    if value is None:
        return replies.number(-bit)
    if len(arguments) > 6:
        raise UsageError("syntax error")
    first = integer(arguments[3]) if len(arguments) > 3 else 0
    in_bits = len(arguments) == 6 and _is_in_bits(arguments[5])
    last = integer(arguments[4]) if len(arguments) > 4 else -1
    first, last = bit_range(len(value), first, last, in_bits=in_bits)
    if first > last:
        return replies.number(-1)
    # Without an end, the zeros behind the value count.
    missing = len(value) * 8 if bit == 0 and len(arguments) < 5 else -1
    if last - first >= STEP_BITS:
        return _number(find_bit_in_steps(value, bit, first, last, session.work), missing)
    session.work.left -= (last - first) // BITS_PER_UNIT
    found = find_bit(value, bit, first, last)
    return replies.number(found if found >= 0 else missing)


def _number(steps: Steps[int], missing: int = -1) -> Steps[bytes]:
    """Return the reply that has a number, or for -1 another one."""
    found = yield from steps
    return replies.number(missing if found < 0 else found)


def _bitop(session: Session, _: ClientContext, arguments: list[bytes]) -> Steps[bytes]:
    name, target, sources = c_string(arguments[1]).lower(), arguments[2], arguments[3:]
    if name == b"not":
        if len(sources) != 1:
            raise UsageError("BITOP NOT must be called with a single source key.")
        operation = partial(invert, target, sources[0])
    elif name in COMBINATIONS:
        operation = partial(combine, COMBINATIONS[name], target, sources)
    else:
        raise UsageError("syntax error")
    size = yield from session.transact(operation)
    return replies.number(size)


COMMANDS: Final[list[RespCommand]] = [
    RespCommand("setbit", _setbit, (KEY, OTHER, CONTENT), is_local=of_pending_key),
    RespCommand("getbit", _getbit, (KEY, OTHER), is_local=of_pending_key),
    RespCommand("bitcount", _bitcount, (KEY, OTHER), 1, is_local=of_pending_key),
    RespCommand("bitpos", _bitpos, (KEY, OTHER), 1, is_local=of_pending_key),
    RespCommand("bitop", _bitop, (OTHER, KEY, KEY), 1),
]

"""Cuts common requests out of input in RESP for the fast path: in registers, without a list of arguments."""

from typing import TYPE_CHECKING, Final

from kvs.adapters.inbound.resp.limits import ARGUMENT_OVERHEAD_BYTES, RespLimits
from kvs.adapters.inbound.resp.parser import ARRAY, BULK, CR, LF, NINE, ZERO
from kvs.domain.values import Value

if TYPE_CHECKING:
    from mypy_extensions import i64  # an int in a register, to the compiler

SHORTEST_BULK_BYTES: Final = 6

LIFETIME_BYTES: Final = 15
"""Length of EX or PX with a number of one digit."""

MAX_AMOUNT_BYTES: Final = 12
"""Longest number of seconds or milliseconds: no deadline exceeds its maximum."""

LONGEST_QUEUE: Final = 32
"""Maximum number of SETs between MULTI and EXEC."""

QUEUED_BYTES: Final = 16 * ARGUMENT_OVERHEAD_BYTES
"""More than a SET takes in a queue and in a transaction, on top of its bytes."""

HEADER_BYTES: Final = 8
"""Length of ``*3 $3`` with CRLFs: what announces the number of arguments, and of letters in the name."""

MULTI: Final = b"multi"
SET: Final = b"set"
MSET: Final = b"mset"
EXEC: Final = b"exec"

ONE: Final = 49
TWO: Final = 50
THREE: Final = 51
FOUR: Final = 52
SMALL: Final = 32  # makes an ASCII letter lower case
E: Final = 101
P: Final = 112
X: Final = 120


def cut_bulk(data: bytes, at: "i64", size: "i64", max_bytes: "i64") -> "tuple[i64, i64]":
    """Return where the content of a bulk string begins and ends; (0, 0) if it is incomplete, invalid or too long."""
    if at + SHORTEST_BULK_BYTES > size or data[at] != BULK:
        return 0, 0
    length: i64 = data[at + 1] - ZERO
    begin: i64 = at + 2
    byte: i64 = data[begin]
    if not 0 <= length <= 9:
        return 0, 0
    while byte != CR:
        if not ZERO <= byte <= NINE or length == 0 or length > max_bytes or begin + 1 >= size:
            return 0, 0
        length = length * 10 + byte - ZERO
        begin += 1
        byte = data[begin]
    end: i64 = begin + 2 + length
    if length > max_bytes or end + 2 > size or data[begin + 1] != LF or data[end] != CR or data[end + 1] != LF:
        return 0, 0
    return begin + 2, end


def cut_deadline(data: bytes, at: "i64", size: "i64", now_ms: "i64") -> "tuple[i64, i64]":
    """Return the deadline that EX or PX sets, and where its number ends; (0, 0) if there is anything else."""
    if not (
        at + LIFETIME_BYTES <= size
        and data[at] == BULK
        and data[at + 1] == TWO
        and data[at + 2] == CR
        and data[at + 3] == LF
        and data[at + 5] | SMALL == X
        and data[at + 6] == CR
        and data[at + 7] == LF
    ):
        return 0, 0
    unit_ms: i64 = 1
    letter: i64 = data[at + 4] | SMALL
    if letter == E:
        unit_ms = 1000
    elif letter != P:
        return 0, 0
    begin, end = cut_bulk(data, at + 8, size, MAX_AMOUNT_BYTES)
    if end == 0 or data[begin] == ZERO:
        return 0, 0
    amount: i64 = 0
    while begin < end:
        digit: i64 = data[begin]
        if not ZERO <= digit <= NINE:
            return 0, 0
        amount = amount * 10 + digit - ZERO
        begin += 1
    if amount == 0:
        return 0, 0
    return now_ms + amount * unit_ms, end


def cut_pairs(
    data: bytes, start: "i64", limits: RespLimits, keys: list[bytes], values: list[Value]
) -> "tuple[i64, i64]":
    """Cut out an MSET; return where its last value ends, and the number of pairs. (0, 0) if there is anything else.

    Args:
        data: Input in which a request of one digit or two of arguments may begin at ``start``.
        start: Where to begin.
        limits: Limits of keys, values and requests.
        keys: Where the keys are appended.
        values: Where the values are appended.
    """
    size: i64 = len(data)
    arguments: i64 = data[start + 1] - ZERO
    header: i64 = start
    if data[start + 2] != CR:
        digit: i64 = data[start + 2] - ZERO
        if not 0 <= digit <= 9:
            return 0, 0
        arguments = arguments * 10 + digit
        header += 1
    if not 1 <= data[start + 1] - ZERO <= 9 or arguments == 1 or arguments % 2 == 0:
        return 0, 0
    if not (announces_name(data, header, FOUR) and spells(data, header + HEADER_BYTES, MSET)):
        return 0, 0
    pairs: i64 = arguments // 2
    left: i64 = pairs
    end: i64 = header + HEADER_BYTES + len(MSET)
    max_key: i64 = limits.max_key_bytes
    max_value: i64 = limits.max_value_bytes
    while left > 0:
        begin, end = cut_bulk(data, end + 2, size, max_key)
        if end <= begin:
            return 0, 0
        keys.append(data[begin:end])
        begin, end = cut_bulk(data, end + 2, size, max_value)
        if end == 0:
            return 0, 0
        values.append(data[begin:end])
        left -= 1
    if arguments > limits.max_arguments or end - start + arguments * ARGUMENT_OVERHEAD_BYTES > limits.max_request_bytes:
        return 0, 0  # whether it fits has to be looked at more closely
    return end, pairs


def cut_queue(data: bytes, start: "i64", limits: RespLimits, entries: dict[bytes, Value]) -> "tuple[i64, i64]":
    """Cut out MULTI, SETs and EXEC; return where that ends, and the number of SETs. (0, 0) if there is anything else.

    Args:
        data: Input in which a request with a name of five letters and no arguments begins at ``start``.
        start: Where to begin.
        limits: Limits of keys, values and queues.
        entries: Where the values that are set are stored, by key.
    """
    name: i64 = start + HEADER_BYTES
    if not spells(data, name, MULTI):
        return 0, 0
    size: i64 = len(data)
    first: i64 = name + len(MULTI) + 2
    at: i64 = first
    queued: i64 = 0
    while is_header(data, at, THREE, THREE) and spells(data, at + HEADER_BYTES, SET) and queued < LONGEST_QUEUE:
        begin, end = cut_bulk(data, at + HEADER_BYTES + len(SET) + 2, size, limits.max_key_bytes)
        if end <= begin:
            return 0, 0
        key = data[begin:end]
        begin, end = cut_bulk(data, end + 2, size, limits.max_value_bytes)
        if end == 0:
            return 0, 0
        entries[key] = data[begin:end]
        queued += 1
        at = end + 2
    if queued == 0 or not (is_header(data, at, ONE, FOUR) and spells(data, at + HEADER_BYTES, EXEC)):
        return 0, 0
    if at - first + queued * QUEUED_BYTES > limits.max_transaction_bytes:
        return 0, 0  # whether it fits has to be looked at more closely
    return at + HEADER_BYTES + len(EXEC) + 2, queued


def is_header(data: bytes, at: "i64", arguments: "i64", letters: "i64") -> bool:
    """Return whether a request begins here that announces so many arguments, and letters in its name, as digits."""
    return (
        at + HEADER_BYTES <= len(data)
        and data[at] == ARRAY
        and data[at + 1] == arguments
        and announces_name(data, at, letters)
    )


def announces_name(data: bytes, at: "i64", letters: "i64") -> bool:
    """Return whether the rest of such a header follows the number of arguments; none of it may be missing."""
    return (
        data[at + 2] == CR
        and data[at + 3] == LF
        and data[at + 4] == BULK
        and data[at + 5] == letters
        and data[at + 6] == CR
        and data[at + 7] == LF
    )


def spells(data: bytes, at: "i64", name: bytes) -> bool:
    """Return whether a name, given in small letters, is here in any letters, with CRLF behind it."""
    letters: i64 = len(name)
    if at + letters + 2 > len(data):
        return False
    letter: i64 = 0
    while letter < letters:
        if data[at + letter] | SMALL != name[letter]:
            return False
        letter += 1
    return data[at + letters] == CR and data[at + letters + 1] == LF

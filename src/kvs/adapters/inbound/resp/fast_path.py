"""The fast path of the compiled build: GET, INCR, SET, WATCH of a key, and MULTI, SET, EXEC that arrive together.

A SET may have EX or PX after its value.

They are run straight from the input. It stops at the first other or incomplete request.
"""

from typing import TYPE_CHECKING, Final

from kvs.adapters.inbound.protocol.messages import is_fatal
from kvs.adapters.inbound.protocol.statistics import NS_PER_S, CommandFigures
from kvs.adapters.inbound.resp import replies
from kvs.adapters.inbound.resp.figures import FastPathFigures
from kvs.adapters.inbound.resp.limits import ARGUMENT_OVERHEAD_BYTES, RespLimits
from kvs.adapters.inbound.resp.parser import ARRAY, BULK, CR, LF, NINE, ZERO
from kvs.adapters.inbound.resp.replies import ARRAY_HEADERS, BULK_HEADERS, CRLF, QUEUED, SHORT, RespVersion
from kvs.domain.commit import Committed
from kvs.domain.errors import KvsError
from kvs.domain.updates import Add
from kvs.domain.values import Record, Value, string_of, string_or_none
from kvs.ports.session import Session

if TYPE_CHECKING:
    from mypy_extensions import i64  # an int in a register, to the compiler

SHORTEST_BYTES: Final = 20
"""Length of GET with a key of one byte."""

SHORTEST_BULK_BYTES: Final = 6
MULTI_BYTES: Final = 15
EXEC_BYTES: Final = 14

LIFETIME_BYTES: Final = 15
"""Length of EX or PX with a number of one digit."""

MAX_AMOUNT_BYTES: Final = 12
"""Longest number of seconds or milliseconds: no deadline exceeds its maximum."""

LONGEST_QUEUE: Final = 32
"""Maximum number of SETs between MULTI and EXEC."""

QUEUED_BYTES: Final = 16 * ARGUMENT_OVERHEAD_BYTES
"""More than a SET takes in a queue and in a transaction, on top of its bytes."""

ONE: Final = 49
TWO: Final = 50
THREE: Final = 51
FOUR: Final = 52
FIVE: Final = 53
SMALL: Final = 32  # makes an ASCII letter lower case
A: Final = 97
C: Final = 99
E: Final = 101
G: Final = 103
H: Final = 104
LETTER_I: Final = 105
LETTER_L: Final = 108
M: Final = 109
N: Final = 110
P: Final = 112
R: Final = 114
S: Final = 115
T: Final = 116
U: Final = 117
W: Final = 119
X: Final = 120

GET: Final = b"get"
SET: Final = b"set"
INCR: Final = b"incr"
WATCH: Final = b"watch"
EXEC: Final = b"exec"

ADD_ONE: Final = Add(1)


def may_apply(data: bytes, at: "i64") -> bool:
    """Return whether it is worth trying: the name of the command has three to five letters."""
    return len(data) - at >= SHORTEST_BYTES and THREE <= data[at + 5] <= FIVE


def run(
    data: bytes,
    start: "i64",
    session: Session,
    limits: RespLimits,
    protocol: RespVersion,
    figures: FastPathFigures,
    out: list[bytes],
    max_requests: int,
    max_out_bytes: int,
) -> "tuple[i64, i64, i64, bool, bytes]":
    """Run requests up to the first other one.

    Args:
        data: Input in which a request begins at ``start``, unless it ends there.
        start: Where to begin.
        session: The client's session.
        limits: Limits of keys, values and queues.
        protocol: The version of the protocol.
        figures: Where requests are counted.
        out: Where replies are appended, in any number of pieces.
        max_requests: Maximum number of requests; one more queue may be run.
        max_out_bytes: Length of replies after which to stop.

    Returns:
        Where it stopped, the number of requests run, the length of their replies, whether the last of them ended the
        connection, and its name.
    """
    out_bytes: i64 = 0
    room: i64 = max_out_bytes
    share: i64 = max_requests
    done: i64 = 0
    size: i64 = len(data)
    at: i64 = start
    max_key: i64 = limits.max_key_bytes
    max_value: i64 = limits.max_value_bytes
    null = protocol.null
    closing = False
    name = last = b""
    gets: i64 = 0
    sets: i64 = 0
    incrs: i64 = 0
    queues: i64 = 0
    began_s = figures.timer()
    while size - at >= SHORTEST_BYTES and done < share and out_bytes < room and not closing:
        if not (
            data[at] == ARRAY
            and data[at + 2] == CR
            and data[at + 3] == LF
            and data[at + 4] == BULK
            and data[at + 6] == CR
            and data[at + 7] == LF
        ):
            break
        letters: i64 = data[at + 5] - ZERO
        arguments: i64 = data[at + 1]
        if letters == 3 and data[at + 9] | SMALL == E and data[at + 10] | SMALL == T:
            if arguments == TWO and data[at + 8] | SMALL == G:
                name = GET
            elif arguments in (THREE, FIVE) and data[at + 8] | SMALL == S:
                name = SET
            else:
                break
        elif (
            letters == 4
            and arguments == TWO
            and data[at + 8] | SMALL == LETTER_I
            and data[at + 9] | SMALL == N
            and data[at + 10] | SMALL == C
            and data[at + 11] | SMALL == R
        ):
            name = INCR
        elif (
            letters == 5
            and arguments == TWO
            and data[at + 8] | SMALL == W
            and data[at + 9] | SMALL == A
            and data[at + 10] | SMALL == T
            and data[at + 11] | SMALL == C
            and data[at + 12] | SMALL == H
        ):
            name = WATCH
        elif letters == 5 and arguments == ONE and _is_multi(data, at) and not session.depth:
            entries: dict[bytes, Value] = {}
            end, queued = _queue(data, at + MULTI_BYTES, size, limits, entries)
            if end == 0:
                break
            at = end
            done += queued + 2
            queues += 1
            sets += queued
            last = EXEC
            reply = replies.OK + QUEUED * queued
            out.append(reply)
            out_bytes += len(reply)
            try:
                if isinstance(session.execute_put_all(entries), Committed):
                    reply = ARRAY_HEADERS[queued] + replies.OK * queued
                else:
                    reply = protocol.null_array
            except KvsError as error:
                reply = replies.error(error)
                closing = is_fatal(error)
                figures.failed(figures.exec, reply)
            out.append(reply)
            out_bytes += len(reply)
            continue
        else:
            break
        begin: i64 = at + 8 + letters
        if data[begin] != CR or data[begin + 1] != LF:
            break
        begin, end = _bulk(data, begin + 2, size, max_key)
        if end <= begin:
            break
        key = data[begin:end]
        try:
            if name is GET:
                gets += 1
                found = session.get(key)
                value = found if found is None or isinstance(found, bytes) else string_of(found)
                if value is None:
                    out.append(null)
                    out_bytes += len(null)
                else:
                    length: i64 = len(value)
                    if length < SHORT:
                        reply = b"%b%b\r\n" % (BULK_HEADERS[length], value)
                        out.append(reply)
                        out_bytes += len(reply)
                    else:  # in pieces, because it is copied again when replies are joined, or not at all
                        reply = b"$%d\r\n" % length
                        out.append(reply)
                        out.append(value)
                        out.append(CRLF)
                        out_bytes += len(reply) + length + 2
            elif name is SET:
                begin, end = _bulk(data, end + 2, size, max_value)
                if end == 0:
                    break
                if arguments == THREE:
                    sets += 1
                    session.put(key, data[begin:end])
                else:
                    deadline_ms, stop = _deadline(data, end + 2, size, session.now_ms)
                    if stop == 0:
                        break
                    record = Record(data[begin:end], deadline_ms)
                    end = stop
                    sets += 1
                    session.put(key, record)
                out.append(replies.OK)
                out_bytes += 5
            elif name is INCR:
                incrs += 1
                number = string_or_none(session.update(key, ADD_ONE)[1])
                if number is not None:
                    out.append(b":%b\r\n" % number)
                    out_bytes += len(number) + 3
            else:
                session.watch([key])
                out.append(replies.OK)
                out_bytes += 5
        except KvsError as error:
            reply = replies.error(error)
            out.append(reply)
            out_bytes += len(reply)
            closing = is_fatal(error)
            figures.failed(_figures_of(name, figures), reply)
        at = end + 2
        done += 1
        last = name
    if done:
        elapsed_ns: i64 = int((figures.timer() - began_s) * NS_PER_S)
        watches: i64 = done - gets - sets - incrs - 2 * queues
        figures.add(elapsed_ns // done, gets, sets, incrs, watches, queues)
    return at, done, out_bytes, closing, last


def _figures_of(name: bytes, figures: FastPathFigures) -> CommandFigures:
    if name is GET:
        return figures.get
    if name is SET:
        return figures.set
    return figures.incr if name is INCR else figures.watch


def _bulk(data: bytes, at: "i64", size: "i64", max_bytes: "i64") -> "tuple[i64, i64]":
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


def _deadline(data: bytes, at: "i64", size: "i64", now_ms: "i64") -> "tuple[i64, i64]":
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
    begin, end = _bulk(data, at + 8, size, MAX_AMOUNT_BYTES)
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


def _queue(
    data: bytes, start: "i64", size: "i64", limits: RespLimits, entries: dict[bytes, Value]
) -> "tuple[i64, i64]":
    """Cut out SETs up to EXEC; return where that ends, and their number. (0, 0) if there is anything else."""
    at: i64 = start
    queued: i64 = 0
    while size - at >= SHORTEST_BYTES and _is_set(data, at) and queued < LONGEST_QUEUE:
        begin, end = _bulk(data, at + 13, size, limits.max_key_bytes)
        if end <= begin:
            return 0, 0
        key = data[begin:end]
        begin, end = _bulk(data, end + 2, size, limits.max_value_bytes)
        if end == 0:
            return 0, 0
        entries[key] = data[begin:end]
        queued += 1
        at = end + 2
    if queued == 0 or size - at < EXEC_BYTES or not _is_exec(data, at):
        return 0, 0
    if at - start + queued * QUEUED_BYTES > limits.max_transaction_bytes:
        return 0, 0  # whether it fits has to be looked at more closely
    return at + EXEC_BYTES, queued


def _is_multi(data: bytes, at: "i64") -> bool:
    """Return whether the name of five letters in a request without arguments is MULTI."""
    return (
        data[at + 8] | SMALL == M
        and data[at + 9] | SMALL == U
        and data[at + 10] | SMALL == LETTER_L
        and data[at + 11] | SMALL == T
        and data[at + 12] | SMALL == LETTER_I
        and data[at + 13] == CR
        and data[at + 14] == LF
    )


def _is_set(data: bytes, at: "i64") -> bool:
    """Return whether a SET with two arguments begins here."""
    return (
        data[at] == ARRAY
        and data[at + 1] == THREE
        and data[at + 2] == CR
        and data[at + 3] == LF
        and data[at + 4] == BULK
        and data[at + 5] == THREE
        and data[at + 6] == CR
        and data[at + 7] == LF
        and data[at + 8] | SMALL == S
        and data[at + 9] | SMALL == E
        and data[at + 10] | SMALL == T
        and data[at + 11] == CR
        and data[at + 12] == LF
    )


def _is_exec(data: bytes, at: "i64") -> bool:
    """Return whether EXEC is here."""
    return (
        data[at] == ARRAY
        and data[at + 1] == ONE
        and data[at + 2] == CR
        and data[at + 3] == LF
        and data[at + 4] == BULK
        and data[at + 5] == FOUR
        and data[at + 6] == CR
        and data[at + 7] == LF
        and data[at + 8] | SMALL == E
        and data[at + 9] | SMALL == X
        and data[at + 10] | SMALL == E
        and data[at + 11] | SMALL == C
        and data[at + 12] == CR
        and data[at + 13] == LF
    )

"""The fast path of the compiled build: GET, INCR, SET, MSET, WATCH of a key, and MULTI, SET, EXEC that arrive together.

A SET may have EX or PX after its value.

They are run straight from the input. It stops at the first other or incomplete request.
"""

from typing import TYPE_CHECKING, Final

from kvs.adapters.inbound.protocol.messages import is_fatal
from kvs.adapters.inbound.protocol.statistics import CommandFigures
from kvs.adapters.inbound.resp import replies
from kvs.adapters.inbound.resp.cutting import (
    EXEC,
    FOUR,
    LONGEST_QUEUE,
    MSET,
    ONE,
    SET,
    SMALL,
    THREE,
    TWO,
    E,
    cut_bulk,
    cut_deadline,
    cut_pairs,
    cut_queue,
    spells,
)
from kvs.adapters.inbound.resp.figures import RespFigures
from kvs.adapters.inbound.resp.limits import RespLimits
from kvs.adapters.inbound.resp.parser import ARRAY, BULK, CR, LF, ZERO
from kvs.adapters.inbound.resp.replies import ARRAY_HEADERS, BULK_HEADERS, CRLF, NUMBERS, OK, QUEUED, SHORT, RespVersion
from kvs.domain.commit import Committed
from kvs.domain.errors import KvsError
from kvs.domain.updates import ADD_ONE, natural
from kvs.domain.values import Record, Value, string_of, string_or_none
from kvs.ports.session import Session

if TYPE_CHECKING:
    from mypy_extensions import i64  # an int in a register, to the compiler

SHORTEST_BYTES: Final = 20
"""Length of GET with a key of one byte."""

FIVE: Final = 53
C: Final = 99
G: Final = 103
LETTER_I: Final = 105
M: Final = 109
N: Final = 110
R: Final = 114
S: Final = 115
T: Final = 116

GET: Final = b"get"
INCR: Final = b"incr"
WATCH: Final = b"watch"

QUEUED_REPLIES: Final = [OK + QUEUED * count for count in range(LONGEST_QUEUE + 1)]
"""The replies to MULTI and so many SETs."""

COMMITTED_REPLIES: Final = [
    QUEUED_REPLIES[count] + ARRAY_HEADERS[count] + OK * count for count in range(LONGEST_QUEUE + 1)
]
"""The same with the reply to EXEC if all of them have been set."""


def may_apply(data: bytes, at: "i64") -> bool:
    """Return whether it is worth trying: a name of three to five letters, or one of four and many arguments."""
    if len(data) - at < SHORTEST_BYTES:
        return False
    return THREE <= data[at + 5] <= FIVE or (data[at + 5] == BULK and data[at + 6] == FOUR)


def run(
    data: bytes,
    start: "i64",
    session: Session,
    limits: RespLimits,
    protocol: RespVersion,
    figures: RespFigures,
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
    msets: i64 = 0
    incrs: i64 = 0
    queues: i64 = 0
    began_s = figures.timer()
    while size - at >= SHORTEST_BYTES and done < share and out_bytes < room and not closing:
        is_long = data[at + 2] != CR  # of two digits of arguments, if it is a request
        if data[at] != ARRAY or not (
            is_long or (data[at + 3] == LF and data[at + 4] == BULK and data[at + 6] == CR and data[at + 7] == LF)
        ):
            break
        letters: i64 = data[at + 5] - ZERO
        arguments: i64 = data[at + 1]
        if is_long or (letters == 4 and arguments != TWO and data[at + 8] | SMALL == M):
            keys: list[bytes] = []
            values: list[Value] = []
            end, pairs = cut_pairs(data, at, limits, keys, values)
            if end == 0:
                break
            name = MSET
        elif letters == 3 and data[at + 9] | SMALL == E and data[at + 10] | SMALL == T:
            if arguments == TWO and data[at + 8] | SMALL == G:
                name = GET
            elif data[at + 8] | SMALL == S and (
                arguments == THREE or (arguments == FIVE and limits.max_arguments >= 5)
            ):
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
        elif letters == 5 and arguments == TWO and spells(data, at + 8, WATCH):
            name = WATCH
        elif letters == 5 and arguments == ONE and not session.depth:
            entries: dict[bytes, Value] = {}
            end, queued = cut_queue(data, at, limits, entries)
            if end == 0:
                break
            at = end
            done += queued + 2
            queues += 1
            sets += queued
            last = EXEC
            try:
                if isinstance(session.execute_put_all(entries), Committed):
                    reply = COMMITTED_REPLIES[queued]
                else:
                    reply = QUEUED_REPLIES[queued] + protocol.null_array
            except KvsError as error:
                reply = replies.error(error)
                closing = is_fatal(error)
                figures.failed(figures.exec, replies.error_code(reply))
                reply = QUEUED_REPLIES[queued] + reply
            out.append(reply)
            out_bytes += len(reply)
            continue
        else:
            break
        if name is not MSET:
            begin: i64 = at + 8 + letters
            if data[begin] != CR or data[begin + 1] != LF:
                break
            begin, end = cut_bulk(data, begin + 2, size, max_key)
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
                begin, end = cut_bulk(data, end + 2, size, max_value)
                if end == 0:
                    break
                if arguments == THREE:
                    sets += 1
                    session.put(key, data[begin:end])
                else:
                    deadline_ms, stop = cut_deadline(data, end + 2, size, session.now_ms)
                    if stop == 0:
                        break
                    record = Record(data[begin:end], deadline_ms)
                    end = stop
                    sets += 1
                    session.put(key, record)
                out.append(OK)
                out_bytes += 5
            elif name is MSET:
                msets += 1
                share -= pairs
                session.put_all(keys, values)
                out.append(OK)
                out_bytes += 5
            elif name is INCR:
                incrs += 1
                number = string_or_none(session.update(key, ADD_ONE)[1])
                if number is not None:
                    count = natural(number)  # to look up a reply takes half as long as to format it
                    reply = NUMBERS[count] if 0 <= count < SHORT else b":%b\r\n" % number
                    out.append(reply)
                    out_bytes += len(reply)
            else:
                session.watch([key])
                out.append(OK)
                out_bytes += 5
        except KvsError as error:
            reply = replies.error(error)
            out.append(reply)
            out_bytes += len(reply)
            closing = is_fatal(error)
            figures.failed(_figures_of(name, figures), replies.error_code(reply))
        at = end + 2
        done += 1
        last = name
    if done:
        watches: i64 = done - gets - sets - msets - incrs - 2 * queues
        figures.add(began_s, done, gets, sets, msets, incrs, watches, queues)
    return at, done, out_bytes, closing, last


def _figures_of(name: bytes, figures: RespFigures) -> CommandFigures:
    if name is GET:
        return figures.get
    if name is SET:
        return figures.set
    if name is MSET:
        return figures.mset
    return figures.incr if name is INCR else figures.watch

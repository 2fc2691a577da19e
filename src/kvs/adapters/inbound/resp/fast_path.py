"""The fast path of the compiled build: GET, INCR, and SET without options, run straight from the input.

It stops at the first other or incomplete request.
"""

from typing import TYPE_CHECKING, Final

from kvs.adapters.inbound.protocol.messages import is_fatal
from kvs.adapters.inbound.resp import replies
from kvs.adapters.inbound.resp.limits import RespLimits
from kvs.adapters.inbound.resp.parser import ARRAY, BULK, CR, LF, NINE, ZERO
from kvs.adapters.inbound.resp.replies import BULK_HEADERS, CRLF, SHORT
from kvs.domain.errors import KvsError
from kvs.domain.updates import Add
from kvs.ports.session import Session

if TYPE_CHECKING:
    from mypy_extensions import i64  # an int in a register, to the compiler

SHORTEST_BYTES: Final = 20
"""Length of GET with a key of one byte."""

TWO: Final = 50
THREE: Final = 51
FOUR: Final = 52
SMALL: Final = 32  # makes an ASCII letter lower case
C: Final = 99
E: Final = 101
G: Final = 103
LETTER_I: Final = 105
N: Final = 110
R: Final = 114
S: Final = 115
T: Final = 116


GET: Final = b"get"
SET: Final = b"set"
INCR: Final = b"incr"

ADD_ONE: Final = Add(1)


def may_apply(data: bytes, at: "i64") -> bool:
    """Return whether it is worth trying: the name of the command has three or four letters."""
    return len(data) - at >= SHORTEST_BYTES and THREE <= data[at + 5] <= FOUR


def run(
    data: bytes,
    start: "i64",
    session: Session,
    limits: RespLimits,
    null: bytes,
    out: list[bytes],
    max_requests: int,
    max_out_bytes: int,
) -> "tuple[i64, i64, i64, bool, bytes]":
    """Run requests up to the first other one.

    Args:
        data: Input in which a request begins at ``start``, unless it ends there.
        start: Where to begin.
        session: The client's session.
        limits: Limits of keys and values.
        null: The reply to GET of an absent key.
        out: Where replies are appended, in any number of pieces.
        max_requests: Maximum number of requests.
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
    byte: i64 = 0
    closing = False
    name = last = b""
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
        begin: i64 = at + 14
        if data[at + 5] == THREE and data[at + 9] | SMALL == E and data[at + 10] | SMALL == T:
            if data[at + 1] == TWO and data[at + 8] | SMALL == G:
                name = GET
            elif data[at + 1] == THREE and data[at + 8] | SMALL == S:
                name = SET
            else:
                break
        elif (
            data[at + 1] == TWO
            and data[at + 5] == FOUR
            and data[at + 8] | SMALL == LETTER_I
            and data[at + 9] | SMALL == N
            and data[at + 10] | SMALL == C
            and data[at + 11] | SMALL == R
        ):
            name = INCR
            begin = at + 15
        else:
            break
        if data[begin - 3] != CR or data[begin - 2] != LF or data[begin - 1] != BULK:
            break
        first: i64 = begin
        # The last byte of input, where any of this may end, is never after an announced length.
        length: i64 = 0
        byte = data[begin]
        while ZERO <= byte <= NINE and length <= max_key and begin < size - 1:
            length = length * 10 + byte - ZERO
            begin += 1
            byte = data[begin]
        end: i64 = begin + 2 + length
        if byte != CR or not 0 < length <= max_key or data[first] == ZERO or end + 2 > size:
            break
        if data[begin + 1] != LF or data[end] != CR or data[end + 1] != LF:
            break
        key = data[begin + 2 : end]
        try:
            if name is GET:
                value = session.get(key)
                if value is None:
                    out.append(null)
                    out_bytes += len(null)
                else:
                    length = len(value)
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
            elif name is INCR:
                number = session.update(key, ADD_ONE)[1]
                if number is not None:
                    out.append(b":%b\r\n" % number)
                    out_bytes += len(number) + 3
            else:
                begin = end + 2
                if begin >= size or data[begin] != BULK:
                    break
                length = 0
                begin += 1
                first = begin
                if begin >= size:
                    break
                byte = data[begin]
                while ZERO <= byte <= NINE and length <= max_value and begin < size - 1:
                    length = length * 10 + byte - ZERO
                    begin += 1
                    byte = data[begin]
                end = begin + 2 + length
                if byte != CR or begin == first or length > max_value or end + 2 > size:
                    break
                if data[first] == ZERO and begin - first > 1:
                    break
                if data[begin + 1] != LF or data[end] != CR or data[end + 1] != LF:
                    break
                session.put(key, data[begin + 2 : end])
                out.append(replies.OK)
                out_bytes += 5
        except KvsError as error:
            reply = replies.error(error)
            out.append(reply)
            out_bytes += len(reply)
            closing = is_fatal(error)
        at = end + 2
        done += 1
        last = name
    return at, done, out_bytes, closing, last

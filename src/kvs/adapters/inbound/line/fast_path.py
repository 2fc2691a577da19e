"""The fast path of the compiled build: the most common requests, run straight from the input, byte by byte.

It creates neither lines nor lists of words. It runs plain GET, PUT and commands without arguments, and stops at the
first other line. The commands are in :mod:`kvs.adapters.inbound.line.commands`.
"""

from typing import TYPE_CHECKING, Final

from kvs.adapters.inbound.line import replies
from kvs.adapters.inbound.line.commands import LONGEST_NO_ARGUMENT_LINE_BYTES, get, run_no_argument_line
from kvs.adapters.inbound.line.figures import LineFigures
from kvs.adapters.inbound.line.limits import LineLimits
from kvs.adapters.inbound.line.replies import is_utf8
from kvs.adapters.inbound.protocol.messages import is_fatal
from kvs.adapters.inbound.protocol.statistics import CommandFigures
from kvs.domain.errors import KvsError
from kvs.ports.session import Session

if TYPE_CHECKING:
    from mypy_extensions import i64  # an int in a register, to the compiler

SCANNED_BYTES: Final = 128
"""Bytes of a value that are scanned one by one for its end, 1 ns each; beyond that ``find`` is faster."""

LF: Final = 10
CR: Final = 13
SPACE: Final = 32
NO_ASCII: Final = 128
C: Final = 67
E: Final = 69
G: Final = 71
P: Final = 80
R: Final = 82
S: Final = 83
T: Final = 84
U: Final = 85


def run(
    data: bytes,
    start: "i64",
    size: "i64",
    session: Session,
    limits: LineLimits,
    figures: LineFigures,
    out: list[bytes],
    max_requests: int,
    max_out_bytes: int,
) -> "tuple[i64, int, int, bool]":
    """Run requests up to the first other or not plain one.

    Args:
        data: Input, after a first line that was not HTTP.
        start: Where to begin.
        size: Where the last whole line ends.
        session: The client's session.
        limits: Limits of keys and values.
        figures: Where requests are counted.
        out: Where replies are appended.
        max_requests: Maximum number of requests.
        max_out_bytes: Length of replies after which to stop.

    Returns:
        Where it stopped, at the beginning of a line or the end; the number of requests run; the length of their
        replies; and whether the last of them ended the connection.
    """
    out_bytes = 0
    closing = False
    share: i64 = max_requests
    done: i64 = 0
    at: i64 = start
    byte: i64 = 0
    gets: i64 = 0
    puts: i64 = 0
    starts: i64 = 0
    commits: i64 = 0
    rollbacks: i64 = 0
    began_s = figures.timer()
    while at < size and done < share and out_bytes < max_out_bytes and not closing:
        verb: i64 = data[at]
        stop: i64 = at + 4
        try:
            if verb == G and data[at + 1] == E and data[at + 2] == T and data[at + 3] == SPACE:
                byte = data[stop]
                while SPACE < byte < NO_ASCII:  # the last of all bytes is LF
                    stop += 1
                    byte = data[stop]
                if byte != LF:
                    break
                key = data[at + 4 : stop]
                if not 0 < len(key) <= limits.max_key_bytes:
                    break
                got = get(session, key)
                if not isinstance(got, bytes):  # in steps, and by another look-up
                    session.lookups.hits -= 1
                    break
                reply = got
            elif verb == P and data[at + 1] == U and data[at + 2] == T and data[at + 3] == SPACE:
                byte = data[stop]
                while SPACE < byte < NO_ASCII:
                    stop += 1
                    byte = data[stop]
                if byte != SPACE:
                    break
                key = data[at + 4 : stop]
                begin: i64 = stop + 1
                far: i64 = begin + SCANNED_BYTES
                while byte != LF and byte < NO_ASCII and stop < far:
                    stop += 1
                    byte = data[stop]
                if byte != LF:  # long, or not ASCII
                    stop = data.find(b"\n", stop)
                value = data[begin:stop]
                if data[stop - 1] == CR or not (byte == LF or is_utf8(value)):
                    break
                if not 0 < len(key) <= limits.max_key_bytes or len(value) > limits.max_value_bytes:
                    break
                session.put(key, value)
                reply = replies.OK
            else:
                stop = at
                while data[stop] != LF and stop - at <= LONGEST_NO_ARGUMENT_LINE_BYTES:
                    stop += 1
                own_reply = run_no_argument_line(session, data[at:stop])
                if own_reply is None:
                    break
                reply = own_reply
                if verb == C and reply is not replies.OK:
                    figures.failed(figures.commit, replies.error_code(reply))
        except KvsError as error:
            reply = replies.error(error.code, str(error))
            closing = is_fatal(error)
            figures.failed(_figures_of(verb, figures), replies.error_code(reply))
        if verb == G:
            gets += 1
        elif verb == P and data[at + 1] == U:
            puts += 1
        elif verb == S:
            starts += 1
        elif verb == C:
            commits += 1
        elif verb == R:
            rollbacks += 1
        out.append(reply)
        out_bytes += len(reply)
        at = stop + 1
        done += 1
    if done:
        pings: i64 = done - gets - puts - starts - commits - rollbacks
        figures.add(began_s, done, gets, puts, starts, commits, rollbacks, pings)
    return at, done, out_bytes, closing


def _figures_of(verb: "i64", figures: LineFigures) -> CommandFigures:
    """Return the figures of a command that has failed, by its first letter; PING never does."""
    if verb == G:
        return figures.get
    if verb == P:
        return figures.put
    if verb == S:
        return figures.start
    return figures.commit if verb == C else figures.rollback

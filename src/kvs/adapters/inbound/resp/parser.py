"""Parses requests from bytes in pieces of any size: arrays of bulk strings, ``*2 $3 GET $1 k`` with CRLFs, or lines.

Announced lengths are not trusted: memory is allocated only for bytes that have arrived. No byte is parsed twice,
however small the pieces, or a client could cause quadratic time.
"""

from typing import TYPE_CHECKING, Final, final

from kvs.adapters.inbound.protocol.buffer import ReceiveBuffer
from kvs.adapters.inbound.protocol.errors import ProtocolViolationError
from kvs.adapters.inbound.protocol.security import STRANGER_ARGUMENTS, STRANGER_REQUEST_BYTES
from kvs.adapters.inbound.resp.inline import BACKSLASH, end_of_blank_lines, words_of
from kvs.adapters.inbound.resp.limits import ARGUMENT_OVERHEAD_BYTES, RespLimits
from kvs.adapters.inbound.resp.wording import as_text
from kvs.domain.errors import UsageError
from kvs.domain.updates import integer

if TYPE_CHECKING:
    from mypy_extensions import i64  # an int in a register, to the compiler

ARRAY: Final = 42
BULK: Final = 36
CR: Final = 13
LF: Final = 10
ZERO: Final = 48
NINE: Final = 57

MAX_DIGITS: Final = 18
"""Longest number that is parsed in a register: more than any limit, and less than overflows."""

HEADER_BYTES: Final = 32
"""A longer header is invalid, and is not kept, but as in Redis it is refused only where it ends."""

MAX_LINE_BYTES: Final = 1 << 16
"""Or where it is longer than a line of Redis may be."""

ESCAPE_BYTES: Final = 256
"""An escape in a line is charged as so many bytes of an argument: about 0.1 us."""

REST_OF_LINE: Final = -1
"""In place of a number of bytes to be dropped."""

LARGE_BULK_BYTES: Final = 1 << 16

NO_CRLF: Final = "Protocol error: expected CRLF behind a bulk string"

INCOMPLETE: Final = -2
NEGATIVE: Final = -1
NONE: Final = (1 << 62) - 1
"""More than any limit allows."""

OVER_BUDGET: Final[list[bytes]] = []
"""Stands for a request that was dropped over the memory budget; no request is empty."""


@final
class RequestParser:
    """Parses one client's requests.

    Args:
        buffer: The input.
        limits: Limits of requests.

    Attributes:
        held_bytes: Memory of the arguments of an incomplete request.
        request_bytes: Memory of all arguments that the last request has announced; of a line, also its escapes.
    """

    __slots__ = (
        "_arguments",
        "_buffer",
        "_bulk",
        "_dropping",
        "_limits",
        "_line_bytes",
        "_max_arguments",
        "_max_bulk_bytes",
        "_max_line_bytes",
        "_max_request_bytes",
        "_missing",
        "_skip",
        "_violation",
        "_wrong",
        "held_bytes",
        "request_bytes",
    )

    def __init__(self, buffer: ReceiveBuffer, limits: RespLimits) -> None:
        self._buffer = buffer
        self._limits = limits
        self._wrong = ""
        self._max_arguments: i64 = 0
        self._max_bulk_bytes: i64 = 0
        self._max_line_bytes: i64 = 0
        self._max_request_bytes: i64 = 0
        self.restrict(is_stranger=False)
        self._arguments: list[bytes] = []
        self._missing: i64 = 0  # arguments of the request that have not arrived
        self._bulk: i64 = -1  # announced length of the next one; -1: not announced
        self._dropping = False
        self._skip: i64 = 0  # bytes of a bulk string, with its CRLF, to be dropped; or the rest of a line
        self._violation: ProtocolViolationError | None = None  # the error in a header that has not ended
        self._line_bytes: i64 = 0  # how much of it has arrived and was dropped
        self.held_bytes = 0
        self.request_bytes: i64 = 0

    def restrict(self, is_stranger: bool) -> None:  # noqa: FBT001  # a keyword costs 40 ns when compiled
        """Apply the limits of clients that have not authenticated, or those of others. Between two requests."""
        limits = self._limits
        self._wrong = "unauthenticated" if is_stranger else "invalid"
        request_bytes = min(limits.max_request_bytes, STRANGER_REQUEST_BYTES if is_stranger else NONE)
        self._max_arguments = min(limits.max_arguments, STRANGER_ARGUMENTS if is_stranger else NONE)
        self._max_bulk_bytes = min(limits.max_bulk_bytes, request_bytes)
        self._max_line_bytes = min(request_bytes, MAX_LINE_BYTES)
        self._max_request_bytes = request_bytes

    @property
    def mid_request(self) -> bool:
        """Whether only part of a request has arrived."""
        return self._missing > 0 or self._buffer.held_bytes > 0 or self._violation is not None or self._dropping

    @property
    def between_requests(self) -> bool:
        """Whether the buffer begins with a request, and the reply to the one before is due."""
        return self._missing == 0 and self._violation is None and not self._dropping

    def feed(self, data: bytes) -> bool:
        """Take input; return whether it may have completed a request."""
        if self._skip:
            data = self._skip_in(data)
            if self._skip:
                return False
        self._buffer.feed(data)
        return True

    def drop(self) -> None:
        """Drop the incomplete request; :meth:`next` will return :data:`OVER_BUDGET` for it."""
        self._dropping = True
        self._arguments = []
        self.held_bytes = 0
        if self._missing == 0:
            self._skip = REST_OF_LINE
            self._buffer.clear()
        else:
            self._skip_bulk()

    def clear(self) -> None:
        """Forget everything."""
        self._arguments = []
        self._missing = 0
        self._bulk = -1
        self._skip = 0
        self._dropping = False
        self._violation = None
        self.held_bytes = 0

    def next(self) -> list[bytes] | None:
        """Return the arguments of the next request, or None if it is incomplete.

        Raises:
            ProtocolViolationError: The input is not a request. The framing is lost.
        """
        buffer = self._buffer
        if self._bulk >= LARGE_BULK_BYTES and not self._dropping and buffer.held_bytes >= self._bulk + 2:
            self._take_large()
            if self._missing == 0:
                return self._complete()
        if self._dropping and self._missing == 0 and not self._skip:
            return self._complete()  # its end has been skipped
        if not buffer.ready():
            return None
        violation = self._violation  # not narrowed: it may be found below
        if violation is not None:
            self._look_for_end(violation)
            return None
        # State that changes with every argument is kept in registers, and stored at the end.
        data, arguments, keeps = buffer.data, self._arguments, not self._dropping
        size: i64 = len(data)
        at: i64 = buffer.at
        missing: i64 = self._missing
        bulk: i64 = self._bulk
        request_bytes: i64 = self.request_bytes
        held_bytes: i64 = self.held_bytes
        number: i64
        end: i64
        while at < size:
            if missing == 0:
                if data[at] != ARRAY:
                    at = end_of_blank_lines(data, at)  # redis-cli --pipe sends one before its last request
                    if at == size:
                        break
                    if data[at] != ARRAY:
                        buffer.at = at
                        return self._next_line()
                number, end = _header(data, at + 1)
                if number == INCOMPLETE:
                    if size - at > HEADER_BYTES:
                        self._refuse_line("invalid multibulk length")
                    break
                if number > self._max_arguments:
                    raise ProtocolViolationError(f"Protocol error: {self._wrong} multibulk length")
                at = end
                if number > 0:  # an empty request gets no reply, as in Redis
                    missing = number
                    request_bytes = 0
                continue
            if bulk < 0:
                if data[at] != BULK:
                    # Redis ends the message at a zero byte.
                    got = f"{as_text(data[at : at + 1])}'" if data[at] else ""
                    raise ProtocolViolationError(f"Protocol error: expected '$', got '{got}")
                number, end = _header(data, at + 1)
                if number == INCOMPLETE:
                    if size - at > HEADER_BYTES:
                        self._refuse_line("invalid bulk length")
                    break
                if number < 0 or number > self._max_bulk_bytes:
                    raise ProtocolViolationError(f"Protocol error: {self._wrong} bulk length")
                request_bytes += number + ARGUMENT_OVERHEAD_BYTES
                if request_bytes > self._max_request_bytes:
                    raise ProtocolViolationError(
                        f"Protocol error: request of more than {self._max_request_bytes} bytes"
                    )
                bulk = number
                at = end
            end = at + bulk
            if end + 2 > size:
                break
            if data[end] != CR or data[end + 1] != LF:
                raise ProtocolViolationError(NO_CRLF)
            if keeps:
                arguments.append(data[at:end])
                held_bytes += bulk + ARGUMENT_OVERHEAD_BYTES
            at = end + 2
            bulk = -1
            missing -= 1
            if missing == 0:
                buffer.at = at
                self._missing = 0
                self._bulk = -1
                self.request_bytes = request_bytes
                return self._complete()
        buffer.at = at
        self._missing = missing
        self._bulk = bulk
        self.request_bytes = request_bytes
        self.held_bytes = held_bytes
        if self._violation is not None:
            self._look_for_end(self._violation)
        elif self._dropping:
            self._skip_bulk()
        elif bulk >= 0:
            buffer.need(bulk + 2)
        return None

    def _next_line(self) -> list[bytes] | None:
        """Return the words of the line that the buffer begins with, or None if it is incomplete.

        Raises:
            ProtocolViolationError: It is not a request.
        """
        buffer = self._buffer
        data, at = buffer.data, buffer.at
        end = data.find(b"\n", at)
        if (len(data) if end < 0 else end) - at > self._max_line_bytes:
            raise ProtocolViolationError("Protocol error: too big inline request")
        if end < 0:
            buffer.need_line(self._max_line_bytes)
            return None
        buffer.at = end + 1
        line = data[at:end].removesuffix(b"\r")
        words = words_of(line)
        if len(words) > self._max_arguments or max(map(len, words)) > self._max_bulk_bytes:
            raise ProtocolViolationError("Protocol error: too big inline request")
        request_bytes = len(line) + len(words) * ARGUMENT_OVERHEAD_BYTES
        if request_bytes > self._max_request_bytes:
            raise ProtocolViolationError(f"Protocol error: request of more than {self._max_request_bytes} bytes")
        self.request_bytes = request_bytes + line.count(BACKSLASH) * ESCAPE_BYTES
        return words

    def _take_large(self) -> None:
        """Take an argument that has arrived in many pieces, without joining these twice.

        Raises:
            ProtocolViolationError: It does not end there.
        """
        buffer = self._buffer
        self._arguments.append(buffer.take(self._bulk))
        self.held_bytes += self._bulk + ARGUMENT_OVERHEAD_BYTES
        buffer.ready()
        if buffer.data[buffer.at] != CR or buffer.data[buffer.at + 1] != LF:
            raise ProtocolViolationError(NO_CRLF)
        buffer.at += 2
        self._bulk = -1
        self._missing -= 1

    def _skip_in(self, data: bytes) -> bytes:
        """Drop what is to be dropped of some input; return the rest."""
        if self._skip == REST_OF_LINE:
            end = data.find(b"\n") + 1
            if end:
                self._skip = 0
            return data[end:]
        skipped: i64 = min(self._skip, len(data))
        self._skip -= skipped
        if not self._skip:
            self._missing -= 1
        return data[skipped:]

    def _skip_bulk(self) -> None:
        """Drop an incomplete bulk string whose length is known."""
        if self._bulk >= 0:
            self._skip = self._bulk + 2 - self._buffer.held_bytes
            self._bulk = -1
            self._buffer.clear()

    def _refuse_line(self, reason: str) -> None:
        """Drop the rest of a header."""
        self._violation = ProtocolViolationError(f"Protocol error: {reason}")
        self._line_bytes = 0

    def _look_for_end(self, violation: ProtocolViolationError) -> None:
        """Skip a wrong header, up to its end.

        Raises:
            ProtocolViolationError: The header has ended, or is too long.
        """
        data, at = self._buffer.data, self._buffer.at
        end = data.find(b"\r", at)
        if end >= 0 and self._line_bytes + end - at <= MAX_LINE_BYTES:
            raise violation
        self._line_bytes += len(data) - at
        self._buffer.clear()
        if self._line_bytes > MAX_LINE_BYTES:
            what = "mbulk" if self._missing == 0 else "bulk"
            raise ProtocolViolationError(f"Protocol error: too big {what} count string")

    def _complete(self) -> list[bytes]:
        arguments, self._arguments = self._arguments, []
        self.held_bytes = 0
        if self._dropping:
            self._dropping = False
            return OVER_BUDGET
        return arguments


def _header(data: bytes, at: "i64") -> "tuple[i64, i64]":
    """Return the number in a header, and where its line ends.

    The number is ``INCOMPLETE`` if bytes are missing, ``NEGATIVE`` if it is below zero, and ``NONE`` if it is invalid.
    """
    size: i64 = len(data)
    byte: i64 = 0
    if at + 3 < size and ZERO <= data[at] <= NINE:  # the usual cases: one digit, or two
        byte = data[at + 1]
        if byte == CR and data[at + 2] == LF:
            return data[at] - ZERO, at + 3
        if ZERO <= byte <= NINE and data[at] > ZERO and data[at + 2] == CR and data[at + 3] == LF:
            return (data[at] - ZERO) * 10 + byte - ZERO, at + 4
    first: i64 = at
    number: i64 = 0
    while at < size and at - first < MAX_DIGITS:
        byte = data[at]
        if byte > NINE or byte < ZERO:
            break
        number = number * 10 + byte - ZERO
        at += 1
    if byte != CR or at == first or (data[first] == ZERO and at - first > 1):
        return _odd_header(data, first)
    if at + 1 == size:
        return INCOMPLETE, at
    if data[at + 1] != LF:
        return NONE, at
    return number, at + 2


def _odd_header(data: bytes, at: "i64") -> "tuple[i64, i64]":
    """Return the same for a header that is negative, long, invalid or incomplete."""
    end = data.find(b"\r", at, at + HEADER_BYTES)
    if end < 0 or end + 1 == len(data):
        # Redis would wait for the end of a line that ends in LF alone.
        if data.find(b"\n", at, at + HEADER_BYTES) >= 0:
            return NONE, at
        return INCOMPLETE, at
    try:
        number = integer(data[at:end])
    except UsageError:
        return NONE, end
    if data[end + 1] != LF:
        return NONE, end
    return NEGATIVE if number < 0 else min(number, NONE), end + 2

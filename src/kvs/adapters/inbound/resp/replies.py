"""Replies in RESP, as bytes. A :class:`RespVersion` covers the differences between versions 2 and 3."""

from collections.abc import Iterable, Sequence
from typing import Final, final

from kvs.adapters.inbound.protocol.errors import EncodingError, ProtocolViolationError, UnknownCommandError
from kvs.adapters.inbound.resp.wording import as_bytes
from kvs.domain.errors import (
    ForbiddenError,
    KvsError,
    NotANumberError,
    OutOfRangeError,
    ResultTooLargeError,
    TooLargeError,
    TooLongError,
    UnauthenticatedError,
    UsageError,
    WrongSecretError,
)

OK: Final = b"+OK\r\n"
PONG: Final = b"+PONG\r\n"
QUEUED: Final = b"+QUEUED\r\n"
RESET: Final = b"+RESET\r\n"
ZERO: Final = b":0\r\n"
ONE: Final = b":1\r\n"
EMPTY_ARRAY: Final = b"*0\r\n"
CRLF: Final = b"\r\n"
MINUS: Final = 45

SHORT: Final = 1024
"""Below this, the text of a length or a number is precomputed."""

BULK_HEADERS: Final = [b"$%d\r\n" % length for length in range(SHORT)]
"""The header of a bulk string by its length: a look-up takes 5 ns, formatting 90."""

NUMBERS: Final = [b":%d\r\n" % value for value in range(SHORT)]
ARRAY_HEADERS: Final = [b"*%d\r\n" % length for length in range(SHORT)]
"""An integer reply by its number."""

_LINE_BREAKS: Final = bytes.maketrans(b"\r\n", b"  ")


@final
class RespVersion:
    """The form of replies in one version of the protocol.

    Attributes:
        version: 2 or 3.
        null: A null bulk string.
        null_array: A null array.
    """

    def __init__(self, version: int, null: bytes, null_array: bytes) -> None:
        self.version: Final = version
        self.null: Final = null
        self.null_array: Final = null_array

    def value(self, value: bytes | None) -> bytes:
        """Return a bulk string, or null."""
        return self.null if value is None else bulk(value)

    def mapping(self, pairs: Sequence[tuple[bytes, bytes]]) -> bytes:
        """Return a map of replies; in RESP2 an array of alternating keys and values."""
        parts = [b"%" if self.version > 2 else b"*", b"%d\r\n" % (len(pairs) if self.version > 2 else 2 * len(pairs))]
        for key, value in pairs:
            parts += (key, value)
        return b"".join(parts)

    def set_of(self, items: Sequence[bytes]) -> bytes:
        """Return a set of replies; in RESP2 an array."""
        return b"%b%d\r\n%b" % (b"~" if self.version > 2 else b"*", len(items), b"".join(items))

    def double(self, number: bytes) -> bytes:
        """Return a decimal number."""
        return b",%b\r\n" % number if self.version > 2 else bulk(number)

    def verbatim(self, text: bytes) -> bytes:
        """Return text for people."""
        return b"%b%b\r\n" % (self.verbatim_header(len(text)), text)

    def verbatim_header(self, size: int) -> bytes:
        """Return what precedes text for people of so many bytes; CRLF follows it."""
        return b"=%d\r\ntxt:" % (size + 4) if self.version > 2 else b"$%d\r\n" % size


RESP2: Final = RespVersion(2, b"$-1\r\n", b"*-1\r\n")
RESP3: Final = RespVersion(3, b"_\r\n", b"_\r\n")


def bulk(value: bytes) -> bytes:
    """Return a bulk string."""
    size = len(value)
    return b"%b%b\r\n" % (BULK_HEADERS[size] if size < SHORT else b"$%d\r\n" % size, value)


def simple(text: bytes) -> bytes:
    """Return a simple string; the text has no line break."""
    return b"+%b\r\n" % text


def number(value: int) -> bytes:
    """Return an integer."""
    return NUMBERS[value] if 0 <= value < SHORT else b":%d\r\n" % value


def array(items: Sequence[bytes]) -> bytes:
    """Return an array of replies."""
    size = len(items)
    return (ARRAY_HEADERS[size] if size < SHORT else b"*%d\r\n" % size) + b"".join(items)


def bulks(values: Iterable[bytes]) -> bytes:
    """Return an array of bulk strings."""
    return array([bulk(value) for value in values])


def invalidation(keys: list[bytes] | None) -> bytes:
    """Return the message of RESP3 that keys may have changed; None: all of them."""
    return b">2\r\n$10\r\ninvalidate\r\n" + (b"_\r\n" if keys is None else bulks(keys))


def error_line(code: str, message: bytes) -> bytes:
    """Return an error reply: a code for programs, and a sentence for people, in one line."""
    return b"-%b %b\r\n" % (code.encode(), message.translate(_LINE_BREAKS))


def error_code(reply: bytes) -> bytes:
    """Return the code of the error that a reply reports; empty if it reports none."""
    return reply[1 : reply.find(b" ")] if reply and reply[0] == MINUS else b""


def error(error: KvsError) -> bytes:
    """Return the reply that reports an error, in Redis's words where Redis has this error.

    Mistakes in a request have Redis's code for all of them, ``ERR``. Other errors have their code in capitals.
    """
    if isinstance(error, ResultTooLargeError):
        message = b"The reply would hold more than max_reply_bytes = %d." % error.max_bytes
    else:
        message = _REDIS_MESSAGES.get(type(error)) or as_bytes(str(error))
    code = _REDIS_CODES.get(type(error))
    if code is not None:
        return error_line(code, message)
    mistake = isinstance(
        error, UsageError | UnknownCommandError | EncodingError | TooLargeError | ProtocolViolationError
    )
    return error_line("ERR" if mistake else error.code.upper(), message)


_REDIS_CODES: Final[dict[type[KvsError], str]] = {
    UnauthenticatedError: "NOAUTH",
    WrongSecretError: "WRONGPASS",
    ForbiddenError: "NOPERM",
}

_REDIS_MESSAGES: Final[dict[type[KvsError], bytes]] = {
    UnauthenticatedError: b"Authentication required.",
    WrongSecretError: b"invalid username-password pair or user is disabled.",
    NotANumberError: b"value is not an integer or out of range",
    OutOfRangeError: b"increment or decrement would overflow",
    TooLongError: b"string exceeds maximum allowed size (proto-max-bulk-len)",
}

"""The replies of the line protocol: JSON, one line each.

A reply is almost always a constant, or a constant around a value. A JSON encoder takes 60 ns more than to see that a
short value needs no escaping. Beyond that it is fastest: 0.06 ns a byte of ASCII, 0.8 ns of other text, and 6 ns for
each byte that it escapes, so long values are escaped in slices. What it returns occupies up to 16 times its length:
it makes room for text that is all escapes, and does not give it back. So that is copied at once, never kept.
"""

from typing import Final

from orjson import dumps

from kvs.adapters.inbound.protocol.errors import EncodingError
from kvs.ports.session import COPIED_BYTES_PER_UNIT, Steps, Work

OK: Final = b'{"status": "Ok"}\n'
TRUE: Final = b'{"status": "Ok", "result": true}\n'
FALSE: Final = b'{"status": "Ok", "result": false}\n'

_ERROR: Final = b'{"status": "Error", "code": "'
"""How the reply that reports an error begins."""

_AS_IT_IS: Final = bytes(code if 0x20 <= code < 0x80 and code not in b'"\\' else code ^ 1 for code in range(256))
"""Marks bytes that need escapes; ``translate`` returns the same object if it changed nothing."""

SHORT_BYTES: Final = 1 << 9
"""Up to this length, ``translate`` takes less time than the encoder, and escaping is not worth charging."""

LONG_BYTES: Final = 1 << 16
"""Bytes escaped at a time, which takes up to 0.4 ms. Beyond this length, use :func:`result_steps`."""

OTHER_BYTES_PER_UNIT: Final = 1 << 10
"""Bytes of text that is not ASCII per unit of work: they are decoded and encoded."""

ESCAPES_PER_UNIT: Final = 1 << 7
"""Bytes escaped per unit of work."""

MAX_CHARACTER_BYTES: Final = 4
"""Longest character in UTF-8."""


def is_utf8(text: bytes) -> bool:
    """Return whether text is UTF-8."""
    if text.isascii():
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def quoted(text: bytes) -> bytes:
    """Return a JSON string with its quotes.

    Raises:
        EncodingError: The bytes are not UTF-8.
    """
    if len(text) <= SHORT_BYTES and text.translate(_AS_IT_IS) is text:
        return b'"%b"' % text
    return b"%b" % dumps(_decoded(text))


def result(value: bytes) -> bytes:
    """Return the reply whose result is a short value.

    Raises:
        EncodingError: The value is not UTF-8.
    """
    if value.translate(_AS_IT_IS) is value:
        return b'{"status": "Ok", "result": "%b"}\n' % value  # compiled, a literal is filled in at once
    return result_json(dumps(_decoded(value)))


def longer_result(value: bytes, work: Work) -> bytes:
    """Return the same as :func:`result`, faster beyond :data:`SHORT_BYTES`, and charge for it.

    Raises:
        EncodingError: The value is not UTF-8.
    """
    return b'{"status": "Ok", "result": %b}\n' % _charged(value, work)


def result_steps(value: bytes, work: Work) -> Steps[list[bytes]]:
    """Return the same as :func:`result`, in shares and pieces.

    Raises:
        EncodingError: The value is not UTF-8.
        ClientsFullError: The clients together hold all that they may.
    """
    pieces = [b'{"status": "Ok", "result": "']
    yield from _append(value, pieces, work)
    pieces.append(b'"}\n')
    return pieces


def list_steps(texts: list[bytes], message: bytes | None, work: Work) -> Steps[list[bytes]]:
    """Return the reply whose result is a list of texts, with an optional message, in shares and pieces.

    Raises:
        EncodingError: One of them is not UTF-8.
    """
    pieces = [b'{"status": "Ok", "result": [']
    for at, text in enumerate(texts):
        pieces.append(b'", "' if at else b'"')
        if len(text) <= SHORT_BYTES and text.translate(_AS_IT_IS) is text:
            pieces.append(text)
        else:
            work.left -= 1  # short texts may cost less than a unit each, and be many
            yield from _append(text, pieces, work)
    pieces.append(b'"]' if texts else b"]")
    if message is not None:
        pieces.append(b', "mesg": "')
        yield from _append(message, pieces, work)
        pieces.append(b'"')
    pieces.append(b"}\n")
    return pieces


def absent(key: bytes, work: Work) -> bytes:
    """Return the reply to GET of a key that is absent."""
    message = key + b" was not found."
    return b'{"status": "Ok", "result": null, "mesg": %b}\n' % (
        quoted(message) if len(key) <= SHORT_BYTES else _charged(message, work)
    )


def result_json(json: bytes, message: bytes | None = None) -> bytes:
    """Return a reply with a result in JSON, and an optional message."""
    if message is None:
        return b'{"status": "Ok", "result": %b}\n' % json
    return b'{"status": "Ok", "result": %b, "mesg": %b}\n' % (json, quoted(message))


def error(code: str, message: str) -> bytes:
    """Return the reply that reports an error."""
    return b'%b%b", "mesg": %b}\n' % (_ERROR, code.encode(), quoted(message.encode()))


def error_code(reply: bytes) -> bytes:
    """Return the code of the error that a reply reports, in capitals; empty if it reports none."""
    return reply[len(_ERROR) :].partition(b'"')[0].upper() if reply.startswith(_ERROR) else b""


def _append(text: bytes, pieces: list[bytes], work: Work) -> Steps[None]:
    """Append what is between the quotes of the JSON string of a text, in shares.

    In pieces, because a buffer that grows is copied, 32 MiB in 25 ms, and the pages of a long reply are freed at once.
    """
    at = 0
    while at < len(text):
        end = _slice_end(text, at)
        piece = _charged(text[at:end], work, at)[1:-1]
        pieces.append(piece)
        work.hold(len(piece))
        work.left -= len(piece) // COPIED_BYTES_PER_UNIT
        if work.left <= 0:
            yield
        at = end


def _slice_end(text: bytes, at: int) -> int:
    """Return the end of the slice that begins at a position: the end of the text, or the start of a character."""
    end = at + LONG_BYTES
    if end >= len(text):
        return len(text)
    for place in range(end, end - MAX_CHARACTER_BYTES, -1):
        if text[place] & 0xC0 != 0x80:
            return place
    return end  # this is not UTF-8, wherever it is divided


def _charged(text: bytes, work: Work, at: int = 0) -> bytes:
    """Return the JSON string of a value, or of its slice at a position, and charge for it.

    A byte that is escaped becomes two to six; half and half with others, six are charged as if all were escaped.
    """
    characters = _decoded(text, at)
    string = dumps(characters)
    work.left -= len(text) // (COPIED_BYTES_PER_UNIT if characters.isascii() else OTHER_BYTES_PER_UNIT)
    work.left -= min(len(string) - len(text), len(text)) // ESCAPES_PER_UNIT
    return string


def _decoded(text: bytes, at: int = 0) -> str:
    """Return the characters of a value, or of its slice at a position."""
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        place = at + error.start
        raise EncodingError(f"This is not UTF-8 (at byte {place}) and cannot be shown here.") from None

r"""Inline commands of Redis: the words of a line, in place of an array. Any word may be in quotes.

The words are those of Redis (``sdssplitargs``): blanks separate them; in ``"`` a backslash escapes, as in ``\n`` and
``\xff``; in ``'`` it escapes the quote only; a closing quote ends the word, so a blank must follow.
"""

import re
from typing import Final

from kvs.adapters.inbound.protocol.errors import HttpError, ProtocolViolationError
from kvs.adapters.inbound.protocol.http_lines import is_header, is_request_line

BACKSLASH: Final = b"\\"

_BLANK_LINES: Final = re.compile(rb"(?:[ \t\v\f\r]*\n)*")

_NEEDS_CARE: Final = re.compile(rb"[\"'\v\f]")
"""What ``bytes.split`` does not do as Redis does: quotes, and the two blanks that separate words but end none."""

# Nothing in it can match in two ways, so it takes linear time. The last group takes all that is no word.
_WORD: Final = re.compile(
    rb"""[ \t-\r]*(?:
        (?=[^ \t-\r]) ([^ \t\n\r"']*) ("[^"\\]*(?:\\.[^"\\]*)*"|'[^'\\]*(?:\\(?:'|(?!'))[^'\\]*)*')? (?=[ \t-\r]|\Z)
        | (.+)
    )""",
    re.DOTALL | re.VERBOSE,
)

_HEX: Final = re.compile(rb"x[0-9a-fA-F]{2}")
_CONTROLS: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}


def end_of_blank_lines(data: bytes, at: int) -> int:
    """Return where the first line that is not blank begins, or all of a line that is not complete."""
    found = _BLANK_LINES.match(data, at)
    return at if found is None else found.end()


def words_of(line: bytes) -> list[bytes]:
    """Return the words of a line, without its end.

    Raises:
        HttpError: It is a line of HTTP.
        ProtocolViolationError: Its quotes are not balanced, or it has a zero byte.
    """
    if b"\0" in line:  # Redis would wait for its end for ever
        raise ProtocolViolationError("Protocol error: zero byte in inline request")
    words = _split(line) if _NEEDS_CARE.search(line) else line.split()
    if is_request_line(line) or (words and is_header(words[0])):
        raise HttpError("This looks like HTTP, and this port does not speak HTTP.")
    return words


def _split(line: bytes) -> list[bytes]:
    words = []
    for plain, quoted, rest in _WORD.findall(line):
        if rest.strip():
            raise ProtocolViolationError("Protocol error: unbalanced quotes in request")
        if plain or quoted:
            words.append(plain + _unquoted(quoted))
    return words


def _unquoted(quoted: bytes) -> bytes:
    text = quoted[1:-1]
    if BACKSLASH not in text:
        return text
    if quoted[:1] == b"'":
        return text.replace(rb"\'", b"'")
    before, *escapes = text.split(BACKSLASH)
    parts = [before]
    escaped = False
    for escape in escapes:
        if escaped:  # the backslash before this was escaped
            parts.append(escape)
            escaped = False
        elif not escape:
            parts.append(BACKSLASH)
            escaped = True
        elif _HEX.match(escape):
            parts.append(bytes.fromhex(escape[1:3].decode()) + escape[3:])
        else:
            parts.append(_CONTROLS.get(escape[:1], escape[:1]) + escape[1:])
    return b"".join(parts)

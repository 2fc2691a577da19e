"""Patterns of keys, in the language of Redis: ``*``, ``?``, ``[a-z]``, ``[^a]``, and a backslash before any of these.

A key is matched in time that grows with its length times that of the pattern, at most, and with its length alone if the
pattern has no long runs without a star. To try every way the stars could share out a key, as the plain algorithm does,
takes time that grows with a power of its length for every star.
"""

import re
from typing import Final, final

_STAR: Final = 42
_QUESTION: Final = 63
_OPEN: Final = 91
_CLOSE: Final = 93
_CARET: Final = 94
_DASH: Final = 45
_BACKSLASH: Final = 92


@final
class Glob:
    """A pattern. Two of the same text are equal.

    Attributes:
        text: As it was written.
        prefix: What every key that matches begins with: nothing else needs to be looked at.
        matches_all: Every key with the prefix matches.
    """

    __slots__ = ("_regex", "matches_all", "prefix", "text")

    def __init__(self, text: bytes) -> None:
        self.text = text
        parts = _parts(text)
        self.prefix = parts[0][1]
        literal = parts[0][0] == _escaped(self.prefix)
        self.matches_all = literal and len(parts) > 1 and all(regex == b"" for regex, _ in parts[1:])
        # The first place where a part fits is as good as any later one, so what has been found is never gone back on.
        middle = b"".join([b"(?>.*?%b)" % part for part, _ in parts[1:-1] if part])
        last = b".*" + parts[-1][0] if len(parts) > 1 else b""
        self._regex = re.compile(parts[0][0] + middle + last, re.DOTALL)

    def __call__(self, key: bytes) -> bool:
        """Return whether a key matches, all of it."""
        if self.matches_all:
            return key.startswith(self.prefix)
        return self._regex.fullmatch(key) is not None

    def __eq__(self, other: object) -> bool:
        """Compare by text."""
        return isinstance(other, Glob) and self.text == other.text

    def __hash__(self) -> int:
        """Follow ``__eq__``."""
        return hash(self.text)


def _parts(text: bytes) -> list[tuple[bytes, bytes]]:
    """Return what stands between the stars: each part as a regular expression, and the bytes it begins with as such."""
    parts: list[tuple[bytes, bytes]] = []
    regex: list[bytes] = []
    literal = bytearray()
    plain = True
    at = 0
    while at < len(text):
        code = text[at]
        at += 1
        if code == _STAR:
            parts.append((b"".join(regex), bytes(literal)))
            regex, literal, plain = [], bytearray(), True
        elif code == _QUESTION:
            regex.append(b".")
            plain = False
        elif code == _OPEN:
            one, at = _one_of(text, at)
            regex.append(one)
            plain = False
        else:
            if code == _BACKSLASH and at < len(text):
                code = text[at]
                at += 1
            regex.append(_escaped(bytes((code,))))
            if plain:
                literal.append(code)
    parts.append((b"".join(regex), bytes(literal)))
    return parts


def _one_of(text: bytes, at: int) -> tuple[bytes, int]:
    """Return a set of bytes as a regular expression, and where it ended. One that is not closed ends with the text."""
    negated = at < len(text) and text[at] == _CARET
    at += negated
    ranges: list[bytes] = []  # as such: a set of all the bytes there are is to be no longer than one of two
    while at < len(text) and text[at] != _CLOSE:
        low = high = text[at]
        if low == _BACKSLASH and at + 1 < len(text):
            at += 1
            low = high = text[at]
        elif at + 2 < len(text) and text[at + 1] == _DASH:
            low, high = sorted((low, text[at + 2]))
            at += 2
        ranges.append(b"\\x%02x-\\x%02x" % (low, high))
        at += 1
    if ranges:
        return b"[%b%b]" % (b"^" if negated else b"", b"".join(ranges)), at + 1
    return b"." if negated else b"(?!)", at + 1


def _escaped(text: bytes) -> bytes:
    """Return bytes as a regular expression that matches just them."""
    return b"".join([b"\\x%02x" % code for code in text])

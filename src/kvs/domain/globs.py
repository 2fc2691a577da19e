"""Patterns of keys, in the language of Redis: ``*``, ``?``, ``[a-z]``, ``[^a]``, and a backslash before any of these.

A pattern is matched in time linear in the key for each of its stars at most. To try every way the stars could share
out a key, as the plain algorithm does, takes time that grows with a power of its length for every star.
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
        middle = b"".join(b"(?>.*?%b)" % part for part, _ in parts[1:-1])
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
    regex, literal, plain = b"", b"", True
    at = 0
    while at < len(text):
        code = text[at]
        at += 1
        if code == _STAR:
            parts.append((regex, literal))
            regex, literal, plain = b"", b"", True
        elif code == _QUESTION:
            regex += b"."
            plain = False
        elif code == _OPEN:
            one, at = _one_of(text, at)
            regex += one
            plain = False
        else:
            if code == _BACKSLASH and at < len(text):
                code = text[at]
                at += 1
            regex += _escaped(bytes((code,)))
            if plain:
                literal += bytes((code,))
    parts.append((regex, literal))
    return parts


def _one_of(text: bytes, at: int) -> tuple[bytes, int]:
    """Return a set of bytes as a regular expression, and where it ended. One that is not closed ends with the text."""
    negated = at < len(text) and text[at] == _CARET
    at += negated
    members: set[int] = set()
    while at < len(text) and text[at] != _CLOSE:
        code = text[at]
        if code == _BACKSLASH and at + 1 < len(text):
            at += 1
            members.add(text[at])
        elif at + 2 < len(text) and text[at + 1] == _DASH:
            low, high = sorted((code, text[at + 2]))
            members.update(range(low, high + 1))
            at += 2
        else:
            members.add(code)
        at += 1
    if negated:
        members = set(range(256)) - members
    if not members:
        return b"(?!)", at + 1
    return b"[%b]" % _escaped(bytes(sorted(members))), at + 1


def _escaped(text: bytes) -> bytes:
    """Return bytes as a regular expression that matches just them."""
    return b"".join([b"\\x%02x" % code for code in text])

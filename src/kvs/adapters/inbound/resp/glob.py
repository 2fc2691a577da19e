"""Redis's patterns of keys: ``*``, ``?``, ``[a-z]``, ``[^a]``, and a backslash before any of these.

Stars divide a pattern into parts; every other token matches exactly one byte. The first and the last part can match at
one position only. Each part between them is searched from the end of the previous match: the leftmost match is as good
as any later one, so there is no backtracking. The search for a part takes the length of the key times that of the part
if the whole part is tried at every position, as ``re`` does. That is fastest for common keys and patterns. For others
(:class:`_Search`) the length of the part hardly matters:

- ``bytes.find`` finds short literals. For long ones, ``re`` is linear: it builds a Knuth-Morris-Pratt table for a
  pattern that is all literal.
- All other parts are matched at all positions at once, with one bit of a number for each token (shift-and; Baeza-Yates
  and Gonnet, "A new approach to text searching", 1992).
"""

import re
from collections.abc import Generator
from typing import Final, TypeAlias, final

from kvs.application.operations import Matcher
from kvs.override import override

_STAR: Final = 42
_QUESTION: Final = 63
_OPEN: Final = 91
_CLOSE: Final = 93
_CARET: Final = 94
_DASH: Final = 45
_BACKSLASH: Final = 92

ORDINARY_BYTES: Final = 256
"""Longest pattern that becomes a regular expression, whose compilation takes up to 4 us a byte."""

ORDINARY_STEPS: Final = 4096
"""Maximum length of a key times that of a part for the regular expression: about 12 us."""

WINDOW_BYTES: Final = 4096
"""Positions in a key that :meth:`Glob.steps` searches in one step."""

STEP_UNITS: Final = 1000
"""Units of work after which :meth:`Glob.steps` yields."""

FEW_BYTES: Final = 16
"""Longest literal for ``bytes.find``, which in the worst case compares all of it at every position."""

_STEPS_PER_UNIT: Final = 256
_LITERAL_UNITS: Final = 4
_BITS_UNITS: Final = 128
_BITS_PER_UNIT: Final = 16
_PARTS_PER_UNIT: Final = 16
"""Maximum units of work: steps of a regular expression; the search of 1,024 bytes for a literal, or for other tokens,
with one unit more for so many tokens of the pattern; and the start of a search."""

_TOKENS_PER_UNIT: Final = 2
"""To make the numbers of a :class:`_Search` takes 0.5 us for each token."""

_UNITS_PER_COMPILED_BYTE: Final = 4

_Set: TypeAlias = tuple[bool, list[tuple[int, int]]]
"""Ranges of bytes, and whether the set is negated."""

_ANY: Final[_Set] = (True, [])

_Token: TypeAlias = int | _Set
"""A literal byte, or a set."""


@final
class Glob(Matcher):
    """A pattern.

    Attributes:
        text: The pattern as given.
        prefix: Prefix of all matching keys, so only keys under it need to be listed.
        matches_all: Every key with the prefix matches.
        units: Units of work that it is at most to get ready for matching, some of it when the first key is matched.

    To match many keys without blocking other clients, subtract :meth:`cost` of each from the work of a share. If it is
    more than :data:`STEP_UNITS`, use :meth:`steps`; for all other keys that is the same as :meth:`match`.
    """

    __slots__ = ("_ordinary_bytes", "_parts", "_regex", "_search", "matches_all", "prefix", "text", "units")

    def __init__(self, text: bytes) -> None:
        self.text = text
        self._parts = parts = _parts(text)
        self.prefix = _leading_literal(parts[0])
        self.matches_all = len(parts) > 1 and not any(parts[1:]) and len(self.prefix) == len(parts[0])
        self.units = 0 if self.matches_all else len(text) // _TOKENS_PER_UNIT
        self._ordinary_bytes = -1  # longest key that the regular expression matches
        self._regex: re.Pattern[bytes] | None = None
        if len(text) <= ORDINARY_BYTES and not self.matches_all:
            self._ordinary_bytes = ORDINARY_STEPS // max([1, *[len(tokens) for tokens in parts[1:]]])
            self._regex = _whole_regex(parts)
            self.units += len(text) * _UNITS_PER_COMPILED_BYTE
        self._search: _Search | None = None

    @override
    def match(self, key: bytes) -> bool:
        """Return whether the whole key matches.

        Complexity:
            O(length of key), and at most :meth:`cost`: under 2 ms for a key of 8 KiB, whatever the pattern. For longer
            ones use :meth:`steps`.
        """
        if self.matches_all:
            return key.startswith(self.prefix)
        if self._regex is not None and len(key) <= self._ordinary_bytes:
            return self._regex.fullmatch(key) is not None
        return self._searched().match(key)

    @override
    def steps(self, key: bytes) -> Generator[None, None, bool]:
        """Return whether a key matches, in steps of :data:`STEP_UNITS` of work."""
        if self.cost(len(key)) <= STEP_UNITS:
            return self.match(key)
        return (yield from self._searched().steps(key))

    @override
    def cost(self, size: int) -> int:
        """Return how many units of work it is at most to match a key of so many bytes."""
        if self.matches_all:
            return 1
        if size <= self._ordinary_bytes:
            return 1 + size * ORDINARY_STEPS // (self._ordinary_bytes * _STEPS_PER_UNIT)
        return self._searched().cost(size)

    def _searched(self) -> "_Search":
        if self._search is None:
            self._search = _Search(self._parts)
        return self._search


@final
class _Search:
    """A pattern for keys of any length."""

    __slots__ = ("_first", "_last", "_middle", "_size", "_units")

    def __init__(self, parts: list[list[_Token]]) -> None:
        tokens = [token for part in parts for token in part]
        masks = [] if all(isinstance(token, int) for token in tokens) else _masks(tokens)
        self._size = len(tokens)
        found: list[_Part] = []
        at = 0
        for part in parts:
            found.append(_Part(part, masks, at))
            at += len(part)
        self._first = found[0]
        self._last = found[-1] if len(parts) > 1 else None
        self._middle = [part for part in found[1:-1] if part.size]
        self._units = _LITERAL_UNITS if not masks else _BITS_UNITS + self._size // _BITS_PER_UNIT

    def cost(self, size: int) -> int:
        """Return how many units of work it is at most to match a key of so many bytes."""
        return 1 + (size * self._units >> 10) + len(self._middle) // _PARTS_PER_UNIT

    def match(self, key: bytes) -> bool:
        """Return whether a key matches."""
        if not self._ends_fit(key):
            return False
        at, end = self._between_ends(key)
        for part in self._middle:
            at = part.find(key, at, end)
            if at < 0:
                return False
        return True

    def steps(self, key: bytes) -> Generator[None, None, bool]:
        """Return whether a key matches, and make way."""
        if not self._ends_fit(key):
            return False
        at, end = self._between_ends(key)
        units = 0
        for part in self._middle:
            found = -1
            while found < 0:
                window_end = min(end, at + WINDOW_BYTES + part.size - 1)
                found = part.find(key, at, window_end)
                if found < 0 and window_end == end:
                    return False
                units += 1 + (((window_end if found < 0 else found) - at) * self._units >> 10)
                if units >= STEP_UNITS:
                    units = 0
                    yield
                at = window_end - part.size + 1 if found < 0 else found  # windows overlap by the length of the part
        return True

    def _ends_fit(self, key: bytes) -> bool:
        """Return whether the first and the last part match."""
        first, last, size = self._first, self._last, len(key)
        if last is None:
            return size == first.size and first.find(key, 0, size) >= 0
        if size < self._size or first.find(key, 0, first.size) < 0:
            return False
        return last.find(key, size - last.size, size) >= 0

    def _between_ends(self, key: bytes) -> tuple[int, int]:
        return self._first.size, len(key) - (self._last.size if self._last is not None else 0)


@final
class _Part:
    """The tokens between two stars, each of which matches one byte."""

    __slots__ = ("_first_bit", "_last_bit", "_literal", "_masks", "_regex", "size")

    def __init__(self, tokens: list[_Token], masks: list[int], at: int) -> None:
        self.size = len(tokens)
        literal = _leading_literal(tokens)
        self._literal = literal if len(literal) == len(tokens) else None
        self._regex: re.Pattern[bytes] | None = None
        if self._literal is not None and self.size > FEW_BYTES:
            self._regex = re.compile(_expression(tokens))
        self._masks = masks
        self._first_bit = 1 << at
        self._last_bit = 1 << max(at, at + self.size - 1)

    def find(self, key: bytes, at: int, end: int) -> int:
        """Return the end of the first match of the part between two positions in a key; -1: no match."""
        if self._regex is not None:
            match = self._regex.search(key, at, end)
            return -1 if match is None else match.end()
        if self._literal is not None:
            found = key.find(self._literal, at, end)
            return -1 if found < 0 else found + self.size
        # A set bit of the state means that the tokens up to it match the bytes up to here.
        masks, first_bit, last_bit = self._masks, self._first_bit, self._last_bit
        state = 0
        for place in range(at, end):
            state = (state << 1 | first_bit) & masks[key[place]]
            if state >= last_bit:
                return place + 1
        return -1


def literal_prefix(text: bytes) -> bytes:
    """Return the prefix of a pattern without the rest of it. O(length)."""
    return _leading_literal(_parts(text)[0])


def _parts(text: bytes) -> list[list[_Token]]:
    """Return the parts between the stars: literal bytes as such, and other tokens as sets of bytes."""
    parts: list[list[_Token]] = [[]]
    at = 0
    while at < len(text):
        code = text[at]
        at += 1
        if code == _STAR:
            parts.append([])
        elif code == _QUESTION:
            parts[-1].append(_ANY)
        elif code == _OPEN:
            one, at = _one_of(text, at)
            parts[-1].append(one)
        else:
            if code == _BACKSLASH and at < len(text):
                code = text[at]
                at += 1
            parts[-1].append(code)
    return parts


def _one_of(text: bytes, at: int) -> tuple[_Set, int]:
    """Return a set of bytes, and its end. One without a closing bracket ends with the text."""
    negated = at < len(text) and text[at] == _CARET
    at += negated
    ranges: list[tuple[int, int]] = []
    while at < len(text) and text[at] != _CLOSE:
        low = high = text[at]
        if low == _BACKSLASH and at + 1 < len(text):
            at += 1
            low = high = text[at]
        elif at + 2 < len(text) and text[at + 1] == _DASH:
            low, high = sorted((low, text[at + 2]))
            at += 2
        ranges.append((low, high))
        at += 1
    return (negated, ranges), at + 1


def _leading_literal(tokens: list[_Token]) -> bytes:
    literal = bytearray()
    for token in tokens:
        if not isinstance(token, int):
            break
        literal.append(token)
    return bytes(literal)


def _whole_regex(parts: list[list[_Token]]) -> re.Pattern[bytes]:
    """Return a regular expression for a whole pattern; it does not backtrack."""
    middle = b"".join([b"(?>.*?%b)" % _expression(tokens) for tokens in parts[1:-1] if tokens])
    last = b".*" + _expression(parts[-1]) if len(parts) > 1 else b""
    return re.compile(_expression(parts[0]) + middle + last, re.DOTALL)


def _expression(tokens: list[_Token]) -> bytes:
    """Return the text of a regular expression that matches what the tokens do."""
    text: list[bytes] = []
    for token in tokens:
        if isinstance(token, int):
            text.append(b"\\x%02x" % token)
        elif token[1]:  # ranges as such: a set of all bytes must be no longer than one of two
            ranges = b"".join([b"\\x%02x-\\x%02x" % (low, high) for low, high in token[1]])
            text.append(b"[%b%b]" % (b"^" if token[0] else b"", ranges))
        else:
            text.append(b"." if token[0] else b"(?!)")
    return b"".join(text)


def _masks(tokens: list[_Token]) -> list[int]:
    """Return, for each byte, a number whose bit n says whether token n matches it."""
    rows = bytearray()  # 256 digits for each token, the last token first, as the digits of a number
    for token in reversed(tokens):
        negated, ranges = (False, [(token, token)]) if isinstance(token, int) else token
        row = bytearray((b"1" if negated else b"0") * 256)
        for low, high in ranges:
            row[low : high + 1] = (b"0" if negated else b"1") * (high + 1 - low)
        rows += row
    return [int(rows[code::256], 2) for code in range(256)]

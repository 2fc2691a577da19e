"""Versions of keys, and what the clock tells of their order."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Final, NamedTuple

from tests.support.consistency.history import NEVER_NS

NOBODY: Final = -1
LATER_NS: Final = NEVER_NS + 1
"""After everything, even after what never ended."""


class Version:
    """A state that a transaction has left a key in.

    Attributes:
        number: Of all versions of all keys.
        key: The key.
        value: What makes the value unique; None if it is absent.
        writer: The number of the transaction; NOBODY for the state at the beginning, and for lost increments.
        previous: The version that it has immediately replaced, if known.
        next: Those that have immediately replaced it; more than one cannot be.
        readers: Those who have read it, and whether it was by a range.
        earliest_ns: When it can expire, at the earliest.
        expiry: The version that its expiry leaves, if somebody has seen that.
    """

    __slots__ = ("earliest_ns", "expiry", "key", "next", "number", "previous", "readers", "value", "writer")

    def __init__(self, number: int, key: str, value: str | None, writer: int) -> None:
        self.number = number
        self.key = key
        self.value = value
        self.writer = writer
        self.previous: Version | None = None
        self.next: list[Version] = []
        self.readers: list[tuple[int, bool]] = []
        self.earliest_ns = LATER_NS
        self.expiry: Version | None = None

    def follow(self, previous: "Version") -> None:
        """Note which version it has replaced."""
        self.previous = previous
        previous.next.append(self)


class Span(NamedTuple):
    """What the clock tells of something that several transactions have to do with, and nothing else lies within.

    It is surely before another one if any of its transactions had ended before one of the other's began.

    Attributes:
        done_ns: When the first of its transactions had ended.
        begun_ns: When the last of them began.
    """

    done_ns: int
    begun_ns: int


class Candidates:
    """Windows by their ends, to find all that end at or after some time and begin at or before another."""

    def __init__(self, windows: Sequence[tuple[int, int]]) -> None:
        self._order = sorted(range(len(windows)), key=lambda at: windows[at][1])
        self._ends = [windows[at][1] for at in self._order]
        self._begins = [windows[at][0] for at in self._order]
        self._first_begin = list(accumulate(reversed(self._begins), min))[::-1]

    def between(self, not_before_ns: int, not_after_ns: int, most: int) -> list[int]:
        """Return the first few of those."""
        found: list[int] = []
        at = bisect_left(self._ends, not_before_ns)
        while at < len(self._ends) and self._first_begin[at] <= not_after_ns and len(found) < most:
            if self._begins[at] <= not_after_ns:
                found.append(self._order[at])
            at += 1
        return found


class Order:
    """Spans of one key, none of which lies within another."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self._spans = spans
        self._order = sorted(range(len(spans)), key=lambda at: spans[at].begun_ns)
        self._begun = [spans[at].begun_ns for at in self._order]
        self._first: list[tuple[int, int, int]] = []  # from each on: the first that was done, whose, and the second
        first, whose, second = LATER_NS, -1, LATER_NS
        for at in reversed(self._order):
            done = spans[at].done_ns
            if done < first:
                first, whose, second = done, at, first
            else:
                second = min(second, done)
            self._first.append((first, whose, second))
        self._first.reverse()

    def over_ns(self, done_ns: int, but: int = -1) -> int:
        """Return from when on something that was done then is surely over: one that is after it was done, too."""
        place = bisect_right(self._begun, done_ns)
        if place == len(self._begun):
            return LATER_NS
        first, whose, second = self._first[place]
        return second if whose == but else first

    def after(self, done_ns: int, but: int = -1) -> tuple[list[int], int]:
        """Return all that are surely after what was done then, except those that are surely after one of these.

        Returns:
            Which they are, and when the first of them was done.
        """
        found: list[int] = []
        first_ns = LATER_NS
        for place in range(bisect_right(self._begun, done_ns), len(self._begun)):
            if self._begun[place] > first_ns:
                break
            at = self._order[place]
            if at != but:
                found.append(at)
                first_ns = min(first_ns, self._spans[at].done_ns)
        return found, first_ns

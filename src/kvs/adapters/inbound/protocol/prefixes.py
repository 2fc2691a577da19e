"""The prefixes of clients that get a message of every change under them."""

from bisect import bisect_left, insort
from collections.abc import Iterable
from typing import Final, final

from kvs.adapters.inbound.protocol.tracking_table import Tracker
from kvs.domain.values import ENTRY_OVERHEAD_BYTES, Key

MAX_LENGTHS: Final = 1024
"""Different lengths of all prefixes: each is a look-up for every key that changes, 3 us of it."""

SEVERAL: Final = -1
"""Stands for the author of a key that several have changed."""


@final
class Audience:
    """The clients with the same prefix.

    Attributes:
        trackers: The clients.
        invalid: Keys of the message that is being collected, each with the author of its change, or :data:`SEVERAL`.
    """

    __slots__ = ("invalid", "trackers")

    def __init__(self) -> None:
        self.trackers: set[Tracker] = set()
        self.invalid: dict[Key, int] = {}

    def invalidate(self, key: Key, author: int) -> bool:
        """Add a key to the message; return whether that is the first."""
        first = not self.invalid
        self.invalid[key] = author if self.invalid.get(key, author) == author else SEVERAL
        return first


@final
class Prefixes:
    """The clients by their prefixes.

    Attributes:
        held_bytes: Memory of the prefixes.
    """

    def __init__(self) -> None:
        self.held_bytes = 0
        self._audiences: dict[Key, Audience] = {}
        self._lengths: list[int] = []  # of all prefixes, in order
        self._counts: dict[int, int] = {}  # of prefixes of each length

    def __len__(self) -> int:
        return len(self._audiences)

    def have_room(self, prefixes: Iterable[Key]) -> bool:
        """Return whether these may be added without there being too many different lengths."""
        return len(self._counts.keys() | {len(prefix) for prefix in prefixes}) <= MAX_LENGTHS

    def add(self, prefix: Key, tracker: Tracker) -> None:
        """Add a prefix of a client, unless it has it."""
        at = bisect_left(tracker.prefixes, prefix)
        if tracker.prefixes[at : at + 1] == [prefix]:
            return
        tracker.prefixes.insert(at, prefix)
        self.held_bytes += ENTRY_OVERHEAD_BYTES + len(prefix)
        audience = self._audiences.get(prefix)
        if audience is None:
            audience = self._audiences[prefix] = Audience()
            length = len(prefix)
            self._counts[length] = self._counts.get(length, 0) + 1
            if self._counts[length] == 1:
                insort(self._lengths, length)
        audience.trackers.add(tracker)

    def remove(self, tracker: Tracker) -> None:
        """Remove all prefixes of a client."""
        for prefix in tracker.prefixes:
            self.held_bytes -= ENTRY_OVERHEAD_BYTES + len(prefix)
            audience = self._audiences[prefix]
            audience.trackers.discard(tracker)
            if not audience.trackers:
                del self._audiences[prefix]
                length = len(prefix)
                self._counts[length] -= 1
                if not self._counts[length]:
                    del self._counts[length]
                    self._lengths.remove(length)
        tracker.prefixes = []

    def audiences_of(self, key: Key) -> tuple[list[Audience], int]:
        """Return who has a prefix of a key, and the number of bytes looked at.

        Complexity:
            O(different lengths of prefixes, up to that of the key).
        """
        found: list[Audience] = []
        size = len(key)
        seen_bytes = 0
        for length in self._lengths:
            if length > size:
                break
            seen_bytes += BYTES_PER_LOOK_UP + length
            audience = self._audiences.get(key[:length])
            if audience is not None:
                found.append(audience)
        return found, seen_bytes


BYTES_PER_LOOK_UP: Final = 500
"""What a look-up costs, in bytes looked at."""

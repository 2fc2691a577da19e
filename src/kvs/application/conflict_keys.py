"""The keys that conflicts are about, without a counter for every key.

The algorithm is *space-saving* (Metwally, Agrawal and El Abbadi, 2005): a key that has no counter takes over the
smallest one, with its count. So a count is too high by at most what it was then, and whatever makes up more than one
part in :data:`COUNTERS` of all conflicts is certainly there.
"""

from threading import Lock
from typing import Final, NamedTuple, final

from kvs.domain.commit import Conflict

COUNTERS: Final = 64
LONGEST_BYTES: Final = 128
"""What is kept of a key; of a longer one the beginning."""


class ConflictKey(NamedTuple):
    """A key, or a range by its prefix, that conflicts have named.

    Attributes:
        key: Its beginning.
        is_prefix: Whether it is a range.
        conflicts: How many conflicts have named it; that may be too high by ``excess``.
        excess: By how much at most.
    """

    key: bytes
    is_prefix: bool
    conflicts: int
    excess: int


@final
class _Counter:
    __slots__ = ("count", "excess")

    def __init__(self, excess: int) -> None:
        self.count = excess
        self.excess = excess


@final
class ConflictKeys:
    """Counts what conflicts name. By any thread."""

    def __init__(self) -> None:
        self._lock = Lock()  # a blocking engine's conflicts are met by workers
        self._counters: dict[tuple[bytes, bool], _Counter] = {}

    def note(self, conflict: Conflict) -> None:
        """Count a conflict, whose keys are the client's."""
        with self._lock:
            for key in conflict.keys:
                self._count(key[:LONGEST_BYTES], is_prefix=False)
            for each in conflict.ranges:
                self._count(each.prefix[:LONGEST_BYTES], is_prefix=True)

    def most(self, number: int) -> list[ConflictKey]:
        """Return those with the highest counts, highest first."""
        with self._lock:
            found = [
                ConflictKey(key, is_prefix, counter.count, counter.excess)
                for (key, is_prefix), counter in self._counters.items()
            ]
        return sorted(found, key=_rank)[:number]

    def _count(self, key: bytes, *, is_prefix: bool) -> None:
        named = (key, is_prefix)
        counter = self._counters.get(named)
        if counter is None:
            excess = 0
            if len(self._counters) >= COUNTERS:
                smallest = min(self._counters, key=self._count_of)
                excess = self._counters.pop(smallest).count
            counter = self._counters[named] = _Counter(excess)
        counter.count += 1

    def _count_of(self, named: tuple[bytes, bool]) -> int:
        return self._counters[named].count


def _rank(counted: ConflictKey) -> tuple[int, bytes]:
    return -counted.conflicts, counted.key

"""The read set of an open transaction: keys, and ranges of keys that are merged where they touch."""

from typing import Final, TypeAlias, final

from mypy_extensions import mypyc_attr

from kvs.domain.commit import KeyRange, ReadSet
from kvs.domain.persistent import Keys
from kvs.domain.values import ENTRY_OVERHEAD_BYTES, Key

MAX_RANGES: Final = 1024
"""Maximum number of ranges in a read set. To validate one, the engine looks up two keys in its index."""

Ranges: TypeAlias = tuple[KeyRange, ...]
"""Ranges in byte order that neither touch nor overlap."""


def with_range(ranges: Ranges, new: KeyRange) -> Ranges:
    """Return the ranges with one added. O(ranges), at most :data:`MAX_RANGES`."""
    low, high = new
    first, end = 0, len(ranges)
    while first < end:  # find the first that ends at or after the start of the new one
        middle = (first + end) // 2
        upper = ranges[middle][1]
        if upper is not None and upper < low:
            first = middle + 1
        else:
            end = middle
    last = first
    while last < len(ranges) and (high is None or ranges[last][0] <= high):
        lower, upper = ranges[last]
        low = min(low, lower)
        high = None if high is None or upper is None else max(high, upper)
        last += 1
    if last == first and len(ranges) >= MAX_RANGES:
        if first == len(ranges) or (first > 0 and _is_nearer(ranges[first - 1], new, ranges[first])):
            first -= 1
            low = ranges[first][0]
        else:
            high = ranges[first][1]
            last += 1
    elif last == first + 1 and ranges[first] == (low, high):
        return ranges
    return (*ranges[:first], KeyRange(low, high), *ranges[last:])


def _is_nearer(before: KeyRange, new: KeyRange, after: KeyRange) -> bool:
    """Return whether the new range is nearer to the one before than to the one after, by common prefixes."""
    left = before[1] or b""  # neither is None: there is a range after each of the two
    right = new[1] or b""
    return _common_bytes(left, new[0]) >= _common_bytes(right, after[0])


def _common_bytes(one: Key, other: Key) -> int:
    length = min(len(one), len(other))
    for at in range(length):
        if one[at] != other[at]:
            return at
    return length


def range_bytes(ranges: Ranges) -> int:
    """Return the memory charged for ranges: both bounds, and an entry for each."""
    size = 0
    for low, high in ranges:
        size += ENTRY_OVERHEAD_BYTES + len(low) + (0 if high is None else len(high))
    return size


NO_KEYS: Final[tuple[Key, ...]] = ()
NO_RANGES: Final[Ranges] = ()


@final
@mypyc_attr(free_list_len=1)  # as of ReadSet, and for the same reason
class TrackedReads(ReadSet):
    """The read set of a transaction so far. Immutable.

    Attributes:
        key_set: The keys.
        range_set: The ranges.
        held_bytes: Memory charged for keys and ranges.
        ranges_bytes: Memory charged for the ranges.
        tracked: Whether it may be validated: a transaction is open and may write. If not, it stays empty.
    """

    __slots__ = ("held_bytes", "key_set", "range_set", "ranges_bytes", "tracked")

    def __init__(
        self,
        snapshot: object,
        key_set: Keys,
        range_set: Ranges,
        held_bytes: int,
        ranges_bytes: int,
        *,
        tracked: bool = True,
    ) -> None:
        super().__init__(snapshot, key_set, range_set)
        self.key_set = key_set
        self.range_set = range_set
        self.held_bytes = held_bytes
        self.ranges_bytes = ranges_bytes
        self.tracked = tracked

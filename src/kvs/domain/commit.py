"""The request to commit a transaction, and its two results.

This is the vocabulary that the transaction stack shares with engines. Terms follow FoundationDB and etcd: a read set
holds the keys and the ranges of keys that were observed (read conflict ranges); a conflict is a result, not an error.
"""

from collections.abc import Collection, Mapping
from typing import Final, NamedTuple, final

from mypy_extensions import mypyc_attr

from kvs.domain.values import Key, Write

MAX_CONFLICTS_NAMED: Final = 8
"""Maximum number of keys, and of ranges, that a conflict names."""


class KeyRange(NamedTuple):
    """The keys from ``low`` up to but excluding ``high``, in byte order; ``high`` is None for no upper bound."""

    low: Key
    high: Key | None

    def holds(self, key: Key) -> bool:
        """Return whether a key lies in the range."""
        return self.low <= key and (self.high is None or key < self.high)

    def covers(self, other: "KeyRange") -> bool:
        """Return whether every key that can be in another range lies in the range."""
        if other.high is not None and other.low >= other.high:
            return True
        return self.low <= other.low and (self.high is None or (other.high is not None and other.high <= self.high))

    @property
    def prefix(self) -> Key:
        """The longest common prefix of the range that its bounds imply; for messages."""
        low, high = self.low, self.high
        if high is None:
            return low[: len(low) - len(low.lstrip(b"\xff"))]
        common = 0
        while common < len(low) and common < len(high) and low[common] == high[common]:
            common += 1
        if common < len(low) and len(high) == common + 1 and low[common] + 1 == high[common]:
            # The upper bound may be the end of a longer prefix: [p, q) is everything under p.
            tail = low[common + 1 :]
            common += 1 + len(tail) - len(tail.lstrip(b"\xff"))
        return low[:common]


def prefix_end(prefix: Key) -> Key | None:
    """Return the lowest key above all keys with the prefix, or None if no key is."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes((stem[-1] + 1,)) if stem else None


def prefix_range(prefix: Key) -> KeyRange:
    """Return the range of all keys that begin with a prefix; the empty prefix is every key."""
    return KeyRange(prefix, prefix_end(prefix))


def page_range(prefix: Key, after: Key, page: list[Key], limit: int) -> KeyRange:
    """Return the range that a page of keys observes: to its last key if it is full, else to the end of the prefix.

    Args:
        prefix: The prefix that was listed.
        after: The page begins after this key.
        page: The keys found.
        limit: The maximum length of the page.
    """
    low = prefix if after < prefix else after + b"\0"
    return KeyRange(low, page[-1] + b"\0" if page and len(page) >= limit else prefix_end(prefix))


@mypyc_attr(free_list_len=1)  # the next one takes its place, most live for one commit: saves 250 instructions
class ReadSet:
    """The keys and ranges that must be unchanged since a snapshot for a commit to succeed.

    Attributes:
        snapshot: The engine's snapshot, opaque to its callers.
        keys: Keys observed, present or absent.
        ranges: Ranges whose set of keys was observed.
    """

    __slots__ = ("keys", "ranges", "snapshot")

    def __init__(self, snapshot: object, keys: Collection[Key], ranges: Collection[KeyRange]) -> None:
        self.snapshot = snapshot
        self.keys = keys
        self.ranges = ranges


@final
@mypyc_attr(free_list_len=1)  # likewise
class CommitRequest:
    """The changes that an engine applies atomically.

    Attributes:
        reads: One read set per snapshot. A transaction has one; watched keys add one for each WATCH.
        writes: Values and tombstones by key. A tombstone for an absent key changes nothing.
        clears: Whether all keys that exist at the moment of the commit are deleted before the writes are applied.
    """

    __slots__ = ("clears", "reads", "writes")

    def __init__(self, reads: tuple[ReadSet, ...], writes: Mapping[Key, Write], clears: bool = False) -> None:  # noqa: FBT001, FBT002  # a keyword costs 40 ns when compiled
        self.reads = reads
        self.writes = writes
        self.clears = clears


@final
@mypyc_attr(free_list_len=1)  # likewise
class Committed:
    """The result of a commit that was applied.

    Attributes:
        version: Number of the commit, greater than that of every earlier commit on the same open engine; a request
            without writes may get the number of the last one.
    """

    __slots__ = ("version",)

    def __init__(self, version: int) -> None:
        self.version = version


@final
class Conflict:
    """The result of a commit that was rejected because something it observed has changed.

    Attributes:
        keys: Up to :data:`MAX_CONFLICTS_NAMED` of the keys that changed.
        ranges: Up to as many of the observed ranges in which keys were added or deleted.
    """

    __slots__ = ("keys", "ranges")

    def __init__(self, keys: tuple[Key, ...], ranges: tuple[KeyRange, ...]) -> None:
        self.keys = keys
        self.ranges = ranges


COMMITTED: Final = Committed(0)
"""The result of a commit without reads or writes, which never reaches an engine."""

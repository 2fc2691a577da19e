"""What the memory engine keeps for open snapshots: old values, key by key, and who still needs them.

Every commit has a number, and a snapshot is the number of the last commit it sees. When a value is replaced, the old
one is kept in a short list of that key alone, and only if an open snapshot can see it. The list reads: replaced at
commit c1 (before: v1), at c2 (before: v2), ... A snapshot sees the value of the first entry above its own number, or
the current one if there is none; a key has changed for it if the last entry is above its number. So neither reads nor
writes depend on how many snapshots are open.

*Versions* stand in the data set itself, in place of the value, so that one look-up finds both. A second map beside it
would be as large, and as cold in the processor's caches: beside a thousand open snapshots a PUT took 2.5 times as long.

*Points.* Snapshots of the same commit share a :class:`Point`. The one of the latest commit is kept apart, for nothing
has to be kept for it: a transaction that nobody else's commit comes in between never gets any further.

*Collection.* What a closed snapshot leaves behind is found bit by bit: each write, and each tick, looks at a few of the
keys that have history, in turn, and drops the entries that no open snapshot needs any more. Garbage never outgrows the
live part by more than a constant factor, and nothing ever has to stop for it. If what is kept outgrows its limit all
the same, the oldest snapshot is given up.
"""

from bisect import bisect_left, bisect_right
from typing import Final, final

from mypy_extensions import mypyc_attr

from kvs.adapters.storage.memory.key_index import NO_KEYS, Root, tree_bytes
from kvs.domain.values import Key, Value, entry_bytes

SWEPT_PER_WRITE: Final = 2
"""Entries looked at per write: it adds one at the most, so the collector is the faster of the two."""

SWEPT_PER_TICK: Final = 16
SWEPT_UNDER_PRESSURE: Final = 32
"""Entries looked at per write when history is over its limit: it can overshoot by 1/32 until a full turn has shown that
what is left is needed."""


@final
@mypyc_attr(acyclic=True)  # there are many, and the cyclic collector need not look at them
class Versions:
    """The value of a key, and old ones.

    Attributes:
        key: The key.
        current: The value; None: there is no such key now.
        changed: The last of ``commits``, at hand without a look into the list. A later change is not noted while no
            snapshot is newer than this.
        commits: When each of ``values`` was replaced, ascending; never empty while this is part of the data set.
        values: Old values; None: there was no such key.
    """

    __slots__ = ("changed", "commits", "current", "key", "values")

    def __init__(self, key: Key, current: Value | None) -> None:
        self.key = key
        self.current = current
        self.changed = 0
        self.commits: list[int] = []
        self.values: list[Value | None] = []

    def at(self, number: int) -> Value | None:
        """Return the value as of a commit that is an open point. O(log k) in the old values, O(1) at both ends."""
        if number >= self.changed:
            return self.current
        if number < self.commits[0]:
            return self.values[0]
        return self.values[bisect_right(self.commits, number)]


@final
class Point:
    """A commit that snapshots look at.

    Attributes:
        number: Number of the last commit they see.
        root: The keys they see.
        holders: How many snapshots are open here.
        copied_bytes: Upper bound of the tree nodes kept for this point and older ones.
        expired: Given up, because history outgrew its limit.
    """

    __slots__ = ("copied_bytes", "expired", "holders", "number", "root")

    def __init__(self, number: int, root: Root) -> None:
        self.number = number
        self.root = root
        self.holders = 0
        self.copied_bytes = 0
        self.expired = False


@final
class History:
    """Old values and points.

    Args:
        data: The data set, in which a value may be a :class:`Versions`.
        max_bytes: Most that may be kept.

    Attributes:
        latest: The point of the latest commit, if a snapshot has been taken there.
        newest: Number of the newest open point before that, for which replaced values are to be kept; -1: none.
        held_bytes: What is kept.
        kept: Whether any key has versions.
        idle: Whether nobody has to think of history: none is kept, and no snapshot is open.
    """

    __slots__ = (
        "_credit",
        "_data",
        "_hand",
        "_max_bytes",
        "_numbers",
        "_points",
        "_ring",
        "_swept_under_pressure",
        "_unswept",
        "held_bytes",
        "idle",
        "kept",
        "latest",
        "newest",
    )

    def __init__(self, data: dict[Key, Value | Versions], max_bytes: int) -> None:
        self._data = data
        self.latest: Point | None = None
        self.newest = -1
        self.held_bytes = 0
        self.kept = False
        self.idle = True
        self._max_bytes = max_bytes
        self._numbers: list[int] = []  # of the open points but the latest, ascending
        self._points: list[Point] = []  # in the same order
        self._ring: list[Versions] = []  # of all keys that have any, for the collector to take in turn
        self._hand = 0
        self._unswept = 0  # of those, how many may have something to drop
        self._credit = 0  # entries the collector may look at; below 0 it has looked ahead
        self._swept_under_pressure = 0

    @property
    def open_points(self) -> int:
        """Number of different commits that open snapshots look at."""
        return len(self._points) + (self.latest is not None and self.latest.holders > 0)

    def open(self, commit: int, root: Root) -> Point:
        """Return the point of the latest commit, for one more snapshot."""
        if self.latest is None:
            self.latest = Point(commit, root)
            self.idle = False
        return self.latest

    def leave_latest(self) -> None:
        """Learn that a commit follows the point of the latest one. To be called before its first write."""
        point, self.latest = self.latest, None
        if point is not None and point.holders:
            self._numbers.append(point.number)
            self._points.append(point)
            self.newest = point.number
        self._settle()

    def release(self, point: Point) -> None:
        """Forget one holder of a point, and the point with the last of them."""
        point.holders -= 1
        if point.holders == 0 and point is not self.latest and not point.expired:
            self._forget(point)

    def begin(self, commit: int, key: Key, old: Value | None, new: Value | None) -> Versions:
        """Return what is to stand in the data set for a key that a commit changes, and that has had no versions."""
        versions = Versions(key, new)
        self._ring.append(versions)
        self.idle = False
        if self._unswept > 0:  # a walk has to get past this one, though it is needed now
            self._unswept += 1
        self.kept = True
        self._keep(versions, commit, old)
        return versions

    def replace(self, versions: Versions, commit: int, new: Value | None) -> None:
        """Change the value of a key that has versions, and keep the old one if an open snapshot sees it."""
        if versions.changed <= self.newest:
            self._keep(versions, commit, versions.current)
        versions.current = new

    def _keep(self, versions: Versions, commit: int, old: Value | None) -> None:
        versions.changed = commit
        versions.commits.append(commit)
        versions.values.append(old)
        self.held_bytes += entry_bytes(versions.key, old)

    def keep_nodes(self, copied_bytes: int) -> None:
        """Account for tree nodes that were copied because the newest point sees them."""
        self._points[-1].copied_bytes += copied_bytes
        self.held_bytes += copied_bytes

    def keep_tree(self) -> None:
        """Account for all the tree nodes that the newest point sees: from now on nobody else needs them."""
        point = self._points[-1]
        self.keep_nodes(max(0, tree_bytes(point.root) - point.copied_bytes))

    def drop(self) -> None:
        """Forget everything that is kept, which no open snapshot sees. The caller takes it out of the data."""
        self._ring.clear()
        self._hand = self._unswept = self._credit = self._swept_under_pressure = 0
        self.held_bytes = 0
        self.kept = False
        self._settle()

    def collect(self) -> None:
        """Drop some of what is no longer needed; give up the oldest snapshot if what is needed is too much."""
        if self.held_bytes <= self._max_bytes:
            self._swept_under_pressure = 0
            if self._unswept > 0:
                self._sweep(SWEPT_PER_WRITE)
            return
        self._swept_under_pressure += self._sweep(SWEPT_UNDER_PRESSURE)
        if self.held_bytes > self._max_bytes and self._swept_under_pressure >= len(self._ring):
            self._swept_under_pressure = 0
            if self._points:
                oldest = self._points[0]
                oldest.expired = True
                self._forget(oldest)
                oldest.root = NO_KEYS  # its holders may be slow to go

    def collect_between(self) -> None:
        """Drop a little of what is no longer needed, whether anybody writes or not."""
        if self._unswept > 0:
            self._sweep(SWEPT_PER_TICK)

    def _settle(self) -> None:
        self.idle = self.latest is None and self.newest < 0 and not self.kept

    def _sweep(self, entries: int) -> int:
        """Look at the next keys that have history, as far as this many more entries go; return how many keys.

        A key with many entries is looked at whole, and paid for by the next calls.
        """
        ring = self._ring
        looked_at = 0
        self._credit += entries
        while self._credit > 0 and ring:
            self._hand -= 1
            if self._hand < 0 or self._hand >= len(ring):
                self._hand = len(ring) - 1
            versions = ring[self._hand]
            self._credit -= len(versions.commits)
            looked_at += 1
            if self._prune(versions):
                if versions.current is None:
                    del self._data[versions.key]
                else:
                    self._data[versions.key] = versions.current
                last = ring.pop()
                if self._hand < len(ring):
                    ring[self._hand] = last
        self._unswept -= looked_at
        self._credit = min(self._credit, 0)
        self.kept = len(ring) > 0
        self._settle()
        return looked_at

    def _prune(self, versions: Versions) -> bool:
        """Drop the entries of a key that no open snapshot needs; return whether none is left."""
        numbers = self._numbers
        kept = 0
        before = 0  # open snapshots older than the entry before this one
        for at in range(len(versions.commits)):
            commit, value = versions.commits[at], versions.values[at]
            older = bisect_left(numbers, commit)
            if older > before:
                versions.commits[kept] = commit
                versions.values[kept] = value
                kept += 1
            else:
                self.held_bytes -= entry_bytes(versions.key, value)
            before = older
        del versions.commits[kept:]
        del versions.values[kept:]
        return kept == 0

    def _forget(self, point: Point) -> None:
        """Take a point out of the list.

        The tree nodes kept for it pass to the next older one, which may share them, but never more than its whole tree.
        O(log s) compares in the s open points, and a move of at most 8 s bytes.
        """
        self._unswept = 2 * len(self._ring)  # a walk meets some twice, where a last one filled a gap
        at = bisect_left(self._numbers, point.number)
        del self._numbers[at]
        del self._points[at]
        self.newest = self._numbers[-1] if self._numbers else -1
        self._settle()
        self.held_bytes -= point.copied_bytes
        if at > 0 and point.copied_bytes:
            older = self._points[at - 1]
            self.held_bytes -= older.copied_bytes
            older.copied_bytes = min(older.copied_bytes + point.copied_bytes, tree_bytes(older.root))
            self.held_bytes += older.copied_bytes
        point.copied_bytes = 0

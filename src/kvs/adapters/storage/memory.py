"""The memory engine: a dict of bytes, with just enough history for the snapshots that are open.

Every commit has a number. A snapshot is a commit number and the root of the key tree at that moment, both had for
nothing. Sessions that start at the same commit share one :class:`_Point`.

*Values.* When a value is replaced, the old one is kept in a short list of that key alone, and only if an open snapshot
can see it. The list reads: replaced at commit c1 (before: v1), at c2 (before: v2), ... A snapshot sees the value of the
first entry above its own number, or the current one if there is none; a key has changed for it if the last entry is
above its number. So neither reads nor writes depend on how many snapshots are open.

*Keys.* Which keys existed is answered by the root of the tree alone (:mod:`kvs.adapters.storage.key_tree`).

*Collection.* What a closed snapshot leaves behind is found bit by bit: each write, and each tick, looks at a few of the
keys that have history, in turn, and drops the entries that no open snapshot needs any more. Garbage never outgrows the
live part by more than a constant factor, and nothing ever has to stop for it. If what is kept outgrows its limit all
the same, the oldest snapshot is given up.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from typing import Final, final

from kvs.adapters.storage.key_tree import KeyTree, Root, count_prefix, same_keys, scan_prefix
from kvs.domain.errors import LimitError, TimedOutError
from kvs.domain.transaction import COMMITTED, MAX_CONFLICTS_NAMED, CommitRequest, Committed, Conflict
from kvs.domain.values import TOMBSTONE, Key, Pending, Value, entry_bytes
from kvs.ports.storage import Snapshot, Storage

SWEPT_PER_WRITE: Final = 2
"""Entries looked at per write: it adds one at the most, so the collector is the faster of the two."""

SWEPT_PER_TICK: Final = 16
SWEPT_UNDER_PRESSURE: Final = 32
"""Entries looked at per write when history is over its limit: it can overshoot by 1/32 until a full turn has shown that
what is left is needed."""


@final
class _History:
    """Old values of one key: ``values[i]`` (None: absent) was replaced at commit ``commits[i]``, ascending."""

    __slots__ = ("commits", "values")

    def __init__(self) -> None:
        self.commits: list[int] = []
        self.values: list[Value | None] = []


@final
class _Point:
    """A commit that snapshots look at.

    Attributes:
        number: Number of the last commit they see.
        root: The keys they see.
        holders: How many snapshots are open here.
        copied_bytes: Upper bound of the tree nodes kept for this point and older ones.
        expired: Given up, because history outgrew its limit.
    """

    __slots__ = ("copied_bytes", "expired", "holders", "number", "root", "tree_bytes")

    def __init__(self, number: int, root: Root, tree_bytes: int) -> None:
        self.number = number
        self.root = root
        self.tree_bytes = tree_bytes
        self.holders = 0
        self.copied_bytes = 0
        self.expired = False


@final
class MemorySnapshot(Snapshot):
    """A view of one :class:`MemoryStorage` as it was at one commit."""

    __slots__ = ("_point", "_released", "_storage")

    def __init__(self, storage: "MemoryStorage", point: _Point) -> None:
        self._storage = storage
        self._point = point
        self._released = False
        point.holders += 1

    @property
    def expired(self) -> bool:
        """See :class:`kvs.ports.storage.Snapshot`."""
        return self._point.expired

    def get(self, key: Key) -> Value | None:
        """See :class:`kvs.ports.storage.Snapshot`. O(log k) in the entries the key has."""
        return self._storage.get_at(self.point(), key)

    def scan(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        """See :class:`kvs.ports.storage.Snapshot`. O(limit + log n)."""
        return scan_prefix(self.point().root, prefix, after, limit)

    def count(self, prefix: Key) -> int:
        """See :class:`kvs.ports.storage.Snapshot`. O(log n)."""
        return count_prefix(self.point().root, prefix)

    def close(self) -> None:
        """See :class:`kvs.ports.storage.Snapshot`. Nothing happens if a commit has used the snapshot up."""
        if not self._released:
            self._released = True
            self._storage.release(self._point)

    def point(self) -> _Point:
        """Return where this snapshot looks, unless it had to be given up."""
        if self._point.expired:
            raise TimedOutError(
                "The transaction was ended: the values kept for its snapshot outgrew max_history_bytes."
            )
        return self._point


@final
class MemoryStorage(Storage):
    """The engine; see the head of this module. Not thread-safe: one loop calls it.

    Args:
        max_data_bytes: Most that keys and values may hold, by :func:`kvs.domain.values.entry_bytes`; 0: no limit.
        max_history_bytes: Most that may be kept for open snapshots.
    """

    __slots__ = (
        "_commits",
        "_credit",
        "_data",
        "_data_bytes",
        "_hand",
        "_history",
        "_history_bytes",
        "_max_data_bytes",
        "_max_history_bytes",
        "_numbers",
        "_points",
        "_swept_under_pressure",
        "_tree",
        "_unswept",
        "_with_history",
    )

    def __init__(self, max_data_bytes: int, max_history_bytes: int) -> None:
        self._max_data_bytes = max_data_bytes
        self._max_history_bytes = max_history_bytes
        self._data: dict[Key, Value] = {}
        self._data_bytes = 0
        self._tree = KeyTree()
        self._commits = 0
        self._numbers: list[int] = []  # of the open points, ascending
        self._points: list[_Point] = []  # in the same order
        self._history: dict[Key, _History] = {}
        self._history_bytes = 0
        self._with_history: list[Key] = []  # the keys of _history, for the collector to take in turn
        self._hand = 0
        self._unswept = 0  # of those, how many may have something to drop
        self._credit = 0  # entries the collector may look at; below 0 it has looked ahead
        self._swept_under_pressure = 0

    def get(self, key: Key) -> Value | None:
        """See :class:`kvs.ports.storage.Storage`. O(1)."""
        return self._data.get(key)

    def put(self, key: Key, value: Value) -> None:
        """See :class:`kvs.ports.storage.Storage`. O(1), and O(log n) for a new key.

        Raises:
            LimitError: The data set would outgrow ``max_data_bytes``.
        """
        if self._max_data_bytes:
            self._reserve({key: value})
        self._commits += 1
        self._put(key, value)
        if self._with_history:
            self._collect()

    def delete(self, key: Key) -> bool:
        """See :class:`kvs.ports.storage.Storage`. O(log n)."""
        if key not in self._data:
            return False
        self._commits += 1
        self._delete(key)
        if self._with_history:
            self._collect()
        return True

    def scan(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        """See :class:`kvs.ports.storage.Storage`. O(limit + log n)."""
        return scan_prefix(self._tree.root, prefix, after, limit)

    def count(self, prefix: Key) -> int:
        """See :class:`kvs.ports.storage.Storage`. O(log n)."""
        return count_prefix(self._tree.root, prefix)

    def snapshot(self) -> MemorySnapshot:
        """See :class:`kvs.ports.storage.Storage`. O(1)."""
        if self._numbers and self._numbers[-1] == self._commits:
            return MemorySnapshot(self, self._points[-1])
        point = _Point(self._commits, self._tree.root, self._tree.size_bytes())
        self._numbers.append(self._commits)
        self._points.append(point)
        return MemorySnapshot(self, point)

    def commit(self, request: CommitRequest) -> Committed | Conflict:
        """See :class:`kvs.ports.storage.Storage`. Uses the snapshots of the request up when it succeeds.

        Raises:
            LimitError: The data set would outgrow ``max_data_bytes``.
            TimedOutError: A snapshot had to be given up.
        """
        conflict = self._changed(request)
        if conflict is not None:
            return conflict
        if self._max_data_bytes:
            self._reserve(request.writes)
        # From here on nothing can fail, and the snapshots of this very request need no history.
        for validation in request.validations:
            _snapshot_of(validation.snapshot).close()
        self._commits += 1
        writes = request.writes
        if isinstance(writes, dict):  # as nearly always; the compiler walks a dict four times faster than any mapping
            for key, pending in writes.items():
                self._write(key, pending)
        else:
            for key, pending in writes.items():
                self._write(key, pending)
        return COMMITTED

    def sync(self) -> None:
        """See :class:`kvs.ports.storage.Storage`. Memory has nothing to make durable; a tick collects a little."""
        if self._unswept > 0:
            self._sweep(SWEPT_PER_TICK)

    def stats(self) -> Mapping[str, int]:
        """See :class:`kvs.ports.storage.Storage`."""
        return {"keys": len(self._data), "snapshots": len(self._points), "history_bytes": self._history_bytes}

    def close(self) -> None:
        """See :class:`kvs.ports.storage.Storage`."""

    # What snapshots ask of their engine.

    def get_at(self, point: _Point, key: Key) -> Value | None:
        """Return the value of a key as of a point, or None."""
        history = self._history.get(key)
        if history is not None:
            at = bisect_right(history.commits, point.number)
            if at < len(history.commits):
                return history.values[at]
        return self._data.get(key)

    def release(self, point: _Point) -> None:
        """Forget one holder of a point, and the point with the last of them."""
        point.holders -= 1
        if point.holders == 0 and not point.expired:
            self._forget(point)

    # Writing.

    def _write(self, key: Key, pending: Pending) -> None:
        if isinstance(pending, bytes):
            self._put(key, pending)
        elif key in self._data:
            self._delete(key)
        if self._with_history:
            self._collect()

    def _put(self, key: Key, value: Value) -> None:
        if self._numbers:
            self._keep(key)
        data = self._data
        keys = len(data)
        data[key] = value
        if len(data) != keys:
            self._index(key, present=True)

    def _delete(self, key: Key) -> None:
        if self._numbers:
            self._keep(key)
        value = self._data.pop(key)
        if self._max_data_bytes:
            self._data_bytes -= entry_bytes(key, value)
        self._index(key, present=False)

    def _index(self, key: Key, *, present: bool) -> None:
        tree = self._tree
        seen = self._numbers[-1] if self._numbers else -1
        copied = tree.copied_bytes
        if present:
            tree.add(key, self._commits, seen)
        else:
            tree.discard(key, self._commits, seen)
        copied = tree.copied_bytes - copied
        if copied:
            self._points[-1].copied_bytes += copied
            self._history_bytes += copied

    def _reserve(self, writes: Mapping[Key, Pending]) -> None:
        """Account for writes before they are made, or refuse them if the data set would grow beyond its limit."""
        growth = 0
        released = 0
        for key, pending in writes.items():
            old = self._data.get(key)
            if old is not None:
                growth -= entry_bytes(key, old)
            if pending is not TOMBSTONE:
                growth += entry_bytes(key, pending)
            elif old is not None:
                released += entry_bytes(key, old)
        if growth > 0 and self._data_bytes + growth > self._max_data_bytes:
            raise LimitError(
                f"The data set is full: it holds {self._data_bytes} bytes of max_data_bytes = {self._max_data_bytes}, "
                f"and this needs {growth} more. Deletes are not refused."
            )
        self._data_bytes += growth + released  # what is released is taken off by _delete

    # Validating.

    def _changed(self, request: CommitRequest) -> Conflict | None:
        keys: list[Key] = []
        prefixes: list[Key] = []
        for validation in request.validations:
            point = _snapshot_of(validation.snapshot).point()
            if point.number == self._commits:
                continue
            for key in validation.keys:
                history = self._history.get(key)
                if history is not None and history.commits[-1] > point.number and len(keys) < MAX_CONFLICTS_NAMED:
                    keys.append(key)
            for prefix in validation.prefixes:
                if len(prefixes) < MAX_CONFLICTS_NAMED and not same_keys(point.root, self._tree.root, prefix):
                    prefixes.append(prefix)
        return Conflict(tuple(keys), tuple(prefixes)) if keys or prefixes else None

    # Keeping history, and collecting it.

    def _keep(self, key: Key) -> None:
        """Keep what a write of the current commit is about to replace, if an open snapshot sees it."""
        history = self._history.get(key)
        if history is None:
            history = self._history[key] = _History()
            self._with_history.append(key)
            self._unswept += 1
        elif history.commits[-1] > self._numbers[-1]:
            return
        value = self._data.get(key)
        history.commits.append(self._commits)
        history.values.append(value)
        self._history_bytes += entry_bytes(key, value)

    def _collect(self) -> None:
        """Drop some of what is no longer needed; give up the oldest snapshot if what is needed is too much."""
        if self._history_bytes <= self._max_history_bytes:
            self._swept_under_pressure = 0
            if self._unswept > 0:
                self._sweep(SWEPT_PER_WRITE)
            return
        self._swept_under_pressure += self._sweep(SWEPT_UNDER_PRESSURE)
        if self._history_bytes > self._max_history_bytes and self._swept_under_pressure >= len(self._with_history):
            self._swept_under_pressure = 0
            if self._points:
                oldest = self._points[0]
                oldest.expired = True
                self._forget(oldest)
                oldest.root = KeyTree().root  # holders may keep it for long

    def _sweep(self, entries: int) -> int:
        """Look at the next keys that have history, as far as this many more entries go; return how many keys.

        A key with many entries is looked at whole, and paid for by the next calls.
        """
        ring = self._with_history
        looked_at = 0
        self._credit += entries
        while self._credit > 0 and ring:
            self._hand -= 1
            if self._hand < 0 or self._hand >= len(ring):
                self._hand = len(ring) - 1
            key = ring[self._hand]
            history = self._history[key]
            self._credit -= len(history.commits)
            looked_at += 1
            if self._prune(key, history):
                del self._history[key]
                last = ring.pop()
                if self._hand < len(ring):
                    ring[self._hand] = last
        self._unswept -= looked_at
        self._credit = min(self._credit, 0)
        return looked_at

    def _prune(self, key: Key, history: _History) -> bool:
        """Drop the entries of a key that no open snapshot needs; return whether none is left."""
        numbers = self._numbers
        kept = 0
        before = 0  # open snapshots older than the entry before this one
        for at in range(len(history.commits)):
            commit, value = history.commits[at], history.values[at]
            older = bisect_left(numbers, commit)
            if older > before:
                history.commits[kept] = commit
                history.values[kept] = value
                kept += 1
            else:
                self._history_bytes -= entry_bytes(key, value)
            before = older
        del history.commits[kept:]
        del history.values[kept:]
        return kept == 0

    def _forget(self, point: _Point) -> None:
        """Take a point out of the list.

        The tree nodes kept for it pass to the next older one, which may share them, but never more than its whole tree.
        O(log s) compares in the s open points, and a move of at most 8 s bytes.
        """
        self._unswept = 2 * len(self._with_history)  # a walk meets some twice, where a last one filled a gap
        if point is self._points[-1]:  # as nearly always where transactions are short
            at = len(self._points) - 1
            self._numbers.pop()
            self._points.pop()
        else:
            at = bisect_left(self._numbers, point.number)
            del self._numbers[at]
            del self._points[at]
        if not point.copied_bytes:
            return
        self._history_bytes -= point.copied_bytes
        if at > 0:
            older = self._points[at - 1]
            self._history_bytes -= older.copied_bytes
            older.copied_bytes = min(older.copied_bytes + point.copied_bytes, older.tree_bytes)
            self._history_bytes += older.copied_bytes
        point.copied_bytes = 0


def _snapshot_of(token: object) -> MemorySnapshot:
    if not isinstance(token, MemorySnapshot):
        raise TypeError(f"not a snapshot of this engine: {type(token).__name__}")
    return token

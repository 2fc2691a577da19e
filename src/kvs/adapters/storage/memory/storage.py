"""The memory engine: a dict of bytes, a tree of its keys, and just enough history for the snapshots that are open.

A snapshot is a commit number and the root of the key tree at that moment, both had for nothing. Values as of then stand
beside the current ones (:mod:`kvs.adapters.storage.memory.versions`); which keys existed is told by the root alone
(:mod:`kvs.adapters.storage.memory.key_index`).
"""

from collections.abc import Iterable, Mapping
from typing import final

from kvs.adapters.storage.memory.key_index import KeyIndex, count_prefix, same_keyset, scan_prefix
from kvs.adapters.storage.memory.versions import History, Point, Versions
from kvs.domain.commit import MAX_CONFLICTS_NAMED, CommitRequest, Committed, Conflict, KeyRange
from kvs.domain.errors import LimitError, TimedOutError
from kvs.domain.updates import Update, Updated
from kvs.domain.values import TOMBSTONE, Key, Value, Write, entry_bytes
from kvs.ports.storage import Snapshot, Storage


@final
class MemorySnapshot(Snapshot):
    """A view of one :class:`MemoryStorage` as it was at one commit."""

    __slots__ = ("_point", "_released", "_storage")

    def __init__(self, storage: "MemoryStorage", point: Point) -> None:
        self._storage = storage
        self._point = point
        self._released = False
        point.holders += 1

    @property
    def expired(self) -> bool:
        """See :class:`kvs.ports.storage.Snapshot`."""
        return self._point.expired

    def get(self, key: Key) -> Value | None:
        """See :class:`kvs.ports.storage.Snapshot`. O(log k) in the old values the key has."""
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
            self._storage.history.release(self._point)

    def point(self) -> Point:
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

    __slots__ = ("_commits", "_data", "_data_bytes", "_max_data_bytes", "_tree", "history")

    def __init__(self, max_data_bytes: int, max_history_bytes: int) -> None:
        self._max_data_bytes = max_data_bytes
        self._data: dict[Key, Value | Versions] = {}
        # The collector looks at a dict only once there has been something in it to look at. Let that be now, while it
        # is empty: when it is large, the first snapshot would stop everybody for that look, 10 ms at a million keys.
        # (Compiled versions are nothing to look at, so there it never does.)
        self._data[b""] = Versions(b"", None)
        del self._data[b""]
        self._data_bytes = 0
        self._tree = KeyIndex()
        self._commits = 0
        self.history = History(self._data, max_history_bytes)

    def restore(self, rows: Iterable[tuple[Key, Value | None]]) -> None:
        """Fill an engine that nobody has used yet: each key has the last of its values, or is absent if that is None.

        No limit applies: what is here was accepted once. O(n), and O(n log n) in keys that do not come in order.
        """
        data = self._data
        for key, value in rows:
            if value is not None:
                data[key] = value
            else:
                data.pop(key, None)
        self._tree.bulk_load(sorted(data))
        if self._max_data_bytes:
            for key in data:
                self._data_bytes += entry_bytes(key, self.get(key))

    def get(self, key: Key) -> Value | None:
        """See :class:`kvs.ports.storage.Storage`. O(1)."""
        value = self._data.get(key)
        return value.current if isinstance(value, Versions) else value

    def put(self, key: Key, value: Value) -> None:
        """See :class:`kvs.ports.storage.Storage`. O(1), and O(log n) for a new key.

        Raises:
            LimitError: The data set would outgrow ``max_data_bytes``.
        """
        if self._max_data_bytes:
            self._reserve({key: value})
        self._begin_commit()
        self._put(key, value)
        if self.history.kept:
            self.history.collect()

    def delete(self, key: Key) -> bool:
        """See :class:`kvs.ports.storage.Storage`. O(log n)."""
        if self.get(key) is None:
            return False
        self._begin_commit()
        self._delete(key)
        if self.history.kept:
            self.history.collect()
        return True

    def update(self, key: Key, update: Update) -> Updated:
        """See :class:`kvs.ports.storage.Storage`. As the put or the delete that comes of it."""
        old = self.get(key)
        pending = update(old)
        if isinstance(pending, bytes):
            self.put(key, pending)
            return old, pending
        if pending is None:
            return old, old
        self.delete(key)
        return old, None

    def clear(self) -> None:
        """See :class:`kvs.ports.storage.Storage`. O(n), and much faster if no snapshot is open that sees it."""
        if not self._tree.root.count:
            return
        self._begin_commit()
        history = self.history
        if history.newest >= 0:
            self._take_out_all()
        if history.newest < 0:
            history.drop()
            self._data.clear()
        self._tree = KeyIndex()
        self._data_bytes = 0

    def scan(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        """See :class:`kvs.ports.storage.Storage`. O(limit + log n)."""
        return scan_prefix(self._tree.root, prefix, after, limit)

    def count(self, prefix: Key) -> int:
        """See :class:`kvs.ports.storage.Storage`. O(log n)."""
        return count_prefix(self._tree.root, prefix)

    def snapshot(self) -> MemorySnapshot:
        """See :class:`kvs.ports.storage.Storage`. O(1)."""
        return MemorySnapshot(self, self.history.open(self._commits, self._tree.root))

    def commit(self, request: CommitRequest) -> Committed | Conflict:
        """See :class:`kvs.ports.storage.Storage`. Uses the snapshots of the request up when it succeeds.

        Raises:
            LimitError: The data set would outgrow ``max_data_bytes``.
            TimedOutError: A snapshot had to be given up.
        """
        if self._is_behind(request):
            conflict = self._changed(request)
            if conflict is not None:
                return conflict
        if self._max_data_bytes:
            self._reserve(request.writes, clears=request.clears)
        # From here on nothing can fail, and the snapshots of this very request need no history.
        for reads in request.reads:
            _snapshot_of(reads.snapshot).close()
        if request.clears:
            self.clear()
        self._begin_commit()
        writes = request.writes
        if isinstance(writes, dict):  # as nearly always; the compiler walks a dict four times faster than any mapping
            for key, pending in writes.items():
                self._write(key, pending)
        else:
            for key, pending in writes.items():
                self._write(key, pending)
        return Committed(self._commits)

    def sync(self) -> None:
        """See :class:`kvs.ports.storage.Storage`. Memory has nothing to make durable; a tick collects a little."""
        if self.history.kept:
            self.history.collect_between()

    def stats(self) -> Mapping[str, int]:
        """See :class:`kvs.ports.storage.Storage`."""
        history = self.history
        return {"keys": self._tree.root.count, "snapshots": history.open_points, "history_bytes": history.held_bytes}

    def close(self) -> None:
        """See :class:`kvs.ports.storage.Storage`."""

    def get_at(self, point: Point, key: Key) -> Value | None:
        """Return the value of a key as of a point, or None."""
        value = self._data.get(key)
        return value.at(point.number) if isinstance(value, Versions) else value

    # Writing.

    def _begin_commit(self) -> None:
        self._commits += 1
        if not self.history.idle:
            self.history.leave_latest()

    def _write(self, key: Key, pending: Write) -> None:
        if isinstance(pending, bytes):
            self._put(key, pending)
        elif self.get(key) is not None:
            self._delete(key)
        if self.history.kept:
            self.history.collect()

    def _put(self, key: Key, value: Value) -> None:
        data, history = self._data, self.history
        if history.idle:  # as nearly always
            keys = len(data)
            data[key] = value
            if len(data) != keys:
                self._index(key, present=True)
            return
        old = data.get(key)
        if isinstance(old, Versions):
            present = old.current is not None
            history.replace(old, self._commits, value)
        else:
            present = old is not None
            data[key] = value if history.newest < 0 else history.begin(self._commits, key, old, value)
        if not present:
            self._index(key, present=True)

    def _delete(self, key: Key) -> None:
        """Delete a key that there is."""
        old = self._data[key]
        if self._max_data_bytes:
            self._data_bytes -= entry_bytes(key, old.current if isinstance(old, Versions) else old)
        self._take_out(key, old)
        self._index(key, present=False)

    def _take_out(self, key: Key, old: Value | Versions) -> None:
        """Take a value out of the data, and keep it for the snapshots that see it."""
        if isinstance(old, Versions):
            self.history.replace(old, self._commits, None)
        elif self.history.newest < 0:
            del self._data[key]
        else:
            self._data[key] = self.history.begin(self._commits, key, old, None)

    def _take_out_all(self) -> None:
        """Take all values out of the data, or those before keeping them has become too much."""
        history = self.history
        history.keep_tree()
        for key in list(self._data):  # a list, for the collector takes keys out
            old = self._data.get(key)
            if old is not None and not (isinstance(old, Versions) and old.current is None):
                self._take_out(key, old)
                history.collect()
                if history.newest < 0:
                    return

    def _index(self, key: Key, *, present: bool) -> None:
        tree = self._tree
        copied_bytes = tree.copied_bytes
        if present:
            tree.add(key, self._commits, self.history.newest)
        else:
            tree.discard(key, self._commits, self.history.newest)
        if tree.copied_bytes != copied_bytes:
            self.history.keep_nodes(tree.copied_bytes - copied_bytes)

    def _reserve(self, writes: Mapping[Key, Write], *, clears: bool = False) -> None:
        """Account for writes before they are made, or refuse them if the data set would grow beyond its limit."""
        growth = -self._data_bytes if clears else 0
        released = 0
        for key, pending in writes.items():
            old = None if clears else self.get(key)
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

    def _is_behind(self, request: CommitRequest) -> bool:
        """Return whether there has been a commit since any snapshot of a request."""
        for reads in request.reads:
            if _snapshot_of(reads.snapshot).point() is not self.history.latest:
                return True
        return False

    def _changed(self, request: CommitRequest) -> Conflict | None:
        keys: list[Key] = []
        ranges: list[KeyRange] = []
        for reads in request.reads:
            point = _snapshot_of(reads.snapshot).point()
            for key in reads.keys:
                value = self._data.get(key)
                if isinstance(value, Versions) and value.changed > point.number and len(keys) < MAX_CONFLICTS_NAMED:
                    keys.append(key)
            for low, high in reads.ranges:
                if len(ranges) < MAX_CONFLICTS_NAMED and not same_keyset(point.root, self._tree.root, low, high):
                    ranges.append(KeyRange(low, high))
        return Conflict(tuple(keys), tuple(ranges)) if keys or ranges else None


def _snapshot_of(token: object) -> MemorySnapshot:
    if not isinstance(token, MemorySnapshot):
        raise TypeError(f"not a snapshot of this engine: {type(token).__name__}")
    return token

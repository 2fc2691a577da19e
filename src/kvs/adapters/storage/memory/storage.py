"""The memory engine: a dict of bytes, an index of its keys, and the old versions that open snapshots need.

A snapshot is a commit number and the root of the key index at that moment, both free of cost. Old values are stored
beside the current ones (:mod:`kvs.adapters.storage.memory.versions`); the root determines which keys existed
(:mod:`kvs.adapters.storage.memory.key_index`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, final

from kvs.adapters.storage.deadlines import DeadlineIndex
from kvs.adapters.storage.memory.headroom import YOUNG_S, Headroom
from kvs.adapters.storage.memory.key_index import KeyIndex, count_prefix, scan_prefix
from kvs.adapters.storage.memory.snapshot import MemorySnapshot, snapshot_of
from kvs.adapters.storage.memory.sparse import SparseWatch
from kvs.adapters.storage.memory.sweep import Sweep
from kvs.adapters.storage.memory.teardown import Teardown
from kvs.adapters.storage.memory.validation import changed, is_behind
from kvs.adapters.storage.memory.version_chain import VersionChain
from kvs.adapters.storage.memory.versions import VersionStore
from kvs.domain.commit import CommitRequest, Committed, Conflict
from kvs.domain.errors import LimitError
from kvs.domain.updates import ADD_ONE, Update, Updated, add_one
from kvs.domain.values import NO_DEADLINE, TOMBSTONE, Key, Record, Value, Write, deadline_of, entry_bytes
from kvs.override import override
from kvs.ports.storage import Storage

MOVED_AT_ONCE: Final = 1000
"""Maximum size of a data set that is cleared by moving its values into history one by one."""

FREED_PER_TICK: Final = 5000
"""Entries of cleared data sets freed per tick: some 0.5 ms."""


@final
class MemoryStorage(Storage):
    """The engine; see the module docstring. Not thread-safe: one loop calls it.

    Args:
        max_data_bytes: Maximum size of keys and values, by :func:`kvs.domain.values.entry_bytes`; 0: no limit.
        max_history_bytes: Maximum size of old versions kept for open snapshots.
        transaction_timeout_s: Age up to which no snapshot ends because of what :meth:`expire` deletes; 0: an hour.
    """

    def __init__(self, max_data_bytes: int, max_history_bytes: int, transaction_timeout_s: float = 0) -> None:
        self._max_data_bytes = max_data_bytes
        self._max_history_bytes = max_history_bytes
        self._headroom = Headroom(transaction_timeout_s or YOUNG_S)
        self._teardown = Teardown()
        self.versions = VersionStore(max_history_bytes, self._teardown)
        self._data = self.versions.data
        self._sparse = SparseWatch()
        self._data_bytes = 0
        self._tree = KeyIndex()
        self._deadlines = DeadlineIndex(self._deadline_of)
        self._sweep = Sweep(self._deadlines)
        self._commits = 0

    def restore(self, rows: Iterable[tuple[Key, Value | None]], horizon_ms: Callable[[], int] = lambda: 0) -> None:
        """Fill an unused engine: each key gets the last of its values, or is absent if that is None.

        No limit applies: the rows were accepted before. O(n), and O(n log n) if keys are not in order.

        Args:
            rows: Keys and values.
            horizon_ms: Returns the stored time, when all rows have been read; 0: unknown, so that the first ticks sort
                all deadlines.
        """
        data = self._data
        for key, value in rows:
            if value is not None:
                data[key] = value
            else:
                data.pop(key, None)
        self._tree.extend(sorted(data))
        self._deadlines.begin(horizon_ms())
        for key in data:
            value = self.get(key)
            if isinstance(value, Record):
                self._deadlines.replace(key, NO_DEADLINE, deadline_of(value))
            if self._max_data_bytes:
                self._data_bytes += entry_bytes(key, value)

    def begin(self, horizon_ms: int) -> None:
        """Set the stored time of an empty engine that is to :meth:`load` and :meth:`apply`."""
        self._deadlines.begin(horizon_ms)

    def load(self, rows: Sequence[tuple[Key, Value]]) -> None:
        """Add rows in the order of their keys, which are all above those that are there. No limit applies. O(rows)."""
        for key, value in rows:
            self._data[key] = value
            if isinstance(value, Record):
                self._deadlines.replace(key, NO_DEADLINE, deadline_of(value))
            if self._max_data_bytes:
                self._data_bytes += entry_bytes(key, value)
        self._tree.extend([key for key, _ in rows])

    def apply(self, rows: Sequence[tuple[Key, Value | None]]) -> None:
        """Make a commit that was accepted elsewhere, or a part of one, while no snapshot is open. No limit applies."""
        self._begin_commit()
        for key, value in rows:
            before = self.get(key)
            if value is not None:
                if self._max_data_bytes:
                    self._data_bytes += entry_bytes(key, value) - (0 if before is None else entry_bytes(key, before))
                self._put(key, value)
            elif before is not None:
                self._delete(key)

    @override
    def get(self, key: Key) -> Value | None:
        value = self._data.get(key)
        return value.current if isinstance(value, VersionChain) else value

    @override
    def put(self, key: Key, value: Value) -> None:
        if self._max_data_bytes:
            self._reserve({key: value})
        self._begin_commit()
        self._put(key, value)
        if self.versions.kept:
            self.versions.collect()

    @override
    def put_all(self, keys: list[Key], values: list[Value]) -> None:
        if self._max_data_bytes:
            self._reserve(dict(zip(keys, values, strict=True)))
        self._begin_commit()
        for at, key in enumerate(keys):
            self._put(key, values[at])
            if self.versions.kept:
                self.versions.collect()

    @override
    def delete(self, key: Key) -> bool:
        if self.get(key) is None:
            return False
        self._begin_commit()
        self._delete(key)
        if self.versions.kept:
            self.versions.collect()
        return True

    @override
    def update(self, key: Key, update: Update) -> Updated:
        old = self.get(key)
        pending = add_one(old) if update is ADD_ONE else update(old)  # directly: saves 100 instructions
        if pending is None:
            return old, old
        if pending is TOMBSTONE:
            self.delete(key)
            return old, None
        if isinstance(old, bytes) and isinstance(pending, bytes) and self.versions.idle and not self._max_data_bytes:
            self._commits += 1
            self._data[key] = pending  # one string for another: neither the index nor the deadlines change
        else:
            self.put(key, pending)
        return old, pending

    @override
    def clear(self) -> None:
        self._data_bytes = 0
        self._clear()

    @override
    def scan(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        return scan_prefix(self._tree.root, prefix, after, limit)

    @override
    def count(self, prefix: Key) -> int:
        return count_prefix(self._tree.root, prefix)

    @override
    def snapshot(self) -> MemorySnapshot:
        return MemorySnapshot(self.versions.open(self._commits, self._tree.root))

    @override
    def commit(self, request: CommitRequest) -> Committed | Conflict:
        if is_behind(request, self.versions.current_point):
            conflict = changed(request, self._tree.root)
            if conflict is not None:
                return conflict
        if self._max_data_bytes:
            self._reserve(request.writes, clears=request.clears)
        # From here on nothing can fail, and the snapshots of this request need no old values.
        for reads in request.reads:
            snapshot_of(reads.snapshot).close()
        if request.clears:
            if not self._max_data_bytes:
                self._data_bytes = 0
            self._clear()
        self._begin_commit()
        writes = request.writes
        if isinstance(writes, dict):  # the usual case; the compiler walks a dict four times faster than any mapping
            for key, pending in writes.items():
                self._write(key, pending)
        else:
            for key, pending in writes.items():
                self._write(key, pending)
        return Committed(self._commits)

    @override
    def expire(self, now_ms: int, max_steps: int) -> list[Key]:
        self._headroom.check(self.versions)
        keys = self._sweep.take(self._tree.root, now_ms, max_steps)
        if not keys:
            return keys
        self._begin_commit()
        if self.versions.newest_pinned >= 0:
            return self._remove_beside_snapshots(keys)
        for key in keys:
            self._drop(key)
            if self.versions.kept:
                self.versions.collect()
        self._tree.discard_all(keys, self._commits, -1)
        return keys

    @override
    def earliest_deadline_ms(self) -> int:
        return self._deadlines.earliest_ms()

    @override
    def sync(self) -> None:
        # Nothing needs to be made durable; a tick collects a little garbage.
        versions = self.versions
        if versions.kept or versions.older is not None:
            versions.collect_on_tick()
        if self._teardown.has_work:
            self._teardown.step(FREED_PER_TICK)

    @override
    def check(self) -> None:
        if self._sparse.look(self._data):
            self._data = self.versions.rebuild()

    @property
    @override
    def has_work(self) -> bool:
        return self.versions.has_work or self._teardown.has_work

    @override
    def stats(self) -> Mapping[str, int]:
        versions = self.versions
        figures = {
            "keys": self._tree.root.count,
            "snapshots": versions.open_points,
            "deadlines": self._deadlines.count,
            "history_bytes": versions.total_bytes,
            "max_history_bytes": self._max_history_bytes,
        }
        if self._max_data_bytes:  # else the size is not counted, which costs a look-up per write
            figures["data_bytes"] = self._data_bytes
            figures["max_data_bytes"] = self._max_data_bytes
        return figures

    @override
    def close(self) -> None:
        pass

    # Writing.

    def _begin_commit(self) -> None:
        self._commits += 1
        if not self.versions.idle:
            self.versions.seal_current()

    def _write(self, key: Key, pending: Write) -> None:
        if pending is not TOMBSTONE:
            self._put(key, pending)
        elif self.get(key) is not None:
            self._delete(key)
        if self.versions.kept:
            self.versions.collect()

    def _put(self, key: Key, value: Value) -> None:
        data, versions = self._data, self.versions
        if isinstance(value, Record) or self._deadlines.count:
            before = self.get(key)
            if isinstance(value, Record) or isinstance(before, Record):
                self._deadlines.replace(key, deadline_of(before), deadline_of(value))
        if versions.idle:  # as nearly always
            keys = len(data)
            data[key] = value
            if len(data) != keys:
                self._index(key, present=True)
            return
        old = data.get(key)
        if isinstance(old, VersionChain):
            present = old.current is not None
            versions.replace(old, self._commits, value)
        else:
            present = old is not None
            data[key] = value if versions.newest_pinned < 0 else versions.start_chain(self._commits, key, old, value)
        if not present:
            self._index(key, present=True)

    def _delete(self, key: Key) -> None:
        """Delete a key that there is."""
        if self._deadlines.count:
            self._deadlines.replace(key, deadline_of(self.get(key)), NO_DEADLINE)
        self._remove(key)

    def _remove(self, key: Key) -> None:
        """Delete a key that there is, and that is not in the index of deadlines."""
        self._drop(key)
        self._index(key, present=False)

    def _drop(self, key: Key) -> None:
        """Remove the value of a key that there is, which stays in the index of keys."""
        old = self._data[key]
        if self._max_data_bytes:
            self._data_bytes -= entry_bytes(key, old.current if isinstance(old, VersionChain) else old)
        self._take_out(key, old)

    def _remove_beside_snapshots(self, keys: list[Key]) -> list[Key]:
        """Remove keys as long as the history that snapshots need has room; return those that have been removed."""
        for at, key in enumerate(keys):
            if self.versions.newest_pinned >= 0 and not self._headroom.has_room(self.versions, self._tree, key):
                for waiting in keys[at:]:
                    self._deadlines.add(waiting, self._deadline_of(waiting))
                return keys[:at]
            self._remove(key)
            if self.versions.kept:
                self.versions.collect()
        return keys

    def _take_out(self, key: Key, old: Value | VersionChain) -> None:
        """Remove a value from the data, and keep it for the snapshots that see it."""
        if isinstance(old, VersionChain):
            self.versions.replace(old, self._commits, None)
        elif self.versions.newest_pinned < 0:
            del self._data[key]
        else:
            self._data[key] = self.versions.start_chain(self._commits, key, old, None)

    def _clear(self) -> None:
        """Delete every key. O(1), except for small data sets that snapshots see, whose values are moved to history."""
        root = self._tree.root
        if not root.count:
            return
        self._begin_commit()
        self._teardown.add_keys(self._deadlines.clear())
        versions = self.versions
        if versions.newest_pinned >= 0:
            if root.count > MOVED_AT_ONCE:
                self.versions = versions.retire(self._commits, root)
            else:
                self._take_out_all()
        if versions.newest_pinned < 0:
            self._teardown.add_data(versions.data)
            self._teardown.add_index(root)
            self.versions = VersionStore(self._max_history_bytes, self._teardown)
        self._data = self.versions.data
        self._tree = KeyIndex()

    def _take_out_all(self) -> None:
        """Remove all values from the data, or those before the limit of history is reached."""
        versions = self.versions
        versions.keep_tree()
        for key in list(self._data):  # a copy, because the garbage collection removes keys
            old = self._data.get(key)
            if old is not None and not (isinstance(old, VersionChain) and old.current is None):
                self._take_out(key, old)
                versions.collect()
                if versions.newest_pinned < 0:
                    return

    def _deadline_of(self, key: Key) -> int:
        return deadline_of(self.get(key))

    def _index(self, key: Key, *, present: bool) -> None:
        tree = self._tree
        copied_bytes = tree.copied_bytes
        if present:
            tree.add(key, self._commits, self.versions.newest_pinned)
        else:
            tree.discard(key, self._commits, self.versions.newest_pinned)
        if tree.copied_bytes != copied_bytes:
            self.versions.keep_nodes(tree.copied_bytes - copied_bytes)

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
        self._data_bytes += growth + released  # _delete subtracts what is released

"""Multi-version concurrency: the old values that open snapshots still see, key by key.

Every commit has a number, and a snapshot is the number of the last commit it sees. When a value is replaced, the old
one is kept in a short list of that key, and only if an open snapshot can see it. The list reads: replaced at
commit c1 (before: v1), at c2 (before: v2), ... A snapshot sees the value of the first entry above its own number, or
the current one if there is none; a key has changed for it if the last entry is above its number. So neither reads nor
writes depend on how many snapshots are open.

*Chains.* A :class:`VersionChain` replaces the value in the data set itself, so that one look-up finds both. A second
map would be as large, and as cold in the processor's caches.

*Read points.* Snapshots of the same commit share a :class:`ReadPoint`. The one of the latest commit, the current point,
is separate: it needs no old values until the next commit seals it. Earlier ones are pinned.

*Garbage collection.* Each write, and each tick, visits a few of the keys that have chains, round robin (a ring with a
clock hand), and drops the entries that no open snapshot needs. Garbage is bounded by a constant factor of the live
part, and collection never pauses the server. If the live part exceeds its limit, the oldest snapshot is evicted.

*Clears.* When every key of a large data set is deleted while snapshots are open, its values are not moved one by one.
The whole :class:`VersionStore` retires with its data set, unchanged, and serves its snapshots until the last of them
closes. The next store begins with a read point of an empty data set, its *base*, which is pinned as long as the retired
one exists. So every key that is put after the clear has a chain, and an older snapshot detects changes by walking from
its store to the current one.
"""

from bisect import bisect_left
from collections.abc import Iterator  # noqa: TC003  # so that the compiler finds it
from time import monotonic
from typing import Final, final

from mypy_extensions import mypyc_attr

from kvs.adapters.storage.memory.key_index import NO_KEYS, Root, tree_bytes
from kvs.adapters.storage.memory.sparse import new_data
from kvs.adapters.storage.memory.teardown import Teardown
from kvs.adapters.storage.memory.version_chain import VersionChain
from kvs.domain.values import Key, Value, entry_bytes

SWEPT_PER_WRITE: Final = 2
"""Entries visited per write: a write adds at most one, so collection is faster."""

SWEPT_PER_TICK: Final = 128
"""Entries visited per tick: some 20 us. Without requests, ticks continue until nothing is left to visit."""

SWEPT_UNDER_PRESSURE: Final = 32
"""Entries visited per write when history is over its limit: it can overshoot by 1/32 until a full turn of the clock
hand has shown that the rest is needed."""


LARGE_INDEX_BYTES: Final = 1 << 20
"""Size from which the remaining nodes of an index are freed in shares."""


@final
@mypyc_attr(free_list_len=1)  # as of ReadSet, and for the same reason
class ReadPoint:
    """A commit that snapshots read.

    Attributes:
        store: The store of their values.
        number: Number of the last commit they see.
        root: The keys they see.
        holders: Number of open snapshots.
        copied_bytes: Upper bound of the tree nodes kept for this point and older ones.
        expired: Whether it was evicted because history exceeded its limit.
        sealed_s: When the first commit came after it, in monotonic seconds; 0: none has.
    """

    __slots__ = ("copied_bytes", "expired", "holders", "number", "root", "sealed_s", "store")

    def __init__(self, store: "VersionStore", number: int, root: Root) -> None:
        self.store = store
        self.number = number
        self.root = root
        self.holders = 0
        self.copied_bytes = 0
        self.expired = False
        self.sealed_s = 0.0


@final
class VersionStore:
    """Old values and read points of one data set.

    Args:
        max_bytes: Maximum size of history, including retired stores.
        teardown: Frees large structures that no snapshot needs.
        older: The store that this one replaces.

    Attributes:
        data: The data set, in which a value may be a :class:`VersionChain`.
        current_point: The point of the latest commit, if a snapshot has been taken there.
        newest_pinned: Number of the newest open point before that, for which replaced values are kept; -1: none.
        held_bytes: Size of history.
        kept: Whether any key has a chain.
        idle: Whether nothing is kept, and no snapshot is open.
        older: The previous store, as long as it has snapshots.
        newer: The store that replaced this one.
        root: Once retired: its keys.
        base: The empty point that this one began with, as long as an older store exists.
        max_bytes: Maximum size of history, including retired stores.
        evictions: How often a snapshot had to end since history was over its limit.
    """

    def __init__(self, max_bytes: int, teardown: Teardown, older: "VersionStore | None" = None) -> None:
        self.data = new_data()
        self.older = older
        self.newer: VersionStore | None = None
        self.root: Root = NO_KEYS
        self._teardown = teardown
        self.base: ReadPoint | None = None
        self._unmeasured: Iterator[tuple[Key, Value | VersionChain]] | None = None
        self.current_point: ReadPoint | None = None
        self.newest_pinned = -1
        self.held_bytes = 0
        self.kept = False
        self.idle = True
        self.evictions = 0
        self.max_bytes = max_bytes
        self._numbers: list[int] = []  # of the open points but the latest, ascending
        self._points: list[ReadPoint] = []  # in the same order
        self._ring: list[VersionChain] = []  # of all keys that have any, for the collector to take in turn
        self._hand = 0
        self._unswept = 0  # of those, how many may have something to drop
        self._credit = 0  # entries the collector may look at; below 0 it has looked ahead
        self._swept_under_pressure = 0

    @property
    def open_points(self) -> int:
        """Number of different commits that open snapshots see, including those of retired stores."""
        points = len(self._points) + (self.current_point is not None and self.current_point.holders > 0)
        if self.older is None:
            return points
        base_alone = self.base is not None and self.base.holders == 1  # no snapshot holds it
        return points - base_alone + self.older.open_points

    @property
    def total_bytes(self) -> int:
        """Size of history in this store and in retired ones."""
        return self.held_bytes if self.older is None else self.held_bytes + self.older.total_bytes

    @property
    def has_work(self) -> bool:
        """Whether there may be something to collect, or to measure."""
        return self._unswept > 0 or (self.older is not None and self.older.has_work) or self._unmeasured is not None

    def open(self, commit: int, root: Root) -> ReadPoint:
        """Return the point of the latest commit, for one more snapshot."""
        if self.current_point is None:
            self.current_point = ReadPoint(self, commit, root)
            self.idle = False
        return self.current_point

    def rebuild(self) -> dict[Key, Value | VersionChain]:
        """Move the data set, which is mostly empty, to a dict of its size; return that."""
        data = new_data()
        data.update(self.data)
        self.data = data
        return data

    def retire(self, commit: int, root: Root) -> "VersionStore":
        """Retire, because a commit deletes every key; return the next store.

        Args:
            commit: Number of that commit. The current point has been sealed.
            root: The keys before that.
        """
        newer = VersionStore(self.max_bytes, self._teardown, self)
        base = ReadPoint(newer, commit, NO_KEYS)
        base.holders = 1
        newer.base = newer.current_point = base
        newer.idle = False
        self.root = root
        self.newer = newer
        self._unswept = 0  # nothing is collected from it but the whole
        self._unmeasured = iter(self.data.items())
        self.keep_tree()
        return newer

    def seal_current(self) -> None:
        """Pin the current point before the first write of a commit."""
        point, self.current_point = self.current_point, None
        if point is not None and point.holders:
            self._numbers.append(point.number)
            self._points.append(point)
            self.newest_pinned = point.number
            point.sealed_s = monotonic()
        self._update_idle()

    def release(self, point: ReadPoint) -> None:
        """Remove a holder of a point, and the point with the last of them."""
        point.holders -= 1
        if point.holders == 0 and point is not self.current_point and not point.expired:
            self._forget(point)

    def changed_since(self, number: int, key: Key) -> bool:
        """Return whether a key has changed since a point of this store. O(1), and O(clears) since then."""
        value = self.data.get(key)
        if isinstance(value, VersionChain):
            if value.changed > number:
                return True
            value = value.current
        store = self.newer
        if store is not None and value is not None:
            return True  # the clear deleted it
        while store is not None:
            if key in store.data:
                return True  # as long as the base is pinned, every put leaves a chain
            store = store.newer
        return False

    def start_chain(self, commit: int, key: Key, old: Value | None, new: Value | None) -> VersionChain:
        """Return the new content of the data set for a key without a chain that a commit changes."""
        chain = VersionChain(key, new)
        self._ring.append(chain)
        self.idle = False
        if self._unswept > 0:  # the current walk must pass this one, although it is needed
            self._unswept += 1
        self.kept = True
        self._keep(chain, commit, old)
        return chain

    def replace(self, chain: VersionChain, commit: int, new: Value | None) -> None:
        """Change the value of a key that has versions, and keep the old one if an open snapshot sees it."""
        if chain.changed <= self.newest_pinned:
            self._keep(chain, commit, chain.current)
        chain.current = new

    def _keep(self, chain: VersionChain, commit: int, old: Value | None) -> None:
        chain.changed = commit
        chain.commits.append(commit)
        chain.values.append(old)
        self.held_bytes += entry_bytes(chain.key, old)

    def keep_nodes(self, copied_bytes: int) -> None:
        """Account for tree nodes that were copied because the newest point sees them."""
        self._points[-1].copied_bytes += copied_bytes
        self.held_bytes += copied_bytes

    def keep_tree(self) -> None:
        """Account for all tree nodes that the newest point sees, which nothing else needs from now on."""
        point = self._points[-1]
        self.keep_nodes(max(0, tree_bytes(point.root) - point.copied_bytes))

    def collect(self) -> None:
        """Collect some garbage; evict the oldest snapshot if history is still over its limit."""
        if self.total_bytes <= self.max_bytes:
            self._swept_under_pressure = 0
            if self._unswept > 0:
                self._sweep(SWEPT_PER_WRITE)
            return
        self._swept_under_pressure += self._sweep(SWEPT_UNDER_PRESSURE)
        if self.total_bytes > self.max_bytes and self._swept_under_pressure >= len(self._ring):
            self._swept_under_pressure = 0
            self.evictions += 1
            self.evict_oldest()

    def collect_on_tick(self) -> None:
        """Collect a little garbage, also without writes."""
        if self._unswept > 0:
            self._sweep(SWEPT_PER_TICK)
        if self.older is not None:
            self.older.measure(SWEPT_PER_TICK)
            if self.total_bytes > self.max_bytes:
                self.evictions += 1
                self.evict_oldest()

    def measure(self, entries: int) -> None:
        """Account for more of the values that only the snapshots of a retired store see."""
        if self.older is not None:
            self.older.measure(entries)
        unmeasured = self._unmeasured
        if unmeasured is None:
            return
        for _ in range(entries):
            entry = next(unmeasured, None)
            if entry is None:
                self._unmeasured = None
                return
            key, value = entry
            self.held_bytes += entry_bytes(key, value.current if isinstance(value, VersionChain) else value)

    def oldest_sealed_s(self) -> float:
        """Return when the oldest snapshot for which history is kept began to need it; 0: there is none."""
        if self.older is not None:
            return self.older.oldest_sealed_s()
        return self._points[0].sealed_s if self._points else 0.0

    def held_by_deletion(self, key: Key) -> int:
        """Return by how much history grows when a key that there is is deleted, without nodes of the index."""
        old = self.data[key]
        if isinstance(old, VersionChain):
            return 0 if old.changed > self.newest_pinned else entry_bytes(key, old.current)
        return entry_bytes(key, old)

    def evict_oldest(self) -> None:
        """Evict the snapshots of the oldest point, because history exceeds its limit."""
        if self.older is not None:
            self.older.evict_oldest()
        elif self._points:
            oldest = self._points[0]
            oldest.expired = True
            self._forget(oldest)
            oldest.root = NO_KEYS  # its holders may close late

    def _update_idle(self) -> None:
        self.idle = self.current_point is None and self.newest_pinned < 0 and not self.kept

    def _sweep(self, entries: int) -> int:
        """Visit the next keys with history, up to so many entries; return the number of keys.

        A key with many entries is visited whole, and charged to the next calls.
        """
        ring = self._ring
        looked_at = 0
        self._credit += entries
        while self._credit > 0 and ring:
            self._hand -= 1
            if self._hand < 0 or self._hand >= len(ring):
                self._hand = len(ring) - 1
            chain = ring[self._hand]
            self._credit -= len(chain.commits)
            looked_at += 1
            if self._prune(chain):
                if chain.current is None:
                    del self.data[chain.key]
                else:
                    self.data[chain.key] = chain.current
                last = ring.pop()
                if self._hand < len(ring):
                    ring[self._hand] = last
        self._unswept = self._unswept - looked_at if ring else 0
        self._credit = min(self._credit, 0)
        self.kept = len(ring) > 0
        self._update_idle()
        return looked_at

    def _prune(self, chain: VersionChain) -> bool:
        """Drop the entries of a key that no open snapshot needs; return whether none are left."""
        numbers = self._numbers
        kept = 0
        before = 0  # open snapshots older than the entry before this one
        for at in range(len(chain.commits)):
            commit, value = chain.commits[at], chain.values[at]
            older = bisect_left(numbers, commit)
            if older > before:
                chain.commits[kept] = commit
                chain.values[kept] = value
                kept += 1
            else:
                self.held_bytes -= entry_bytes(chain.key, value)
            before = older
        del chain.commits[kept:]
        del chain.values[kept:]
        return kept == 0

    def _forget(self, point: ReadPoint) -> None:
        """Remove a point from the list.

        The tree nodes kept for it pass to the next older one, which may share them, but never more than its whole tree.
        O(log s) compares in the s open points, and a move of at most 8 s bytes.
        """
        if self.newer is None:
            self._unswept = 2 * len(self._ring)  # a walk meets some twice, where a last one filled a gap
        at = bisect_left(self._numbers, point.number)
        del self._numbers[at]
        del self._points[at]
        self.newest_pinned = self._numbers[-1] if self._numbers else -1
        self._update_idle()
        self.held_bytes -= point.copied_bytes
        if at > 0 and point.copied_bytes:
            older = self._points[at - 1]
            self.held_bytes -= older.copied_bytes
            older.copied_bytes = min(older.copied_bytes + point.copied_bytes, tree_bytes(older.root))
            self.held_bytes += older.copied_bytes
        if point.copied_bytes > LARGE_INDEX_BYTES:
            self._teardown.add_index(point.root)
        point.copied_bytes = 0
        newer = self.newer
        if newer is not None and not self._points:
            self._unmeasured = None
            self.held_bytes = 0
            newer.older = None
            base, newer.base = newer.base, None
            if base is not None:
                newer.release(base)
            self._teardown.add_data(self.data)
            self._teardown.add_index(self.root)

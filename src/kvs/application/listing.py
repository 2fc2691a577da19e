"""Lists and counts the keys that a transaction sees: its pending writes over its snapshot, in shares of work.

A transaction may have a million unordered pending writes. :class:`WriteIndex` sorts them once, in shares, and then
serves any range without a scan of all of them; it stays valid for as long as the immutable map of writes is the same.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from heapq import merge
from itertools import islice
from typing import Any, Final, final

from kvs.application.disposal import Disposal
from kvs.domain.commit import prefix_end
from kvs.domain.keyspace import ESCAPED, RESERVED
from kvs.domain.values import TOMBSTONE, Key, Value, Write
from kvs.override import override
from kvs.ports.session import Steps, Work
from kvs.ports.storage import Snapshot, Storage

RUN_KEYS: Final = 1000
"""Pending keys scanned, sorted or merged between two checks of the remaining work: 500 to 1,000 units."""

SORTED_KEYS_PER_UNIT: Final = 2
LISTED_KEYS_PER_UNIT: Final = 8


@final
class NoKeys(Snapshot):
    """An empty snapshot: what a transaction sees beneath its writes once it has deleted every key."""

    @override
    def get(self, key: Key) -> Value | None:
        return None

    @override
    def scan(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        return []

    @override
    def count(self, prefix: Key) -> int:
        return 0

    @override
    def close(self) -> None:
        pass


NO_KEYS: Final = NoKeys()


@final
class WriteIndex:
    """The pending writes of a transaction in key order.

    Attributes:
        writes: The map that is indexed.
        keys: Its keys in byte order.
        added: For each key, the net number of keys added to the snapshot up to and including it.
    """

    __slots__ = ("added", "keys", "writes")

    def __init__(self, writes: Mapping[Key, Write]) -> None:
        self.writes = writes
        self.keys: list[Key] = []
        self.added: list[int] | None = None

    def sort(self, work: Work, disposal: Disposal) -> Steps[None]:
        """Sort the keys. O(w log w) in the pending writes.

        Args:
            work: Charged for it.
            disposal: Frees the runs that are merged.
        """
        source = iter(self.writes)
        runs: list[list[Key]] = []
        while True:
            run = sorted(islice(source, RUN_KEYS))
            runs.append(run)
            if len(run) < RUN_KEYS:
                break
            work.left -= RUN_KEYS // SORTED_KEYS_PER_UNIT
            if work.left <= 0:
                yield
        if len(runs) == 1:
            self.keys = runs[0]
            return
        merged: Iterator[Key] = merge(*runs)
        while True:
            part = list(islice(merged, RUN_KEYS))
            self.keys += part
            if len(part) < RUN_KEYS:
                disposal.add(runs)
                return
            work.left -= RUN_KEYS
            if work.left <= 0:
                yield

    def parts(self) -> list[list[Any]]:
        """Return the lists, to be freed in slices."""
        return [self.keys, [] if self.added is None else self.added]

    def sum_up(self, snapshot: Snapshot, work: Work) -> Steps[list[int]]:
        """Compute ``added``. O(w) look-ups in the snapshot."""
        if self.added is not None:
            return self.added
        added: list[int] = []
        total = 0
        for key in self.keys:
            total += (self.writes[key] is not TOMBSTONE) - (snapshot.get(key) is not None)
            added.append(total)
            work.left -= 1
            if work.left <= 0:
                yield
        self.added = added
        return added

    def page(self, prefix: Key, after: Key, limit: int, work: Work) -> Steps[list[Key]]:
        """Return the first written keys under a prefix and after another key."""
        keys = self.keys
        at = max(bisect_left(keys, prefix), bisect_right(keys, after) if after else 0)
        page: list[Key] = []
        while at < len(keys) and len(page) < limit and keys[at].startswith(prefix):
            if self.writes[keys[at]] is not TOMBSTONE:
                page.append(keys[at])
            at += 1
            if at % LISTED_KEYS_PER_UNIT == 0:
                work.left -= 1
                if work.left <= 0:
                    yield
        return page


def scan_clients(source: Snapshot | Storage, prefix: Key, after: Key, limit: int) -> list[Key]:
    """Return what ``scan`` returns, without keys of the reserved part."""
    page = source.scan(prefix, after, limit)
    if prefix or not page or page[-1] < RESERVED:
        return page
    del page[bisect_left(page, RESERVED) :]
    return page + source.scan(ESCAPED, after, limit - len(page))


def count_clients(source: Snapshot | Storage, prefix: Key) -> int:
    """Return what ``count`` returns, without keys of the reserved part."""
    if prefix:
        return source.count(prefix)
    return source.count(prefix) - source.count(RESERVED) + source.count(ESCAPED)


def list_page(
    snapshot: Snapshot, index: WriteIndex, prefix: Key, after: Key, limit: int, work: Work
) -> Steps[list[Key]]:
    """Return the first keys that a transaction sees under a prefix and after another key, in byte order.

    Complexity:
        O(limit + keys that the transaction has deleted among them) once the index is built.
    """
    written = yield from index.page(prefix, after, limit, work)
    kept: list[Key] = []
    while True:
        page = scan_clients(snapshot, prefix, after, limit)
        kept += [key for key in page if key not in index.writes]
        work.left -= len(page) // LISTED_KEYS_PER_UNIT + 1
        if len(page) < limit or len(kept) >= limit:
            return list(islice(merge(kept, written), limit)) if written else kept[:limit]
        after = page[-1]
        if work.left <= 0:
            yield


def count_keys(snapshot: Snapshot, index: WriteIndex, prefix: Key, work: Work) -> Steps[int]:
    """Return how many keys under a prefix a transaction sees. O(log w) once the index is summed up."""
    number = count_clients(snapshot, prefix)
    keys = index.keys
    low = bisect_left(keys, prefix)
    if low == len(keys) or not keys[low].startswith(prefix):
        return number
    added = yield from index.sum_up(snapshot, work)
    end = prefix_end(prefix)
    high = len(keys) if end is None else bisect_left(keys, end, low)
    return number + added[high - 1] - (added[low - 1] if low else 0)

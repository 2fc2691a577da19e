"""Merges the chunks of the former checkpoint with what has changed since.

No single call takes long, and ``pace`` is called often, as the loop of the server needs the interpreter meanwhile.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Final, Protocol, TypeVar, final

from kvs.adapters.storage.etcd.changes import Changes
from kvs.adapters.storage.etcd.rows import stored_of
from kvs.adapters.storage.etcd.stored import StoredRow, StoredValue
from kvs.domain.values import Key

TARGET_BYTES: Final = 128 << 10
"""Size of a chunk; one that grows to the double is split.

Smaller ones make long lists. Larger ones are rewritten more often for a single key, take milliseconds to decode, and
leave holes in etcd's file, where a value has neighbouring pages.
"""

LEAST_BYTES: Final = TARGET_BYTES // 4
"""A chunk that has shrunk below that is joined with the next one."""

ROW_COST_BYTES: Final = 24
"""Charged for a row on top of key and value, so that a chunk has at most some thousand rows."""

KEYS_PER_BUCKET: Final = 256
STEP_KEYS: Final = 1000


class Part(Protocol):
    """**Protocol:** A chunk of the former checkpoint. Its class needs msgspec, which a build does not have."""

    @property
    def first(self) -> Key:
        """Its first key."""


P = TypeVar("P", bound=Part)


def in_order(changes: Changes, pace: Callable[[], object], random: Random) -> Iterator[Key]:
    """Yield the keys that have changed, sorted.

    One call that sorts a million keys would stop the server for a second. So keys are dealt to buckets, whose bounds
    are keys chosen at random, and each bucket is sorted by itself.
    """
    bounds: list[Key] = []
    for number, key in enumerate(changes):
        if random.random() * KEYS_PER_BUCKET < 1:
            bounds.append(key)
        if number % STEP_KEYS == 0:
            pace()
    bounds.sort()
    buckets: list[list[Key]] = [[] for _ in range(len(bounds) + 1)]
    for number, key in enumerate(changes):
        buckets[bisect_right(bounds, key)].append(key)
        if number % STEP_KEYS == 0:
            pace()
    for at, bucket in enumerate(buckets):
        bucket.sort()
        yield from bucket
        buckets[at] = []
        pace()


def merge(
    chunks: Sequence[P],
    changes: Changes,
    read: Callable[[P], list[StoredRow]],
    pace: Callable[[], object],
    random: Random,
) -> Iterator[P | list[StoredRow]]:
    """Yield the chunks of the next checkpoint, in the order of keys: one that is kept, or the rows of a new one.

    Args:
        chunks: Those of the former one.
        changes: What has changed since.
        read: Returns the rows of a chunk; called only for those that change.
        pace: Called between steps; it may wait.
        random: For even buckets.

    Complexity: O(c log c) for c changes, and O(rows) of the chunks that they are in.
    """
    ordered = in_order(changes, pace, random)
    change = next(ordered, None)
    gathered = Gathered()
    for at, chunk in enumerate(chunks):
        end = chunks[at + 1].first if at + 1 < len(chunks) else None
        changes_here = change is not None and (end is None or change < end)
        if not (changes_here or gathered.rows):
            yield chunk
            continue
        for key, value in read(chunk):
            while change is not None and change < key:
                if gathered.add(change, stored_of(changes[change])):
                    yield gathered.split()
                change = next(ordered, None)
            changed = change == key
            if gathered.add(key, stored_of(changes[key]) if changed else value):
                yield gathered.split()
            if changed:
                change = next(ordered, None)
        while change is not None and end is not None and change < end:
            if gathered.add(change, stored_of(changes[change])):
                yield gathered.split()
            change = next(ordered, None)
        if gathered.size >= LEAST_BYTES and end is not None:
            yield gathered.take()
        pace()
    while change is not None:
        if gathered.add(change, stored_of(changes[change])):
            yield gathered.split()
        change = next(ordered, None)
    if gathered.rows:
        yield gathered.take()


@final
class Gathered:
    """Rows that are to become a chunk.

    Attributes:
        rows: The rows.
        size: Their bytes.
    """

    __slots__ = ("_target_rows", "_target_size", "rows", "size")

    def __init__(self) -> None:
        self.rows: list[StoredRow] = []
        self.size = 0
        self._target_rows = 0  # how many of them make a chunk of the size that is aimed at; 0: not yet enough
        self._target_size = 0

    def add(self, key: Key, value: StoredValue) -> bool:
        """Add a row, unless it is a deleted one; return whether there are enough to :meth:`split` off a chunk."""
        if value is None:
            return False
        self.rows.append((key, value))
        self.size += len(key) + len(value if isinstance(value, bytes) else value[0]) + ROW_COST_BYTES
        if not self._target_rows and self.size >= TARGET_BYTES:
            self._target_rows, self._target_size = len(self.rows), self.size
        return self.size >= 2 * TARGET_BYTES

    def split(self) -> list[StoredRow]:
        """Take the first rows, enough for a chunk."""
        rows, self.rows = self.rows[: self._target_rows], self.rows[self._target_rows :]
        self.size -= self._target_size
        self._target_rows, self._target_size = (len(self.rows), self.size) if self.size >= TARGET_BYTES else (0, 0)
        return rows

    def take(self) -> list[StoredRow]:
        """Take all rows."""
        rows, self.rows = self.rows, []
        self.size = self._target_rows = self._target_size = 0
        return rows

"""The index of deadlines: which keys expire when.

A hierarchical timing wheel. A deadline is a number of digits of ``DIGIT_BITS`` bits, and so is the *position*, up to
which everything has been handed out. A key is in the bucket of the highest digit in which its deadline differs from the
position, and of the value of that digit: far deadlines share wide buckets, near ones have buckets of a millisecond.
When the position reaches a wide bucket, its keys are distributed to narrower ones, one by one; a bucket whose deadlines
are close to each other moves as a whole. So a key is moved as often as its deadline has digits, at most, and adding and
removing are O(1). The position determines the bucket of a deadline, so nothing has to be stored per key, and a key
whose deadline is moved leaves nothing behind.

Source: G. Varghese and A. Lauck, "Hashed and Hierarchical Timing Wheels", 1987.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final, final

from kvs.adapters.storage.key_set import KeySet
from kvs.domain.values import NEVER_MS, Key

if TYPE_CHECKING:
    from mypy_extensions import i64  # an int in a register, to the compiler

DIGIT_BITS: Final = 6
LEVEL_BITS: Final = 4

MOVES_PER_STEP: Final = 4
"""Keys moved to a narrower bucket in a step: as long as it takes to delete a record, 5 us among a million."""


@final
class Bucket:
    """Keys whose deadlines are close to each other.

    Attributes:
        keys: The keys.
        earliest_ms: No deadline of a key is before that.
        latest_ms: None is after that. Both stay when a key is removed.
    """

    __slots__ = ("earliest_ms", "keys", "latest_ms")

    def __init__(self, deadline_ms: "i64") -> None:
        self.keys = KeySet()
        self.earliest_ms: i64 = deadline_ms
        self.latest_ms: i64 = deadline_ms

    def widen(self, deadline_ms: "i64") -> None:
        """Let a key have a deadline that is the first or the last of all."""
        if deadline_ms < self.earliest_ms:
            self.earliest_ms = deadline_ms
        elif deadline_ms > self.latest_ms:
            self.latest_ms = deadline_ms


@final
class DeadlineIndex:
    """The deadlines of the keys of an engine.

    Args:
        deadline_of: Returns the deadline of a key that is in the index; 0 if it has none any more.

    Attributes:
        count: Number of keys.
    """

    def __init__(self, deadline_of: Callable[[Key], int]) -> None:
        self.count = 0
        self._deadline_of = deadline_of
        self._position_ms: i64 = 0
        self._buckets: dict[int, Bucket] = {}
        self._starts: list[int] = []  # a heap of the buckets' numbers, by the time at which they begin
        self._due = KeySet()
        self._divided = KeySet()  # the rest of the bucket that is being distributed
        self._divided_latest_ms: i64 = 0

    def add(self, key: Key, deadline_ms: int) -> None:
        """Add a key that is not in the index."""
        self.count += 1
        self._place(key, deadline_ms)

    def remove(self, key: Key, deadline_ms: int) -> None:
        """Remove a key, given its deadline; nothing happens if it has been taken."""
        bucket: Bucket | None = None
        if deadline_ms > self._position_ms:
            bucket = self._buckets.get(self._bucket_of(deadline_ms))
        if (bucket is not None and bucket.keys.discard(key)) or self._due.discard(key) or self._divided.discard(key):
            self.count -= 1

    def move(self, key: Key, old_ms: int, new_ms: int) -> None:
        """Change the deadline of a key."""
        ahead = min(old_ms, new_ms) > self._position_ms and not (self._divided.count or self._due.count)
        if ahead:
            number = self._bucket_of(new_ms)
            if number == self._bucket_of(old_ms):  # the usual case: the key stays where it is
                self._buckets[number].widen(new_ms)
                return
        self.remove(key, old_ms)
        self.add(key, new_ms)

    def replace(self, key: Key, old_ms: int, new_ms: int) -> None:
        """Keep the index true before a value is replaced or deleted, given both deadlines; 0: there is none."""
        if not old_ms:
            if new_ms:
                self.add(key, new_ms)
        elif new_ms:
            self.move(key, old_ms, new_ms)
        else:
            self.remove(key, old_ms)

    def begin(self, position_ms: int) -> None:
        """Set the position of an empty index: a time that has been reached, so that nothing later is due before it."""
        self._position_ms = position_ms

    @property
    def due(self) -> int:
        """Number of keys that are known to be due."""
        return self._due.count

    def take_due(self, keys: list[Key]) -> list[Key]:
        """Remove and return those of some keys that are known to be due."""
        due = self._due
        taken = [key for key in keys if due.discard(key)]
        self.count -= len(taken)
        return taken

    def earliest_ms(self) -> int:
        """Return a time before which nothing is due, which is not far from the earliest deadline."""
        if self._due.count or self._divided.count:
            return self._position_ms
        starts = self._starts
        while starts:
            number = starts[0]
            if self._buckets[number].keys.count:
                return number >> LEVEL_BITS
            heappop(starts)
            del self._buckets[number]
        return NEVER_MS

    def take(self, now_ms: int, max_steps: int) -> list[Key]:
        """Remove and return keys that are due, at most one per step. There may be more as long as steps are used up."""
        taken: list[Key] = []
        steps: i64 = max_steps
        while steps > 0:
            steps -= 1
            if self._due.count:
                taken.append(self._due.pop())
                self.count -= 1
            elif self._divided.count and self._divided_latest_ms <= now_ms:  # while it was being distributed
                self._due, self._divided = self._divided, self._due
            elif self._divided.count:
                for _ in range(min(self._divided.count, MOVES_PER_STEP)):
                    key = self._divided.pop()
                    self._place(key, self._deadline_of(key))
            elif self.earliest_ms() <= now_ms:
                self._enter(heappop(self._starts), now_ms)
            else:
                self._position_ms = max(self._position_ms, now_ms)
                break
        return taken

    def clear(self) -> list[dict[Key, None]]:
        """Remove all keys; return them, in dicts that the caller may free bit by bit."""
        keys: list[dict[Key, None]] = []
        for each in [*(bucket.keys for bucket in self._buckets.values()), self._due, self._divided]:
            keys += each.parts()
        self.count = 0
        self._buckets = {}
        self._starts = []
        self._due = KeySet()
        self._divided = KeySet()
        return keys

    def _enter(self, number: int, now_ms: int) -> None:
        """Move the position into a bucket."""
        bucket = self._buckets.pop(number)
        if bucket.latest_ms <= now_ms:  # all of it is due, in whatever order
            self._position_ms = bucket.earliest_ms
            self._due = bucket.keys
            return
        self._position_ms = number >> LEVEL_BITS
        narrower = self._bucket_of(bucket.earliest_ms)
        if narrower == self._bucket_of(bucket.latest_ms):  # which is not there yet: its time was in this one
            self._buckets[narrower] = bucket
            heappush(self._starts, narrower)
        else:
            self._divided = bucket.keys
            self._divided_latest_ms = bucket.latest_ms

    def _place(self, key: Key, deadline_ms: int) -> None:
        if deadline_ms <= self._position_ms:
            self._due.add(key)
            return
        number = self._bucket_of(deadline_ms)
        bucket = self._buckets.get(number)
        if bucket is None:
            bucket = self._buckets[number] = Bucket(deadline_ms)
            heappush(self._starts, number)
        else:
            bucket.widen(deadline_ms)
        bucket.keys.add(key)

    def _bucket_of(self, deadline_ms: "i64") -> int:
        """Return the number of the bucket of a deadline after the position: where it begins, and its level."""
        differing: i64 = (deadline_ms ^ self._position_ms) >> DIGIT_BITS
        level: i64 = 0
        shift: i64 = 0
        while differing:
            differing >>= DIGIT_BITS
            level += 1
            shift += DIGIT_BITS
        return (((deadline_ms >> shift) << shift) << LEVEL_BITS) | level

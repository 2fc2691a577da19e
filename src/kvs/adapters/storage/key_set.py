"""A set of keys that grows without pauses.

A plain set of a million keys takes 25 ms to grow, as all its entries move. So a large one is in parts, by hash. The
parts are dicts, which double when they are full; a set would have four times its size, until 50,000 keys are in it.
"""

from typing import Final, final

from kvs.domain.values import Key

MANY_KEYS: Final = 1 << 15
"""Number of keys from which a set is in parts: to distribute so many takes 2 ms."""

PARTS: Final = 64


@final
class KeySet:
    """A set of keys; to take any of them out is O(1)."""

    __slots__ = ("_first", "_parts", "count")

    def __init__(self) -> None:
        self.count = 0
        self._parts: list[dict[Key, None]] = [{}]
        self._first = 0  # the part from which keys are taken out

    def add(self, key: Key) -> None:
        """Add a key that is not in the set."""
        self.count += 1
        if len(self._parts) > 1:
            self._parts[hash(key) % PARTS][key] = None
            return
        self._parts[0][key] = None
        if self.count > MANY_KEYS:
            (keys,) = self._parts
            self._parts = [{} for _ in range(PARTS)]
            for each in keys:
                self._parts[hash(each) % PARTS][each] = None

    def discard(self, key: Key) -> bool:
        """Remove a key if it is in the set; return whether it was."""
        part = self._parts[hash(key) % PARTS if len(self._parts) > 1 else 0]
        if key not in part:
            return False
        del part[key]
        self.count -= 1
        if not self.count:
            self._parts = [{}]  # an emptied dict keeps its memory
        return True

    def pop(self) -> Key:
        """Remove and return any key of a set that has one."""
        parts = self._parts
        if self._first >= len(parts):
            self._first = 0
        while not parts[self._first]:
            self._first = (self._first + 1) % len(parts)
        self.count -= 1
        key = parts[self._first].popitem()[0]
        if not self.count:
            self._parts = [{}]
        return key

    def parts(self) -> list[dict[Key, None]]:
        """Return dicts that together have the keys."""
        return self._parts

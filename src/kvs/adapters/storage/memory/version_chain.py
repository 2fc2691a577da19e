"""The versions of one key; :mod:`kvs.adapters.storage.memory.versions` explains how they are kept."""

from bisect import bisect_right
from typing import final

from mypy_extensions import mypyc_attr

from kvs.domain.values import Key, Value


@final
@mypyc_attr(acyclic=True)  # there are many, and the cyclic collector need not track them
class VersionChain:
    """The value of a key, and the old ones that some snapshot may see.

    Attributes:
        key: The key.
        current: The value; None: the key is absent.
        changed: The last of ``commits``, cached. Later changes are not recorded while no snapshot is newer.
        commits: When each of ``values`` was replaced, ascending; never empty while this is part of the data set.
        values: Old values; None: the key was absent.
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

"""What a transaction of the reference model consists of: a copy of the data, pending writes, and what was read."""

from dataclasses import dataclass, field, replace

from kvs.domain.commit import KeyRange, page_range
from kvs.domain.values import Key, Value

Data = dict[Key, Value]


@dataclass
class Range:
    """The keys with a prefix that come after ``after``, up to and including ``last`` (None: all of them)."""

    prefix: Key
    after: Key
    last: Key | None

    @property
    def exists(self) -> bool:
        """Whether there can be a key in it."""
        return self.after < self.prefix or self.after.startswith(self.prefix)

    def covers(self, other: "Range") -> bool:
        """Return whether this range holds all keys of another one; neither has a last key."""
        return self._bounds.covers(other._bounds)

    @property
    def _bounds(self) -> KeyRange:
        return page_range(self.prefix, self.after, [], 0)

    def of(self, data: Data) -> list[Key]:
        """Return the keys of a data set that lie in the range, in order."""
        return sorted(
            key
            for key in data
            if key.startswith(self.prefix) and key > self.after and (self.last is None or key <= self.last)
        )


@dataclass
class Frame:
    """An open frame.

    Attributes:
        writes: The pending writes, including those of the frames below; None is a tombstone.
        cleared: Whether every earlier key is deleted.
    """

    writes: dict[Key, Value | None] = field(default_factory=dict)
    cleared: bool = False

    def copy(self) -> "Frame":
        """Return the frame that START opens inside this one."""
        return replace(self, writes=dict(self.writes))

    def over(self, data: Data) -> Data:
        """Return the data after this frame has been applied to it."""
        merged = {**({} if self.cleared else data), **self.writes}
        return {key: value for key, value in merged.items() if value is not None}


@dataclass
class Transaction:
    """An open transaction: a copy of the data, its frames, and what it has read.

    Attributes:
        internal: It is one of an operation, which judges by the time of the server.
        behind: The snapshot has keys that were due.
        clean: Ranges in which it has none.
    """

    snapshot: Data
    started_at: int
    read_only: bool
    internal: bool = False
    behind: bool = False
    clean: list[Range] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=lambda: [Frame()])
    keys_read: set[Key] = field(default_factory=set)
    ranges_read: list[Range] = field(default_factory=list)

    @property
    def top(self) -> Frame:
        """The innermost frame."""
        return self.frames[-1]

    @property
    def changes(self) -> bool:
        """Whether anything is written."""
        return bool(self.top.writes) or self.top.cleared

    def view(self) -> Data:
        """Return the data as this transaction sees it."""
        return self.top.over(self.snapshot)

"""What the journal has changed behind the newest checkpoint, as one who follows knows it."""

from collections import deque
from collections.abc import Sequence
from typing import Final, final

from kvs.adapters.storage.journal_writer import Row
from kvs.domain.values import Key, Value

GROUP_BYTES: Final = 64 << 10
GROUP_KEYS: Final = 8192


@final
class _Group:
    """Entries that follow each other: some 64 KiB, or thousands of keys.

    Attributes:
        last: The last of them; 0: it has none yet.
        size: Their bytes.
        changes: What they have changed.
    """

    __slots__ = ("changes", "last", "size")

    def __init__(self) -> None:
        self.last = 0
        self.size = 0
        self.changes: dict[Key, Value | None] = {}


@final
class Unwritten:
    """The changes, in groups, as it is not known which entry a checkpoint will end with. Not thread-safe.

    There may be some that the checkpoint has, of a group that it has in part: the next one only writes them again. It
    is bounded as the journal is.

    Attributes:
        start: The last entry that the newest checkpoint has.
        cleared: The last entry that has deleted everything before; 0: none behind the checkpoint has.
    """

    def __init__(self, start: int) -> None:
        self.start = start
        self.cleared = 0
        self._groups = deque([_Group()])

    @property
    def size(self) -> int:
        """Bytes of the entries."""
        return sum(group.size for group in self._groups)

    @property
    def changes(self) -> list[dict[Key, Value | None]]:
        """Keys with their new values, None if deleted; what is later counts."""
        return [group.changes for group in self._groups]

    def clear(self, number: int) -> None:
        """Note that an entry deletes everything before."""
        self.cleared = number
        for group in self._groups:
            group.changes = {}

    def add(self, number: int, rows: Sequence[Row], size: int = 0) -> None:
        """Note rows of an entry, a few at a time, and with one of the calls its size."""
        group = self._groups[-1]
        if group.size >= GROUP_BYTES or len(group.changes) >= GROUP_KEYS:
            group = _Group()
            self._groups.append(group)
        group.last = number
        group.size += size
        group.changes.update(rows)

    def cut(self, start: int) -> None:
        """Forget what a checkpoint has, whose last entry is ``start``."""
        self.start = start
        if self.cleared <= start:
            self.cleared = 0
        while len(self._groups) > 1 and self._groups[0].last <= start:
            self._groups.popleft()
        if self._groups[0].last <= start:
            self._groups[0] = _Group()

"""Snapshots of the memory engine."""

from typing import final

from mypy_extensions import mypyc_attr

from kvs.adapters.storage.memory.key_index import count_prefix, scan_prefix
from kvs.adapters.storage.memory.version_chain import VersionChain
from kvs.adapters.storage.memory.versions import ReadPoint
from kvs.domain.errors import TimedOutError
from kvs.domain.values import Key, Value
from kvs.override import override
from kvs.ports.storage import Snapshot


@final
@mypyc_attr(free_list_len=1)  # as of ReadSet, and for the same reason
class MemorySnapshot(Snapshot):
    """A view of one :class:`MemoryStorage` as it was at one commit."""

    __slots__ = ("_point", "_released")

    def __init__(self, point: ReadPoint) -> None:
        self._point = point
        self._released = False
        point.holders += 1

    @property
    @override
    def expired(self) -> bool:
        return self._point.expired

    @override
    def get(self, key: Key) -> Value | None:
        point = self.point()
        value = point.store.data.get(key)
        return value.at(point.number) if isinstance(value, VersionChain) else value

    @override
    def scan(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        return scan_prefix(self.point().root, prefix, after, limit)

    @override
    def count(self, prefix: Key) -> int:
        return count_prefix(self.point().root, prefix)

    @override
    def close(self) -> None:  # again after a commit, which needs no old values any more
        if not self._released:
            self._released = True
            self._point.store.release(self._point)

    def point(self) -> ReadPoint:
        """Return the read point of this snapshot, unless it was evicted."""
        if self._point.expired:
            raise TimedOutError(
                "The transaction was ended: the values kept for its snapshot outgrew max_history_bytes."
            )
        return self._point


def snapshot_of(token: object) -> MemorySnapshot:
    """Return the snapshot that a read set names.

    Raises:
        TypeError: It is of another engine.
    """
    if not isinstance(token, MemorySnapshot):
        raise TypeError(f"not a snapshot of this engine: {type(token).__name__}")
    return token

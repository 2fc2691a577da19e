"""Listing and counting what a transaction sees: its pending writes over its snapshot, a share of the work at a time.

A transaction may have hundreds of thousands of pending writes, in no order. To look at all of them in one go would hold
up everybody else, so both jobs can be asked to go on until they are done. Nothing they look at can change meanwhile:
the snapshot is fixed, the map of writes immutable, and the session waits for its answer.
"""

from collections.abc import Callable, Iterator, Mapping
from heapq import merge
from itertools import islice
from typing import Final, TypeVar, final

from kvs.application import answers
from kvs.domain.values import TOMBSTONE, Key, Value, Write
from kvs.override import override
from kvs.ports.session import Unfinished
from kvs.ports.storage import Snapshot

T = TypeVar("T")

SHARE_WRITES: Final = 2000
"""Pending writes looked at in one go: about 1 ms in pure Python."""

SHARE_PAGES: Final = 4
"""Pages of the snapshot read in one go: about 1 ms for pages of 1,000 keys that are all deleted."""


@final
class NoKeys(Snapshot):
    """A view of nothing: what is left of a snapshot when its transaction has deleted every key."""

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
class Count:
    """Counts the keys under a prefix.

    Complexity:
        The snapshot's own count, and O(pending writes).
    """

    __slots__ = ("_pending", "_prefix", "_snapshot", "_writes", "result")

    def __init__(self, snapshot: Snapshot, writes: Mapping[Key, Write], prefix: Key) -> None:
        self._prefix = prefix
        self._writes = writes
        self.result = answers.number(snapshot.count(prefix))
        self._snapshot = snapshot
        self._pending: Iterator[tuple[Key, Write]] = iter(writes.items())

    def answers(self, writes: Mapping[Key, Write], prefix: Key) -> bool:
        """Return whether this is what is asked for."""
        return writes is self._writes and prefix == self._prefix

    def advance(self) -> bool:
        """Do a share of the work; return whether it is done and ``result`` is the number."""
        looked_at = 0
        for key, pending in islice(self._pending, SHARE_WRITES):
            looked_at += 1
            if key.startswith(self._prefix):
                self.result += (pending is not TOMBSTONE) - (answers.value(self._snapshot.get(key)) is not None)
        return looked_at < SHARE_WRITES


@final
class Page:
    """Lists the first keys under a prefix and above another key, in byte order.

    Complexity:
        O(limit + keys the transaction has deleted among them), and O(pending writes).
    """

    __slots__ = (
        "_added",
        "_after",
        "_from",
        "_kept",
        "_limit",
        "_pending",
        "_prefix",
        "_snapshot",
        "_writes",
        "result",
    )

    def __init__(self, snapshot: Snapshot, writes: Mapping[Key, Write], prefix: Key, after: Key, limit: int) -> None:
        self._prefix = prefix
        self._after = after
        self._limit = limit
        self.result: list[Key] = []
        self._snapshot = snapshot
        self._writes = writes
        self._pending: Iterator[tuple[Key, Write]] = iter(writes.items())
        self._added: list[Key] = []  # of the pending writes: the lowest keys with a value, at most `limit`
        self._kept: list[Key] = []  # of the snapshot: the lowest keys without a pending write
        self._from = after

    def answers(self, writes: Mapping[Key, Write], prefix: Key, after: Key, limit: int) -> bool:
        """Return whether this is what is asked for."""
        return writes is self._writes and (prefix, after, limit) == (self._prefix, self._after, self._limit)

    def advance(self) -> bool:
        """Do a share of the work; return whether it is done and ``result`` is the page."""
        if not self._writes:
            self.result = answers.page(self._snapshot.scan(self._prefix, self._after, self._limit))
            return True
        part = list(islice(self._pending, SHARE_WRITES))
        added = [
            key
            for key, pending in part
            if pending is not TOMBSTONE and key > self._after and key.startswith(self._prefix)
        ]
        if added:
            self._added = sorted(self._added + added)[: self._limit]
        if len(part) == SHARE_WRITES:
            return False
        for _ in range(SHARE_PAGES):
            page = answers.page(self._snapshot.scan(self._prefix, self._from, self._limit))
            self._kept += [key for key in page if key not in self._writes]
            if len(page) < self._limit or len(self._kept) >= self._limit:
                self.result = list(islice(merge(self._kept, self._added), self._limit))
                return True
            self._from = page[-1]
        return False


def insist(question: Callable[[], T]) -> T:
    """Ask until there is an answer, without making way for anybody."""
    while True:
        try:
            return question()
        except Unfinished:
            continue

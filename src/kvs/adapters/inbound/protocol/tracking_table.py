"""The keys that clients have read and keep, by key and by client.

A read is registered with the number of the last change at that time (see :mod:`kvs.application.changes`), before the
key is read. A change with a greater number takes the client out of the table: it gets one message.
"""

from bisect import bisect
from collections import OrderedDict
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING, Final, final

from kvs.domain.values import ENTRY_OVERHEAD_BYTES, Key

if TYPE_CHECKING:
    from collections.abc import Callable

NOBODY: Final[list["Tracker"]] = []


def no_push(_: bytes) -> None:
    """Do nothing: the client gets no messages any more."""


@final
class Tracker:
    """A client that gets a message when what it has read changes, or what begins with one of its prefixes.

    Attributes:
        number: Number of its session.
        is_broadcast: Its messages are of all keys under its prefixes, and not of what it has read.
        skips_own: It gets no messages of its own changes.
        push: Sends it a message.
        prefixes: Its prefixes, in the order of bytes.
        keys: What is registered for it, and with which number.
        invalid: Keys of the message that is being collected.
    """

    __slots__ = ("invalid", "is_broadcast", "keys", "number", "prefixes", "push", "skips_own")

    def __init__(self, number: int) -> None:
        self.number: Final = number
        self.is_broadcast = False
        self.skips_own = False
        self.push: Callable[[bytes], None] = no_push
        self.prefixes: list[Key] = []
        self.keys: dict[Key, int] = {}
        self.invalid: list[Key] = []

    def covers(self, key: Key) -> bool:
        """Return whether the client gets a message of a key that it has read."""
        if not self.is_broadcast:
            return True
        at = bisect(self.prefixes, key) - 1
        return at >= 0 and (key.startswith(self.prefixes[at]) or not self.prefixes[0])


@final
class TrackingTable:
    """Who has read which keys.

    Attributes:
        items: Number of pairs of a key and a client.
        held_bytes: Memory of the table.
    """

    def __init__(self) -> None:
        self.items = 0
        self.held_bytes = 0
        # Its first keys are found in O(1), however many have been deleted before them.
        self._holders: OrderedDict[Key, Tracker | set[Tracker]] = OrderedDict()
        self._lock: Lock | None = None

    def __len__(self) -> int:
        return len(self._holders)

    def use_workers(self) -> None:
        """Be safe for several threads."""
        self._lock = Lock()

    def register(self, tracker: Tracker, keys: list[Key], number: int) -> None:
        """Register keys that a client is about to read; ``number`` is that of the last change."""
        if self._lock is None:
            self._register(tracker, keys, number)
        else:
            with self._lock:
                self._register(tracker, keys, number)

    def take(self, key: Key, number: int, author: int) -> list[Tracker]:
        """Take out, and return, the clients whose copies a change of a key makes invalid."""
        if self._lock is None:
            return self._take(key, number, author)
        with self._lock:
            return self._take(key, number, author)

    def forget_any(self, tracker: Tracker) -> None:
        """Take a client out for any one of its keys, if it has any."""
        if self._lock is None:
            self._forget_any(tracker)
        else:
            with self._lock:
                self._forget_any(tracker)

    def oldest(self, number: int) -> list[Key]:
        """Return some keys, which were registered first."""
        if self._lock is None:
            return list(islice(self._holders, number))
        with self._lock:
            return list(islice(self._holders, number))

    def clear(self, trackers: list[Tracker]) -> list[dict[Key, int]]:
        """Take everybody out.

        Args:
            trackers: Everybody who has registered keys.

        Returns:
            What has to be freed in parts.
        """
        if self._lock is None:
            return self._clear(trackers)
        with self._lock:
            return self._clear(trackers)

    def _register(self, tracker: Tracker, keys: list[Key], number: int) -> None:
        known = tracker.keys
        holders = self._holders
        for key in keys:
            if key not in known:
                self.items += 1
                self.held_bytes += ENTRY_OVERHEAD_BYTES + len(key)
                other = holders.get(key)
                if other is None:
                    holders[key] = tracker
                elif isinstance(other, Tracker):
                    holders[key] = {other, tracker}
                else:
                    other.add(tracker)
                known[key] = number  # and stays: the client may still keep what it has read first

    def _take(self, key: Key, number: int, author: int) -> list[Tracker]:
        holders = self._holders.get(key)
        if holders is None:
            return NOBODY
        if isinstance(holders, Tracker):
            stale = [holders] if _concerns(holders, key, number, author) else NOBODY
        else:
            stale = [tracker for tracker in holders if _concerns(tracker, key, number, author)]
        for tracker in stale:
            del tracker.keys[key]
            self._drop(tracker, key)
        return stale

    def _forget_any(self, tracker: Tracker) -> None:
        if tracker.keys:
            key, _ = tracker.keys.popitem()
            self._drop(tracker, key)

    def _drop(self, tracker: Tracker, key: Key) -> None:
        self.items -= 1
        self.held_bytes -= ENTRY_OVERHEAD_BYTES + len(key)
        holders = self._holders[key]
        if isinstance(holders, set):
            holders.discard(tracker)
            if holders:
                return
        del self._holders[key]

    def _clear(self, trackers: list[Tracker]) -> list[dict[Key, int]]:
        freed = [tracker.keys for tracker in trackers if tracker.keys]
        for tracker in trackers:
            if tracker.keys:
                tracker.keys = {}
        self._holders = OrderedDict()
        self.items = 0
        self.held_bytes = 0
        return freed


def _concerns(tracker: Tracker, key: Key, number: int, author: int) -> bool:
    """Return whether a change makes a client's copy invalid: it may be older, and somebody else has changed the key."""
    return tracker.keys[key] < number and not (tracker.skips_own and tracker.number == author)

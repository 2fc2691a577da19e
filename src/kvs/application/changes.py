"""The keys that commits change, for the messages to clients that cache.

As long as nobody wants to know, a write looks at one flag. Else whatever writes (sessions, and expiry) adds the keys
here once the engine has taken the change. What has been added since the last :meth:`ChangeFeed.take` becomes durable
with what was written: with the next ``sync``, or, if the engine is blocking, before it is added.

*Numbers.* Changes are numbered. A state of the data that was read after number n was added holds all changes up to n,
because a change is visible before it is added. So a reader notes the number first, then reads; what it has read is out
of date once a change of the key has a greater number.
"""

from collections.abc import Collection
from threading import Lock
from typing import Final, final

from kvs.domain.commit import CommitRequest
from kvs.domain.values import Key

MAX_KEYS: Final = 100_000
"""Keys that may wait to be taken; more than that are said to be all keys."""

SERVER: Final = 0
"""The author of what no client has changed."""


@final
class Change:
    """The keys that a commit has changed.

    Attributes:
        keys: As they are stored; None: every key, and nothing else is known.
        number: Greater than that of every change before.
        author: Number of the session, or :data:`SERVER`.
    """

    __slots__ = ("author", "keys", "number")

    def __init__(self, keys: Collection[Key] | None, number: int, author: int) -> None:
        self.keys: Final = keys
        self.number: Final = number
        self.author: Final = author


@final
class ChangeFeed:
    """Collects changes while anybody wants them.

    Attributes:
        wanted: Whether changes are to be added.
        waiting: Whether any are waiting to be taken.
        number: That of the last change.
    """

    __slots__ = ("_changes", "_keys", "_lock", "number", "waiting", "wanted")

    def __init__(self) -> None:
        self.wanted = False
        self.waiting = False
        self.number = 0
        self._changes: list[Change] = []
        self._keys = 0
        self._lock: Lock | None = None

    def use_workers(self) -> None:
        """Be safe for several threads."""
        self._lock = Lock()

    def begin(self) -> None:
        """Collect changes from now on."""
        if not self.wanted:
            self.number += 1  # a snapshot from before may lack changes that nobody has counted
            self.wanted = True

    def end(self) -> None:
        """Collect none any more."""
        self.wanted = False
        self.take()

    def add(self, keys: Collection[Key] | None, author: int) -> None:
        """Add a change that is visible now; None: of every key."""
        if self._lock is None:
            self._add(keys, author)
        else:
            with self._lock:
                self._add(keys, author)

    def add_commit(self, request: CommitRequest, author: int) -> None:
        """Add what a commit has changed."""
        if request.clears:
            self.add(None, author)
        if request.writes:
            # A copy, because large maps are freed in parts; of a very large one it would not be used.
            self.add(list(request.writes) if len(request.writes) <= MAX_KEYS else None, author)

    def take(self) -> list[Change]:
        """Remove and return all changes, in order."""
        if self._lock is None:
            return self._take()
        with self._lock:
            return self._take()

    def _add(self, keys: Collection[Key] | None, author: int) -> None:
        self.number += 1
        self._keys += 1 if keys is None else len(keys)
        if self._keys > MAX_KEYS:
            keys, self._changes, self._keys = None, [], 1
        self._changes.append(Change(keys, self.number, author))
        self.waiting = True

    def _take(self) -> list[Change]:
        changes, self._changes = self._changes, []
        self._keys = 0
        self.waiting = False
        return changes

"""The storage port: what an engine must give.

Consistency
    Every call is atomic with respect to every other call on the same engine. What a call has returned, every later
    call sees. A :class:`Snapshot` shows the committed data exactly as it was when it was taken, whatever happens
    after.

Commit
    ``commit`` applies all the writes of a request or none. It applies them only if nothing named by a validation
    has changed since the snapshot of that validation. A key has changed if a commit since put it, even with equal
    bytes, or deleted it while it existed; deleting an absent key changes nothing. A prefix has changed if the set
    of keys under it differs from the snapshot's; overwriting a value does not change it. How an engine finds out is
    its own affair.

    A request may have several validations, each of a snapshot of its own, as when a client fixes a baseline per key;
    and it may have no writes, when all that is asked is whether the validations hold at this moment. After a conflict
    its snapshots serve and validate as before; when it has been committed they are closed, and asked nothing more.

Durability
    What ``put``, ``delete``, ``update``, ``clear`` and ``commit`` of a non-blocking engine have returned is as durable
    as the engine promises once the next ``sync`` has returned; the server sends no reply before. A ``sync`` that raises
    ends the server. A ``blocking`` engine returns from them only when durable, seen by nobody before; its ``sync`` is
    not called.

Concurrency
    A non-blocking engine is called from one thread only, the loop, and everybody waits for it.

    A ``blocking`` engine is called by up to ``worker_threads`` threads at the same time, and must be thread-safe. What
    one session asks of the engine and of its snapshot comes one call after the other, though each may come from
    another thread. The loop itself reads only ``blocking`` and, between two calls of that session, a snapshot's
    ``expired``: they must not wait. A call that has begun is let run to its end, also when its client has left.
    ``close`` comes from the main thread when every call has ended; if one does not end, it does not come at all.

Failure
    An engine raises ``StorageUnavailableError`` (nothing was applied, retrying is safe), ``OutcomeUnknownError`` (a
    write may have been applied), ``LimitError`` (refused for a limit of its own, nothing was applied) and, from a
    snapshot it had to give up, ``TimedOutError``. Anything else breaks the contract: it is logged and answered with
    an internal error.

Keys are non-empty ``bytes``; values are ``bytes``; prefixes may be empty, which means every key.

Both ports are base classes and not protocols: the compiled build then calls an engine without looking its methods up,
which takes 5 ns instead of 40, five times in the shortest transaction. Engines in plain Python derive from them as
usual, in either build.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Final

from mypy_extensions import mypyc_attr

from kvs.domain.errors import StorageUnavailableError
from kvs.domain.transaction import CommitRequest, Committed, Conflict, Validation
from kvs.domain.updates import Change, Updated
from kvs.domain.values import TOMBSTONE, Key, Value

MAX_ATTEMPTS: Final = 1000
"""How often something is tried that others may come before. Each failure means that one of them has got through."""

PAGE_KEYS: Final = 1000
"""Keys to ask for at a time by those who want more."""


def crowded_out() -> StorageUnavailableError:
    """Return what is raised when others came before every single time."""
    return StorageUnavailableError(f"Others changed the same {MAX_ATTEMPTS} times; nothing was applied. Retry.")


def _is_committed(answer: object) -> bool:
    """Return whether a commit was applied. An answer that is none must not have it tried again."""
    if isinstance(answer, Committed | Conflict):
        return isinstance(answer, Committed)
    raise TypeError(f"the engine returned {type(answer).__name__}, not Committed or Conflict")


@mypyc_attr(allow_interpreted_subclasses=True)
class Snapshot(ABC):
    """A read-only view of the committed data, fixed when it was taken."""

    __slots__ = ()

    @property
    def expired(self) -> bool:
        """Whether the engine had to give the view up; every other call but ``close`` then raises. Never, by default.

        Told at once, from memory.
        """
        return False

    @abstractmethod
    def get(self, key: Key) -> Value | None:
        """Return the value of a key, or None if it was absent."""

    @abstractmethod
    def scan(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        """Return up to ``limit`` keys under the prefix and greater than ``after``, in byte order."""

    @abstractmethod
    def count(self, prefix: Key) -> int:
        """Return the number of keys under the prefix."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the view. Called exactly once. Amortised O(1)."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Storage(ABC):
    """An engine. See the head of this module for what it promises."""

    __slots__ = ()

    @property
    def blocking(self) -> bool:
        """Whether calls may wait for a network or a slow device, and so must not run on the loop. Not, by default.

        Always the same.
        """
        return False

    @abstractmethod
    def get(self, key: Key) -> Value | None:
        """Return the committed value of a key, or None."""

    @abstractmethod
    def put(self, key: Key, value: Value) -> None:
        """Store a value, as a transaction of its own."""

    @abstractmethod
    def delete(self, key: Key) -> bool:
        """Delete a key, as a transaction of its own; return whether it was there."""

    def update(self, key: Key, change: Change) -> Updated:
        """Make a value what a function says that follows it, as a transaction of its own; return both.

        By default a snapshot and a commit, as often as it takes; an engine that can do it in one step says so here.
        The function may be asked more than once. What it leaves as it is has not changed.

        Raises:
            UsageError: From the function; nothing was applied.
            TooLargeError: Likewise.
        """
        for _ in range(MAX_ATTEMPTS):
            snapshot = self.snapshot()
            try:
                old = snapshot.get(key)
                pending = change(old)
                if pending is None:
                    return old, old
                validation = Validation(snapshot, (key,), ())
                if _is_committed(self.commit(CommitRequest((validation,), {key: pending}))):
                    return old, pending if isinstance(pending, bytes) else None
            finally:
                snapshot.close()
        raise crowded_out()

    def clear(self) -> None:
        """Delete every key, as a transaction of its own. O(number of keys).

        By default a snapshot, its keys and a commit, as often as it takes.
        """
        for _ in range(MAX_ATTEMPTS):
            snapshot = self.snapshot()
            try:
                keys: list[Key] = []
                page = snapshot.scan(b"", b"", PAGE_KEYS)
                while page:
                    keys += page
                    page = snapshot.scan(b"", page[-1], PAGE_KEYS)
                validation = Validation(snapshot, (), (b"",))
                if _is_committed(self.commit(CommitRequest((validation,), dict.fromkeys(keys, TOMBSTONE)))):
                    return
            finally:
                snapshot.close()
        raise crowded_out()

    @abstractmethod
    def scan(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        """Return up to ``limit`` committed keys under the prefix and greater than ``after``, in byte order.

        The last key of one call is the ``after`` of the next: a cursor that needs no state in the engine.
        """

    @abstractmethod
    def count(self, prefix: Key) -> int:
        """Return the number of committed keys under the prefix."""

    @abstractmethod
    def snapshot(self) -> Snapshot:
        """Fix a view of the committed data. O(1)."""

    @abstractmethod
    def commit(self, request: CommitRequest) -> Committed | Conflict:
        """Apply the writes if nothing that was observed has changed.

        Returns:
            Committed, or Conflict with some of what changed, up to ``MAX_CONFLICTS_NAMED`` keys and as many prefixes.

        Complexity:
            O(keys read + written) and, per prefix, at most O(keys that appeared or went since the snapshot).
        """

    @abstractmethod
    def sync(self) -> None:
        """Make everything that was applied as durable as the engine promises. At once if there is nothing to do.

        Not called if the engine is a blocking one.
        """

    def check(self) -> None:  # noqa: B027  # nothing to do, by default
        """Raise if what was synced may not last after all, because of what an engine does in the background.

        Called every second or so, and before an orderly end. The server then ends as after a ``sync`` that raises.
        """

    @abstractmethod
    def stats(self) -> Mapping[str, int]:
        """Return figures for people, by name with their unit (``history_bytes``), in O(1)."""

    @abstractmethod
    def close(self) -> None:
        """Release everything. No call follows."""

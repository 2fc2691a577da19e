"""The storage port: what an engine must give.

Required are four methods: ``snapshot``, ``commit``, ``stats`` and ``close``, and those of :class:`Snapshot`. All others
have defaults, which an engine overrides where it can do better.

Consistency
    Every call is atomic with respect to every other call on the same engine. What a call has returned, every later
    call sees. A :class:`Snapshot` shows the committed data exactly as it was when it was taken, whatever happens
    after.

Commit
    ``commit`` applies all of a request or nothing. It applies it only if nothing named by a read set has changed since
    the snapshot of that read set. A key has changed if a commit since put it, even with equal bytes, or deleted it
    while it existed; deleting an absent key changes nothing. A range has changed if the set of keys in it differs from
    the snapshot's; overwriting a value does not change it. How an engine finds out is its own business.

    A request that ``clears`` deletes every key that there is at that moment, whether the client ever saw it or not,
    and then applies its writes. That changes each of those keys.

    A request may have several read sets, each of a snapshot of its own, as when a client watches keys one by one; and
    it may have no writes, when the question is only whether the read sets hold at this moment.

    ``Committed`` carries the version of the commit, a number that increases with every commit that changes something.

Snapshots
    The caller closes each snapshot exactly once, also after its commit; ``commit`` closes none. After a conflict the
    snapshots of the request serve and validate as before. After a success nothing but ``close`` is called on them, so
    an engine may drop at once what it kept for them.

Durability
    What ``put``, ``delete``, ``update``, ``clear`` and ``commit`` of a non-blocking engine have returned is as durable
    as the engine promises once the next ``sync`` has returned; the server sends no reply before. A ``sync`` that raises
    ends the server. A ``blocking`` engine returns from them only when durable, seen by nobody before; its ``sync`` is
    not called.

Concurrency
    A non-blocking engine is called from one thread only, the loop, and everybody waits for it.

    A ``blocking`` engine is called by up to ``worker_threads`` threads at the same time, and must be thread-safe. Calls
    of one session to the engine and to its snapshot come one after the other, though each may come from another thread.
    The loop itself reads only ``blocking`` and, between two calls of that session, a snapshot's ``expired``: they must
    not wait. A call that has begun is let run to its end, also when its client has left. ``close`` comes from the main
    thread when every call has ended; if one does not end, it does not come at all.

Background work
    An engine that has something to do when nobody calls, such as freeing old values, does a bounded part of it in each
    ``sync`` and says by ``has_work`` whether there is more. The server then calls ``sync`` again soon, even if no
    request comes.

Failure
    An engine raises ``StorageUnavailableError`` (nothing was applied, retrying is safe), ``OutcomeUnknownError`` (a
    write may have been applied), ``LimitError`` (refused for a limit of its own, nothing was applied) and, from a
    snapshot it had to evict, ``TimedOutError``. Anything else breaks the contract: it is logged and answered with
    an internal error.

Keys are non-empty ``bytes``; values are ``bytes``; prefixes may be empty, which means every key.

Both ports are base classes and not protocols: the compiled build then calls an engine without looking its methods up,
five times in the shortest transaction. Engines in plain Python derive from them as usual, in either build.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from mypy_extensions import mypyc_attr

from kvs.domain.commit import CommitRequest, Committed, Conflict
from kvs.domain.updates import Update, Updated
from kvs.domain.values import Key, Value
from kvs.ports import autocommit


@mypyc_attr(allow_interpreted_subclasses=True)
class Snapshot(ABC):
    """A read-only view of the committed data, fixed when it was taken."""

    __slots__ = ()

    @property
    def expired(self) -> bool:
        """Whether the engine had to evict the view; every other call but ``close`` then raises. Never, by default.

        Must not block.
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
        """Release the view. Called exactly once. Amortised O(1)."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Storage(ABC):
    """An engine. See the head of this module for what it promises.

    Required: :meth:`snapshot`, :meth:`commit`, :meth:`stats`, :meth:`close`. Single commands are snapshots and commits
    by default (:mod:`kvs.ports.autocommit`); the rest does nothing by default.
    """

    __slots__ = ()

    # Required.

    @abstractmethod
    def snapshot(self) -> Snapshot:
        """Fix a view of the committed data. O(1)."""

    @abstractmethod
    def commit(self, request: CommitRequest) -> Committed | Conflict:
        """Apply the request if nothing that was observed has changed.

        Returns:
            Committed with its version, or Conflict with some of what changed, up to ``MAX_CONFLICTS_NAMED`` keys and as
            many ranges.

        Complexity:
            O(keys read + written) and, per range, at most O(keys that appeared or went since the snapshot). That of
            ``clears`` should not depend on the number of keys.
        """

    @abstractmethod
    def stats(self) -> Mapping[str, int]:
        """Return figures for people, by name with their unit (``history_bytes``), in O(1); ``keys`` among them."""

    @abstractmethod
    def close(self) -> None:
        """Release everything. No call follows."""

    # Single commands, each a transaction of its own.

    def get(self, key: Key) -> Value | None:
        """Return the committed value of a key, or None."""
        return autocommit.get(self, key)

    def scan(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        """Return up to ``limit`` committed keys under the prefix and greater than ``after``, in byte order.

        The last key of one call is the ``after`` of the next: a cursor that needs no state in the engine.
        """
        return autocommit.scan(self, prefix, after, limit)

    def count(self, prefix: Key) -> int:
        """Return the number of committed keys under the prefix."""
        return autocommit.count(self, prefix)

    def put(self, key: Key, value: Value) -> None:
        """Store a value."""
        autocommit.write(self, CommitRequest((), {key: value}))

    def delete(self, key: Key) -> bool:
        """Delete a key; return whether it was there."""
        return autocommit.delete(self, key)

    def update(self, key: Key, update: Update) -> Updated:
        """Atomically replace a value by ``update(old)``; return the old and the new one.

        The function may be called more than once. A value that it leaves as it is has not changed.

        Raises:
            UsageError: From the function; nothing was applied.
            TooLargeError: Likewise.
        """
        return autocommit.update(self, key, update)

    def clear(self) -> None:
        """Delete every key."""
        autocommit.write(self, CommitRequest((), {}, clears=True))

    # The server's side.

    @property
    def blocking(self) -> bool:
        """Whether calls may wait for a network or a slow device, and so must not run on the loop. Not, by default.

        Always the same.
        """
        return False

    def sync(self) -> None:  # noqa: B027  # nothing to do, by default
        """Make everything that was applied as durable as the engine promises. At once if there is nothing to do.

        Called at the end of each tick; not called if the engine is a blocking one.
        """

    @property
    def has_work(self) -> bool:
        """Whether the next ``sync`` has more to do though nothing is written: see "Background work". Must not block."""
        return False

    def check(self) -> None:  # noqa: B027  # nothing to do, by default
        """Raise if what was synced may not last after all, because of what an engine does in the background.

        Called every second or so, and before an orderly end. The server then ends as after a ``sync`` that raises.
        """

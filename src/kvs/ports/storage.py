"""The storage port, which every engine implements.

Required are four methods, ``snapshot``, ``commit``, ``stats`` and ``close``, and those of :class:`Snapshot`. All others
have defaults, which an engine overrides where it can do better.

Consistency
    Every call is atomic with respect to every other call on the same engine, and sees the effects of all calls that
    returned before it. A :class:`Snapshot` shows the committed data exactly as it was when the snapshot was taken.

Commit
    ``commit`` applies all of a request or nothing. It applies it only if nothing in its read sets has changed since
    the snapshot of that read set. A key has changed if a later commit put it, even with equal bytes, or deleted it
    while it existed; deleting an absent key changes nothing. A range has changed if the set of keys in it differs from
    the snapshot's; overwriting a value does not change it. How an engine detects changes is up to the engine.

    A request that ``clears`` deletes all keys that exist at that moment, whether the client has seen them or not, and
    then applies its writes. That changes each of those keys.

    A request may have several read sets, each with its own snapshot, as when a client watches keys one by one; and it
    may have no writes, to check only whether the read sets still hold.

    ``Committed`` carries the version of the commit, a number that increases with every commit that changes something.

Snapshots
    The caller closes each snapshot exactly once, also after its commit; ``commit`` closes none. After a conflict the
    snapshots of the request serve and validate as before. After a success nothing but ``close`` is called on them, so
    an engine may drop at once what it kept for them.

Durability
    The effects of ``put``, ``delete``, ``update``, ``clear`` and ``commit`` of a non-blocking engine are visible at
    once, and as durable as the engine promises once the next ``sync`` has returned. A ``blocking`` engine returns from
    them only when their effects are durable, and makes them visible only then; its ``sync`` is not called.

    The server itself does not wait for ``sync``. At the end of each tick it calls ``seal``, which ends the *batch* of
    what has been written since the last call, and returns the batch's *mark*, an increasing number. All output of the
    tick waits until ``durable_mark`` has reached the mark, also that of requests which have only read, since they may
    have read what is not durable. By default ``seal`` is a ``sync``, and there is nothing to wait for. An engine whose
    ``sync`` takes long does it on a thread of its own instead, so that the server goes on meanwhile
    (:class:`kvs.adapters.storage.journaled.JournaledStorage`). If a batch fails, ``check`` raises from then on.

Concurrency
    A non-blocking engine is called from one thread only, the loop, and its calls block all clients.

    A ``blocking`` engine is called by up to ``worker_threads`` threads at the same time, and must be thread-safe. Calls
    of one session to the engine and to its snapshot are sequential, though each may come from another thread.
    The loop itself reads only ``blocking`` and, between two calls of that session, a snapshot's ``expired``: they must
    not block. A call that has begun runs to its end, also if its client disconnects. ``close`` is called from the main
    thread after every call has ended; if one never ends, ``close`` is not called.

Background work
    An engine with background work, such as freeing old values, does a bounded part of it in each ``seal`` or ``sync``
    and reports by ``has_work`` whether there is more. The server then calls again soon, even without requests.

Failure
    An engine raises ``StorageUnavailableError`` (nothing was applied, retrying is safe), ``OutcomeUnknownError`` (a
    write may have been applied), ``LimitError`` (it would exceed a limit of the engine, nothing was applied) and, from
    a snapshot it had to evict, ``TimedOutError``. Anything else breaks the contract: it is logged, and the client gets
    an internal error.

Values
    Keys are non-empty ``bytes``; prefixes may be empty, which means every key. Values are ``bytes``; those of an engine
    whose :class:`kvs.engine.EngineSpec` says ``records`` may also be :class:`kvs.domain.values.Record`, of which it
    looks at the deadline only.

Expiry
    A record with a deadline stays until ``expire`` deletes it, whatever its deadline. The server calls that in time. An
    expiry is a commit like any other: it changes the key, and the range.

Both ports are base classes and not protocols: the compiled build then calls an engine without looking its methods up,
five times in the shortest transaction. Engines in plain Python derive from them as usual, in either build.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

from mypy_extensions import mypyc_attr

from kvs.domain.commit import CommitRequest, Committed, Conflict
from kvs.domain.updates import Update, Updated
from kvs.domain.values import NEVER_MS, NO_DEADLINE, Key, Value, deadline_of
from kvs.ports import autocommit
from kvs.ports.histogram import Counts


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
    """An engine. The module docstring states what it must guarantee.

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
        """Apply the request if nothing in its read sets has changed.

        Returns:
            Committed with its version, or Conflict with up to ``MAX_CONFLICTS_NAMED`` of the keys and as many of the
            ranges that changed.

        Complexity:
            O(keys read + written) and, per range, at most O(keys added or deleted since the snapshot). The cost of
            ``clears`` should not depend on the number of keys.
        """

    @abstractmethod
    def stats(self) -> Mapping[str, int]:
        """Return figures for people, by name with their unit (``history_bytes``), in O(1); ``keys`` among them."""

    @abstractmethod
    def close(self) -> None:
        """Release all resources. No call follows."""

    def distributions(self) -> Mapping[str, Counts]:
        """Return distributions for people, by name with their unit (``append_ns``), in O(1). None, by default.

        Only those of the engines that come with kvs are shown.
        """
        return {}

    # Single commands, each its own transaction.

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

    def put_all(self, keys: list[Key], values: list[Value]) -> None:
        """Store a value under each key, all of them or none; of a key that comes again, the last value.

        Neither list is changed, nor kept.
        """
        autocommit.write(self, CommitRequest((), dict(zip(keys, values, strict=True))))

    def delete(self, key: Key) -> bool:
        """Delete a key; return whether it existed."""
        return autocommit.delete(self, key)

    def update(self, key: Key, update: Update) -> Updated:
        """Atomically replace a value with ``update(old)``; return the old and the new one.

        The function may be called more than once. A value that it leaves alone has not changed.

        Raises:
            UsageError: From the function; nothing was applied.
            TooLargeError: From the function; nothing was applied.
        """
        return autocommit.update(self, key, update)

    def clear(self) -> None:
        """Delete every key."""
        autocommit.write(self, CommitRequest((), {}, clears=True))

    # Expiry.

    def expire(self, now_ms: int, max_steps: int) -> list[Key]:  # noqa: ARG002  # nothing is ever due, by default
        """Delete records whose deadline has been reached, in one commit, and return their keys.

        Args:
            now_ms: The server's time, in milliseconds since 1970; it never goes back.
            max_steps: Maximum number of records deleted or moved in the index. More may be due: see
                :meth:`earliest_deadline_ms`.

        Raises:
            LimitError: What it keeps for open snapshots would outgrow a limit, so it deletes nothing for the moment.
                A record of its own is deleted all the same, by ``update`` or ``delete``.
        """
        return []

    def due_among(self, keys: list[Key], now_ms: int) -> list[Key]:
        """Return those of these keys whose records may be due, in their order.

        It looks at each value. An engine that has the deadlines at hand, and not the values, should override it.
        """
        return [key for key in keys if NO_DEADLINE < deadline_of(self.get(key)) <= now_ms]

    def earliest_deadline_ms(self) -> int:
        """Return a time before which no record is due. Must not block."""
        return NEVER_MS

    @property
    def horizon_ms(self) -> int:
        """The latest of the times that were noted, in an earlier run those that were stored; 0: unknown."""
        return 0

    @property
    def clock(self) -> Callable[[], float] | None:
        """What returns the server's time, in seconds since 1970, if several servers agree on it; None by default.

        Constant for the life of the engine. The time never goes back, nor jumps. Must not block. Without one, the
        server's time is that of this machine.
        """
        return None

    def note_horizon(self, now_ms: int) -> None:  # noqa: B027  # nothing to do, by default
        """Store the server's time with the next writes that are made durable, so that it does not go back.

        Called in every tick; must not block. A time may be left out if one of less than a second before is stored.
        """

    # The server's side.

    @property
    def blocking(self) -> bool:
        """Whether calls may block, and so must not run on the loop. False by default.

        Constant for the life of the engine.
        """
        return False

    def sync(self) -> None:  # noqa: B027  # nothing to do, by default
        """Make everything that was applied as durable as the engine promises. Cheap if there is nothing to do."""

    def seal(self) -> int:
        """End the batch of writes, begin to make it durable, and return the mark to wait for; 0: it is durable.

        Called at the end of each tick, unless the engine is blocking. The mark is that of the last batch that has
        writes: of this one, or of an earlier one. It may be durable already; must wait for a fraction of a millisecond
        at most.
        """
        self.sync()
        return 0

    @property
    def durable_mark(self) -> int:
        """The mark of the last batch that is durable. Must not block."""
        return 0

    @property
    def in_flight_bytes(self) -> int:
        """Memory held for batches that are sealed and not durable. Must not block."""
        return 0

    def when_durable(self, wake: Callable[[], None]) -> None:  # noqa: B027  # no batch waits, by default
        """Have a function called, by any thread, whenever a batch becomes durable after its ``seal``, or fails."""

    @property
    def has_work(self) -> bool:
        """Whether the next ``seal`` has background work to do even without writes. Must not block."""
        return False

    def check(self) -> None:  # noqa: B027  # nothing to do, by default
        """Raise if a batch has failed, or synced data may be lost after all because background work has failed.

        Called when the engine wakes the server, about every second, and before an orderly stop. The server then stops
        as after a ``seal`` that raises.
        """

    def retire(self) -> None:  # noqa: B027  # nothing to do, by default
        """Let another server take over: this one has run its last request, and all batches are durable.

        Called at most once, when the server stops and its clients have been answered; after that only the engine's
        context is left. Must not wait.
        """

"""The inbound port: what a client may ask. Every protocol opens its sessions here and calls nothing else.

Steps
    What may take long is a generator: it yields whenever it has used up its share of :class:`Work`, and returns its
    result at the end. A connection advances it by one share per turn, so that others are served in between, and closes
    it when its client leaves; closing releases what it holds. A worker thread runs it to the end in one go.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Generator, Mapping
from typing import Final, Protocol, TypeAlias, TypeVar, final

from kvs.domain.commit import Committed, Conflict
from kvs.domain.updates import Update, Updated
from kvs.domain.values import Key, Value

T = TypeVar("T")

Steps: TypeAlias = Generator[None, None, T]
"""Work in shares: yields when a share is used up, returns the result."""

Operation: TypeAlias = "Callable[[Session], Steps[T]]"
"""Several calls of a session as one. It may be run more than once."""

COPIED_BYTES_PER_UNIT: Final = 1 << 12
"""Bytes copied, compared or searched per unit of work."""


@final
class Work:
    """What one client may still do before others have their turn.

    Attributes:
        left: In units; one is about a microsecond of the compiled build, and about what a plain GET costs. What is
            over is noticed after the step that went over, so a step must be small.
    """

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = 0


def run_to_end(steps: "Steps[T]") -> T:
    """Return what steps return, without making way for anybody."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


@final
class TransactionCounters:
    """Outermost transactions by how they ended: applied, rejected with a conflict, or ended by the server."""

    __slots__ = ("aborted", "committed", "conflicted")

    def __init__(self) -> None:
        self.committed = 0
        self.conflicted = 0
        self.aborted = 0


class Session(ABC):
    """One client's state for the life of its connection: at most one transaction, nested to any depth.

    Outside a transaction every command is an atomic transaction of its own. Every method may raise a
    :class:`kvs.domain.errors.KvsError`; its class says what that leaves behind. One thread at a time calls a session:
    the loop, or, for an engine that blocks, a worker while it runs a request.

    A base class and not a protocol: the compiled build then calls it without looking methods up, 4 % of a GET.

    Attributes:
        id: Number of the session, unique in the life of the server.
        counters: How many outermost transactions have ended, and how.
        started_at_s: When the open transaction was started, in seconds of the server's monotonic clock.
        work: What the client may still do in this share; long operations charge it and yield when it is used up.
    """

    __slots__ = ("counters", "id", "started_at_s", "work")

    def __init__(self, session_id: int) -> None:
        self.id: Final = session_id
        self.counters: Final = TransactionCounters()
        self.work: Final = Work()
        self.started_at_s = 0.0

    @property
    @abstractmethod
    def depth(self) -> int:
        """Number of open frames; 0 outside a transaction."""

    @property
    @abstractmethod
    def held_bytes(self) -> int:
        """What the transaction and the watched keys hold in memory."""

    @property
    @abstractmethod
    def expired(self) -> bool:
        """Whether the engine had to evict the snapshot of the client's transaction."""

    @property
    @abstractmethod
    def watching(self) -> bool:
        """Whether any key is watched."""

    @property
    @abstractmethod
    def holds_snapshot(self) -> bool:
        """Whether there is a snapshot to be closed: by a transaction, or by watched keys."""

    @abstractmethod
    def is_pending(self, key: Key) -> bool:
        """Return whether the transaction writes or deletes a key, so that reading it takes no call of the engine."""

    @abstractmethod
    def get(self, key: Key) -> Value | None:
        """Return the value of a key, or None if it is absent."""

    @abstractmethod
    def put(self, key: Key, value: Value) -> None:
        """Store a value."""

    @abstractmethod
    def delete(self, key: Key) -> bool:
        """Delete a key; return whether it was there."""

    @abstractmethod
    def keys(self, prefix: Key, after: Key, limit: int) -> Steps[list[Key]]:
        """Return up to ``limit`` keys under the prefix and greater than ``after``, in byte order."""

    @abstractmethod
    def count(self, prefix: Key) -> Steps[int]:
        """Return the number of keys under the prefix."""

    @abstractmethod
    def update(self, key: Key, update: Update) -> Updated:
        """Atomically replace a value with ``update(old)``; return the old and the new one.

        In a transaction that is a read and, unless the value stays as it is, a write.

        Raises:
            UsageError: From the function, too; nothing was changed.
            TooLargeError: Likewise.
        """

    @abstractmethod
    def put_all(self, entries: Mapping[Key, Value]) -> None:
        """Store several values, all of them or none."""

    @abstractmethod
    def clear(self) -> None:
        """Delete every key."""

    @abstractmethod
    def view(self, operation: "Operation[T]") -> "Steps[T]":
        """Run an operation that only reads, on the state of one moment."""

    @abstractmethod
    def transact(self, operation: "Operation[T]") -> "Steps[T]":
        """Run an operation atomically: all of it is applied, or nothing if it raises.

        Outside a transaction it is one of its own, retried if another commits first; inside, it is a nested frame.
        """

    @abstractmethod
    def execute(self, operation: "Operation[T]") -> "Steps[T | Conflict]":
        """Run an operation as a transaction if no watched key has changed; then forget all watched keys.

        Returns:
            The operation's result; or a conflict, with nothing applied, if a watched key has changed, or the engine had
            to evict the snapshot that told.

        Raises:
            UsageError: A transaction is open.
        """

    @abstractmethod
    def watch(self, keys: Collection[Key]) -> None:
        """Have :meth:`execute` fail if any of these keys changes from now on. This opens no transaction.

        Raises:
            UsageError: A transaction is open.
            LimitError: More would be watched than allowed.
        """

    @abstractmethod
    def unwatch(self) -> None:
        """Forget all watched keys."""

    @abstractmethod
    def start(self, *, read_only: bool = False) -> None:
        """Open a transaction, or a frame inside the open one.

        Args:
            read_only: Nothing will be written. Such a transaction never conflicts, and holds the same however much it
                reads; PUT and DEL are refused in it. Its nested frames are read-only too, and none can be nested in a
                transaction that may write.
        """

    @abstractmethod
    def commit(self) -> Committed | Conflict:
        """Merge the innermost frame into its parent, or apply the outermost; a conflict ends the transaction."""

    @abstractmethod
    def rollback(self) -> None:
        """Discard the innermost frame."""

    @abstractmethod
    def reset(self) -> None:
        """Discard every frame, and forget all watched keys."""

    @abstractmethod
    def info(self) -> dict[str, dict[str, object]]:
        """Return figures for people: about this ``session`` and about the ``server``. O(number of sessions)."""

    @abstractmethod
    def abort(self) -> None:
        """End an open transaction by decision of the server, and forget all watched keys."""

    @abstractmethod
    def close(self) -> None:
        """Abort an open transaction and end the session. Safe to call again."""


class SessionFactory(Protocol):
    """**Protocol:** Opens sessions."""

    def open(self) -> Session:
        """Open a session."""

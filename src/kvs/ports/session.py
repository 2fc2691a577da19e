"""The inbound port: everything a client can do. Protocols open sessions here and call nothing else.

Steps
    An operation that may take long is a generator: it yields whenever its share of :class:`Work` is used up, and
    returns its result at the end. A connection advances it by one share at a time, so that other clients are served in
    between, and closes it when the client disconnects, which releases its resources.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar, final

from kvs.domain.commit import Committed, Conflict
from kvs.domain.errors import ClientsFullError
from kvs.domain.updates import Update, Updated
from kvs.domain.values import Key, Value

if TYPE_CHECKING:
    from mypy_extensions import i64  # an int in a register, to the compiler

T = TypeVar("T")

Steps: TypeAlias = Generator[None, None, T]
"""An operation in shares: yields when a share is used up, returns the result."""

Operation: TypeAlias = "Callable[[Session], Steps[T]]"
"""Several calls of a session as one. It may be run more than once."""

COPIED_BYTES_PER_UNIT: Final = 1 << 12
"""Bytes copied, compared or searched per unit of work."""

RECEIVED_BYTES_PER_UNIT: Final = 1 << 11
"""Bytes of a request per unit of work: they are copied, and the memory for a large one is new."""

LITTLE_BYTES: Final = 1 << 16
"""What a command may hold that has begun, however much all clients hold: it ends soon, and gives back its snapshot."""


@final
class Work:
    """The work that one client may still do before others are served.

    Attributes:
        left: In units; one is about a microsecond of the compiled build, the cost of a plain GET. It is checked after
            each step, so steps must be small.
        held_bytes: Memory that a suspended command holds beside its transaction: its own, and what of its reply it has
            found so far. Its client is charged for it; when the command has ended, the connection sets it to 0.
        full_bytes: What all clients together may hold, if they hold that much; -1: they hold less. The connection sets
            it before each share of a command.
    """

    __slots__ = ("full_bytes", "held_bytes", "left")

    def __init__(self) -> None:
        self.left = 0
        self.held_bytes = 0
        self.full_bytes = -1

    def hold(self, added_bytes: int) -> None:
        """Count what a command has found for its reply.

        Raises:
            ClientsFullError: The clients together hold all that they may, and this command more than a little of it.
        """
        self.held_bytes += added_bytes
        if self.full_bytes >= 0 and self.held_bytes > LITTLE_BYTES:
            raise ClientsFullError(self.full_bytes)


@final
class TransactionCounters:
    """Outermost transactions by how they ended.

    Attributes:
        committed: Applied.
        conflicted: Rejected with a conflict.
        aborted: Ended by the server.
        engine_aborts: Those of the aborted ones that were ended because the engine failed.
    """

    __slots__ = ("aborted", "committed", "conflicted", "engine_aborts")

    def __init__(self) -> None:
        self.committed = 0
        self.conflicted = 0
        self.aborted = 0
        self.engine_aborts = 0


@final
class LookupCounters:
    """Keys that a client has asked for, by whether there was a value. What a write has to read does not count."""

    __slots__ = ("hits", "misses")

    def __init__(self) -> None:
        self.hits: i64 = 0
        self.misses: i64 = 0

    def count(self, value: Value | None) -> None:
        """Count a key, given what was found."""
        if value is None:
            self.misses += 1
        else:
            self.hits += 1


class Session(ABC):
    """One client's state for the life of its connection: at most one transaction, nested to any depth.

    Outside a transaction every command is its own atomic transaction. Every method may raise a
    :class:`kvs.domain.errors.KvsError`; its class documents the effects. One thread at a time calls a session: the
    loop, or, for a blocking engine, the worker that runs its request.

    A base class and not a protocol: the compiled build then calls methods without a look-up, 4 % of a GET.

    Attributes:
        id: Number of the session, unique in the life of the server.
        counters: Outermost transactions, by how they ended.
        lookups: Keys that the client has asked for.
        started_at_s: When the open transaction was started, in seconds of the server's monotonic clock.
        work: The rest of the current share; long operations charge it and yield when it is used up.
    """

    __slots__ = ("counters", "id", "lookups", "started_at_s", "work")

    def __init__(self, session_id: int) -> None:
        self.id: Final = session_id
        self.counters: Final = TransactionCounters()
        self.lookups: Final = LookupCounters()
        self.work: Final = Work()
        self.started_at_s = 0.0

    @property
    @abstractmethod
    def depth(self) -> int:
        """Number of open frames; 0 outside a transaction."""

    @abstractmethod
    def check_may_write(self) -> None:
        """Check that no transaction is open, or one that may write; before anything is read.

        Raises:
            UsageError: It may not.
        """

    @property
    @abstractmethod
    def now_ms(self) -> int:
        """The server's time, in milliseconds since 1970: that of its tick. Relative deadlines count from it."""

    @property
    @abstractmethod
    def read_ms(self) -> int:
        """The time by which reads judge deadlines: the snapshot's in a transaction of the client, else the server's."""

    @abstractmethod
    def counts_from_ms(self, deadline_ms: int) -> int:
        """Return the time from which the time left until a deadline counts.

        It is :attr:`read_ms`, but for a deadline that the transaction has set the time when it did, if that is later.
        """

    @property
    @abstractmethod
    def held_bytes(self) -> int:
        """Memory charged for the transaction and the watched keys."""

    @property
    @abstractmethod
    def expired(self) -> bool:
        """Whether the engine had to evict the snapshot of the client's transaction."""

    @property
    @abstractmethod
    def holds_snapshot(self) -> bool:
        """Whether a transaction or watched keys hold a snapshot."""

    @abstractmethod
    def is_pending(self, key: Key) -> bool:
        """Return whether the transaction has a pending write of a key, so that reading it needs no engine."""

    @abstractmethod
    def shows_newest(self, key: Key) -> bool:
        """Return whether reading a key shows its newest committed value, as far as changes are counted.

        Not so in a transaction that has changed the key, or whose snapshot is older than the last commit.
        """

    @property
    @abstractmethod
    def clears_all(self) -> bool:
        """Whether the transaction would delete every key that it does not write."""

    @abstractmethod
    def written_keys(self) -> Iterator[Key]:
        """Yield the keys that the transaction has written or deleted, in any order."""

    @abstractmethod
    def get(self, key: Key) -> Value | None:
        """Return the value of a key, or None if it is absent."""

    @abstractmethod
    def put(self, key: Key, value: Value) -> None:
        """Store a value."""

    @abstractmethod
    def delete(self, key: Key) -> bool:
        """Delete a key; return whether it existed."""

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
            UsageError: From the function; nothing was changed.
            TooLargeError: From the function; nothing was changed.
        """

    @abstractmethod
    def put_all(self, keys: list[Key], values: list[Value]) -> None:
        """Store a value under each key, all of them or none; of a key that comes again, the last value."""

    @abstractmethod
    def clear(self) -> None:
        """Delete every key."""

    @abstractmethod
    def view(self, operation: "Operation[T]") -> "Steps[T]":
        """Run an operation that only reads, on one consistent state."""

    @abstractmethod
    def transact(self, operation: "Operation[T]") -> "Steps[T]":
        """Run an operation atomically: all of it is applied, or nothing if it raises.

        Outside a transaction it is one, retried if another commits first; inside, it is a nested frame.
        """

    @abstractmethod
    def execute(self, operation: "Operation[T]") -> "Steps[T | Conflict]":
        """Run an operation as a transaction if no watched key has changed; then forget all watched keys.

        Returns:
            The operation's result; or a conflict, with nothing applied, if a watched key has changed or the engine
            evicted the snapshot of a watched key.

        Raises:
            UsageError: A transaction is open.
        """

    @abstractmethod
    def execute_at_once(self, operation: "Callable[[Session], T | None]") -> "T | Conflict | None":
        """Do the same as :meth:`execute` in one step, which takes half the time for an operation of a few calls.

        Args:
            operation: Returns its result, or None if it takes more than one step.

        Returns:
            As :meth:`execute`; or None if that has to be called instead. Then nothing has been applied, and the
            watched keys are still watched.
        """

    @abstractmethod
    def execute_put_all(self, entries: dict[Key, Value]) -> Committed | Conflict:
        """Do the same as :meth:`execute` for an operation that stores strings, at a third of the cost.

        Args:
            entries: Strings without deadlines, by key.
        """

    @abstractmethod
    def watch(self, keys: list[Key]) -> None:
        """Make the next :meth:`execute` fail if any of these keys changes from now on. Opens no transaction.

        The list may be kept.

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
            read_only: Refuse writes. Such a transaction never conflicts, and its memory does not grow with its reads.
                Its nested frames are read-only too; it cannot be nested in a transaction that may write.
        """

    @abstractmethod
    def commit(self) -> Committed | Conflict:
        """Merge the innermost frame into its parent, or apply the outermost; a conflict ends the transaction.

        :meth:`prepare_commit` has to be called before.
        """

    @abstractmethod
    def prepare_commit(self) -> Steps[None] | None:
        """Return what has to be run before :meth:`commit`, if anything: ranges that were read have to be up to date."""

    @abstractmethod
    def rollback(self) -> None:
        """Discard the innermost frame."""

    @abstractmethod
    def reset(self) -> None:
        """Discard every frame, and forget all watched keys."""

    @abstractmethod
    def info(self) -> dict[str, dict[str, object]]:
        """Return figures about this ``session`` and the ``server``, for people. O(number of sessions)."""

    @abstractmethod
    def abort(self) -> None:
        """End an open transaction by decision of the server, and forget all watched keys."""

    @abstractmethod
    def close(self) -> None:
        """Abort an open transaction and end the session. Safe to call again."""

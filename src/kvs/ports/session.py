"""The inbound port: what a client may ask. Every protocol opens its sessions here and calls nothing else."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from typing import Final, Protocol, TypeVar, final

from kvs.domain.commit import Committed, Conflict
from kvs.domain.updates import Update, Updated
from kvs.domain.values import Key, Value

T = TypeVar("T")


class Unfinished(Exception):  # noqa: N818  # not an error: the answer is only not there yet
    """Raised when an answer is not there yet. Ask again, the very same, before anything else is asked of the session.

    Either a listing has done its share of work for now: ask when others had their turn. Or the session is in flight:
    ask when that has ended.
    """


@final
class Totals:
    """Outermost transactions by how they ended: applied, answered by a conflict, or ended by the server."""

    __slots__ = ("aborted", "committed", "conflicted")

    def __init__(self) -> None:
        self.committed = 0
        self.conflicted = 0
        self.aborted = 0


class Session(ABC):
    """One client's state for the life of its connection: at most one transaction, nested to any depth.

    Outside a transaction every command is an atomic transaction of its own. Every method may raise a
    :class:`kvs.domain.errors.KvsError`; what that leaves behind is said there. It may raise :class:`Unfinished`, too.

    Sessions are called by one thread. That of a blocking engine has its calls made by others: it is *in flight* while
    one is under way, and has no answers before that has ended.

    A base class and not a protocol: the compiled build then calls it without looking methods up, 4 % of a GET.

    Attributes:
        id: Number of the session, unique in the life of the server.
        totals: How many outermost transactions have ended, and how.
        started_at_s: When the open transaction was started, in seconds of the server's monotonic clock.
    """

    __slots__ = ("id", "started_at_s", "totals")

    def __init__(self, session_id: int, totals: Totals) -> None:
        self.id: Final = session_id
        self.totals: Final = totals
        self.started_at_s = 0.0

    @property
    def in_flight(self) -> bool:
        """Whether another thread is calling the engine for it; where its transaction stands is not known meanwhile."""
        return False

    @property
    def unanswered(self) -> bool:
        """Whether something that has been asked is under way, or done, and its answer still to be fetched."""
        return False

    def when_ended(self, wake: Callable[[], None]) -> None:
        """Call back once, by the thread that asks, when nothing is in flight: at once if nothing is.

        There is one to call back; another takes its place.
        """
        wake()

    @property
    @abstractmethod
    def depth(self) -> int:
        """Number of open frames; 0 outside a transaction."""

    @property
    @abstractmethod
    def held_bytes(self) -> int:
        """What its transaction, and what it watches, hold in memory."""

    @property
    @abstractmethod
    def expired(self) -> bool:
        """Whether the engine had to give up the snapshot of the open transaction."""

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
    def keys(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        """Return up to ``limit`` keys under the prefix and greater than ``after``, in byte order."""

    @abstractmethod
    def count(self, prefix: Key) -> int:
        """Return the number of keys under the prefix."""

    @abstractmethod
    def update(self, key: Key, change: Update) -> Updated:
        """Make a value what a function says that follows it, with nobody in between; return both.

        In a transaction that is a read and, unless everything is left as it is, a write.

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
    def atomically(self, unit: "Callable[[Session], T]", *, read_only: bool = False) -> T:
        """Run several calls as one: all of what they do, seen at once, or nothing if an error comes out of them.

        Outside a transaction they are one of their own, tried again if others came before; in one, a frame of it. Two
        that are equal are the same question: whoever asks again, after :class:`Unfinished`, may ask with another.

        Args:
            unit: Makes the calls, on the session that it is given. It may be run more than once. Only if it is
                read-only may it let ``Unfinished`` out, and is then called again.
            read_only: Whether it writes nothing.
        """

    @abstractmethod
    def watch(self, keys: Collection[Key]) -> None:
        """Fix a baseline for each key that has none yet; :meth:`execute` then tells whether any of them has changed.

        That is no transaction: what is read still is what there is by then.

        Raises:
            UsageError: There is a transaction.
            LimitError: More would be watched than may be.
        """

    @abstractmethod
    def unwatch(self) -> None:
        """Forget all baselines."""

    @property
    @abstractmethod
    def watching(self) -> bool:
        """Whether there is a baseline."""

    @abstractmethod
    def execute(self, unit: "Callable[[Session], T]") -> T | Conflict:
        """Run several calls as one transaction, if nothing watched has changed; then forget all baselines.

        Args:
            unit: Makes the calls, on the session that it is given. It may be run more than once, and it may let
                ``Unfinished`` out, and is then called again.

        Returns:
            What came out of the calls. A conflict, and nothing was applied, if a baseline does not hold any more, or
            the engine had to give it up.

        Raises:
            UsageError: There is a transaction.
        """

    @abstractmethod
    def start(self, *, read_only: bool = False) -> None:
        """Open a transaction, or a frame inside the open one.

        Args:
            read_only: Whether nothing will be written. Such a transaction never conflicts, and holds the same however
                much it reads; PUT and DEL are refused in it. Every frame inside it is read-only, too, and none can be
                inside one that may write.
        """

    @abstractmethod
    def commit(self) -> Committed | Conflict:
        """Merge the innermost frame into its parent, or apply the outermost; a conflict ends the transaction."""

    @abstractmethod
    def rollback(self) -> None:
        """Discard the innermost frame."""

    @abstractmethod
    def reset(self) -> None:
        """Discard every frame, and forget all baselines."""

    @abstractmethod
    def info(self) -> dict[str, dict[str, object]]:
        """Return figures for people: about this ``session`` and about the ``server``."""

    @abstractmethod
    def close(self) -> None:
        """Abort an open transaction and end the session. Safe to call again.

        A call in flight runs to its end, and nobody gets its answer. The session has ended, and its totals are final,
        when nothing is in flight any more: see :meth:`when_ended`.
        """


class SessionFactory(Protocol):
    """**Protocol:** Where sessions come from."""

    def open(self) -> Session:
        """Open a session."""

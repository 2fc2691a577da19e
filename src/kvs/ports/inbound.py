"""The inbound port: what a client may ask. Every protocol opens its sessions here and calls nothing else."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final, Protocol, final

from kvs.domain.transaction import Committed, Conflict
from kvs.domain.values import Key, Value


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

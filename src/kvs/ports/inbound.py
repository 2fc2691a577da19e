"""The inbound port: what a client may ask. Every protocol opens its sessions here and calls nothing else."""

from typing import Protocol, final

from kvs.domain.transaction import Committed, Conflict
from kvs.domain.values import Key, Value


class Unfinished(Exception):  # noqa: N818  # not an error: the answer is only not there yet
    """Raised by a listing that has done its share of work for now. Ask again, the same, when others had their turn."""


@final
class Totals:
    """Outermost transactions by how they ended: applied, answered by a conflict, or ended by the server."""

    __slots__ = ("aborted", "committed", "conflicted")

    def __init__(self) -> None:
        self.committed = 0
        self.conflicted = 0
        self.aborted = 0


class Session(Protocol):
    """**Protocol:** One client's state for the life of its connection: at most one transaction, nested to any depth.

    Outside a transaction every command is an atomic transaction of its own. Every method may raise a
    :class:`kvs.domain.errors.KvsError`; what that leaves behind is said there.
    """

    @property
    def id(self) -> int:
        """Number of the session, unique in the life of the server."""

    @property
    def depth(self) -> int:
        """Number of open frames; 0 outside a transaction."""

    @property
    def started_at_s(self) -> float:
        """When the open transaction was started, in seconds of the server's monotonic clock."""

    @property
    def expired(self) -> bool:
        """Whether the engine had to give up the snapshot of the open transaction."""

    @property
    def totals(self) -> Totals:
        """How many outermost transactions have ended, and how."""

    def get(self, key: Key) -> Value | None:
        """Return the value of a key, or None if it is absent."""

    def put(self, key: Key, value: Value) -> None:
        """Store a value."""

    def delete(self, key: Key) -> bool:
        """Delete a key; return whether it was there."""

    def keys(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        """Return up to ``limit`` keys under the prefix and greater than ``after``, in byte order.

        Raises:
            Unfinished: Ask again.
        """

    def count(self, prefix: Key) -> int:
        """Return the number of keys under the prefix.

        Raises:
            Unfinished: Ask again.
        """

    def start(self) -> None:
        """Open a transaction, or a frame inside the open one."""

    def commit(self) -> Committed | Conflict:
        """Merge the innermost frame into its parent, or apply the outermost; a conflict ends the transaction."""

    def rollback(self) -> None:
        """Discard the innermost frame."""

    def info(self) -> dict[str, dict[str, object]]:
        """Return figures for people: about this ``session`` and about the ``server``."""

    def close(self) -> None:
        """Abort an open transaction and end the session. Safe to call again."""


class SessionFactory(Protocol):
    """**Protocol:** Where sessions come from."""

    def open(self) -> Session:
        """Open a session."""

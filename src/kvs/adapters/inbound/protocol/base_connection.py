"""What a channel needs of a connection: of one that runs its client's requests, and of one that relays them."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from kvs.adapters.inbound.protocol.client_info import ClientInfo
from kvs.adapters.inbound.protocol.peer import Peer
from kvs.domain.errors import KvsError
from kvs.ports.session import Session

if TYPE_CHECKING:
    from kvs.adapters.inbound.protocol.connection import Connection

UNBOUNDED: Final = 1 << 30


def no_wake() -> None:
    """Do nothing: no channel is attached."""


class BaseConnection(ABC):
    """One client's bytes in, and bytes out.

    Args:
        session: The client's session.

    Attributes:
        session: The client's session.
        peer: Who the client is.
        requests: Number of requests run so far.
        backlog: Something is left to do before more input is wanted.
        closing: The connection ends once its output has been sent, and takes no more input.
        close_reason: Why it is closing, for the log: the command that closed it, or the code of the error in its last
            reply; empty before.
        output_full: The client has more than ``max_output_bytes`` of output that it does not read. Set by the channel.
        wake: Called on the loop when there is output or work that no input has asked for. Set by the channel.
        detector: Returns the connection that goes on, given this one and how a first line begins, or None if that does
            not tell; None once it is known.
        successor: The connection that goes on; None: this one.
    """

    __slots__ = (
        "backlog",
        "close_reason",
        "closing",
        "detector",
        "output_full",
        "peer",
        "requests",
        "session",
        "successor",
        "wake",
    )

    def __init__(self, session: Session) -> None:
        self.session: Final = session
        self.peer: Final = Peer(session.id)
        self.requests = 0
        self.backlog = False
        self.closing = False
        self.close_reason = ""
        self.output_full = False
        self.wake: Callable[[], None] = no_wake
        self.detector: Detector | None = None
        self.successor: BaseConnection | None = None

    @property
    @abstractmethod
    def mid_request(self) -> bool:
        """Whether only part of a request has arrived."""

    @property
    @abstractmethod
    def busy(self) -> bool:
        """Whether others have to act first: :meth:`resume` has no effect before ``wake`` is called."""

    @property
    def has_timeouts(self) -> bool:
        """Whether the client's silence is looked at here."""
        return True

    @abstractmethod
    def client_info(self) -> ClientInfo:
        """Return the client's state for CLIENT LIST."""

    @abstractmethod
    def input_bytes(self) -> int:
        """Return the memory of requests that have not been run."""

    @abstractmethod
    def held_bytes(self) -> int:
        """Return the memory of requests that have not been run, of a suspended one, and of replies not yet taken."""

    @abstractmethod
    def receive(self, data: bytes, quota: int = UNBOUNDED) -> int:
        """Take bytes, run the requests they complete for about ``quota`` units of work, and return the units used."""

    @abstractmethod
    def resume(self, quota: int = UNBOUNDED) -> int:
        """Run more of the backlog; return the units used."""

    @abstractmethod
    def end_of_input(self) -> None:
        """Handle the end of input: complete requests are still run, then the connection is closing."""

    @abstractmethod
    def fail(self, error: KvsError) -> None:
        """End the connection with an error."""

    @abstractmethod
    def fail_instead(self, error: KvsError) -> None:
        """End the connection with an error in place of its output."""

    @abstractmethod
    def take_output(self) -> tuple[list[bytes], int]:
        """Remove and return the output, in pieces, and its length."""

    @abstractmethod
    def close(self) -> None:
        """Release everything; an open transaction is aborted. Safe to call again."""

    @abstractmethod
    def when_closed(self, callback: Callable[[], None]) -> None:
        """Call back once the session has ended, which is after a call in flight."""

    @property
    def shows_others(self) -> bool:
        """Whether the client sees what others do, by MONITOR or CLIENT TRACKING."""
        return False

    def tell_of_leader(self, former: tuple[str, int], leader: tuple[str, int]) -> None:  # noqa: B027  # most do not care
        """Tell the client that another server leads, if it has asked for that.

        Args:
            former: Host and port of the server that led before.
            leader: Those of the one that leads now.
        """


Detector: TypeAlias = "Callable[[Connection, bytes], Connection | None]"

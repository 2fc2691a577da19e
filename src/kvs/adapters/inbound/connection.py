"""What a transport may ask of a protocol: a connection that is given bytes and gives bytes back, and does no I/O."""

from collections.abc import Callable
from typing import Protocol, TypeAlias

from kvs.domain.errors import KvsError
from kvs.ports.inbound import Session


class Connection(Protocol):
    """**Protocol:** One client's conversation: its session, its unparsed input, its unsent replies.

    A connection runs at most a bounded amount of work per call, so that one client cannot hold up a tick. What is left
    is its backlog: the transport stops reading from the client, and calls :meth:`resume` in the next tick.
    """

    @property
    def session(self) -> Session:
        """The session, for what the transport reports and for its timeouts."""

    @property
    def requests(self) -> int:
        """Number of requests run so far."""

    @property
    def closing(self) -> bool:
        """Whether the connection is over once its output has been sent. It runs nothing any more."""

    @property
    def backlog(self) -> bool:
        """Whether complete requests are waiting for :meth:`resume`."""

    @property
    def unfinished(self) -> bool:
        """Whether part of a request has come and the rest has not."""

    def receive(self, data: bytes) -> None:
        """Take bytes from the client, and run the requests they complete."""

    def resume(self) -> None:
        """Run more of the backlog."""

    def end_of_input(self) -> None:
        """Learn that no more bytes will come. What is complete is still run; then the connection is closing."""

    def fail(self, error: KvsError) -> None:
        """End the conversation with an error: no request is run after it, and the session is closed."""

    def take_output(self) -> bytes:
        """Return the replies there are, and forget them."""

    def close(self) -> None:
        """Let go of everything; an open transaction is aborted. Safe to call again."""


ConnectionFactory: TypeAlias = Callable[[], Connection]
"""Makes the connection of a new client."""

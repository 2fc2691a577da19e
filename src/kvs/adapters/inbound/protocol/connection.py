"""What a transport may ask of a protocol: a connection that is given bytes and gives bytes back, and does no I/O."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final, TypeAlias, final

from kvs.domain.errors import KvsError
from kvs.ports.session import Session


@final
class Facts:
    """What a list of clients says of one, as far as its protocol knows it.

    Attributes:
        input_bytes: Held of requests that have not been run, as they came.
        output_bytes: Held of replies that have not been taken.
        arguments_bytes: Held of a request that is not complete.
        queue_length: Number of commands in the queue; -1: there is none.
        queue_bytes: What they hold.
        flags: A letter for each state it is in; nothing if it is in none.
        name: Of the client.
        last_command: Name of the last command.
        version: Of the protocol; 0: the line protocol.
        library: Of the client.
        library_version: Likewise.
    """

    __slots__ = (
        "arguments_bytes",
        "flags",
        "input_bytes",
        "last_command",
        "library",
        "library_version",
        "name",
        "output_bytes",
        "queue_bytes",
        "queue_length",
        "version",
    )

    def __init__(self, input_bytes: int, output_bytes: int) -> None:
        self.input_bytes = input_bytes
        self.output_bytes = output_bytes
        self.arguments_bytes = 0
        self.queue_length = -1
        self.queue_bytes = 0
        self.flags = ""
        self.name = ""
        self.last_command = "NULL"
        self.version = 0
        self.library = ""
        self.library_version = ""


class Connection(ABC):
    """One client's conversation: its session, its unparsed input, its unsent replies.

    A connection runs at most a bounded amount of work per call, so that one client cannot hold up a tick. What is left
    is its backlog: the transport stops reading from the client, and calls :meth:`resume` in the next tick, or, while
    the session is ``in_flight``, when that has ended.

    A base class and not a protocol, as :class:`kvs.ports.session.Session` is, and for the same reason.

    Attributes:
        session: The session, for what the transport reports and for its timeouts.
        requests: Number of requests run so far.
        closing: Whether the connection is over once its output has been sent. It runs nothing any more.
        backlog: Whether complete requests are waiting for :meth:`resume`.
    """

    __slots__ = ("backlog", "closing", "requests", "session")

    def __init__(self, session: Session) -> None:
        self.session: Final = session
        self.requests = 0
        self.closing = False
        self.backlog = False

    @property
    @abstractmethod
    def unfinished(self) -> bool:
        """Whether part of a request has come and the rest has not."""

    def told_by(self, data: bytes) -> "Connection":  # noqa: ARG002  # it has been told already
        """Return the connection that goes on, given the first bytes: by default, this one."""
        return self

    @abstractmethod
    def held_bytes(self) -> int:
        """Return what is held of requests that have not been run, and of replies that have not been taken."""

    @abstractmethod
    def facts(self) -> Facts:
        """Return what this protocol knows of its client, for a list of clients."""

    @abstractmethod
    def receive(self, data: bytes) -> None:
        """Take bytes from the client, and run the requests they complete."""

    @abstractmethod
    def resume(self) -> None:
        """Run more of the backlog."""

    @abstractmethod
    def end_of_input(self) -> None:
        """Learn that no more bytes will come. What is complete is still run; then the connection is closing."""

    @abstractmethod
    def fail(self, error: KvsError) -> None:
        """End the conversation with an error: no request is run after it, and the session is closed."""

    @abstractmethod
    def take_output(self) -> bytes:
        """Return the replies there are, and forget them."""

    @abstractmethod
    def close(self) -> None:
        """Let go of everything; an open transaction is aborted. Safe to call again."""


ConnectionFactory: TypeAlias = Callable[[], Connection]
"""Makes the connection of a new client."""

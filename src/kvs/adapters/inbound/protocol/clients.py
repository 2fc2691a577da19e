"""The port of commands about clients, such as CLIENT LIST and CLIENT KILL."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

from mypy_extensions import mypyc_attr

from kvs.adapters.inbound.protocol.base_connection import BaseConnection


@final
@dataclass
class ClientDescription:
    """A client at one moment.

    Attributes:
        connection: Its connection, with the session.
        address: Its address, as people write it.
        local_address: The address that it has connected to; empty if its socket is closed.
        fd: The descriptor of its socket, or -1.
        connected_s: When it was accepted, in seconds of the monotonic clock.
        last_input_s: When it last sent input or received output, by the same clock.
        unsent_bytes: Output that is not in the kernel's buffer yet.
        events: The polled events: ``r`` for input, ``w`` for room for output.
    """

    connection: BaseConnection
    address: str
    local_address: str
    fd: int
    connected_s: float
    last_input_s: float
    unsent_bytes: int
    events: str


@mypyc_attr(allow_interpreted_subclasses=True)  # as tests have it
class ClientRegistry(ABC):
    """The clients of a server, by the numbers of their sessions.

    A command about many of them takes the numbers first and describes one client after the other, so that it can be
    interrupted; a client may have disconnected by then.

    Attributes:
        arrived: Number of clients so far, without refused ones.
        refused: Number of clients refused because there were too many.
    """

    def __init__(self) -> None:
        self.arrived = 0
        self.refused = 0

    @abstractmethod
    def ids(self) -> list[int]:
        """Return the numbers of all clients except refused ones, in order of arrival."""

    @abstractmethod
    def describe(self, session_id: int) -> ClientDescription | None:
        """Return a client, or None if it has disconnected."""

    @abstractmethod
    def kill(self, session_id: int) -> bool:
        """Close a client's connection now; return whether it existed."""

    @abstractmethod
    def requests(self) -> int:
        """Return the number of requests run, including those of disconnected clients. O(clients)."""

"""The interface of network backends."""

import socket
from typing import Protocol

from kvs.adapters.inbound.net.channel import Channel
from kvs.adapters.inbound.net.channel_context import ChannelContext
from kvs.adapters.inbound.net.guard import Guard
from kvs.adapters.inbound.protocol.connection import Connection


class NetworkBackend(Protocol):
    """**Protocol:** Makes channels of accepted sockets, and transfers their bytes."""

    @property
    def needs_gc(self) -> bool:
        """Whether a closed channel is in a reference cycle, which only the garbage collector frees."""

    def start(self, context: ChannelContext) -> None:
        """Start on the running loop."""

    def open(
        self, sock: socket.socket, remote_address: str, connection: Connection, guard: Guard | None = None
    ) -> Channel:
        """Return the channel of a socket, and mark it dirty as soon as it can send; its first input may arrive then."""

    def stop(self) -> None:
        """Stop, after every channel has been aborted."""

"""What moves the bytes of all channels."""

import socket
from typing import Protocol

from kvs.adapters.inbound.net.channel import Channel, ChannelContext
from kvs.adapters.inbound.protocol.connection import Connection


class NetworkBackend(Protocol):
    """**Protocol:** Makes channels of accepted sockets, and moves their bytes."""

    @property
    def needs_gc(self) -> bool:
        """Whether a closed channel is in a cycle of references, which only the garbage collector frees."""

    def start(self, context: ChannelContext) -> None:
        """Begin, on the running loop."""

    def open(self, sock: socket.socket, remote_address: str, connection: Connection) -> Channel:
        """Return the channel of a socket, and mark it dirty as soon as it can send; its first bytes may come then."""

    def stop(self) -> None:
        """End; every channel has been aborted."""

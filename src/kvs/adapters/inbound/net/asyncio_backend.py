"""The portable transport: asyncio's own sockets. It moves bytes and knows nothing of what they mean."""

import asyncio
import socket
from typing import TYPE_CHECKING, cast

from kvs.adapters.inbound.net.channel import Client, kernel_input_bytes
from kvs.adapters.inbound.net.listener import local_address_of
from kvs.adapters.inbound.protocol.connection import Connection

if TYPE_CHECKING:
    from kvs.adapters.inbound.net.server import Server


class AsyncioClient(Client):
    """A client behind an asyncio socket transport."""

    def __init__(self, server: "Server", connection: Connection, peer: str, now_s: float) -> None:
        super().__init__(server, connection, peer, now_s)
        self._transport: asyncio.Transport | None = None
        self._drains = False  # as soon as there is a socket

    def attach(self, transport: asyncio.Transport | None) -> None:
        """Take or, with None, let go of the socket."""
        self._transport = transport
        if transport is not None and self._drains:
            super().drain()

    def drain(self) -> None:
        """See :class:`Client`. asyncio takes a turn or two to hand over the socket, which may have input already."""
        if self._transport is None:
            self._drains = True
        else:
            super().drain()

    def send(self, data: bytes) -> int:
        """See :class:`Client`."""
        if self._transport is None:
            return 0
        self._transport.write(data)
        return self._transport.get_write_buffer_size()

    def unsent_bytes(self) -> int:
        """See :class:`Client`."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def fd(self) -> int:
        """See :class:`Client`."""
        return -1 if self._transport is None else int(self._transport.get_extra_info("socket").fileno())

    def find_local_address(self) -> str:
        """See :class:`Client`."""
        return "" if self._transport is None else local_address_of(self._transport.get_extra_info("socket"))

    def waiting_bytes(self) -> int:
        """See :class:`Client`."""
        fd = self.fd()
        return kernel_input_bytes(fd) if fd >= 0 else 0

    def pause_reading(self) -> None:
        """See :class:`Client`."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """See :class:`Client`."""
        if self._transport is not None:
            self._transport.resume_reading()

    def shut_down_writing(self) -> None:
        """See :class:`Client`."""
        if self._transport is not None and not self._transport.is_closing():
            try:
                self._transport.write_eof()
            except OSError:  # the peer is gone, and asyncio has not been told yet
                self._transport.abort()

    def close(self) -> None:
        """See :class:`Client`."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """See :class:`Client`."""
        if self._transport is not None:
            self._transport.abort()


class _Reports(asyncio.Protocol):
    """Passes on what asyncio reports. Apart from the client, so that they are in no cycle once the socket is gone."""

    def __init__(self, client: AsyncioClient, server: "Server", max_output_bytes: int) -> None:
        self._client = client
        self._server = server
        self._max_output_bytes = max_output_bytes
        self._time = asyncio.get_running_loop().time

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start; a client that is being refused has its reply waiting."""
        transport = cast("asyncio.Transport", transport)
        transport.set_write_buffer_limits(high=self._max_output_bytes, low=self._max_output_bytes // 2)
        self._client.attach(transport)
        self._server.touch(self._client)

    def data_received(self, data: bytes) -> None:
        """Pass input on."""
        self._client.received(data, self._time())

    def eof_received(self) -> bool:
        """Keep the transport open: replies may still be due."""
        self._client.input_ended()
        return True

    def pause_writing(self) -> None:
        """Pass on that more than ``max_output_bytes`` is unsent."""
        self._client.output_full()

    def resume_writing(self) -> None:
        """Pass on that half of that has been sent."""
        self._client.output_drained()

    def connection_lost(self, _: Exception | None) -> None:
        """Pass on that the socket is gone."""
        self._client.lost()
        self._client.attach(None)


class AsyncioTransport:
    """Implements :class:`kvs.adapters.inbound.net.server.Transport`.

    Args:
        max_output_bytes: Unread output above which nothing more is run for a client, until half of it is gone.
    """

    def __init__(self, max_output_bytes: int) -> None:
        self._max_output_bytes = max_output_bytes
        self._opening: set[asyncio.Task[None]] = set()

    @property
    def leaves_cycles(self) -> bool:
        """Return True: asyncio's transports hold callbacks that hold them."""
        return True

    def start(self, server: "Server") -> None:
        """See :class:`kvs.adapters.inbound.net.server.Transport`."""
        self._server = server
        self._loop = asyncio.get_running_loop()

    def open(self, sock: socket.socket, peer: str, connection: Connection) -> Client:
        """See :class:`kvs.adapters.inbound.net.server.Transport`."""
        client = AsyncioClient(self._server, connection, peer, self._loop.time())
        task = self._loop.create_task(self._attach(client, sock))
        self._opening.add(task)  # the loop itself holds tasks by weak references only
        task.add_done_callback(self._opening.discard)
        return client

    def stop(self) -> None:
        """See :class:`kvs.adapters.inbound.net.server.Transport`. The sockets are asyncio's to close."""

    async def _attach(self, client: AsyncioClient, sock: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                lambda: _Reports(client, self._server, self._max_output_bytes), sock
            )
        except OSError:  # the peer went away meanwhile
            sock.close()
            client.lost()

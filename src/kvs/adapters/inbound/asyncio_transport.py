"""The portable transport: asyncio's own sockets. It moves bytes and knows nothing of what they mean."""

import asyncio
import socket
from typing import TYPE_CHECKING, cast

from kvs.adapters.inbound.client import Client, kernel_input_bytes
from kvs.adapters.inbound.connection import Connection

if TYPE_CHECKING:
    from kvs.adapters.inbound.server import Server


class AsyncioClient(Client, asyncio.Protocol):
    """A client behind an asyncio socket transport."""

    def __init__(
        self,
        server: "Server",
        connection: Connection,
        peer: str,
        loop: asyncio.AbstractEventLoop,
        max_output_bytes: int,
    ) -> None:
        super().__init__(server, connection, peer, loop.time())
        self._loop = loop
        self._max_output_bytes = max_output_bytes
        self._transport: asyncio.Transport | None = None

    # Called by asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start; a client that is being refused has its reply waiting."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=self._max_output_bytes, low=self._max_output_bytes // 2)
        self._server.touch(self)

    def data_received(self, data: bytes) -> None:
        """Pass input on."""
        self.received(data, self._loop.time())

    def eof_received(self) -> bool:
        """Keep the transport open: replies may still be due."""
        self.input_ended()
        return True

    def pause_writing(self) -> None:
        """Pass on that more than ``max_output_bytes`` is unsent."""
        self.output_full()

    def resume_writing(self) -> None:
        """Pass on that half of that has been sent."""
        self.output_drained()

    def connection_lost(self, _: Exception | None) -> None:
        """Pass on that the socket is gone."""
        self.lost()
        self._transport = None  # no cycle is left behind

    # See Client.

    def send(self, data: bytes) -> None:
        """See :class:`Client`."""
        if self._transport is not None:
            self._transport.write(data)

    def unsent_bytes(self) -> int:
        """See :class:`Client`."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def waiting_bytes(self) -> int:
        """See :class:`Client`."""
        if self._transport is None or self._transport.is_closing():
            return 0
        return kernel_input_bytes(self._transport.get_extra_info("socket").fileno())

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
            self._transport.write_eof()

    def close(self) -> None:
        """See :class:`Client`."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """See :class:`Client`."""
        if self._transport is not None:
            self._transport.abort()


class AsyncioTransport:
    """Implements :class:`kvs.adapters.inbound.server.Transport`.

    Args:
        max_output_bytes: Unread output above which nothing more is run for a client, until half of it is gone.
    """

    def __init__(self, max_output_bytes: int) -> None:
        self._max_output_bytes = max_output_bytes
        self._opening: set[asyncio.Task[None]] = set()

    def start(self, server: "Server") -> None:
        """See :class:`kvs.adapters.inbound.server.Transport`."""
        self._server = server
        self._loop = asyncio.get_running_loop()

    def open(self, sock: socket.socket, peer: str, connection: Connection) -> Client:
        """See :class:`kvs.adapters.inbound.server.Transport`."""
        client = AsyncioClient(self._server, connection, peer, self._loop, self._max_output_bytes)
        task = self._loop.create_task(self._attach(client, sock))
        self._opening.add(task)  # the loop itself holds tasks by weak references only
        task.add_done_callback(self._opening.discard)
        return client

    def stop(self) -> None:
        """See :class:`kvs.adapters.inbound.server.Transport`. The sockets are asyncio's to close."""

    async def _attach(self, client: AsyncioClient, sock: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: client, sock)
        except OSError:  # the peer went away meanwhile
            sock.close()
            client.lost()

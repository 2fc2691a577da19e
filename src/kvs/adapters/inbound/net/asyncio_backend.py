"""The portable backend: asyncio's own sockets."""

import asyncio
import socket
from typing import cast

from kvs.adapters.inbound.net.channel import Channel
from kvs.adapters.inbound.net.channel_context import ChannelContext
from kvs.adapters.inbound.net.guard import Guard
from kvs.adapters.inbound.net.kernel import unread_input_bytes
from kvs.adapters.inbound.net.listener import local_address_of
from kvs.adapters.inbound.protocol.connection import Connection
from kvs.override import override


class AsyncioChannel(Channel):
    """A channel that is the protocol of an asyncio transport.

    asyncio needs one or two iterations of the loop to make a transport of an accepted socket; until then it has none.
    """

    __slots__ = ("_drains", "_max_output_bytes", "_transport")

    def __init__(
        self,
        context: ChannelContext,
        connection: Connection,
        remote_address: str,
        max_output_bytes: int,
        guard: Guard | None,
    ) -> None:
        super().__init__(context, connection, remote_address, guard)
        self._max_output_bytes = max_output_bytes
        self._transport: asyncio.Transport | None = None
        self._drains = False  # as soon as there is a transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Attach the transport; for a refused client a reply is already waiting."""
        transport = cast("asyncio.Transport", transport)
        transport.set_write_buffer_limits(high=self._max_output_bytes, low=self._max_output_bytes // 2)
        self._transport = transport
        if self._drains:
            super().drain()
        self._tick.mark_dirty(self)

    @override
    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._transport = None

    @override
    def flush(self) -> None:
        if self._transport is not None:
            super().flush()

    @override
    def hold(self) -> int:
        return -1 if self._transport is None else super().hold()

    @override
    def drain(self) -> None:
        if self._transport is None:
            self._drains = True
        else:
            super().drain()

    @override
    def write(self, output: list[bytes], size: int) -> None:
        if self._transport is None:
            return
        if self._guard is None:
            self._transport.writelines(output)
        elif self._guard.tls is not None:
            self.write_sealed(self._guard.tls.seal(b"".join(output)))

    @override
    def write_sealed(self, data: bytes) -> None:
        if self._transport is not None and data:  # of nothing, asyncio would make a buffer that it counts
            self._transport.write(data)

    @override
    def get_write_buffer_size(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    @override
    def fileno(self) -> int:
        return -1 if self._transport is None else int(self._transport.get_extra_info("socket").fileno())

    @override
    def find_local_address(self) -> str:
        return "" if self._transport is None else local_address_of(self._transport.get_extra_info("socket"))

    @override
    def unread_bytes(self) -> int:
        fd = self.fileno()
        return unread_input_bytes(fd) if fd >= 0 else 0

    @override
    def pause_reading(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    @override
    def resume_reading(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    @override
    def write_eof(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._write_last()
            try:
                self._transport.write_eof()
            except OSError:  # the peer has disconnected, and asyncio has not noticed yet
                self._transport.abort()

    @override
    def close(self) -> None:
        if self._transport is not None:
            self._write_last()
            self._transport.close()

    def _write_last(self) -> None:
        """Say in TLS that nothing follows."""
        last = b"" if self._guard is None else self._guard.finish()
        if last and self._transport is not None:
            self._transport.write(last)

    @override
    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class AsyncioBackend:
    """Implements :class:`kvs.adapters.inbound.net.backend.NetworkBackend`.

    Args:
        max_output_bytes: Unread output above which a client is not served until it has read half of it.
    """

    needs_gc = True  # asyncio's transports hold callbacks that hold them

    def __init__(self, max_output_bytes: int) -> None:
        self._max_output_bytes = max_output_bytes
        self._opening: set[asyncio.Task[None]] = set()

    def start(self, context: ChannelContext) -> None:
        self._context = context

    def open(
        self, sock: socket.socket, remote_address: str, connection: Connection, guard: Guard | None = None
    ) -> Channel:
        channel = AsyncioChannel(self._context, connection, remote_address, self._max_output_bytes, guard)
        task = self._context.loop.create_task(self._attach(channel, sock))
        self._opening.add(task)  # the loop itself holds tasks by weak references only
        task.add_done_callback(self._opening.discard)
        return channel

    def stop(self) -> None:
        """Do nothing: asyncio closes the sockets."""

    async def _attach(self, channel: AsyncioChannel, sock: socket.socket) -> None:
        try:
            # It has every method of an asyncio.Protocol, and cannot be compiled as a subclass of one.
            await self._context.loop.connect_accepted_socket(lambda: cast("asyncio.Protocol", channel), sock)
        except OSError as error:  # the peer went away meanwhile
            sock.close()
            channel.connection_lost(error)

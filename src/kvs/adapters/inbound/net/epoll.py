"""The backend for Linux: all channels behind one epoll object, which asyncio sees as a single descriptor.

A wake-up reads every ready channel and runs its requests, then ends the tick, which sends all replies: one system call
to find the ready channels, then one to read and one to send per channel, without callbacks, futures or buffers in
between. asyncio does what is not on the path of a request: signals, timers, accepting.

``docs/performance.md`` compares it with the asyncio backend.
"""

import os
import select
import socket
from typing import Final, final

from kvs.adapters.inbound.net.channel import Channel
from kvs.adapters.inbound.net.channel_context import ChannelContext
from kvs.adapters.inbound.net.guard import Guard
from kvs.adapters.inbound.net.kernel import unread_input_bytes
from kvs.adapters.inbound.net.listener import local_address_of
from kvs.adapters.inbound.net.tick import PACKETS_PER_TICK
from kvs.adapters.inbound.net.unsent import MAX_WRITE_BYTES, UnsealedOutput, UnsentOutput
from kvs.adapters.inbound.protocol.connection import Connection
from kvs.override import override

SMALL_READ_BYTES: Final = 479
"""Read size for a client that sends little: with their header, the largest bytes from Python's small-object allocator.
To get 64 KiB from malloc and free most of it takes 0.2 us, 2 % of a request."""

LARGE_READ_BYTES: Final = 120 << 10
"""Read size that takes a request with a value of 64 KiB in one piece; from 128 KiB on, malloc calls mmap every time."""

SMALL_READS: Final = 8
"""Consecutive small reads after which a client counts as one that sends little."""

# os.read() and os.write() on a socket save 0.15 us over its recv() and send(), which parse more arguments.
read: Final = os.read
write: Final = os.write

READABLE: Final = select.EPOLLIN
WRITABLE: Final = select.EPOLLOUT
GONE: Final = select.EPOLLHUP | select.EPOLLERR

# The action after the last output.
NOT_ENDING: Final = 0
SHUT_DOWN: Final = 1
CLOSE: Final = 2


@final
class EpollChannel(Channel):
    """A channel that reads and writes its socket itself."""

    __slots__ = (
        "_backend",
        "_ending",
        "_fd",
        "_interest",
        "_open",
        "_read_bytes",
        "_small_reads",
        "_socket",
        "_unsent",
    )

    def __init__(
        self,
        backend: "EpollBackend",
        context: ChannelContext,
        sock: socket.socket,
        remote_address: str,
        connection: Connection,
        guard: Guard | None,
    ) -> None:
        super().__init__(context, connection, remote_address, guard)
        self._backend = backend
        self._socket = sock
        self._fd = sock.fileno()
        self._interest = READABLE
        self._read_bytes = SMALL_READ_BYTES
        self._small_reads = 0
        self._unsent: UnsentOutput | None = None
        self._ending = NOT_ENDING
        self._open = True

    def ready(self, events: int) -> None:
        """Read or send, according to the kernel's events."""
        if events != READABLE and not self._go_on(events):
            return
        try:
            data = read(self._fd, self._read_bytes)
            if self._read_bytes == SMALL_READ_BYTES:
                if len(data) == SMALL_READ_BYTES:
                    data = self._read_rest(data)
            elif len(data) > SMALL_READ_BYTES:
                self._small_reads = 0
            else:
                self._note_small_read()
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.abort()
            return
        if data:
            self.data_received(data)
        else:
            self._poll_for(self._interest & ~READABLE)  # an end of input stays readable forever
            self.eof_received()

    def _read_rest(self, data: bytes) -> bytes:
        """Read what did not fit into a small buffer, and use a large one from now on."""
        self._read_bytes = LARGE_READ_BYTES
        self._small_reads = 0
        try:
            return data + read(self._fd, LARGE_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return data

    def _note_small_read(self) -> None:
        self._small_reads += 1
        if self._small_reads == SMALL_READS:
            self._read_bytes = SMALL_READ_BYTES

    def _go_on(self, events: int) -> bool:
        """Handle the kernel's events except input; return whether to read."""
        if events & WRITABLE:
            self._send_unsent()
        if not self._open:
            return False
        if self._interest & READABLE:
            return events & (READABLE | GONE) != 0
        if events & GONE:
            self.abort()  # reported repeatedly, whether polled for or not
        return False

    @override
    def write(self, output: list[bytes], size: int) -> None:
        if self._unsent is None:
            if size <= MAX_WRITE_BYTES:
                data = output[0] if len(output) == 1 else b"".join(output)
                if self._guard is not None:
                    self._write_secured(self._guard, data)
                    return
                try:
                    sent = write(self._fd, data)
                except (BlockingIOError, InterruptedError):
                    sent = 0
                except OSError:  # the peer is gone
                    self.abort()
                    return
                if sent == size:
                    return
                output = [data[sent:]]
            disposal, guard = self._tick.disposal, self._guard
            self._unsent = UnsentOutput(disposal) if guard is None else UnsealedOutput(guard, disposal)
            self._poll_for(self._interest | WRITABLE)
        self._unsent.add(output)
        self._look_whether_full(self._unsent)

    def _look_whether_full(self, unsent: UnsentOutput) -> None:
        if not self._unsent_full and unsent.size > self._backend.max_output_bytes:
            self.pause_writing()

    def _write_secured(self, guard: Guard, data: bytes) -> None:
        """Send a packet of plaintext, encrypted; nothing waits to be sent."""
        tls = guard.tls
        if tls is not None:
            self.write_sealed(tls.seal(data))

    @override
    def write_sealed(self, data: bytes) -> None:
        unsent, guard = self._unsent, self._guard
        if not self._open:
            return
        if isinstance(unsent, UnsealedOutput):
            unsent.add_sealed(data)
            return
        try:
            sent = write(self._fd, data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:  # the peer is gone
            self.abort()
            return
        if sent < len(data) and guard is not None:
            unsent = self._unsent = UnsealedOutput(guard, self._tick.disposal)
            self._poll_for(self._interest | WRITABLE)
            unsent.add_sealed(data[sent:])
            self._look_whether_full(unsent)

    def _send_unsent(self) -> None:
        unsent = self._unsent
        if unsent is None:
            return
        try:
            unsent.send(self._fd)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.abort()
            return
        if not unsent.size:
            self._unsent = None
            self._poll_for(self._interest & ~WRITABLE)
            self._end_if_sent()
        if self._unsent_full and unsent.size <= self._backend.max_output_bytes // 2:
            self.resume_writing()

    @override
    def get_write_buffer_size(self) -> int:
        return 0 if self._unsent is None else self._unsent.size

    @override
    def fileno(self) -> int:
        return self._fd if self._open else -1

    @override
    def find_local_address(self) -> str:
        return local_address_of(self._socket) if self._open else ""

    @override
    def unread_bytes(self) -> int:
        return unread_input_bytes(self._fd) if self._open else 0

    @override
    def pause_reading(self) -> None:
        self._poll_for(self._interest & ~READABLE)

    @override
    def resume_reading(self) -> None:
        self._poll_for(self._interest | READABLE)

    @override
    def write_eof(self) -> None:
        self._ending = SHUT_DOWN
        self._end_if_sent()

    @override
    def close(self) -> None:
        self._ending = CLOSE
        self._end_if_sent()

    @override
    def abort(self) -> None:
        if self._open:
            self._open = False
            if self._unsent is not None:
                self._unsent.drop()
            self._unsent = None
            self._backend.forget(self._fd)
            self._socket.close()
            self.connection_lost(None)

    def _end_if_sent(self) -> None:
        """Do the action after the last output, if that has been sent."""
        if self._unsent is not None or not self._open:
            return
        if self._ending != NOT_ENDING and self._guard is not None:
            last = self._guard.finish()
            if last:
                self.write_sealed(last)
                if self._unsent is not None or not self._open:
                    return  # it comes here again
        if self._ending == CLOSE:
            self.abort()
        elif self._ending == SHUT_DOWN:
            self._ending = NOT_ENDING
            try:
                self._socket.shutdown(socket.SHUT_WR)
            except OSError:
                self.abort()

    def _poll_for(self, interest: int) -> None:
        if interest != self._interest and self._open:
            self._interest = interest
            self._backend.epoll.modify(self._fd, interest)


@final
class EpollBackend:
    """Implements :class:`kvs.adapters.inbound.net.backend.NetworkBackend`.

    Args:
        max_output_bytes: Unread output above which a client is not served until it has read half of it.
    """

    def __init__(self, max_output_bytes: int) -> None:
        self.max_output_bytes: Final = max_output_bytes
        self.epoll: Final = select.epoll()
        self._channels: list[EpollChannel | None] = []  # by descriptor, which the kernel keeps small

    @property
    def needs_gc(self) -> bool:
        return False

    def start(self, context: ChannelContext) -> None:
        self._context = context
        self._tick = context.tick
        context.loop.add_reader(self.epoll.fileno(), self._wake_up)

    def open(
        self, sock: socket.socket, remote_address: str, connection: Connection, guard: Guard | None = None
    ) -> Channel:
        channel = EpollChannel(self, self._context, sock, remote_address, connection, guard)
        fd = sock.fileno()
        while len(self._channels) <= fd:
            self._channels.append(None)
        self._channels[fd] = channel
        self.epoll.register(fd, READABLE)
        self._tick.mark_dirty(channel)
        return channel

    def stop(self) -> None:
        self._context.loop.remove_reader(self.epoll.fileno())
        self.epoll.close()

    def forget(self, fd: int) -> None:
        """Stop polling a descriptor."""
        self._channels[fd] = None
        self.epoll.unregister(fd)

    def _wake_up(self) -> None:
        """Serve every channel that is ready, then end the tick."""
        channels = self._channels
        self._tick.begin()
        for fd, events in self.epoll.poll(0, PACKETS_PER_TICK):
            channel = channels[fd]  # None: another channel's request has just closed it
            if channel is not None:
                try:
                    channel.ready(events)
                except Exception as error:  # one client's trouble is not another's
                    channel.crash(error)
        self._tick.end()

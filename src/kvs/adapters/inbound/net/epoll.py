"""The transport for Linux: all clients behind one epoll object, which asyncio sees as a single descriptor.

A wake-up reads every client that is ready and executes what came, ends the tick, and so sends all the replies: one
system call to learn who is ready, then one to read and one to send per client, and no callback, future or buffer in
between. asyncio keeps what it is good at and what is not on the path of a request: signals, timers, accepting.

Measured beside the asyncio transport: see ``docs/performance.md``.
"""

import asyncio
import os
import select
import socket
from typing import TYPE_CHECKING, Final, final

from kvs.adapters.inbound.net.channel import Client, kernel_input_bytes
from kvs.adapters.inbound.net.listener import local_address_of
from kvs.adapters.inbound.protocol.connection import Connection

if TYPE_CHECKING:
    from kvs.adapters.inbound.net.server import Server

READ_BYTES: Final = 1 << 16
"""Most that is read from one client at once. A larger buffer would be mapped and unmapped by malloc every time."""

SMALL_READ_BYTES: Final = 479
"""What is read from a client that sent no more the last time: with their header, the largest bytes that come from
Python's own allocator. To get 64 KiB from malloc and give most of it back takes 0.2 us, 2 % of a request by itself."""

CLIENTS_PER_TICK: Final = 128
"""Most clients served in one tick. A thousand with deep pipelines would otherwise wait for each other for 0.2 s; the
kernel hands out those that are ready in turn."""

# read() and write() do for a socket what its recv() and send() do, which take 0.15 us more to parse their arguments.
read: Final = os.read
write: Final = os.write

READABLE: Final = select.EPOLLIN
WRITABLE: Final = select.EPOLLOUT
GONE: Final = select.EPOLLHUP | select.EPOLLERR

# What is to follow the last of the output.
NOT_ENDING: Final = 0
SHUT_DOWN: Final = 1
CLOSE: Final = 2


@final
class EpollClient(Client):
    """A client behind a socket of our own."""

    def __init__(
        self,
        transport: "EpollTransport",
        server: "Server",
        sock: socket.socket,
        peer: str,
        connection: Connection,
        now_s: float,
    ) -> None:
        super().__init__(server, connection, peer, now_s)
        self._transport = transport
        self._socket = sock
        self._fd = sock.fileno()
        self._interest = READABLE
        self._read_bytes = SMALL_READ_BYTES
        self._unsent = bytearray()
        self._full = False
        self._ending = NOT_ENDING
        self._open = True

    def ready(self, events: int, now_s: float) -> None:
        """Read or send, as the kernel says."""
        if events != READABLE and not self._go_on(events):
            return
        try:
            data = read(self._fd, self._read_bytes)
            if len(data) < SMALL_READ_BYTES:
                self._read_bytes = SMALL_READ_BYTES
            elif self._read_bytes == SMALL_READ_BYTES:
                data += self._read_rest()
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.abort()
            return
        if data:
            self.received(data, now_s)
        else:
            self._want(self._interest & ~READABLE)  # an end of input stays readable for ever
            self.input_ended()

    def _read_rest(self) -> bytes:
        """Read what has not gone into a small buffer."""
        self._read_bytes = READ_BYTES
        try:
            return read(self._fd, READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return b""

    def _go_on(self, events: int) -> bool:
        """Do what the kernel says, but for reading; return whether to read."""
        if events & WRITABLE:
            self._send_unsent()
        if not self._open:
            return False
        if self._interest & READABLE:
            return events & (READABLE | GONE) != 0
        if events & GONE:
            self.abort()  # reported whether one wants to read or not, again and again
        return False

    # See Client.

    def send(self, data: bytes) -> int:
        """See :class:`Client`."""
        sent = 0
        if not self._unsent:
            try:
                sent = write(self._fd, data)
            except (BlockingIOError, InterruptedError):
                pass
            except OSError:  # the peer is gone
                self.abort()
                return 0
            if sent == len(data):
                return 0
        self._unsent += memoryview(data)[sent:]
        self._want(self._interest | WRITABLE)
        if not self._full and len(self._unsent) > self._transport.max_output_bytes:
            self._full = True
            self.output_full()
        return len(self._unsent)

    def _send_unsent(self) -> None:
        unsent = self._unsent
        try:
            with memoryview(unsent) as view:
                sent = write(self._fd, view)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.abort()
            return
        del unsent[:sent]
        if not unsent:
            self._want(self._interest & ~WRITABLE)
            self._end()
        if self._full and len(unsent) <= self._transport.max_output_bytes // 2:
            self._full = False
            self.output_drained()

    def unsent_bytes(self) -> int:
        """See :class:`Client`."""
        return len(self._unsent)

    def fd(self) -> int:
        """See :class:`Client`."""
        return self._fd if self._open else -1

    def find_local_address(self) -> str:
        """See :class:`Client`."""
        return local_address_of(self._socket) if self._open else ""

    def waiting_bytes(self) -> int:
        """See :class:`Client`."""
        return kernel_input_bytes(self._fd) if self._open else 0

    def pause_reading(self) -> None:
        """See :class:`Client`."""
        self._want(self._interest & ~READABLE)

    def resume_reading(self) -> None:
        """See :class:`Client`."""
        self._want(self._interest | READABLE)

    def shut_down_writing(self) -> None:
        """See :class:`Client`."""
        self._ending = SHUT_DOWN
        self._end()

    def close(self) -> None:
        """See :class:`Client`."""
        self._ending = CLOSE
        self._end()

    def abort(self) -> None:
        """See :class:`Client`."""
        if self._open:
            self._open = False
            self._unsent = bytearray()
            self._transport.forget(self._fd)
            self._socket.close()
            self.lost()

    def _end(self) -> None:
        """Do what is to follow the last of the output, if that has been sent."""
        if self._unsent or not self._open:
            return
        if self._ending == CLOSE:
            self.abort()
        elif self._ending == SHUT_DOWN:
            self._ending = NOT_ENDING
            try:
                self._socket.shutdown(socket.SHUT_WR)
            except OSError:
                self.abort()

    def _want(self, interest: int) -> None:
        if interest != self._interest and self._open:
            self._interest = interest
            self._transport.watch(self._fd, interest)


@final
class EpollTransport:
    """Implements :class:`kvs.adapters.inbound.net.server.Transport`.

    Args:
        max_output_bytes: Unread output above which nothing more is run for a client, until half of it is gone.
    """

    def __init__(self, max_output_bytes: int) -> None:
        self.max_output_bytes: Final = max_output_bytes
        self._clients: list[EpollClient | None] = []  # by descriptor, which the kernel keeps small
        self._epoll = select.epoll()

    @property
    def leaves_cycles(self) -> bool:
        """See :class:`kvs.adapters.inbound.net.server.Transport`."""
        return False

    def start(self, server: "Server") -> None:
        """See :class:`kvs.adapters.inbound.net.server.Transport`."""
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._epoll.fileno(), self._wake_up)

    def open(self, sock: socket.socket, peer: str, connection: Connection) -> Client:
        """See :class:`kvs.adapters.inbound.net.server.Transport`."""
        client = EpollClient(self, self._server, sock, peer, connection, self._loop.time())
        fd = sock.fileno()
        while len(self._clients) <= fd:
            self._clients.append(None)
        self._clients[fd] = client
        self._epoll.register(fd, READABLE)
        self._server.touch(client)
        return client

    def stop(self) -> None:
        """See :class:`kvs.adapters.inbound.net.server.Transport`."""
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def watch(self, fd: int, interest: int) -> None:
        """Have a client woken for other events than before."""
        self._epoll.modify(fd, interest)

    def forget(self, fd: int) -> None:
        """Have a client woken no more."""
        self._clients[fd] = None
        self._epoll.unregister(fd)

    def _wake_up(self) -> None:
        """Serve everybody who is ready, then end the tick."""
        now_s = self._loop.time()
        clients = self._clients
        self._server.begin_tick()
        for fd, events in self._epoll.poll(0, CLIENTS_PER_TICK):
            client = clients[fd]  # None: ended by the service of another in this same turn
            if client is not None:
                try:
                    client.ready(events, now_s)
                except Exception as error:
                    self._server.drop(client, error)
        self._server.end_tick()

"""A connection to the leader, on a socket of its own."""

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Final, final

from kvs.adapters.inbound.net.tls import TlsStream
from kvs.adapters.inbound.net.unsent import UnsentOutput
from kvs.lookup import Lookups

SMALL_READ_BYTES: Final = 4 << 10
LARGE_READ_BYTES: Final = 120 << 10
"""Sizes of reads; from 128 KiB on, malloc calls mmap every time."""

UNACKNOWLEDGED_MS: Final = 5000
"""Time after which the connection is given up if the machine there does not answer any more."""


async def dial(host: str, port: int, lookups: Lookups) -> socket.socket:
    """Return a connected socket.

    Args:
        host: Where to connect it.
        port: The port there.
        lookups: What the loop looks up.

    Raises:
        OSError: Nobody answers there.
    """
    loop = asyncio.get_running_loop()
    failure: OSError | None = None
    found = await asyncio.wrap_future(lookups.begin(host, port))
    lookups.forget(host, port)
    for family, kind, number, _, address in found:
        sock = socket.socket(family, kind, number)
        try:
            sock.settimeout(0)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)
            await loop.sock_connect(sock, address)
        except OSError as error:
            sock.close()
            failure = OSError(str(error))  # the original holds this frame
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure or OSError(f"{host} has no address")


async def secure(sock: socket.socket, context: ssl.SSLContext, host: str) -> TlsStream:
    """Return a stream on a connected socket, once the server has shown that it is the host.

    Raises:
        OSError: It has not.
    """
    loop = asyncio.get_running_loop()
    tls = TlsStream(context, server_side=False, server_hostname=host)
    while True:
        tls.handshake()
        if tls.has_sealed:
            await loop.sock_sendall(sock, tls.take_sealed())
        if tls.failure:
            raise OSError(tls.failure)
        if tls.established:
            return tls
        data = await loop.sock_recv(sock, SMALL_READ_BYTES)
        if not data:
            raise OSError("the server has ended the TLS handshake")
        tls.feed(data)


@final
class Upstream:
    """Sends and receives on a connected socket.

    Nothing here is in a cycle once it is closed.

    Args:
        loop: The running loop.
        sock: The socket, which is closed with this.
        received: Called with what has been received; with nothing at the end, however that came.
        drained: Called when all has been sent that had to wait.
        tls: How it is secured; None: it is not.

    Attributes:
        reading: Whether it reads.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        received: Callable[[bytes], None],
        drained: Callable[[], None],
        tls: TlsStream | None = None,
    ) -> None:
        self._loop = loop
        self._tls = tls
        self._socket: socket.socket | None = sock
        self._fd = sock.fileno()
        self._received: Callable[[bytes], None] | None = received
        self._drained: Callable[[], None] | None = drained
        self._unsent: UnsentOutput | None = None
        self._ends = False  # as soon as all is sent
        self.reading = False
        self._read_bytes = SMALL_READ_BYTES
        self.resume_reading()

    @property
    def unsent_bytes(self) -> int:
        """What waits to be sent."""
        return 0 if self._unsent is None else self._unsent.size

    def write(self, data: bytes) -> None:
        """Send bytes, and keep what the kernel does not take."""
        if self._socket is None or self._ends:
            return
        self._write_sealed(data if self._tls is None else self._tls.seal(data))

    def _write_sealed(self, data: bytes) -> None:
        if self._unsent is None:
            try:
                sent = os.write(self._fd, data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError:  # what it has sent before may still be read
                self._ends = True
                return
            if sent == len(data):
                return
            self._unsent = UnsentOutput(None)  # of what clients have sent, in short pieces
            self._loop.add_writer(self._fd, self._writable)
            data = data[sent:]
        self._unsent.add([data])

    def write_eof(self) -> None:
        """Shut down the sending side behind all that is to be sent."""
        if not self._ends:
            last = b"" if self._tls is None else self._tls.finish()
            if last:
                self._write_sealed(last)
            self._ends = True
            if self._unsent is None:
                self._shut_down()

    def pause_reading(self) -> None:
        """Stop reading."""
        if self.reading:
            self.reading = False
            self._loop.remove_reader(self._fd)

    def resume_reading(self) -> None:
        """Read again."""
        if not self.reading and self._socket is not None:
            self.reading = True
            self._loop.add_reader(self._fd, self._readable)

    def close(self) -> None:
        """Close at once. Safe to call again."""
        sock, self._socket = self._socket, None
        if sock is not None:
            self.pause_reading()
            self._stop_writing()
            self._received = self._drained = None
            sock.close()

    def _readable(self) -> None:
        if self._received is None:
            return
        try:
            data = os.read(self._fd, self._read_bytes)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if len(data) == self._read_bytes:
            self._read_bytes = LARGE_READ_BYTES
        elif len(data) < SMALL_READ_BYTES:
            self._read_bytes = SMALL_READ_BYTES
        tls = self._tls
        if tls is None or not data:
            self._received(data)
            return
        data = tls.receive(data)
        if tls.has_sealed and not self._ends:
            self._write_sealed(tls.take_sealed())
        if data:
            self._received(data)
        if (tls.ended or tls.failure) and self._received is not None:
            self._received(b"")

    def _writable(self) -> None:
        unsent = self._unsent
        if unsent is None:
            return
        try:
            unsent.send(self._fd)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._stop_writing()
            self._ends = True
        else:
            if unsent.size:
                return
            self._stop_writing()
            if self._ends:
                self._shut_down()
        if self._drained is not None:
            self._drained()

    def _stop_writing(self) -> None:
        if self._unsent is not None:
            self._unsent = None
            self._loop.remove_writer(self._fd)

    def _shut_down(self) -> None:
        if self._socket is not None:
            with suppress(OSError):  # the peer is gone, as reading will tell
                self._socket.shutdown(socket.SHUT_WR)

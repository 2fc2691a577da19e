"""The other end of a client of etcd, which does what a test wants: real sockets, and frames of HTTP/2 as they come."""

import socket
import ssl
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from types import TracebackType
from typing import Final, Self, TypeAlias

from kvs.adapters.storage.etcd.client.endpoints import Endpoint
from kvs.adapters.storage.etcd.client.hpack import decode, encode
from kvs.adapters.storage.etcd.client.http2 import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    PREFACE,
    SETTINGS,
    SMALLEST_FRAME,
)
from kvs.adapters.storage.etcd.client.wire import bytes_field, number_field

HOST: Final = "127.0.0.1"
HEADER: Final = bytes_field(1, number_field(1, 7) + number_field(3, 100))
"""Of an answer: a cluster, and a revision."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame."""
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def headers(stream: int, *fields: tuple[str, str], flags: int = 0) -> bytes:
    """Return the frame of headers."""
    return frame(HEADERS, END_HEADERS | flags, stream, encode(fields))


def message(stream: int, content: bytes = HEADER) -> bytes:
    """Return a message, with the headers before it."""
    data = b"\0" + len(content).to_bytes(4, "big") + content
    return headers(stream, (":status", "200")) + frame(DATA, 0, stream, data)


def status(stream: int, code: str = "0") -> bytes:
    """Return the end of an answer."""
    return headers(stream, ("grpc-status", code), flags=END_STREAM)


def answer(stream: int, content: bytes = HEADER) -> bytes:
    """Return a whole answer."""
    return message(stream, content) + status(stream)


class Peer:
    """A connection.

    Attributes:
        number: How many there were before.
    """

    def __init__(self, number: int, sock: socket.socket) -> None:
        self.number = number
        self._socket = sock

    def send(self, *frames: bytes) -> None:
        """Send frames; if the other end has gone, nobody is told."""
        with suppress(OSError):
            self._socket.sendall(b"".join(frames))

    def send_at_once(self) -> None:
        """From now on, let nothing that is sent wait until the other end has read what was sent before."""
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def flood(self) -> None:
        """Send frames that mean nothing until the other end is gone, many at a time, faster than they are read."""
        frames = frame(PING, ACK, 0, bytes(8)) * 1_000_000
        with suppress(OSError):
            while True:
                self._socket.sendall(frames)


Handler: TypeAlias = Callable[[Peer, int, str], None]
"""Called for each request, with the connection, the stream and the path; sends what it wants."""


class Stub:
    """Listens until it is closed. Use it as a context manager.

    Args:
        handle: What is done with requests.
        greet: What is done with a new connection.
        tls: How connections are secured.

    Attributes:
        endpoint: Where it is.
        calls: The paths of requests, as they come.
        connections: How many there were.
    """

    def __init__(
        self, handle: Handler, greet: Callable[[Peer], None] = lambda _: None, tls: ssl.SSLContext | None = None
    ) -> None:
        self.calls: Final[SimpleQueue[str]] = SimpleQueue()
        self.connections = 0
        self._handle = handle
        self._greet = greet
        self._tls = tls
        self._listener = socket.create_server((HOST, 0))
        self.endpoint: Final = Endpoint(HOST, self._listener.getsockname()[1])
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        for sock in self._sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                sock = self._listener.accept()[0]
            except OSError:
                return
            self._sockets.append(sock)
            thread = threading.Thread(target=self._serve, args=(sock, self.connections))
            self.connections += 1
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        with sock, suppress(OSError):
            if self._tls is None:
                self._talk(Peer(number, sock), sock)
            else:
                with self._tls.wrap_socket(sock, server_side=True) as secured:
                    self._talk(Peer(number, secured), secured)

    def _talk(self, peer: Peer, sock: socket.socket) -> None:
        peer.send(frame(SETTINGS, 0, 0))
        self._greet(peer)
        with sock.makefile("rb") as stream:
            if stream.read(len(PREFACE)) != PREFACE:
                return
            paths: dict[int, str] = {}
            block = b""
            while len(head := stream.read(9)) == 9:
                kind, flags, number = head[3], head[4], int.from_bytes(head[5:], "big")
                size = int.from_bytes(head[:3], "big")
                if size > SMALLEST_FRAME:
                    return
                payload = stream.read(size)
                if kind in (HEADERS, CONTINUATION):
                    block += payload
                    if flags & END_HEADERS:
                        paths[number] = dict(decode(block))[":path"]
                        block = b""
                elif kind in (SETTINGS, PING) and not flags & ACK:
                    peer.send(frame(kind, ACK, 0, payload if kind == PING else b""))
                if kind == DATA and flags & END_STREAM:
                    self.calls.put(paths[number])
                    self._handle(peer, number, paths[number])

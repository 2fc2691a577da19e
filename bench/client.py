"""Small blocking clients of both protocols, for what the generator does not do."""

import json
import socket
from types import TracebackType
from typing import Self

from bench.errors import BenchError
from bench.servers import Server


class LineClient:
    """One session; a context manager that closes it."""

    def __init__(self, server: Server) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._unread = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def ask(self, *lines: str) -> list[object]:
        """Send request lines together and return their results; any reply but Ok is an error."""
        self._socket.sendall("".join(f"{line}\n" for line in lines).encode())
        return [self._result(self._read_line()) for _ in lines]

    def _read_line(self) -> bytes:
        parts = [self._unread]
        while b"\n" not in parts[-1]:
            chunk = self._socket.recv(1 << 16)
            if not chunk:
                raise BenchError("the server closed a connection")
            parts.append(chunk)
        line, _, self._unread = b"".join(parts).partition(b"\n")
        return line

    @staticmethod
    def _result(line: bytes) -> object:
        reply = json.loads(line)
        if reply["status"] != "Ok":
            raise BenchError(f"unexpected reply: {line.decode()[:300]}")
        return reply.get("result")


class RespClient:
    """A connection in RESP."""

    def __init__(self, server: Server) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = self._socket.makefile("rb", 1 << 18)

    def ask(self, *requests: list[bytes]) -> None:
        """Send requests together, and read their replies; an error ends the benchmark."""
        self.send(*requests)
        for _ in requests:
            self.read()

    def send(self, *requests: list[bytes]) -> None:
        """Send requests together."""
        self._socket.sendall(b"".join(map(_encoded, requests)))

    def send_but_last_byte(self, request: list[bytes]) -> None:
        """Send all of a request except its last byte, which completes it."""
        self._socket.sendall(_encoded(request)[:-1])

    def send_last_byte(self) -> None:
        """Complete that request."""
        self._socket.sendall(b"\n")

    def read(self) -> bytes:
        """Read one reply; return a string, and of other replies the first line."""
        line: bytes = self._reader.readline()
        if not line or line.startswith(b"-"):
            raise BenchError(f"unexpected reply: {line.decode()[:300] or 'the server closed a connection'}")
        size = int(line[1:]) if line[:1] in b"$*" else -1
        if line.startswith(b"$") and size >= 0:
            text: bytes = self._reader.read(size + 2)[:-2]
            return text
        if line.startswith(b"*"):
            for _ in range(size):
                self.read()
        return line

    def close(self) -> None:
        """Disconnect."""
        self._reader.close()
        self._socket.close()


def _encoded(request: list[bytes]) -> bytes:
    words = b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in request])
    return b"*%d\r\n%b" % (len(request), words)

"""A small blocking client of the line protocol, for what the generator does not do."""

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

"""RESP as a test speaks it: independent of the server's own code, and strict about what it reads."""

import socket
from typing import IO, TypeAlias

RespReply: TypeAlias = "bytes | int | RespError | list[RespReply] | dict[bytes, RespReply] | None"


class RespError(Exception):
    """An error reply; not raised, but returned where the reply was due."""

    @property
    def code(self) -> str:
        """Its first word."""
        return str(self).partition(" ")[0]


def encode(*arguments: bytes) -> bytes:
    """Return a request."""
    return b"*%d\r\n" % len(arguments) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in arguments])


def read_reply(stream: IO[bytes]) -> RespReply:
    """Return one reply, whole. A simple string and a bulk string are both bytes.

    Raises:
        EOFError: There is none, or it was cut short.
    """
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        raise EOFError(line)
    kind, rest = line[:1], line[1:-2]
    match kind:
        case b"+":
            return rest
        case b"-":
            return RespError(rest.decode(errors="backslashreplace"))
        case b":":
            return int(rest)
        case b"_":
            return None
        case b"$" | b"=":
            if rest == b"-1":
                return None
            data = stream.read(int(rest) + 2)
            if len(data) != int(rest) + 2 or not data.endswith(b"\r\n"):
                raise EOFError(data)
            return data[:-2] if kind == b"$" else data[4:-2]
        case b"*" | b"~":
            return None if rest == b"-1" else [read_reply(stream) for _ in range(int(rest))]
        case b"%":
            pairs = [(read_reply(stream), read_reply(stream)) for _ in range(int(rest))]
            return {key: value for key, value in pairs if isinstance(key, bytes)}
    raise AssertionError(f"this is no RESP: {line!r}")


class RespClient:
    """A connection in RESP."""

    def __init__(self, port: int, timeout_s: float) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream = self._socket.makefile("rb")

    def ask(self, *arguments: bytes | str) -> RespReply:
        """Send one request, and return its reply."""
        self.send(encode(*[word.encode() if isinstance(word, str) else word for word in arguments]))
        return self.read()

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self._socket.sendall(data)

    def read(self) -> RespReply:
        """Return the next reply."""
        return read_reply(self._stream)

    def rest(self) -> bytes:
        """Return everything up to the end, which the server is to bring about."""
        return self._stream.read()

    def close(self) -> None:
        """Close."""
        self._stream.close()
        self._socket.close()

    def __enter__(self) -> "RespClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

"""RESP as a client speaks it, with nothing hidden: what a reply is like is part of it."""

import codecs
import re
import socket
import struct
from pathlib import Path
from typing import IO, Final, NamedTuple, TypeAlias

from tests.support.harness import TIMEOUT_S

Reply: TypeAlias = "int | bytes | Typed | list[Reply]"


class Typed(NamedTuple):
    """A reply that is no number, bulk string or array.

    Attributes:
        kind: Its first byte.
        value: What follows; None for nothing.
    """

    kind: str
    value: "bytes | list[Reply] | None"

    def __repr__(self) -> str:
        return f"{self.kind}{self.value!r}"


Address: TypeAlias = "Path | tuple[str, int]"
"""Where a server is: a socket in the file system, or host and port."""

OK: Final = Typed("+", b"OK")
PONG: Final = Typed("+", b"PONG")
QUEUED: Final = Typed("+", b"QUEUED")
NULL: Final = Typed("$", None)
NULL_ARRAY: Final = Typed("*", None)


_WORD: Final = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')


def error(text: str) -> Typed:
    """Return the reply that tells of an error."""
    return Typed("-", text.encode())


def words(line: str) -> list[bytes]:
    r"""Return the arguments that a line stands for: words, some in quotes, and there ``\xff`` is a byte."""
    return [
        plain.encode() if plain else codecs.escape_decode(quoted.encode())[0] for quoted, plain in _WORD.findall(line)
    ]


def request(*arguments: bytes | str | int) -> bytes:
    """Return a request as it goes over the wire."""
    encoded = [argument if isinstance(argument, bytes) else str(argument).encode() for argument in arguments]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%b\r\n" % (len(one), one) for one in encoded)


def read_reply(stream: IO[bytes]) -> Reply:
    """Return a reply.

    Raises:
        EOFError: There is none.
    """
    line = stream.readline()
    if not line:
        raise EOFError("the connection has ended and no reply came")
    assert line.endswith(b"\r\n"), line
    kind, rest = chr(line[0]), line[1:-2]
    if kind in "+-_,#(":
        return Typed(kind, rest or None)
    if kind == ":":
        return int(rest)
    assert kind in "$=*~>%", line
    length = int(rest)
    if length < 0:
        return Typed(kind, None)
    if kind in "$=":
        data = stream.read(length + 2)
        assert data[length:] == b"\r\n", data
        return data[:length] if kind == "$" else Typed(kind, data[:length])
    items = [read_reply(stream) for _ in range(2 * length if kind == "%" else length)]
    return items if kind == "*" else Typed(kind, items)


class Wire:
    """A connection to a server that speaks RESP."""

    def __init__(self, address: Address) -> None:
        family = socket.AF_UNIX if isinstance(address, Path) else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(TIMEOUT_S)
        try:
            self.socket.connect(str(address) if isinstance(address, Path) else address)
            if family == socket.AF_INET:
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            self.socket.close()
            raise
        self._stream = self.socket.makefile("rb")

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def ask(self, *arguments: bytes | str | int) -> Reply:
        """Send a request and return its reply."""
        self.send(request(*arguments))
        return self.reply()

    def asked(self, line: str) -> Reply:
        """Send the request that a line stands for and return its reply."""
        return self.ask(*words(line))

    def reply(self) -> Reply:
        """Return the next reply; see :func:`read_reply`."""
        return read_reply(self._stream)

    def rest(self) -> bytes:
        """Return everything up to the end of the connection, which has to be an orderly one."""
        return self._stream.read()

    def close(self) -> None:
        """Leave without a word."""
        self._stream.close()
        self.socket.close()

    def reset(self) -> None:
        """Leave as a killed process may: the server sees a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

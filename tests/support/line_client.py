"""The line protocol as a client speaks it: one connection, and what its replies have to look like."""

import array
import contextlib
import fcntl
import json
import socket
import struct
import termios
import threading
from typing import Any, Final, TypeAlias

from tests.support.waiting import TIMEOUT_S, polling, readable

Reply: TypeAlias = dict[str, Any]

OK: Final[Reply] = {"status": "Ok"}
PONG: Final[Reply] = {"status": "Ok", "result": "PONG"}

CODES: Final = frozenset(
    {
        "usage",
        "unknown_command",
        "encoding",
        "forbidden",
        "too_large",
        "no_transaction",
        "conflict",
        "limit",
        "timeout",
        "protocol",
        "unauthenticated",
        "unavailable",
        "outcome_unknown",
        "internal",
    }
)
"""Every code that the protocol has."""

_FIELDS: Final = (
    ("status",),
    ("status", "result"),
    ("status", "result", "mesg"),
    ("status", "mesg"),
    ("status", "code", "mesg"),
)


def parse_reply(line: bytes) -> Reply:
    """Return a reply, having checked that it is one: one line of JSON, its fields in their order, a known code."""
    assert line.endswith(b"\n"), f"a reply was cut short: {line[-80:]!r}"
    fields: list[str] = []

    def note_order(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields[:] = [name for name, _ in pairs]  # the outermost object comes last
        return dict(pairs)

    reply = json.loads(line.decode(), object_pairs_hook=note_order)
    assert isinstance(reply, dict)
    assert tuple(fields) in _FIELDS, line
    assert reply["status"] == ("Error" if "code" in reply else "Ok"), line
    assert reply.get("code", "limit") in CODES, line
    return reply


def error(code: str) -> Reply:
    """Return what :func:`agrees` takes for any error of a code; its wording is open."""
    return {"status": "Error", "code": code}


def agrees(actual: Reply, expected: Reply) -> bool:
    """Return whether a reply is the expected one, its fields in the order that is promised."""
    if expected["status"] == "Ok":
        return list(actual.items()) == list(expected.items())
    named = list(actual) == ["status", "code", "mesg"] and isinstance(actual["mesg"], str) and actual["mesg"] != ""
    return named and actual["status"] == "Error" and actual["code"] == expected["code"]


def to_bytes(line: str | bytes) -> bytes:
    """Return text as it goes over the wire."""
    return line.encode() if isinstance(line, str) else line


class Client:
    """One connection to the server, speaking the line protocol.

    Args:
        host: Address to connect to.
        port: Port to connect to.
        receive_buffer_bytes: Size of the kernel's receive buffer, to make a client that takes little without reading.
    """

    def __init__(self, host: str, port: int, receive_buffer_bytes: int | None = None) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        try:
            if receive_buffer_bytes is not None:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
            self.socket.settimeout(TIMEOUT_S)
            self.socket.connect((host, port))
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            self.socket.close()
            raise
        own = self.socket.getsockname()
        self.name = f"[{own[0]}]:{own[1]}" if family == socket.AF_INET6 else f"{own[0]}:{own[1]}"
        self._received = bytearray()
        self._scanned = 0
        self._senders: list[threading.Thread] = []

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Sending.

    def send(self, *lines: str | bytes) -> None:
        """Send lines, in one packet if they fit."""
        self.send_raw(b"".join(to_bytes(line) + b"\n" for line in lines))

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def send_behind(self, data: bytes, times: int = 1) -> None:
        """Send bytes, or repeat them, from another thread; that the server stops listening meanwhile is no failure."""

        def run() -> None:
            with contextlib.suppress(OSError):
                for _ in range(times):
                    self.socket.sendall(data)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self._senders.append(thread)

    def wait_sent(self) -> None:
        """Wait until everything that was sent has arrived in the server's receive buffer."""
        for thread in self._senders:
            thread.join(TIMEOUT_S)
            assert not thread.is_alive(), "the server does not take its input"
        left = array.array("i", [0])
        for _ in polling("everything sent has arrived"):
            fcntl.ioctl(self.socket.fileno(), termios.TIOCOUTQ, left)
            if left[0] == 0:
                return

    def half_close(self) -> None:
        """Tell the server that no more input comes."""
        self.socket.shutdown(socket.SHUT_WR)

    # Receiving.

    def reply(self) -> Reply:
        """Return the next reply."""
        line = self._line()
        assert line, "the connection has ended and no reply came"
        return parse_reply(line)

    def replies(self, count: int) -> list[Reply]:
        """Return the next replies."""
        return [self.reply() for _ in range(count)]

    def raw_reply(self) -> bytes:
        """Return the next reply as it came."""
        return self._line()

    def ask(self, line: str | bytes) -> Reply:
        """Send a line and return its reply."""
        self.send(line)
        return self.reply()

    def ok(self, *lines: str | bytes) -> None:
        """Send lines in one packet; every one of them has to succeed."""
        self.send(*lines)
        for line in lines:
            reply = self.reply()
            assert reply["status"] == "Ok", (line, reply)

    def get(self, key: str) -> str | None:
        """Return the value of a key."""
        reply = self.ask(f"GET {key}")
        assert reply["status"] == "Ok", reply
        value = reply["result"]
        assert value is None or isinstance(value, str)
        return value

    def info(self, part: str) -> dict[str, Any]:
        """Return what INFO says of the ``session`` or the ``server``."""
        figures = self.ask("INFO")["result"][part]
        assert isinstance(figures, dict)
        return figures

    def rest(self) -> list[Reply]:
        """Return every reply up to the end of the connection, which has to be an orderly one."""
        return [parse_reply(line) for line in self.raw_rest().splitlines(keepends=True)]

    def raw_rest(self) -> bytes:
        """Return everything up to the end of the connection, which has to be an orderly one."""
        while self._receive():
            pass
        rest = bytes(self._received)
        self._received.clear()
        self._scanned = 0
        return rest

    def wait_ended(self) -> None:
        """Read until the connection is over, orderly or not; what came is dropped."""
        with contextlib.suppress(ConnectionError):
            while self._receive():
                self._received.clear()
                self._scanned = 0

    def nothing_has_come(self) -> bool:
        """Return whether there is nothing to read now."""
        return not self._received and not readable(self.socket)

    def _line(self) -> bytes:
        while True:
            end = self._received.find(b"\n", self._scanned)
            if end >= 0:
                line = bytes(self._received[: end + 1])
                del self._received[: end + 1]
                self._scanned = 0
                return line
            self._scanned = len(self._received)
            if not self._receive():
                line = bytes(self._received)
                self._received.clear()
                self._scanned = 0
                return line

    def _receive(self) -> bool:
        data = self.socket.recv(1 << 18)
        self._received += data
        return bool(data)

    # Leaving.

    def close(self) -> None:
        """Leave without a word."""
        # Before the close: it would free the descriptor under a thread that still sends on it.
        with contextlib.suppress(OSError):
            if self._senders:
                self.socket.shutdown(socket.SHUT_RDWR)
        for thread in self._senders:
            thread.join(TIMEOUT_S)
        self._senders.clear()
        self.socket.close()

    def reset(self) -> None:
        """Leave as a killed process may: the server sees a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()


def codes(client: Client, *lines: str | bytes) -> list[str | None]:
    """Send lines and return the codes of their replies, None for those that succeed."""
    client.send(*lines)
    return [reply.get("code") for reply in client.replies(len(lines))]

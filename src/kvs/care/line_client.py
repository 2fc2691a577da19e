"""A client of the line protocol: requests go out while the replies to earlier ones come in."""

import socket
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final, Generic, Literal, Self, TypeVar

import msgspec

from kvs.care.errors import CareError, shown

CONNECT_TIMEOUT_S: Final = 10.0
REPLY_TIMEOUT_S: Final = 60.0

WINDOW_BYTES: Final = 32 << 10
"""Most that is sent before its replies are read, unless it is a single request. A server stops reading from a client
that does not read; so much fits between the two all the same, and nobody waits for the other in a circle."""

BATCHES: Final = 2
"""In how many parts that is sent, so that one is served while the other is made."""

T = TypeVar("T")


class Reply(msgspec.Struct, Generic[T], gc=False):
    """A reply of the server."""

    status: Literal["Ok", "Error"]
    result: T | None = None
    code: str = ""
    mesg: str = ""


OK: Final = b'{"status": "Ok"}\n'
TEXT: Final = msgspec.json.Decoder(Reply[str])
NUMBER: Final = msgspec.json.Decoder(Reply[int])
TEXTS: Final = msgspec.json.Decoder(Reply[list[str]])
_ANY: Final = msgspec.json.Decoder(Reply[msgspec.Raw])


class ServerError(CareError):
    """Raised when the server answers with an error.

    Attributes:
        code: Its code.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{shown(code)}: {shown(message)}")
        self.code = code


class LineClient:
    """A connection to a server.

    Args:
        host: Address or name.
        port: Where it listens.
        max_reply_bytes: Longest reply.

    Raises:
        CareError: There is no kvs server, here and in every method.
    """

    def __init__(self, host: str, port: int, max_reply_bytes: int) -> None:
        self._name = shown(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        self._max_reply_bytes = max_reply_bytes
        try:
            self._socket = socket.create_connection((host, port), CONNECT_TIMEOUT_S)
        except (OSError, ValueError) as error:  # ValueError: a name that cannot be one
            raise CareError(f"cannot connect to {self._name}: {_reason(error)}; does the server run there?") from None
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._replies = self._socket.makefile("rb", 1 << 18)
        try:
            self.result(self.ask(b"PING\n"), TEXT)  # a harmless first line: one that looks like HTTP would be refused
        except BaseException:
            self.close()
            raise
        self._socket.settimeout(REPLY_TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave."""
        self._replies.close()
        self._socket.close()

    def ask(self, request: bytes) -> bytes:
        """Send one request, and return its reply."""
        (reply,) = self.pipelined([request])
        return reply

    def pipelined(self, requests: Iterable[bytes], window_bytes: int = WINDOW_BYTES) -> Iterator[bytes]:
        """Send requests, and yield the reply to each, in order. Requests are drawn ahead of the replies.

        Each request and each reply is a whole line. The window may be wider than usual if the replies are so short that
        all of them fit into what the server keeps for a client.
        """
        in_flight: deque[tuple[int, int]] = deque()
        in_flight_bytes = 0
        for count, batch in _batches(requests, window_bytes // BATCHES):
            while in_flight and in_flight_bytes + len(batch) > window_bytes:
                due, size = in_flight.popleft()
                for _ in range(due):
                    yield self._receive()
                in_flight_bytes -= size
            # That the server has gone is found out by reading: it may have said why.
            with suppress(OSError):
                self._socket.sendall(batch)
            in_flight.append((count, len(batch)))
            in_flight_bytes += len(batch)
        for due, _ in in_flight:
            for _ in range(due):
                yield self._receive()

    def done(self, reply: bytes) -> None:
        """Make sure that a reply tells of nothing but success.

        Raises:
            ServerError: It tells of an error.
        """
        if reply != OK:
            self._parse(reply, _ANY)

    def result(self, reply: bytes, decoder: "msgspec.json.Decoder[Reply[T]]") -> T:
        """Return the result that a reply tells.

        Raises:
            ServerError: It tells of an error.
        """
        result = self._parse(reply, decoder).result
        if result is None:
            raise self._no_kvs(reply)
        return result

    def _parse(self, reply: bytes, decoder: "msgspec.json.Decoder[Reply[T]]") -> Reply[T]:
        try:
            parsed = decoder.decode(reply)
        except (msgspec.MsgspecError, ValueError):  # ValueError: what is not UTF-8
            raise self._no_kvs(reply) from None
        if parsed.status == "Error":
            raise ServerError(parsed.code, parsed.mesg)
        return parsed

    def _receive(self) -> bytes:
        try:
            reply = self._replies.readline(self._max_reply_bytes)
        except OSError as error:
            raise CareError(f"the connection to {self._name} is lost: {_reason(error)}") from None
        if reply.endswith(b"\n"):
            return reply
        if len(reply) == self._max_reply_bytes:
            raise CareError(
                f"{self._name} sends a reply of more than {len(reply)} bytes; if its max_key_bytes or max_value_bytes "
                "are not the usual ones, say so here, too"
            )
        raise CareError(f"the connection to {self._name} is lost: the server has closed it")

    def _no_kvs(self, reply: bytes) -> CareError:
        return CareError(f"{self._name} does not answer as kvs does: {shown(reply[:500].decode(errors='replace'))}")


def _batches(requests: Iterable[bytes], most_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Yield requests put together, and how many they are."""
    batch: list[bytes] = []
    size = 0
    for request in requests:
        if batch and size + len(request) > most_bytes:
            yield len(batch), b"".join(batch)
            batch = []
            size = 0
        batch.append(request)
        size += len(request)
    if batch:
        yield len(batch), b"".join(batch)


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it does not answer"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)

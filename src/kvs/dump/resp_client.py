"""A RESP client that pipelines: it sends requests while the replies to earlier ones arrive.

Replies are not trusted, because the peer may be another kind of server: none may be longer, or nested deeper, than any
reply of kvs.
"""

import re
import reprlib
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final, Self, TypeAlias

import msgspec

from kvs.dump.access import ANYONE, Access
from kvs.dump.errors import QUOTED_CHARACTERS, DumpError, quoted
from kvs.quantities import format_size

WINDOW_BYTES: Final = 32 << 10
"""Maximum bytes sent before their replies are read, except for a single longer request. A server stops reading from a
client that does not read; this much always fits into the buffers between the two, which prevents a deadlock."""

BATCHES: Final = 2
"""Number of parts in which a window is sent, so that the server runs one while the client makes the next."""

BATCH_BYTES: Final = WINDOW_BYTES // BATCHES

MAX_LINE_BYTES: Final = 4096
"""Maximum length of a line: a header or an error."""

MAX_DEPTH: Final = 3
"""Maximum nesting of arrays, including the strings in them."""

ITEM_BYTES: Final = 1100
"""Bytes charged for an item of an array against the limit of a reply: short strings are not counted individually."""

SHORT_BYTES: Final = 1024

_SHORT: Final = {b"$%d\r\n" % length: length + 2 for length in range(SHORT_BYTES)}
"""Bytes that follow the header of a bulk string, by header: for short ones, a look-up takes a third of the time of
parsing the number."""

_NUMBER: Final = re.compile(rb"-?[0-9]{1,19}")

OK: Final = "OK"
_OK_LINE: Final = b"+OK\r\n"
_NO_LINE: Final = b":-1\r\n"

CLOSED: Final = "the server has closed it"


class ServerError(DumpError):
    """Raised when the server replies with an error.

    Attributes:
        code: Its code, in lower case.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(quoted(message) if code == "err" else f"{quoted(code)}: {quoted(message)}")
        self.code = code


Reply: TypeAlias = "bytes | str | int | list[Reply] | ServerError | None"
"""A bulk string, a simple string, a number, an array, an error, or null."""


class _JsonError(msgspec.Struct):
    """An error of kvs in the line protocol, sent before the server knows the client's protocol."""

    code: str
    mesg: str


_decode_json_error: Final = msgspec.json.Decoder(_JsonError).decode


def encode(*words: bytes) -> bytes:
    """Encode a request."""
    return b"".join([b"*%d\r\n" % len(words), *(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)])


class RespClient:
    """A connection to a server.

    Args:
        host: Address or name.
        port: Its port.
        max_reply_bytes: Maximum size of a reply.
        access: How to get at it.

    Raises:
        DumpError: The peer is not a kvs server, or the connection fails; also in every method.
    """

    def __init__(self, host: str, port: int, max_reply_bytes: int, access: Access = ANYONE) -> None:
        self._name = quoted(access.name_of(host, port))
        self._max_reply_bytes = max_reply_bytes
        self._room_bytes = 0  # left for the reply that is being read
        try:
            self._socket = access.connect(host, port)
        except (OSError, ValueError) as error:  # ValueError: an invalid name
            raise DumpError(f"cannot connect to {self._name}: {_reason(error)}; does the server run there?") from None
        self._stream = self._socket.makefile("rb", 1 << 18)
        try:
            self._greet(access.greeting())
        except BaseException:
            self.close()
            raise
        self._socket.settimeout(access.reply_timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stream.close()
        self._socket.close()

    def ask(self, *words: bytes) -> Reply:
        """Send one request, and return its reply.

        Raises:
            ServerError: It is an error.
        """
        (reply,) = self.pipelined([encode(*words)])
        if isinstance(reply, ServerError):
            raise reply
        return reply

    def pipelined(self, requests: Iterable[bytes], window_bytes: int = WINDOW_BYTES) -> Iterator[Reply]:
        """Send requests, and yield the reply to each, in order. Requests are taken ahead of the replies.

        The window may be wider than usual if the replies are so short that all of them fit into the server's buffer
        for a client.
        """
        return self.exchange(_batches(requests, window_bytes // BATCHES), window_bytes)

    def exchange(self, batches: Iterable[tuple[int, bytes]], window_bytes: int = WINDOW_BYTES) -> Iterator[Reply]:
        """Send batches of encoded requests, and yield the reply to each request, in order.

        Args:
            batches: The number of requests in each, and their bytes: at most ``BATCH_BYTES``, unless it is one request.
            window_bytes: Maximum bytes sent ahead of the replies.
        """
        in_flight: deque[tuple[int, int]] = deque()
        in_flight_bytes = 0
        for count, batch in batches:
            while in_flight and in_flight_bytes + len(batch) > window_bytes:
                due, size = in_flight.popleft()
                yield from self._replies(due)
                in_flight_bytes -= size
            # Reading detects a lost connection: the server may have sent the reason.
            with suppress(OSError):
                self._socket.sendall(batch)
            in_flight.append((count, len(batch)))
            in_flight_bytes += len(batch)
        for due, _ in in_flight:
            yield from self._replies(due)

    def unexpected(self, reply: Reply) -> DumpError:
        """Return the error for a reply that kvs would not send."""
        return self._not_kvs(_text(reply) if isinstance(reply, bytes) else reprlib.repr(reply))

    def _greet(self, hello: list[bytes]) -> None:
        """Check that this is kvs: another server would accept a load, or dump other data."""
        try:
            reply = self.ask(*hello)
        except ServerError as error:
            if error.code == "err":
                raise self._not_kvs(str(error)) from None
            if error.code == "unknown_command":
                raise DumpError(f"{self._name} is an older kvs, which does not speak RESP") from None
            raise
        match reply:
            case [b"server", b"kvs", *_]:
                return
            case [b"server", bytes(kind), *_]:
                raise DumpError(f"{self._name} is another kind of server: {quoted(kind.decode(errors='replace'))}")
            case _:
                raise self.unexpected(reply)

    # Replies.

    def _replies(self, count: int, depth: int = MAX_DEPTH) -> Iterator[Reply]:
        """Yield the next replies, or items of an array; ``depth`` bounds the nesting of arrays."""
        read_line, size_of = self._stream.readline, _SHORT.get
        try:
            for _ in range(count):
                line = read_line(MAX_LINE_BYTES)
                size = size_of(line)
                yield self._parse(line, depth) if size is None else self._bulk(size)
        except OSError as error:
            raise self._lost(_reason(error)) from None

    def _parse(self, line: bytes, depth: int) -> Reply:
        """Return the reply that begins with a line, unless it is a short string."""
        if line == _OK_LINE:
            return OK
        if line == _NO_LINE:
            return -1
        if depth == MAX_DEPTH:
            self._room_bytes = self._max_reply_bytes
        if not line.endswith(b"\n") and len(line) < MAX_LINE_BYTES:
            raise self._lost(CLOSED)
        if line.endswith(b"\r\n"):
            text = line[1:-2]
            match line[:1]:
                case b"+":
                    return text.decode(errors="replace")
                case b"-":
                    code, _, message = text.decode(errors="replace").partition(" ")
                    return ServerError(code.lower(), message)
                case b":" if _NUMBER.fullmatch(text):
                    return int(text)
                case b"$" | b"*" if text == b"-1":
                    return None
                case b"$" if text.isdigit():
                    self._take_room(int(text))
                    return self._bulk(int(text) + 2)
                case b"*" if text.isdigit() and depth > 1:
                    self._take_room(ITEM_BYTES * int(text))
                    return list(self._replies(int(text), depth - 1))
        if line.startswith(b"{"):
            return self._json_error(line)
        raise self._not_kvs(_text(line))

    def _bulk(self, size: int) -> bytes:
        """Read a bulk string; its CRLF counts in the size."""
        bulk: bytes = self._stream.read(size)
        if len(bulk) < size:
            raise self._lost(CLOSED)
        if bulk[-2:] != b"\r\n":
            raise self._not_kvs(_text(bulk[-100:]))
        return bulk[:-2]

    def _take_room(self, size: int) -> None:
        self._room_bytes -= size
        if self._room_bytes < 0:
            raise DumpError(
                f"{self._name} sends a reply of more than {format_size(self._max_reply_bytes)}; if its max_key_bytes "
                "or max_value_bytes are above the defaults, give them here, too"
            )

    def _json_error(self, line: bytes) -> ServerError:
        try:
            error = _decode_json_error(line)
        except (msgspec.MsgspecError, ValueError):
            raise self._not_kvs(_text(line)) from None
        return ServerError(error.code, error.mesg)

    # Failures.

    def _lost(self, reason: str) -> DumpError:
        return DumpError(f"the connection to {self._name} is lost: {reason}")

    def _not_kvs(self, reply: str) -> DumpError:
        return DumpError(f"{self._name} does not answer as kvs does: {quoted(reply)}")


def _batches(requests: Iterable[bytes], most_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Yield batches of requests: their number, and their bytes."""
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


def _text(data: bytes) -> str:
    return data[:QUOTED_CHARACTERS].decode(errors="replace")


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it does not answer"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)

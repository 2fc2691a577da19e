"""A running server, to dump and to load, over its line protocol."""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

from kvs.care.dump_format import Entry
from kvs.care.errors import CareError, LineError, shown
from kvs.care.line_client import NUMBER, TEXT, TEXTS, LineClient, ServerError
from kvs.care.reading import NumberedEntry
from kvs.domain.values import Key, Value

LINE_OVERHEAD_BYTES: Final = 16 << 10
"""What a reply may hold beyond that: its fields, and a message that repeats a key."""

# Bytes as numbers: `in` is then a search, where b"\n" in place of 10 first raises and drops a TypeError, 0.3 us.
LF: Final = 10
SPACE: Final = 32

ADVICE: Final = "stop the server and use its data directory: --data-dir"

STORE_WINDOW_BYTES: Final = 64 << 10
"""What is sent to be stored before the replies, which are short, are read. A durable server syncs once for all that it
reads at a time: half of this takes a tenth longer, twice as much is no faster."""

PAGE_KEYS: Final = 1000
"""Most keys that the server lists at a time."""


def longest_reply_bytes(max_key_bytes: int, max_value_bytes: int) -> int:
    """Return how long a reply can be: JSON writes a control character in six bytes, and a page of keys has commas."""
    return max(PAGE_KEYS * (6 * max_key_bytes + 4), 6 * max_value_bytes) + LINE_OVERHEAD_BYTES


class RemoteSource:
    """The data of a server as of one moment, in a read-only transaction.

    Args:
        client: Connected, and used by nobody else.

    Attributes:
        total: Number of entries.

    Raises:
        CareError: The server does not answer, or not as it should, here and while reading; it may end the transaction.
    """

    def __init__(self, client: LineClient) -> None:
        self._client = client
        try:
            client.done(client.ask(b"START READONLY\n"))
        except ServerError as error:
            raise CareError(f"the server opens no read-only transaction: {error}") from None
        self.total = client.result(client.ask(b"COUNT\n"), NUMBER)

    def entries(self) -> Iterator[Entry]:
        """Yield every entry, in the order of keys. Two pages of keys and one value are held at a time."""
        client = self._client
        keys = self._page(client.ask(b"KEYS\n"))
        while keys:
            requests = chain([_line(b"KEYS  " + keys[-1])], (_line(b"GET " + key) for key in keys))
            replies = client.pipelined(requests)
            following = self._page(next(replies))
            for key, reply in zip(keys, replies, strict=True):
                try:
                    value = client.result(reply, TEXT)
                except ServerError as error:
                    raise CareError(f"key {_shown(key)}: {_advised(error)}") from None
                yield key, value.encode()
            keys = following
        client.done(client.ask(b"COMMIT\n"))

    def _page(self, reply: bytes) -> list[Key]:
        try:
            keys = [key.encode() for key in self._client.result(reply, TEXTS)]
        except ServerError as error:
            raise CareError(f"the keys cannot be listed: {_advised(error)}") from None
        for key in keys:
            reason = _key_objection(key)
            if reason:
                raise CareError(f"key {_shown(key)}: {reason}; {ADVICE}")
        return keys


class RemoteSink:
    """A server, to put entries into, each in a transaction of its own.

    Args:
        client: Connected, and used by nobody else.

    Attributes:
        stored: How many entries the server has acknowledged.
    """

    def __init__(self, client: LineClient) -> None:
        self._client = client
        self.stored = 0

    def objection(self, key: Key, value: Value) -> str:
        """Return why the line protocol cannot carry an entry; nothing if it can."""
        reason = _key_objection(key)
        if not reason and LF in value:
            reason = "the value has a line feed, which the line protocol cannot carry"
        if not reason and not (value.isascii() or _is_utf8(value)):
            reason = "the value is not UTF-8, and the line protocol carries nothing else"
        return f"{reason}; {ADVICE}" if reason else ""

    def store(self, entries: Iterable[NumberedEntry]) -> None:
        """Put entries. After the first that fails no more are sent, but all that have been sent are waited for.

        Raises:
            CareError: An entry was refused, or could not be read; or the server is lost.
        """
        sent: deque[int] = deque()
        failure: CareError | None = None

        def requests() -> Iterator[bytes]:
            nonlocal failure
            try:
                for number, key, value in entries:
                    sent.append(number)
                    yield _line(b"PUT %b %b" % (key, value))
                    if failure is not None:
                        return
            except CareError as error:
                failure = failure or error

        for reply in self._client.pipelined(requests(), STORE_WINDOW_BYTES):
            number = sent.popleft()
            try:
                self._client.done(reply)
                self.stored += 1
            except ServerError as error:
                failure = failure or LineError(number, str(error))
        if failure is not None:
            raise failure


def _line(request: bytes) -> bytes:
    """Return a request with its end. A CR there is taken for a part of the end, so one that is data gets another."""
    return request + (b"\r\n" if request.endswith(b"\r") else b"\n")


def _key_objection(key: Key) -> str:
    if SPACE in key or LF in key or key.endswith(b"\t"):
        return "the key has a space, a line feed, or a tab at its end, which the line protocol cannot carry"
    if not (key.isascii() or _is_utf8(key)):
        return "the key is not UTF-8, and the line protocol carries nothing else"
    return ""


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _advised(error: ServerError) -> str:
    return f"{error} {ADVICE[0].upper()}{ADVICE[1:]}" if error.code == "encoding" else str(error)


def _shown(key: Key) -> str:
    return shown(key.decode(errors="backslashreplace"))

"""A running server as the source of a dump and as the sink of a load, over RESP, which is binary-safe."""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

from kvs.domain.values import Key, Value
from kvs.dump.errors import DumpError, LineError, quoted
from kvs.dump.format import Entry
from kvs.dump.loader import longest_line_bytes
from kvs.dump.reader import NumberedEntry
from kvs.dump.resp_client import BATCH_BYTES, ITEM_BYTES, OK, Reply, RespClient, ServerError, encode
from kvs.quantities import format_size

STORE_WINDOW_BYTES: Final = 64 << 10
"""Bytes of entries sent before the short replies are read. A durable server syncs once for all entries that it reads at
a time: with half of this, a load takes a tenth longer; with twice as much, it is no faster."""

PAGE_KEYS: Final = 1000
"""Keys listed at a time."""

BEGINNING: Final = b"0"
"""The cursor with which a SCAN begins, and which it returns at the end."""

GET_OVERHEAD_BYTES: Final = 32
"""Maximum bytes of a GET beyond its key."""

REPLY_OVERHEAD_BYTES: Final = 4096
"""Maximum bytes of a reply beyond keys and values: the cursor, and the server's INFO."""


def longest_reply_bytes(max_key_bytes: int, max_value_bytes: int) -> int:
    """Return the maximum size of a reply: a page of keys, or any value that could be loaded again."""
    page_bytes = PAGE_KEYS * (max_key_bytes + ITEM_BYTES)
    return max(page_bytes, longest_line_bytes(max_key_bytes, max_value_bytes)) + REPLY_OVERHEAD_BYTES


class ServerSource:
    """The data of a server as of one moment, in a read-only transaction; a :class:`kvs.dump.writer.Source`.

    Args:
        client: A connection for exclusive use.
    """

    def __init__(self, client: RespClient) -> None:
        self._client = client
        try:
            self._expect_ok(client.ask(b"START", b"READONLY"))
        except ServerError as error:
            raise DumpError(f"the server does not open a read-only transaction: {error}") from None
        total = client.ask(b"DBSIZE")
        if not isinstance(total, int):
            raise client.unexpected(total)
        self.total = total

    def entries(self) -> Iterator[Entry]:
        """Yield every entry in key order, holding two pages of keys and one value at a time."""
        client = self._client
        keys: list[Key] = []
        listing = [_scan(BEGINNING)]
        while listing or keys:
            # Request the next page first, so that it arrives with these values.
            replies = client.exchange(chain([(1, request) for request in listing], _gets(keys)))
            following: list[Key] = []
            if listing:
                cursor, following = self._page(next(replies))
                listing = [] if cursor == BEGINNING else [_scan(cursor)]
            for key, value in zip(keys, replies, strict=True):
                if type(value) is not bytes:
                    raise self._no_value(key, value)
                yield key, value
            keys = following
        self._expect_ok(client.ask(b"COMMIT"))

    def _page(self, reply: Reply) -> tuple[bytes, list[Key]]:
        match reply:
            case [bytes(cursor), list(listed)]:
                keys = [key for key in listed if isinstance(key, bytes)]
                if len(keys) == len(listed):
                    return cursor, keys
            case ServerError():
                raise DumpError(f"the keys cannot be listed: {reply}")
        raise self._client.unexpected(reply)

    def _no_value(self, key: Key, reply: Reply) -> DumpError:
        if isinstance(reply, ServerError):
            return DumpError(f"key {quoted(key.decode(errors='backslashreplace'))}: {reply}")
        return self._client.unexpected(reply)

    def _expect_ok(self, reply: Reply) -> None:
        if reply != OK:
            raise self._client.unexpected(reply)


class ServerSink:
    """A server as a :class:`kvs.dump.loader.Sink`; each entry is stored in its own transaction.

    Args:
        client: A connection for exclusive use.
    """

    def __init__(self, client: RespClient) -> None:
        self._client = client
        self._sent: deque[int] = deque()
        self.stored = 0
        match client.ask(b"CONFIG", b"GET", b"proto-max-bulk-len"):
            case [_, bytes(limit)] if limit.isdigit():
                self._max_value_bytes = int(limit)
            case reply:
                raise client.unexpected(reply)

    @property
    def unconfirmed(self) -> int:
        return len(self._sent)

    def rejection_reason(self, _: Key, value: Value) -> str:
        if len(value) > self._max_value_bytes:
            limit = format_size(self._max_value_bytes)
            return f"the value has {len(value)} bytes; the server's max_value_bytes is {limit}"
        return ""

    def store(self, entries: Iterable[NumberedEntry]) -> None:
        """See :class:`kvs.dump.loader.Sink`. After a failure, all outstanding replies are awaited."""
        sent = self._sent
        failure: DumpError | None = None

        def requests() -> Iterator[bytes]:
            nonlocal failure
            try:
                for number, key, value in entries:
                    sent.append(number)
                    yield b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key, len(value), value)
                    if failure is not None:
                        return
            except DumpError as error:
                failure = failure or error

        try:
            for reply in self._client.pipelined(requests(), STORE_WINDOW_BYTES):
                number = sent.popleft()
                if reply == OK:
                    self.stored += 1
                elif isinstance(reply, ServerError):
                    failure = failure or LineError(number, str(reply))
                else:
                    raise self._client.unexpected(reply)
        except DumpError as error:
            failure = failure or error
        if failure is not None:
            raise failure


def _gets(keys: list[Key]) -> Iterator[tuple[int, bytes]]:
    """Yield requests for the values of a page of keys, in batches: one by one, they would take twice as long."""
    longest_bytes = max(map(len, keys), default=0) + GET_OVERHEAD_BYTES
    size = max(1, BATCH_BYTES // longest_bytes)
    for at in range(0, len(keys), size):
        part = keys[at : at + size]
        yield len(part), b"".join([b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(key), key) for key in part])


def _scan(cursor: bytes) -> bytes:
    return encode(b"SCAN", cursor, b"COUNT", b"%d" % PAGE_KEYS)

"""A running server as the source of a dump and as the sink of a load, over RESP, which is binary-safe."""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

from kvs.domain.values import MAX_DEADLINE_MS, NO_DEADLINE, Key, Value, deadline_of, string_of, with_deadline
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

REQUEST_OVERHEAD_BYTES: Final = 2 * 40
"""Maximum bytes of a GET and a PEXPIRETIME beyond their keys."""

WITHOUT_DEADLINE: Final = -1
"""The answer of PEXPIRETIME for a key that does not expire."""

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
        self.time_ms = _server_time_ms(client)
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
            parts = _parts(keys)
            replies = client.exchange(chain([(1, request) for request in listing], map(_reads, parts)))
            following: list[Key] = []
            if listing:
                cursor, following = self._page(next(replies))
                listing = [] if cursor == BEGINNING else [_scan(cursor)]
            for part in parts:
                # Each reply is looked at when it comes: it may be the last, with the reason for the end.
                deadlines = [self._deadline(key, reply) for key, reply in zip(part, replies, strict=False)]
                for key, deadline_ms in zip(part, deadlines, strict=True):
                    value = next(replies)
                    if type(value) is not bytes:
                        raise self._no_value(key, value)
                    yield key, value if deadline_ms == NO_DEADLINE else with_deadline(value, deadline_ms)
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

    def _deadline(self, key: Key, reply: Reply) -> int:
        if reply == WITHOUT_DEADLINE:
            return NO_DEADLINE
        if not (isinstance(reply, int) and NO_DEADLINE < reply <= MAX_DEADLINE_MS):
            raise self._no_value(key, reply)
        return reply

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
        self._ahead_ms = _server_time_ms(client) - _own_time_ms()
        self.stored = 0
        match client.ask(b"CONFIG", b"GET", b"proto-max-bulk-len"):
            case [_, bytes(limit)] if limit.isdigit():
                self._max_value_bytes = int(limit)
            case reply:
                raise client.unexpected(reply)

    @property
    def unconfirmed(self) -> int:
        return len(self._sent)

    def now_ms(self) -> int:
        return self._ahead_ms + _own_time_ms()

    def rejection_reason(self, _: Key, value: Value) -> str:
        size = len(value if isinstance(value, bytes) else value.payload)
        if size > self._max_value_bytes:
            limit = format_size(self._max_value_bytes)
            return f"the value has {size} bytes; the server's max_value_bytes is {limit}"
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
                    yield _set(key, value)
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


def _parts(keys: list[Key]) -> list[list[Key]]:
    """Divide a page of keys into parts whose requests fit into a batch: one by one, they would take twice as long."""
    longest_bytes = 2 * max(map(len, keys), default=0) + REQUEST_OVERHEAD_BYTES
    size = max(1, BATCH_BYTES // longest_bytes)
    return [keys[at : at + size] for at in range(0, len(keys), size)]


def _reads(keys: list[Key]) -> tuple[int, bytes]:
    """Return the requests for the deadlines of keys, and then for their values."""
    words = [b"$%d\r\n%b\r\n" % (len(key), key) for key in keys]
    deadlines = b"".join([b"*2\r\n$11\r\nPEXPIRETIME\r\n" + word for word in words])
    return 2 * len(keys), deadlines + b"".join([b"*2\r\n$3\r\nGET\r\n" + word for word in words])


def _set(key: Key, value: Value) -> bytes:
    """Return the request that stores an entry."""
    if isinstance(value, bytes):
        return b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key, len(value), value)
    return encode(b"SET", key, string_of(value), b"PXAT", b"%d" % deadline_of(value))


def _server_time_ms(client: RespClient) -> int:
    match client.ask(b"TIME"):
        case [bytes(seconds), bytes(microseconds)] if seconds.isdigit() and microseconds.isdigit():
            return int(seconds) * 1000 + int(microseconds) // 1000
        case reply:
            raise client.unexpected(reply)


def _own_time_ms() -> int:
    return int(time.monotonic() * 1000)


def _scan(cursor: bytes) -> bytes:
    return encode(b"SCAN", cursor, b"COUNT", b"%d" % PAGE_KEYS)

"""A storage engine as the source of a dump and as the sink of a load."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from kvs.domain.errors import KvsError
from kvs.domain.keyspace import ESCAPED, RESERVED, clients_key, stored_key
from kvs.domain.values import STRING, Key, Record, Value, entry_bytes
from kvs.dump.errors import DumpError, LineError
from kvs.dump.format import Entry
from kvs.dump.reader import NumberedEntry
from kvs.ports.storage import Storage
from kvs.quantities import format_size

PAGE_KEYS: Final = 1000

EXPIRED_AT_ONCE: Final = 10_000
"""Steps in which what is due is deleted."""

SYNC_ENTRIES: Final = 1000
SYNC_BYTES: Final = 4 << 20
"""Bytes put between two syncs: an engine may hold them in memory until then."""


class EngineSource:
    """The data of an engine as of one moment, until it is closed; a :class:`kvs.dump.writer.Source`.

    What is due by then is deleted first, as a server does at its start.

    Args:
        storage: The engine.
        now_ms: The time, in milliseconds since 1970; the engine's own counts if it is later.
    """

    def __init__(self, storage: Storage, now_ms: int) -> None:
        with _failures():
            self.time_ms = max(now_ms, storage.horizon_ms)
            while storage.earliest_deadline_ms() <= self.time_ms:
                storage.expire(self.time_ms, EXPIRED_AT_ONCE)
            self._snapshot = storage.snapshot()
            reserved = self._snapshot.count(RESERVED) - self._snapshot.count(ESCAPED)
            self.total = self._snapshot.count(b"") - reserved

    def entries(self) -> Iterator[Entry]:
        """Yield every entry in key order, holding a page of keys and one value at a time."""
        with _failures():
            after = b""
            while keys := self._snapshot.scan(b"", after, PAGE_KEYS):
                for key in keys:
                    value = self._snapshot.get(key)
                    if type(value) is not bytes:
                        value = _dumpable(key, value)
                    if key < RESERVED:
                        yield key, value
                    elif key.startswith(ESCAPED):
                        yield clients_key(key), value
                after = keys[-1]

    def close(self) -> None:
        self._snapshot.close()


class EngineSink:
    """A storage engine as a :class:`kvs.dump.loader.Sink`.

    Args:
        storage: The engine.
        max_key_bytes: Maximum length of a key for a server with the same settings.
        max_value_bytes: Maximum length of a value.
        records: Whether the engine stores records.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        storage: Storage,
        max_key_bytes: int,
        max_value_bytes: int,
        *,
        records: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._storage = storage
        self._records = records
        self._clock = clock
        self._max_key_bytes = max_key_bytes
        self._max_value_bytes = max_value_bytes
        self.stored = 0
        self.unconfirmed = 0
        self._unconfirmed_bytes = 0

    def now_ms(self) -> int:
        return max(int(self._clock() * 1000), self._storage.horizon_ms)

    def rejection_reason(self, key: Key, value: Value) -> str:
        if isinstance(value, Record) and not self._records:
            return "the storage engine does not store deadlines"
        return _too_long(key, value, self._max_key_bytes, self._max_value_bytes)

    def store(self, entries: Iterable[NumberedEntry]) -> None:
        with _failures():
            try:
                for number, key, value in entries:
                    self._put(number, key, value)
                    if self.unconfirmed >= SYNC_ENTRIES or self._unconfirmed_bytes >= SYNC_BYTES:
                        self._sync()
            except DumpError:
                self._sync()
                raise
            self._sync()

    def _put(self, number: int, key: Key, value: Value) -> None:
        try:
            self._storage.put(stored_key(key), value)
        except KvsError as error:
            raise LineError(number, f"{error.code}: {error}") from None
        self.unconfirmed += 1
        self._unconfirmed_bytes += entry_bytes(key, value)

    def _sync(self) -> None:
        self._storage.sync()
        self.stored += self.unconfirmed
        self.unconfirmed = self._unconfirmed_bytes = 0


class EmptyPlace(Protocol):
    """**Protocol:** Where there is nothing yet, and all of the data are stored at once."""

    def put(self, key: Key, value: Value) -> None:
        """Keep an entry until the end."""

    def finish(self) -> None:
        """Store everything."""


class EmptySink:
    """An empty place as a :class:`kvs.dump.loader.Sink`: everything is stored, or nothing.

    Args:
        place: Where it is stored.
        max_key_bytes: Maximum length of a key for a server with the same settings.
        max_value_bytes: Maximum length of a value.
        clock: Seconds since 1970.
    """

    def __init__(
        self, place: EmptyPlace, max_key_bytes: int, max_value_bytes: int, clock: Callable[[], float] = time.time
    ) -> None:
        self._place = place
        self._max_key_bytes = max_key_bytes
        self._max_value_bytes = max_value_bytes
        self._clock = clock
        self.stored = 0
        self.unconfirmed = 0

    def now_ms(self) -> int:
        return int(self._clock() * 1000)

    def rejection_reason(self, key: Key, value: Value) -> str:
        return _too_long(key, value, self._max_key_bytes, self._max_value_bytes)

    def store(self, entries: Iterable[NumberedEntry]) -> None:
        with _failures():
            count = 0
            for _, key, value in entries:
                self._place.put(stored_key(key), value)
                count += 1
            self.unconfirmed = count
            self._place.finish()
            self.stored, self.unconfirmed = count, 0


def _too_long(key: Key, value: Value, max_key_bytes: int, max_value_bytes: int) -> str:
    """Return why an entry is too long; empty if it is not."""
    size = len(value if isinstance(value, bytes) else value.payload)
    if len(key) > max_key_bytes:
        return f"the key has {len(key)} bytes; max_key_bytes is {format_size(max_key_bytes)}"
    if size > max_value_bytes:
        return f"the value has {size} bytes; max_value_bytes is {format_size(max_value_bytes)}"
    return ""


def _dumpable(key: Key, value: Value | None) -> Value:
    if value is None:
        raise DumpError(f"the storage engine lists a key that it does not have: {key!r:.200}")
    if isinstance(value, Record) and value.kind != STRING:
        raise DumpError(f"this version cannot dump the type that this key has: {key!r:.200}")
    return value


@contextmanager
def _failures() -> Iterator[None]:
    """Report any error of an engine in one line."""
    try:
        yield
    except DumpError:
        raise
    except Exception as error:
        raise DumpError(f"the storage engine failed: {error}") from error

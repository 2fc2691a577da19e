"""A storage engine as the source of a dump and as the sink of a load."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from kvs.domain.errors import KvsError
from kvs.domain.values import Key, Value, entry_bytes
from kvs.dump.errors import DumpError, LineError
from kvs.dump.format import Entry
from kvs.dump.reader import NumberedEntry
from kvs.ports.storage import Storage
from kvs.quantities import format_size

PAGE_KEYS: Final = 1000

SYNC_ENTRIES: Final = 1000
SYNC_BYTES: Final = 4 << 20
"""Bytes put between two syncs: an engine may hold them in memory until then."""


class EngineSource:
    """The data of an engine as of one moment, until it is closed; a :class:`kvs.dump.writer.Source`."""

    def __init__(self, storage: Storage) -> None:
        with _failures():
            self._snapshot = storage.snapshot()
            self.total = self._snapshot.count(b"")

    def entries(self) -> Iterator[Entry]:
        """Yield every entry in key order, holding a page of keys and one value at a time."""
        with _failures():
            after = b""
            while keys := self._snapshot.scan(b"", after, PAGE_KEYS):
                for key in keys:
                    value = self._snapshot.get(key)
                    if value is None:
                        raise DumpError(f"the storage engine lists a key that it does not have: {key!r:.200}")
                    yield key, value
                after = keys[-1]

    def close(self) -> None:
        self._snapshot.close()


class EngineSink:
    """A storage engine as a :class:`kvs.dump.loader.Sink`.

    Args:
        storage: The engine.
        max_key_bytes: Maximum length of a key for a server with the same settings.
        max_value_bytes: Maximum length of a value.
    """

    def __init__(self, storage: Storage, max_key_bytes: int, max_value_bytes: int) -> None:
        self._storage = storage
        self._max_key_bytes = max_key_bytes
        self._max_value_bytes = max_value_bytes
        self.stored = 0
        self.unconfirmed = 0
        self._unconfirmed_bytes = 0

    def rejection_reason(self, key: Key, value: Value) -> str:
        if len(key) > self._max_key_bytes:
            return f"the key has {len(key)} bytes; max_key_bytes is {format_size(self._max_key_bytes)}"
        if len(value) > self._max_value_bytes:
            return f"the value has {len(value)} bytes; max_value_bytes is {format_size(self._max_value_bytes)}"
        return ""

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
            self._storage.put(key, value)
        except KvsError as error:
            raise LineError(number, f"{error.code}: {error}") from None
        self.unconfirmed += 1
        self._unconfirmed_bytes += entry_bytes(key, value)

    def _sync(self) -> None:
        self._storage.sync()
        self.stored += self.unconfirmed
        self.unconfirmed = self._unconfirmed_bytes = 0


@contextmanager
def _failures() -> Iterator[None]:
    """Report any error of an engine in one line."""
    try:
        yield
    except DumpError:
        raise
    except Exception as error:
        raise DumpError(f"the storage engine failed: {error}") from error

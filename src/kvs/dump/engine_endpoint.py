"""A storage engine, opened here and by nobody else, to dump and to load."""

from collections.abc import Iterable, Iterator
from typing import Final

from kvs.domain.errors import KvsError
from kvs.domain.values import Key, Value, entry_bytes
from kvs.dump.errors import CareError, LineError
from kvs.dump.format import Entry
from kvs.dump.reader import NumberedEntry
from kvs.ports.storage import Storage

PAGE_KEYS: Final = 1000

SYNC_ENTRIES: Final = 1000
SYNC_BYTES: Final = 4 << 20
"""How much is put before it is made durable: an engine may hold it in memory until then."""


class StorageSource:
    """The data of an engine as of one moment, until it is closed.

    Args:
        storage: The engine.

    Attributes:
        total: Number of entries.

    Raises:
        CareError: The engine fails, here and while reading.
    """

    def __init__(self, storage: Storage) -> None:
        try:
            self._snapshot = storage.snapshot()
            self.total = self._snapshot.count(b"")
        except Exception as error:  # whatever an engine raises, it is told in one line
            raise _failure(error) from error

    def entries(self) -> Iterator[Entry]:
        """Yield every entry, in the order of keys. A page of keys and one value are held at a time."""
        try:
            after = b""
            while keys := self._snapshot.scan(b"", after, PAGE_KEYS):
                for key in keys:
                    value = self._snapshot.get(key)
                    if value is None:
                        raise CareError(f"the storage engine lists a key that it does not have: {key!r:.200}")
                    yield key, value
                after = keys[-1]
        except CareError:
            raise
        except Exception as error:  # see above
            raise _failure(error) from error

    def close(self) -> None:
        """Let go of it."""
        self._snapshot.close()


class StorageSink:
    """An engine, to put entries into.

    Args:
        storage: The engine.
        max_key_bytes: Longest key that a server with the same settings would take.
        max_value_bytes: Longest value.

    Attributes:
        stored: How many entries are as durable as the engine promises.
    """

    def __init__(self, storage: Storage, max_key_bytes: int, max_value_bytes: int) -> None:
        self._storage = storage
        self._max_key_bytes = max_key_bytes
        self._max_value_bytes = max_value_bytes
        self.stored = 0

    def objection(self, key: Key, value: Value) -> str:
        """Return why an entry would be of no use to a server; nothing if it is."""
        if len(key) > self._max_key_bytes:
            return f"the key has {len(key)} bytes; max_key_bytes is {self._max_key_bytes}"
        if len(value) > self._max_value_bytes:
            return f"the value has {len(value)} bytes; max_value_bytes is {self._max_value_bytes}"
        return ""

    def store(self, entries: Iterable[NumberedEntry]) -> None:
        """Put entries, and make them durable, up to the first that fails.

        Raises:
            CareError: An entry was refused, or could not be read; or the engine fails.
        """
        waiting = waiting_bytes = 0
        try:
            for number, key, value in entries:
                try:
                    self._storage.put(key, value)
                except KvsError as error:
                    raise LineError(number, f"{error.code}: {error}") from None
                except Exception as error:  # see above
                    raise _failure(error) from error
                waiting += 1
                waiting_bytes += entry_bytes(key, value)
                if waiting >= SYNC_ENTRIES or waiting_bytes >= SYNC_BYTES:
                    self._sync(waiting)
                    waiting = waiting_bytes = 0
        except CareError:
            self._sync(waiting)
            raise
        self._sync(waiting)

    def _sync(self, waiting: int) -> None:
        try:
            self._storage.sync()
        except Exception as error:  # see above
            raise _failure(error) from error
        self.stored += waiting


def _failure(error: Exception) -> CareError:
    return CareError(f"the storage engine failed: {error}")

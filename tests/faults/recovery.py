"""Opens a data directory in this process, as the server would at its start, and reads what is there."""

import threading
from pathlib import Path
from typing import Final

from kvs.config import Given, Settings
from kvs.domain.values import Key, Value
from kvs.engines import open_storage
from kvs.logs import make_logger
from kvs.ports.storage import Storage
from tests.faults.ledger import Data

FORKING: Final = threading.Lock()
"""Held by who starts a process or has a data directory open in this one. For until it runs its program, a child has the
descriptors of every thread, and locks with them."""

LOG: Final = make_logger("critical", "json")
PAGE: Final = 1000


def recover(directory: Path, durability: str = "full", *, use: bool = False) -> dict[Key, Value]:
    """Return the data.

    Args:
        directory: The data directory; it is opened, and closed again.
        durability: Option of the engine.
        use: Whether to check besides that the engine takes new writes, and has them, too, when it is opened again.

    Raises:
        StorageOpenError: The engine refuses to open it.
    """
    settings = Settings(storage="sqlite", data_dir=str(directory))
    options = {"durability": Given(durability, "test"), "max_journal_bytes": Given("1MiB", "test")}
    with FORKING:
        with open_storage(settings, options, LOG) as storage:
            data = read_all(storage)
            if use:
                changed = _change(storage, data)
        if use:
            with open_storage(settings, options, LOG) as storage:
                assert read_all(storage) == changed, "what was written after the recovery is not there"
    return data


def read_all(storage: Storage) -> dict[Key, Value]:
    """Return everything there is."""
    data: dict[Key, Value] = {}
    last = b""
    while keys := storage.scan(b"", last, PAGE):
        for key in keys:
            value = storage.get(key)
            assert value is not None
            data[key] = value
        last = keys[-1]
    assert storage.count(b"") == len(data)
    return data


def _change(storage: Storage, data: Data) -> dict[Key, Value]:
    """Add a key and delete another, durably; return what there should be then."""
    changed = dict(data) | {b"new": b"value"}
    storage.put(b"new", b"value")
    if data:
        first = min(data)
        assert storage.delete(first)
        del changed[first]
    storage.sync()
    return changed

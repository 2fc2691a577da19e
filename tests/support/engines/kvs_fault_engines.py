"""Storage engines with planted faults, which the tests must find."""

import asyncio
import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Final

from structlog.typing import FilteringBoundLogger

from kvs.adapters.storage.sqlite.engine import SQLITE, SqliteOptions
from kvs.config import Settings
from kvs.domain.commit import CommitRequest, Committed, Conflict
from kvs.domain.values import Key, Value
from kvs.engine import EngineSpec, NoOptions
from kvs.ports.storage import Snapshot, Storage

BROKEN_VARIABLE: Final = "TEST_BROKEN_ENGINE"
"""Names the module and the class of ``broken``."""


class LateStorage(Storage):
    """Another engine, synced only when the replies have been sent."""

    def __init__(self, inner: Storage) -> None:
        self._inner = inner

    def get(self, key: Key) -> Value | None:
        """See the port."""
        return self._inner.get(key)

    def put(self, key: Key, value: Value) -> None:
        """See the port."""
        self._inner.put(key, value)

    def delete(self, key: bytes) -> bool:
        """See the port."""
        return self._inner.delete(key)

    def scan(self, prefix: bytes, after: bytes, limit: int) -> list[bytes]:
        """See the port."""
        return self._inner.scan(prefix, after, limit)

    def count(self, prefix: bytes) -> int:
        """See the port."""
        return self._inner.count(prefix)

    def snapshot(self) -> Snapshot:
        """See the port."""
        return self._inner.snapshot()

    def commit(self, request: CommitRequest) -> Committed | Conflict:
        """See the port."""
        return self._inner.commit(request)

    def sync(self) -> None:
        """Break the port's promise."""
        asyncio.get_running_loop().call_soon(self._inner.sync)

    def check(self) -> None:
        """See the port."""
        self._inner.check()

    def stats(self) -> Mapping[str, int]:
        """See the port."""
        return self._inner.stats()

    def close(self) -> None:
        """Leave it to whoever opened the other engine."""


@contextmanager
def _late(settings: Settings, options: SqliteOptions, log: FilteringBoundLogger) -> Iterator[Storage]:
    with SQLITE.open(settings, options, log) as inner:
        yield LateStorage(inner)


late = EngineSpec(summary="Acknowledges first and syncs then.", open=_late, options=SqliteOptions, durable=True)


@contextmanager
def _broken(settings: Settings, _options: NoOptions, _log: FilteringBoundLogger) -> Iterator[Storage]:
    module, _, name = os.environ[BROKEN_VARIABLE].partition(":")
    engine = getattr(import_module(module), name)
    opened = engine.open_in(Path(settings.data_dir)) if hasattr(engine, "open_in") else closing(engine())
    with opened as storage:
        yield storage


broken = EngineSpec(summary="Is broken in a way that a test names.", open=_broken, records=True)

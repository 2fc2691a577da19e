"""Engines by name: built-in ones from a table that cannot be shadowed, others from the entry points ``kvs.storage``."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Final

from kvs.adapters.storage.checked import CheckedStorage
from kvs.adapters.storage.indexed import IndexedStorage, keeps_deadlines
from kvs.adapters.storage.memory.storage import MemoryStorage
from kvs.config import ConfigError, Given, Settings, read_options
from kvs.engine import EngineSpec, NoOptions
from kvs.log_type import FilteringBoundLogger
from kvs.ports.storage import Storage

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINTS: Final = "kvs.storage"
BUILT_IN: Final = {
    "memory": "kvs.engines:MEMORY",
    "sqlite": "kvs.adapters.storage.sqlite.engine:SQLITE",
    "etcd": "kvs.adapters.storage.etcd.engine:ETCD",
}


@contextmanager
def _memory(settings: Settings, _options: NoOptions, _log: FilteringBoundLogger) -> Iterator[Storage]:
    with closing(
        MemoryStorage(settings.max_data_bytes, settings.max_history_bytes, settings.transaction_timeout_s)
    ) as storage:
        yield storage


MEMORY: Final = EngineSpec(summary="Everything in memory, nothing on disk; the fastest.", open=_memory, records=True)


def names() -> list[str]:
    """Return the names of all available engines, built-in ones first."""
    return [*BUILT_IN, *sorted(_installed().keys() - BUILT_IN.keys())]


def get(name: str) -> EngineSpec:
    """Return the engine of a name; no other is imported.

    Raises:
        ConfigError: The name is unknown, the engine cannot be imported, or it is not an engine.
    """
    target = BUILT_IN.get(name)
    if target is not None:
        module, _, attribute = target.partition(":")
        try:
            engine = getattr(import_module(module), attribute)
        except ImportError as error:
            raise ConfigError(
                f"storage: engine {name!r} cannot be used: {error}; this Python was built without what it needs"
            ) from None
    else:
        point = _installed().get(name)
        if point is None:
            raise ConfigError(
                f"storage: unknown engine {name!r}; available: {', '.join(names())} (others can be installed as "
                "packages)"
            )
        package = point.dist.name if point.dist else point.module
        try:
            engine = point.load()
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"storage: engine {name!r} cannot be imported: no module named {error.name!r}; install it, or "
                f"package {package} again from where it came from, with all that it needs"
            ) from None
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"storage: engine {name!r} of package {package} cannot be imported: {error}") from None
    if not isinstance(engine, EngineSpec):
        raise ConfigError(f"storage: engine {name!r} is a {type(engine).__name__}, not a kvs.engine.EngineSpec")
    return engine


@contextmanager
def open_storage(
    settings: Settings, given: Mapping[str, Given], log: FilteringBoundLogger, *, to_read: bool = False
) -> Iterator[Storage]:
    """Open the engine of the settings, with its options; close it on every exit.

    Args:
        settings: They name it.
        given: Its options.
        log: For its events.
        to_read: Whether its data are only read, so that it changes no files if it can do without.

    Raises:
        ConfigError: The engine is not available, or rejects its options.
        StorageOpenError: It cannot be opened.
    """
    name = settings.storage
    engine = get(name)
    opening = engine.open_to_read if to_read and engine.open_to_read is not None else engine.open
    with opening(settings, read_options(name, engine.options, given), log) as storage:
        if Storage not in type(storage).__mro__:  # isinstance may be wrong: compiled ports share a cache
            raise ConfigError(f"storage: engine {name!r} is not derived from kvs.ports.storage.Storage")
        if storage.blocking != engine.blocking:
            raise ConfigError(f"storage: engine {name!r} and its storage do not agree on whether it is blocking")
        if name in BUILT_IN:
            yield storage
        else:
            checked = CheckedStorage(storage)
            yield IndexedStorage(checked) if engine.records and not keeps_deadlines(storage) else checked


def _installed() -> "dict[str, EntryPoint]":
    from importlib.metadata import entry_points  # noqa: PLC0415  # 20 ms that only a foreign engine needs

    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}

"""Engines by name: built-in ones from a table that cannot be shadowed, others from the entry points ``kvs.storage``.

An engine is a callable that takes the settings and returns a context manager of a :class:`kvs.ports.storage.Storage`:
whoever opens it closes it, on every way out.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from typing import Final, TypeAlias, cast

from kvs.adapters.storage.memory import MemoryStorage
from kvs.config import ConfigError, Settings
from kvs.ports.storage import Storage

Engine: TypeAlias = Callable[[Settings], AbstractContextManager[Storage]]

ENTRY_POINTS: Final = "kvs.storage"
BUILT_IN: Final = {"memory": "kvs.adapters.storage.engines:memory"}


@contextmanager
def memory(settings: Settings) -> Iterator[Storage]:
    """Keep everything in memory, nothing on disk."""
    storage = MemoryStorage(settings.max_data_bytes, settings.max_history_bytes)
    try:
        yield storage
    finally:
        storage.close()


def find(name: str) -> Engine:
    """Return the engine of a name; only the one that is asked for is imported.

    Raises:
        ConfigError: There is none of that name, or it cannot be imported.
    """
    target = BUILT_IN.get(name)
    if target is not None:
        module, _, attribute = target.partition(":")
        return cast("Engine", getattr(import_module(module), attribute))
    from importlib.metadata import entry_points  # noqa: PLC0415  # 20 ms that only a foreign engine needs

    others = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if name not in others:
        names = ", ".join([*BUILT_IN, *sorted(others.keys() - BUILT_IN.keys())])
        raise ConfigError(f"storage: there is no engine {name!r}; there are: {names}")
    try:
        return cast("Engine", others[name].load())
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"storage: engine {name!r} cannot be imported: {error}") from None

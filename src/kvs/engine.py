"""What a storage engine says of itself, so that it can be chosen by name.

A package offers an engine by an entry point of the group ``kvs.storage`` that names an :class:`EngineSpec`;
``docs/engines.md`` walks through one. The port that the engine itself implements is :mod:`kvs.ports.storage`.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import msgspec
from structlog.typing import FilteringBoundLogger

from kvs.config import Settings
from kvs.errors import CommandError
from kvs.ports.storage import Storage


class StorageOpenError(CommandError):
    """Raised by an engine that cannot be opened; one line that names the file or address, and the reason."""


class NoOptions(msgspec.Struct, frozen=True):
    """The options of an engine that has none."""


class EngineSpec(msgspec.Struct, frozen=True, kw_only=True):
    """An engine that can be chosen by name.

    Attributes:
        summary: One line for ``kvs engines``.
        open: Takes the settings, the engine's own options and a logger; returns a context manager of the storage, so
            that whoever opens it closes it, on every way out. May raise :class:`StorageOpenError`, and
            :class:`kvs.config.ConfigError` for options that do not go together.
        options: The engine's own options: a struct like :class:`kvs.config.Settings`, a default for each field and its
            description in a ``Meta``. What is given is checked against it before ``open`` is called.
        durable: Whether what it has acknowledged outlives the server.
        shared: Whether several servers may use the same data at a time.
        blocking: Whether its calls may wait, and so run on worker threads; as its storage says, too.
    """

    summary: str
    open: Callable[[Settings, Any, FilteringBoundLogger], AbstractContextManager[Storage]]  # Any: its own options
    options: type[msgspec.Struct] = NoOptions
    durable: bool = False
    shared: bool = False
    blocking: bool = False

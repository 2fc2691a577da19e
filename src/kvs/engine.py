"""The description by which a storage engine is chosen by name.

A package offers an engine by an entry point of the group ``kvs.storage`` that names an :class:`EngineSpec`;
``docs/engines.md`` walks through one. The port that the engine itself implements is :mod:`kvs.ports.storage`.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import msgspec

from kvs.config import Settings
from kvs.errors import CommandError
from kvs.log_type import FilteringBoundLogger
from kvs.ports.candidate import Candidate
from kvs.ports.storage import Storage


class StorageOpenError(CommandError):
    """Raised when an engine cannot be opened; one line that names the file or address, and the reason."""


Opening: TypeAlias = Callable[[Settings, Any, FilteringBoundLogger], AbstractContextManager[Storage]]  # Any: options
StandBy: TypeAlias = Callable[[Settings, Any, tuple[str, int], FilteringBoundLogger], Candidate]  # Any: the options


class NoOptions(msgspec.Struct, frozen=True):
    """The options of an engine without options."""


class EngineSpec(msgspec.Struct, frozen=True, kw_only=True):
    """An engine that can be chosen by name.

    Attributes:
        summary: One line for ``kvs engines``.
        open: Takes the settings, the engine's options and a logger; returns a context manager that yields the storage
            and closes it on exit. May raise :class:`StorageOpenError`, and :class:`kvs.config.ConfigError` for options
            that contradict each other.
        open_to_read: The same for ``kvs dump``: the data as they are, without a change to any file. What expires
            in that storage meanwhile is kept nowhere. None: a dump opens the engine as a server does.
        options: A struct like :class:`kvs.config.Settings`: a default for each field, and its description in a
            ``Meta``. Options are checked against it before ``open`` is called.
        durable: Whether acknowledged commits survive the server.
        shared: Whether several servers may use the same data at a time.
        records: Whether the engine stores values that are :class:`kvs.domain.values.Record`, as deadlines need; another
            one is given ``bytes`` only.
        blocking: Whether calls may block; must equal ``Storage.blocking``.
        stand_by: For an engine of which one server leads: takes the settings, the options, the address at which others
            reach this server, and a logger; returns a candidate for the lead. None for others.
    """

    summary: str
    open: Opening
    open_to_read: Opening | None = None
    options: type[msgspec.Struct] = NoOptions
    durable: bool = False
    shared: bool = False
    records: bool = False
    blocking: bool = False
    stand_by: StandBy | None = None

    @property
    def keeps_directory(self) -> bool:
        """Whether its data are in ``data_dir``: those of an engine with a leader are in a service beside the server."""
        return self.durable and self.stand_by is None

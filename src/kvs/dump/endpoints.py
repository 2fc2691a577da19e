"""Where data is dumped from and loaded into, as the command line says: a running server, or a data directory."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from kvs.config import SETTINGS, ConfigError, Configuration
from kvs.dump.engine_endpoint import StorageSink, StorageSource
from kvs.dump.errors import CareError, shown
from kvs.dump.loader import Sink
from kvs.dump.resp_client import RespClient
from kvs.dump.server_endpoint import RemoteSink, RemoteSource, longest_reply_bytes
from kvs.dump.writer import Source
from kvs.ports.storage import Storage

LOG_LEVEL: Final = "warning"
"""Of an engine that is opened here: it would tell of its progress in the middle of ours."""


def in_data_dir(configuration: Configuration) -> bool:
    """Return whether a data directory is meant. Only the flag means it; a server may have it in the environment.

    Raises:
        ConfigError: A server is meant, too.
    """
    if configuration.origins["data_dir"] != SETTINGS["data_dir"].flag:
        return False
    for name in ("host", "port"):
        if configuration.origins[name] == SETTINGS[name].flag:
            raise ConfigError(
                f"{name}: --data-dir is for a stopped server, --{name} for a running one; give one of them"
            )
    return True


@contextmanager
def open_source(configuration: Configuration) -> Iterator[Source]:
    """Open what is to be dumped.

    Raises:
        ConfigError: The settings do not fit.
        CareError: It cannot be opened.
    """
    if in_data_dir(configuration):
        directory = configuration.settings.data_dir
        if not Path(directory).is_dir():
            raise CareError(f"{shown(directory)}: there is no such directory")
        with _open_storage(configuration) as storage, closing(StorageSource(storage)) as source:
            yield source
    else:
        with _connect(configuration) as client:
            yield RemoteSource(client)


@contextmanager
def open_sink(configuration: Configuration) -> Iterator[Sink]:
    """Open what is to be loaded into.

    Raises:
        ConfigError: The settings do not fit.
        CareError: It cannot be opened.
    """
    settings = configuration.settings
    if in_data_dir(configuration):
        with _open_storage(configuration) as storage:
            yield StorageSink(storage, settings.max_key_bytes, settings.max_value_bytes)
    else:
        with _connect(configuration) as client:
            yield RemoteSink(client)


def _connect(configuration: Configuration) -> RespClient:
    settings = configuration.settings
    if settings.port == 0:
        raise ConfigError("port: 0 is for a server that is to pick one; give the one it listens on")
    return RespClient(
        settings.host[0], settings.port, longest_reply_bytes(settings.max_key_bytes, settings.max_value_bytes)
    )


@contextmanager
def _open_storage(configuration: Configuration) -> Iterator[Storage]:
    from kvs.bootstrap import open_storage  # noqa: PLC0415
    from kvs.engines import find  # noqa: PLC0415  # 0.1 s that only a data directory needs
    from kvs.logs import make_logger  # noqa: PLC0415

    settings = configuration.settings
    if not find(settings.storage).durable:
        raise ConfigError(f"storage: engine {settings.storage!r} keeps nothing in a data directory")
    log = make_logger(LOG_LEVEL, settings.log_format)
    with open_storage(settings, configuration.options, log) as storage:
        yield storage

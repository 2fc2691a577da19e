"""Opens the source of a dump or the target of a load: a running server, or the data directory of a stopped one."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from kvs.cli.access import access_of
from kvs.config import SETTINGS, ConfigError, Configuration, read_options
from kvs.dump.engine_endpoint import EmptySink, EngineSink, EngineSource
from kvs.dump.errors import DumpError, quoted
from kvs.dump.loader import Sink
from kvs.dump.resp_client import RespClient
from kvs.dump.server_endpoint import ServerSink, ServerSource, longest_reply_bytes
from kvs.dump.writer import Source
from kvs.ports.storage import Storage

T = TypeVar("T")

OF_A_RUNNING_SERVER: Final = (
    *("host", "port", "unix_socket", "user", "password_file"),
    *("tls", "tls_ca_file", "tls_cert_file", "tls_key_file"),
)
"""Options that say where a running server is, and how to get at it."""

LOG_LEVEL: Final = "warning"
"""Log level of an engine opened here: its progress events would disturb the progress bar."""


def open_source(configuration: Configuration, given: Mapping[str, Any]) -> AbstractContextManager[Source]:
    """Return the source of a dump, as a context manager.

    Raises:
        ConfigError: The settings contradict each other.
        DumpError: It cannot be opened.
    """
    if not _in_data_dir(configuration, given):
        return _connected(configuration, given, ServerSource)
    directory = configuration.settings.data_dir
    if not Path(directory).is_dir():
        raise DumpError(f"{quoted(directory)}: no such directory")
    return _engine_source(_storage(configuration, to_read=True))


def open_sink(configuration: Configuration, given: Mapping[str, Any]) -> AbstractContextManager[Sink]:
    """Return the target of a load; raises what :func:`open_source` does."""
    if not _in_data_dir(configuration, given):
        return _connected(configuration, given, ServerSink)
    return _engine_sink(configuration, _storage(configuration, to_read=False))


def open_empty_sink(configuration: Configuration, given: Mapping[str, Any]) -> AbstractContextManager[Sink]:
    """Return an empty namespace of etcd as the target of a load; raises what :func:`open_source` does."""
    settings = configuration.settings
    if settings.storage != "etcd":
        raise ConfigError(f"storage: only 'etcd' has namespaces, not {settings.storage!r}")
    for name in (*OF_A_RUNNING_SERVER, "data_dir"):
        if given.get(name):
            flag = "--" + name.replace("_", "-")
            raise ConfigError(f"{name}: {flag} names another target than --into-empty-namespace")
    return _empty_sink(configuration)


def _in_data_dir(configuration: Configuration, given: Mapping[str, Any]) -> bool:
    """Return whether the flag for a data directory is given. Its environment variable may be for a server.

    Raises:
        ConfigError: The address of a server is given, too.
    """
    if configuration.origins["data_dir"] != SETTINGS["data_dir"].flag:
        return False
    for name in OF_A_RUNNING_SERVER:
        if given.get(name):
            flag = "--" + name.replace("_", "-")
            raise ConfigError(f"{name}: --data-dir is for a stopped server, {flag} for a running one; give one of them")
    return True


@contextmanager
def _connected(
    configuration: Configuration, given: Mapping[str, Any], endpoint: Callable[[RespClient], T]
) -> Iterator[T]:
    settings = configuration.settings
    access = access_of(configuration, given)
    max_reply_bytes = longest_reply_bytes(settings.max_key_bytes, settings.max_value_bytes)
    with RespClient(settings.host[0], settings.port, max_reply_bytes, access) as client:
        yield endpoint(client)


@contextmanager
def _empty_sink(configuration: Configuration) -> Iterator[Sink]:
    from kvs.adapters.storage.etcd.filling import empty_namespace
    from kvs.adapters.storage.etcd.options import EtcdOptions
    from kvs.logs import make_logger

    settings = configuration.settings
    options = read_options(settings.storage, EtcdOptions, configuration.options)
    with empty_namespace(options, make_logger(LOG_LEVEL, settings.log_format)) as namespace:
        yield EmptySink(namespace, settings.max_key_bytes, settings.max_value_bytes)


@contextmanager
def _engine_source(opening: AbstractContextManager[Storage]) -> Iterator[Source]:
    with opening as storage, closing(EngineSource(storage, int(time.time() * 1000))) as source:
        yield source


@contextmanager
def _engine_sink(configuration: Configuration, opening: AbstractContextManager[Storage]) -> Iterator[Sink]:
    from kvs.engines import get as engine_of

    settings = configuration.settings
    records = engine_of(settings.storage).records
    with opening as storage:
        yield EngineSink(storage, settings.max_key_bytes, settings.max_value_bytes, records=records)


def _storage(configuration: Configuration, *, to_read: bool) -> AbstractContextManager[Storage]:
    from kvs.engines import get as engine_of
    from kvs.engines import open_storage
    from kvs.logs import make_logger

    settings = configuration.settings
    engine = engine_of(settings.storage)
    if not engine.keeps_directory:
        raise ConfigError(f"storage: engine {settings.storage!r} keeps nothing in a data directory")
    return open_storage(settings, configuration.options, make_logger(LOG_LEVEL, settings.log_format), to_read=to_read)

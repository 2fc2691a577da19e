"""The engine, as it is chosen and opened."""

import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from ssl import SSLContext
from typing import Final, TypeVar

from kvs.adapters.storage.etcd.candidate import EtcdCandidate
from kvs.adapters.storage.etcd.client.endpoints import namespace_prefix, parse_address, parse_endpoints, tls_context
from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.kept import Kept
from kvs.adapters.storage.etcd.layout import Keys
from kvs.adapters.storage.etcd.options import EtcdOptions
from kvs.config import ConfigError, Settings
from kvs.engine import EngineSpec, StorageOpenError
from kvs.log_type import FilteringBoundLogger
from kvs.ports.storage import Storage
from kvs.secret_files import read_secret

T = TypeVar("T")

WORD: Final = re.compile(r"[!-~]{1,255}")  # what a host may be in records
WILDCARDS: Final = ("0.0.0.0", "::", "")  # what cannot be told to others


def _stand_by(
    settings: Settings, options: EtcdOptions, bound: tuple[str, int], log: FilteringBoundLogger
) -> EtcdCandidate:
    address: tuple[str, int] = bound
    if options.advertise_address:
        address = _checked("advertise_address", lambda: parse_address(options.advertise_address))
        if address[0] in WILDCARDS:
            raise ConfigError(f"storage.etcd.advertise_address: nobody can be reached at {address[0]}")
    elif bound[0] in WILDCARDS:
        raise ConfigError("storage.etcd.advertise_address: is needed, since the server listens on all addresses")
    if not WORD.fullmatch(address[0]):
        raise ConfigError(f"storage.etcd.advertise_address: {address[0]!r} is not a name or an address in ASCII")
    return EtcdCandidate(settings, options, connect(options, log), keys_of(options), address, log)


@contextmanager
def _open(settings: Settings, options: EtcdOptions, log: FilteringBoundLogger) -> Iterator[Storage]:
    with closing(_stand_by(settings, options, (settings.host[0], settings.port), log)) as candidate:
        candidate.wait()
        if candidate.storage is None:
            raise StorageOpenError("etcd: the wait for the lead was ended")
        yield candidate.storage


ETCD: Final = EngineSpec(
    summary="Served from memory, and every commit in a majority of an etcd cluster before it is acknowledged.",
    open=_open,
    options=EtcdOptions,
    durable=True,
    shared=True,
    records=True,
    stand_by=_stand_by,
)


def keys_of(options: EtcdOptions) -> Keys:
    """Return the names of keys in a namespace.

    Raises:
        ConfigError: It has no such name.
    """
    return Keys(_checked("namespace", lambda: namespace_prefix(options.namespace)))


def connect(options: EtcdOptions, log: FilteringBoundLogger | None = None) -> EtcdClient:
    """Return a client of etcd, which the caller closes.

    Args:
        options: Of the engine.
        log: For files that cannot be used later, when they have been replaced.

    Raises:
        ConfigError: Options are wrong.
    """
    endpoints = _checked("endpoints", lambda: parse_endpoints(options.endpoints))
    tls = None
    if options.ca_file:
        tls = Kept(lambda: _tls(options), (options.ca_file, options.cert_file, options.key_file), log).now
    elif options.cert_file or options.key_file:
        raise ConfigError("storage.etcd.cert_file: needs ca_file, too")
    if bool(options.user) != bool(options.password_file):
        raise ConfigError("storage.etcd.user: user and password_file belong together")
    if not options.user:
        return EtcdClient(endpoints, tls=tls)
    password = Kept(lambda: _password(options.password_file), (options.password_file,), log).now
    return EtcdClient(endpoints, tls=tls, user=options.user, password=password)


def _tls(options: EtcdOptions) -> SSLContext:
    cert, key = (Path(path) if path else None for path in (options.cert_file, options.key_file))
    return _checked("ca_file", lambda: tls_context(Path(options.ca_file), cert, key))


def _password(path: str) -> str:
    return _checked("password_file", lambda: read_secret(path, "storage.etcd.password_file").decode())


def _checked(name: str, parse: Callable[[], T]) -> T:
    try:
        return parse()
    except ValueError as error:
        raise ConfigError(f"storage.etcd.{name}: {error}") from None

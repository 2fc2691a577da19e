"""Opens the engine: reaches etcd, takes the lead, reads the data, and connects the parts."""

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import Meta
from structlog.typing import FilteringBoundLogger

import kvs
from kvs.adapters.storage.etcd.client.endpoints import namespace_prefix, parse_endpoints, tls_context
from kvs.adapters.storage.etcd.client.errors import EtcdError
from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.client.requests import absent, get, put
from kvs.adapters.storage.etcd.election import Election
from kvs.adapters.storage.etcd.journal import EtcdJournal
from kvs.adapters.storage.etcd.layout import FORMAT, ClusterRecord, Keys, LayoutError, decoded, encoded
from kvs.adapters.storage.etcd.lead import Keeper, Lead
from kvs.adapters.storage.etcd.recovery import Recovery
from kvs.adapters.storage.journaled import JournaledStorage
from kvs.adapters.storage.memory.storage import MemoryStorage
from kvs.config import ConfigError, Settings
from kvs.engine import EngineSpec, StorageOpenError
from kvs.ports.storage import Storage

T = TypeVar("T")

MAX_SECRET_BYTES: Final = 4096


class EtcdOptions(msgspec.Struct, frozen=True):
    """The options of this engine."""

    endpoints: Annotated[
        str, Meta(min_length=1, description="members of etcd, host:port separated by commas; any that answers is used")
    ] = "127.0.0.1:2379"
    namespace: Annotated[
        str,
        Meta(min_length=1, description="what the keys in etcd begin with; servers of one namespace belong together"),
    ] = "kvs"
    ca_file: Annotated[str, Meta(description="certificates of etcd's authority; turns TLS on")] = ""
    cert_file: Annotated[str, Meta(description="certificate of this server as a client of etcd")] = ""
    key_file: Annotated[str, Meta(description="key of that certificate")] = ""
    user: Annotated[str, Meta(description="user of etcd; empty: none is needed")] = ""
    password_file: Annotated[str, Meta(description="file with that user's password")] = ""
    lease_s: Annotated[
        int,
        Meta(
            ge=1,
            le=3600,
            description="after how many seconds without a sign of life a leader is replaced; the same for all servers",
        ),
    ] = 2
    reads: Annotated[
        Literal["lease", "quorum"],
        Meta(
            description="lease: the leader answers reads from memory while it knows that nobody can have replaced it. "
            "quorum: it asks etcd in each tick, which is slower; for machines whose clock may stand still"
        ),
    ] = "lease"
    commit_timeout_s: Annotated[
        float, Meta(ge=1, le=3600, description="how long a commit is tried before the server gives up the lead")
    ] = 10.0


@contextmanager
def _open(settings: Settings, options: EtcdOptions, log: FilteringBoundLogger) -> Iterator[Storage]:
    with ExitStack() as stack:
        client = stack.enter_context(closing(_client(options)))
        keys = Keys(_checked("namespace", lambda: namespace_prefix(options.namespace)))
        server_id = secrets.token_hex(8)
        try:
            _join(client, keys, options)
            election = Election(client, keys, server_id, options.lease_s, time.sleep, log)
            lead = election.win()
            keeper = Keeper(client, keys, lead, _wall_ms)
            stack.callback(keeper.release)
            memory = MemoryStorage(settings.max_data_bytes, settings.max_history_bytes)
            recovery = _recover(client, keys, memory, log)
            election.wait_for_former_leader()
        except EtcdError as error:
            raise StorageOpenError(f"etcd: {options.endpoints}: {type(error).__name__}: {error}") from None
        except LayoutError as error:
            raise StorageOpenError(f"etcd: {error}; nothing was changed") from None
        journal = EtcdJournal(client, keys, lead, keeper, recovery.head, options.commit_timeout_s, options.reads)
        storage = JournaledStorage(memory, journal, recovery.horizon_ms)
        keeper.watch_loop(storage.wake)
        _log_lead(log, lead, server_id)
        with closing(storage):
            yield storage


ETCD: Final = EngineSpec(
    summary="Served from memory, and every commit in a majority of an etcd cluster before it is acknowledged.",
    open=_open,
    options=EtcdOptions,
    durable=True,
    shared=True,
    records=True,
)


def _client(options: EtcdOptions) -> EtcdClient:
    endpoints = _checked("endpoints", lambda: parse_endpoints(options.endpoints))
    tls = None
    if options.ca_file:
        cert, key = (Path(path) if path else None for path in (options.cert_file, options.key_file))
        tls = _checked("ca_file", lambda: tls_context(Path(options.ca_file), cert, key))
    elif options.cert_file or options.key_file:
        raise ConfigError("storage.etcd.cert_file: needs ca_file, too")
    if bool(options.user) != bool(options.password_file):
        raise ConfigError("storage.etcd.user: user and password_file belong together")
    password = _read_secret(options.password_file) if options.password_file else ""
    return EtcdClient(endpoints, tls=tls, user=options.user, password=password)


def _read_secret(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_SECRET_BYTES + 1)
        secret = data.removesuffix(b"\n").decode()
    except (OSError, ValueError) as error:
        raise ConfigError(f"storage.etcd.password_file: {path}: cannot be read: {error}") from None
    if not secret or len(data) > MAX_SECRET_BYTES:
        raise ConfigError(f"storage.etcd.password_file: {path}: has no password of 1 to {MAX_SECRET_BYTES} bytes")
    return secret


def _checked(name: str, parse: Callable[[], T]) -> T:
    try:
        return parse()
    except ValueError as error:
        raise ConfigError(f"storage.etcd.{name}: {error}") from None


def _join(client: EtcdClient, keys: Keys, options: EtcdOptions) -> None:
    """Check that this server agrees with the others of the namespace, or be the first.

    Raises:
        StorageOpenError: It does not agree.
    """
    ours = ClusterRecord(secrets.token_hex(8), FORMAT, options.lease_s)
    result = client.txn([absent(keys.cluster)], [put(keys.cluster, encoded(ours))], [get(keys.cluster)])
    if result.succeeded:
        return
    (found,) = result.ranges
    if found is None or not found.kvs:
        raise StorageOpenError(f"etcd: {keys.cluster.decode()}: has been deleted just now; start again")
    theirs = decoded(keys.cluster, found.kvs[0].value, ClusterRecord)
    if theirs.format != FORMAT:
        raise StorageOpenError(
            f"etcd: {keys.prefix.decode()}: has format {theirs.format}; this version of kvs knows format {FORMAT}"
        )
    if theirs.lease_s != options.lease_s:
        raise StorageOpenError(
            f"etcd: lease_s is {options.lease_s} here and {theirs.lease_s} in {keys.cluster.decode()}; all servers of "
            "a namespace must have the same"
        )


def _recover(client: EtcdClient, keys: Keys, memory: MemoryStorage, log: FilteringBoundLogger) -> Recovery:
    started_s = time.monotonic()
    recovery = Recovery(client, keys)
    recovery.read()
    memory.restore(recovery.data.items())
    seconds = round(time.monotonic() - started_s, 3)
    log.info("loaded", keys=len(recovery.data), journal_entries=recovery.head.number, seconds=seconds)
    return recovery


def _log_lead(log: FilteringBoundLogger, lead: Lead, server_id: str) -> None:
    log.info("leading", term=lead.term, server_id=server_id, version=kvs.__version__)


def _wall_ms() -> int:
    return int(time.time() * 1000)

"""The parameters of CONFIG GET: settings under Redis's names, and Redis's other parameters as they apply to kvs."""

from contextlib import suppress
from pathlib import Path
from typing import Final

from kvs.adapters.inbound.net.listener import BACKLOG
from kvs.adapters.inbound.net.timeouts import ServerLimits
from kvs.adapters.inbound.protocol.observation import Observation
from kvs.adapters.inbound.protocol.tracking import Tracking
from kvs.adapters.inbound.resp.parameter import Parameter, choice, number
from kvs.config import MAX_CLIENTS, MAX_MICROSECONDS, MAX_SECONDS, MAX_SLOW_COMMANDS, MAX_TRACKED_KEYS, Settings
from kvs.logs import LogLevel
from kvs.process import fitting_clients

LOG_LEVELS: Final = {"debug": "debug", "info": "notice"}
"""By kvs's names; all others are ``warning``, Redis's highest."""

SYNCS: Final = {"full": "always", "normal": "everysec"}
"""When commits are synced, by the durability of the engine sqlite."""

TLS_AUTH_CLIENTS: Final = {"off": "no", "optional": "optional", "required": "yes"}

ALWAYS: Final = {
    "activedefrag": "no",
    "cluster-enabled": "no",
    "daemonize": "no",
    "databases": "1",
    "io-threads": "1",
    "logfile": "",
    "masterauth": "",
    "masteruser": "",
    "maxmemory-clients": "0",
    "maxmemory-policy": "noeviction",
    "notify-keyspace-events": "",
    "pidfile": "",
    "replicaof": "",
    "requirepass": "",
    "save": "",
    "slaveof": "",
    "syslog-enabled": "no",
    "tcp-backlog": str(BACKLOG),
}
"""Constant, because kvs has no replication, no eviction ..."""

KEEPALIVE_PATH: Final = Path("/proc/sys/net/ipv4/tcp_keepalive_time")
"""On Linux, the time a connection is silent before the kernel probes the client."""


SEVERITIES: Final = {b"debug": "debug", b"verbose": "info", b"notice": "info", b"warning": "warning"}
"""What Redis's levels of logging stand for."""


def changeable(
    observation: Observation, limits: ServerLimits, tracking: Tracking, log_level: LogLevel
) -> dict[bytes, Parameter]:
    """Return the parameters that can change while the server runs, by name; others of Redis are fixed at the start."""
    slow_log = observation.slow_log

    def set_threshold(threshold_us: int) -> None:
        slow_log.set_threshold(threshold_us)
        observation.decide()

    def set_timeout(timeout_s: int) -> None:
        limits.idle_timeout_s = timeout_s

    def set_max_clients(max_clients: int) -> None:
        limits.max_clients = max_clients

    def set_max_keys(max_keys: int) -> None:
        tracking.max_keys = max_keys

    return {
        b"latency-monitor-threshold": number(0, MAX_MICROSECONDS // 1000, observation.latency.set_threshold),
        b"loglevel": choice(SEVERITIES, log_level.set),
        b"maxclients": number(1, MAX_CLIENTS, set_max_clients, _too_many),
        b"slowlog-log-slower-than": number(-1, MAX_MICROSECONDS, set_threshold),
        b"slowlog-max-len": number(0, MAX_SLOW_COMMANDS, slow_log.set_max_length),
        b"timeout": number(0, int(MAX_SECONDS), set_timeout),
        b"tracking-table-max-keys": number(0, MAX_TRACKED_KEYS, set_max_keys),
    }


def _too_many(max_clients: int) -> str:
    fitting = fitting_clients(max_clients)
    if fitting >= max_clients:
        return ""
    return f"The operating system is not able to handle the specified number of clients, try with {fitting}"


def parameters(settings: Settings, *, durable: bool, durability: str) -> dict[bytes, bytes]:
    """Return values by name; ``durability`` is that of the engine sqlite, if the engine is ``durable``."""
    values = ALWAYS | {
        "aclfile": settings.users_file,
        "appendfsync": SYNCS.get(durability, "no") if durable else "no",
        "appendonly": "yes" if durable else "no",
        "bind": " ".join(settings.host),
        "client-query-buffer-limit": str(settings.max_request_bytes),
        "dir": str(Path(settings.data_dir).absolute()) if durable and settings.data_dir else "",
        "latency-monitor-threshold": "0",  # until CONFIG SET changes it
        "loglevel": LOG_LEVELS.get(settings.log_level, "warning"),
        "maxclients": str(settings.max_clients),
        "maxmemory": str(settings.max_data_bytes),
        "port": str(settings.port),
        "slowlog-log-slower-than": str(settings.slowlog_log_slower_than),
        "slowlog-max-len": str(settings.slowlog_max_len),
        "protected-mode": "yes" if settings.protected_mode else "no",
        "proto-max-bulk-len": str(settings.max_value_bytes),
        "tls-auth-clients": TLS_AUTH_CLIENTS[settings.tls_client_certs],
        "tls-ca-cert-file": settings.tls_ca_file,
        "tls-cert-file": settings.tls_cert_file,
        "tls-key-file": settings.tls_key_file,
        "tls-port": str(settings.tls_port or settings.port * (settings.tls_cert_file != "")),
        "unixsocket": settings.unix_socket,
        "unixsocketperm": settings.unix_socket_mode if settings.unix_socket else "0",
        "timeout": str(int(settings.idle_timeout_s)),
        "tracking-table-max-keys": str(settings.tracking_table_max_keys),
    }
    with suppress(OSError):
        values["tcp-keepalive"] = KEEPALIVE_PATH.read_text(encoding="ascii").strip()
    return {name.encode(): value.encode(errors="surrogateescape") for name, value in sorted(values.items())}

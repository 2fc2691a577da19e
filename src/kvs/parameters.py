"""What CONFIG GET tells: settings by the names that Redis has for them, and what else of Redis's is true of kvs."""

from contextlib import suppress
from pathlib import Path
from typing import Final

from kvs.adapters.inbound.net.listener import BACKLOG
from kvs.config import Settings

LOG_LEVELS: Final = {"debug": "debug", "info": "notice"}
"""By the names of kvs; all others are ``warning``, the highest of Redis."""

SYNCS: Final = {"full": "always", "normal": "everysec"}
"""When commits are made to last, by what the engine sqlite promises."""

ALWAYS: Final = {
    "activedefrag": "no",
    "aclfile": "",
    "cluster-enabled": "no",
    "daemonize": "no",
    "databases": "1",
    "io-threads": "1",
    "latency-monitor-threshold": "0",
    "logfile": "",
    "masterauth": "",
    "masteruser": "",
    "maxmemory-clients": "0",
    "maxmemory-policy": "noeviction",
    "notify-keyspace-events": "",
    "pidfile": "",
    "protected-mode": "no",
    "replicaof": "",
    "requirepass": "",
    "save": "",
    "slaveof": "",
    "slowlog-log-slower-than": "-1",
    "syslog-enabled": "no",
    "tcp-backlog": str(BACKLOG),
    "tls-port": "0",
    "unixsocket": "",
    "unixsocketperm": "0",
}
"""There is no other way to have it: no replication, no eviction, no slow log, no passwords ..."""

KEEPALIVE_PATH: Final = Path("/proc/sys/net/ipv4/tcp_keepalive_time")
"""Where Linux tells for how long a connection is silent before the kernel asks whether the client is there."""


def parameters(settings: Settings, *, durable: bool, durability: str) -> dict[bytes, bytes]:
    """Return values by name.

    Args:
        settings: Of this server.
        durable: Whether its engine keeps data on disk.
        durability: What an Ok of that is worth, in the words of the engine sqlite.
    """
    values = ALWAYS | {
        "appendfsync": SYNCS.get(durability, "no") if durable else "no",
        "appendonly": "yes" if durable else "no",
        "bind": " ".join(settings.host),
        "client-query-buffer-limit": str(settings.max_request_bytes),
        "dir": str(Path(settings.data_dir).absolute()) if durable and settings.data_dir else "",
        "loglevel": LOG_LEVELS.get(settings.log_level, "warning"),
        "maxclients": str(settings.max_clients),
        "maxmemory": str(settings.max_data_bytes),
        "port": str(settings.port),
        "proto-max-bulk-len": str(settings.max_value_bytes),
        "timeout": str(int(settings.idle_timeout_s)),
    }
    with suppress(OSError):
        values["tcp-keepalive"] = KEEPALIVE_PATH.read_text(encoding="ascii").strip()
    return {name.encode(): value.encode(errors="surrogateescape") for name, value in sorted(values.items())}

"""INFO: figures for people and for programs, by section, under the names of Redis where they mean the same.

Figures of Redis that kvs does not know are omitted; one that is always 0 counts events that never happen here.
"""

import os
import resource
import sys
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from kvs.adapters.inbound.protocol.command import ANSWERED, OTHER, SLOW_COST
from kvs.adapters.inbound.resp.command import AFTER_EXEC, RespCommand
from kvs.adapters.inbound.resp.commands.connection import REDIS_VERSION
from kvs.adapters.inbound.resp.commands.roles import replicas
from kvs.adapters.inbound.resp.context import ClientContext
from kvs.domain.grants import ADMIN
from kvs.ports.session import Session
from kvs.ports.topology import Topology

Figures: TypeAlias = dict[str, object]
Section: TypeAlias = Callable[[ClientContext, Figures], Figures]
"""Returns the figures of a section, and removes them from those of the server."""

DEFAULT_WORDS: Final = frozenset({b"default"})
ALL_WORDS: Final = frozenset({b"all", b"everything"})

ON_REQUEST: Final = frozenset({"Commandstats", "Latencystats"})
"""Sections that must be asked for."""

PUBLIC: Final = frozenset({"Server", "Persistence", "Replication", "Modules", "Cluster", "Session"})
"""Sections for users without administration: they tell nothing that others have done, and no number of keys."""

ABOUT_HOST: Final = ("os", "process_id")
"""Figures of the section Server that are for administrators only."""

IN_REPLICATION: Final = ("role", "leader")
"""Figures of the line protocol that the section Replication has under Redis's names."""

NOW_MS: Final = "now_ms"
"""The server's time, which sections are given as a figure, and which is shown under Redis's name only."""

QUANTILES: Final = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
COUNTS: Final = (
    "total_connections_received",
    "rejected_connections",
    "expired_keys",
    "keyspace_hits",
    "keyspace_misses",
)
"""Figures that CONFIG RESETSTAT sets to 0."""

UNDER_OTHER_NAMES: Final = ("clients_accepted", "clients_refused", "max_clients", "tracking_clients", "tracked_keys")
"""Figures of the line protocol that have Redis's names here."""

SECONDS_PER_DAY: Final = 86_400
MAX_RSS_UNIT: Final = 1 if sys.platform == "darwin" else 1024
"""The unit of memory of getrusage(): bytes or KiB."""


def _info(session: Session, context: ClientContext, arguments: list[bytes]) -> bytes:
    info = session.info()
    server = {name: figure for name, figure in info["server"].items() if name not in IN_REPLICATION}
    server[NOW_MS] = session.now_ms
    keys, deadlines = server.get("keys", 0), server.get("deadlines", 0)
    wanted = {word.lower() for word in arguments[1:]}
    everything = bool(wanted & ALL_WORDS)
    is_restricted = not context.peer.may_run(b"info", ADMIN)
    usual = everything or not wanted or bool(wanted & DEFAULT_WORDS)
    sections = [
        (name, section(context, server))
        for name, section in SECTIONS.items()
        if name not in ON_REQUEST or everything or name.lower().encode() in wanted
    ]
    sections.append(("Keyspace", {"db0": f"keys={keys},expires={deadlines}"} if keys else {}))
    sections += [("Engine", server), ("Session", info["session"])]
    parts = [
        f"# {name}\r\n" + "".join([f"{figure}:{value}\r\n" for figure, value in figures.items()])
        for name, figures in sections
        if ((usual and (everything or name not in ON_REQUEST)) or name.lower().encode() in wanted)
        and (name in PUBLIC or not is_restricted)
    ]
    return context.protocol.verbatim("\r\n".join(parts).encode())


def _server(context: ClientContext, server: Figures) -> Figures:
    shared = context.shared
    uptime_s = server.pop("uptime_s", 0.0)
    whole_s = int(uptime_s) if isinstance(uptime_s, float) else 0
    name, _, release, _, machine = os.uname()
    figures: Figures = {
        "redis_version": REDIS_VERSION.decode(),
        "redis_mode": "standalone",
        "os": f"{name} {release} {machine}",
        "arch_bits": 64 if sys.maxsize > 1 << 32 else 32,
        "process_id": os.getpid(),
        "run_id": shared.run_id,
        "tcp_port": _parameter(context, b"port"),
        "server_time_usec": int(str(server.pop(NOW_MS))) * 1000,
        "uptime_in_seconds": whole_s,
        "uptime_in_days": whole_s // SECONDS_PER_DAY,
        "kvs_version": server.pop("version", ""),
        "build": server.pop("build", ""),
        "engine": server.pop("engine", ""),
        "uptime_s": uptime_s,
    }
    if not context.peer.may_run(b"info", ADMIN):
        for hidden in ABOUT_HOST:
            del figures[hidden]
    return figures


def _clients(context: ClientContext, server: Figures) -> Figures:
    return {
        "connected_clients": server.pop("clients", 0),
        "cluster_connections": 0,
        "maxclients": _parameter(context, b"maxclients"),
        "blocked_clients": 0,
        "tracking_clients": len(context.shared.tracking),
        "clients_in_timeout_table": 0,
        "clients_bytes": server.get("clients_bytes", 0),
        **_taken(server, "open_transactions", "oldest_snapshot_s", "transactions_bytes", "largest_transaction_bytes"),
    }


def _memory(context: ClientContext, server: Figures) -> Figures:
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAX_RSS_UNIT
    resident_bytes = int(str(server.get("resident_bytes", peak_bytes)))  # where the system reports it
    peak_bytes = max(resident_bytes, peak_bytes)
    system_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    max_bytes = int(_parameter(context, b"maxmemory") or 0)
    return {
        **_bytes("used_memory", resident_bytes),  # of the whole process: Python has no other figure
        **_bytes("used_memory_rss", resident_bytes),
        **_bytes("used_memory_peak", peak_bytes),
        **_bytes("total_system_memory", system_bytes),
        **_bytes("maxmemory", max_bytes),
        "maxmemory_policy": _parameter(context, b"maxmemory-policy"),
        "mem_clients_normal": server.pop("clients_bytes", 0),
    }


def _persistence(context: ClientContext, _: Figures) -> Figures:
    return {
        "loading": 0,
        "async_loading": 0,
        "rdb_bgsave_in_progress": 0,
        "aof_enabled": int(_parameter(context, b"appendonly") == "yes"),
        "aof_rewrite_in_progress": 0,
        "aof_rewrite_scheduled": 0,
    }


def _stats(context: ClientContext, server: Figures) -> Figures:
    statistics = context.shared.observation.statistics
    tracking = context.shared.tracking
    counts = counts_of(context, server)
    before = context.shared.counts_at_reset
    received, refused, expired, hits, misses = (counts[name] - before.get(name, 0) for name in COUNTS)
    for name in (*COUNTS, *UNDER_OTHER_NAMES):
        server.pop(name, 0)
    return {
        "total_connections_received": received,
        "total_commands_processed": statistics.calls(),
        "instantaneous_ops_per_sec": round(statistics.commands_per_s),
        "total_net_input_bytes": server.pop("received_bytes", 0),
        "total_net_output_bytes": server.pop("sent_bytes", 0),
        "rejected_connections": refused,
        "expired_keys": expired,
        "evicted_keys": 0,
        "evicted_clients": 0,
        "keyspace_hits": hits,
        "keyspace_misses": misses,
        "pubsub_channels": 0,
        "pubsub_patterns": 0,
        "pubsubshard_channels": 0,
        "tracking_total_keys": len(tracking.table),
        "tracking_total_items": tracking.table.items,
        "tracking_total_prefixes": len(tracking.prefixes),
        "total_error_replies": sum(statistics.errors.values()),
        **_taken(
            server, "commits", "conflicts", "aborts", "expiry_lag_s", "server_time_ahead_ms", "log_events_dropped"
        ),
        **_taken(server, "slow_commands", "ticks", "work_units", "held_output_bytes", "audit_lines_lost"),
        **_taken(server, "audit_log_failing", "authentications", "authentication_failures", "password_checks"),
    }


def _taken(server: Figures, *names: str) -> Figures:
    """Remove and return figures that have no other name here."""
    return {name: server.pop(name, 0) for name in names}


def counts_of(context: ClientContext, server: Mapping[str, object]) -> dict[str, int]:
    """Return what is counted from the start of the server, and shown from the last CONFIG RESETSTAT on."""
    clients = context.shared.clients
    counts = {"total_connections_received": clients.arrived, "rejected_connections": clients.refused}
    return {name: counts[name] if name in counts else int(str(server.get(name, 0))) for name in COUNTS}


def _replication(context: ClientContext, server: Figures) -> Figures:
    topology = context.shared.topology
    if topology is not None and not topology.leads:
        return _of_standby(topology)
    standbys = replicas(context)
    entries = 0 if topology is None else server.get("journal_entries", 0)
    lines = {
        f"slave{at}": f"ip={standby.host},port={standby.port},state=online,offset={entries},lag=0"
        for at, standby in enumerate(standbys)
    }
    return {
        "role": "master",
        "connected_slaves": len(standbys),
        **lines,
        "master_failover_state": "no-failover",
        "master_repl_offset": entries,
        "second_repl_offset": -1,
        "repl_backlog_active": 0,
    }


def _of_standby(topology: Topology) -> Figures:
    leader = topology.leader
    return {
        "role": "slave",
        "master_host": "" if leader is None else leader.host,
        "master_port": 0 if leader is None else leader.port,
        "master_link_status": "down" if leader is None else "up",
        "master_sync_in_progress": 0,
        "slave_read_repl_offset": topology.entries,
        "slave_repl_offset": topology.entries,
        "slave_priority": 100,
        "slave_read_only": 1,
        "replica_announced": 1,
        "connected_slaves": 0,
        "master_failover_state": "no-failover",
        "master_repl_offset": topology.entries,
        "second_repl_offset": -1,
        "repl_backlog_active": 0,
    }


def _cpu(_: ClientContext, __: Figures) -> Figures:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "used_cpu_sys": f"{own.ru_stime:.6f}",
        "used_cpu_user": f"{own.ru_utime:.6f}",
        "used_cpu_sys_children": f"{children.ru_stime:.6f}",
        "used_cpu_user_children": f"{children.ru_utime:.6f}",
    }


def _modules(_: ClientContext, __: Figures) -> Figures:
    return {}


def _command_statistics(context: ClientContext, _: Figures) -> Figures:
    return {
        f"cmdstat_{name.decode()}": (
            f"calls={figures.calls},usec={figures.total_ns // 1000},"
            f"usec_per_call={int(figures.total_ns) / 1000 / max(1, int(figures.calls)):.2f},"
            f"rejected_calls={figures.refused},failed_calls={figures.failed}"
        )
        for name, figures in context.shared.observation.statistics.by_name().items()
    }


def _error_statistics(context: ClientContext, _: Figures) -> Figures:
    errors = context.shared.observation.statistics.errors
    return {f"errorstat_{code.decode()}": f"count={count}" for code, count in sorted(errors.items())}


def _latency_statistics(context: ClientContext, _: Figures) -> Figures:
    shown: Figures = {}
    for name, figures in context.shared.observation.statistics.by_name().items():
        if figures.calls:
            quantiles_ns = dict(zip(QUANTILES, figures.durations.quantiles_ns([*QUANTILES.values()]), strict=True))
            shown[f"latency_percentiles_usec_{name.decode()}"] = ",".join(
                [f"{quantile}={duration_ns / 1000:.3f}" for quantile, duration_ns in quantiles_ns.items()]
            )
    return shown


def _cluster(_: ClientContext, __: Figures) -> Figures:
    return {"cluster_enabled": 0}


SECTIONS: Final[dict[str, Section]] = {
    "Server": _server,
    "Clients": _clients,
    "Memory": _memory,
    "Persistence": _persistence,
    "Stats": _stats,
    "Replication": _replication,
    "CPU": _cpu,
    "Modules": _modules,
    "Commandstats": _command_statistics,
    "Errorstats": _error_statistics,
    "Latencystats": _latency_statistics,
    "Cluster": _cluster,
}
"""In Redis's order. Keyspace follows; the server's remaining figures are the engine's."""


def _parameter(context: ClientContext, name: bytes) -> str:
    return context.shared.parameters.get(name, b"").decode()


def _bytes(name: str, size: int) -> Figures:
    """Return a figure in bytes, and in human-readable form."""
    return {name: size, f"{name}_human": human(size)}


def human(size: int) -> str:
    """Return a number of bytes in Redis's human-readable form: ``1.50M``."""
    if size < 1 << 10:
        return f"{size}B"
    for power, unit in enumerate("KMGTP", 1):
        if size < 1 << 10 * (power + 1):
            return f"{size / (1 << 10 * power):.2f}{unit}"
    return f"{size}B"


COMMANDS: Final[list[RespCommand]] = [
    RespCommand(
        "info",
        _info,
        (OTHER,),
        1,
        cost=8 * SLOW_COST,
        multi_policy=AFTER_EXEC,
        runs_when_full=True,
        on_standby=ANSWERED,
    )
]

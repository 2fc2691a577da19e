"""Commands about the server."""

from typing import Final

from kvs.adapters.inbound.resp import replies
from kvs.adapters.inbound.resp.clients import REDIS_VERSION
from kvs.adapters.inbound.resp.containers import container
from kvs.adapters.inbound.resp.keyspace import NO_KEYS, check_patterns
from kvs.adapters.inbound.resp.peer import QUEUED, REFUSED, SLOW_COST, Command, Peer
from kvs.domain.globs import Glob
from kvs.ports.inbound import Session

GROUP: Final = "server"

SECTIONS: Final[dict[str, tuple[str, ...]]] = {
    "Server": ("version", "build", "engine", "uptime_s"),
    "Clients": ("clients", "clients_bytes", "open_transactions", "oldest_snapshot_s"),
    "Stats": ("commits", "conflicts", "aborts", "log_events_dropped"),
}
"""What the figures of INFO are about; those of the engine are all that is left over."""


def _time(_: Session, peer: Peer, __: list[bytes]) -> bytes:
    microseconds = int(peer.shared.clock() * 1_000_000)
    return replies.bulks([b"%d" % (microseconds // 1_000_000), b"%d" % (microseconds % 1_000_000)])


def _info(session: Session, peer: Peer, arguments: list[bytes]) -> bytes:
    info = session.info()
    server = dict(info["server"])
    sections: dict[str, dict[str, object]] = {}
    for section, names in SECTIONS.items():
        sections[section] = {name: server.pop(name) for name in names if name in server}
    keys = server.get("keys", 0)
    sections["Server"] = {
        "redis_version": REDIS_VERSION.decode(),
        "redis_mode": "standalone",
        "kvs_version": sections["Server"].pop("version", ""),
        **sections["Server"],
        "uptime_in_seconds": int(str(sections["Server"].get("uptime_s", 0)).partition(".")[0]),
    }
    sections["Clients"] = {"connected_clients": sections["Clients"].pop("clients", 0), **sections["Clients"]}
    sections["Engine"] = server
    sections["Session"] = info["session"]
    sections["Replication"] = {"role": "master", "connected_slaves": 0}
    sections["Keyspace"] = {"db0": f"keys={keys},expires=0,avg_ttl=0"} if keys else {}
    wanted = {word.decode(errors="replace").lower() for word in arguments[1:]}
    if not wanted or wanted & {"all", "default", "everything"}:
        wanted = {section.lower() for section in sections}
    parts = [
        f"# {section}\r\n" + "".join([f"{name}:{value}\r\n" for name, value in figures.items()])
        for section, figures in sections.items()
        if section.lower() in wanted
    ]
    return peer.dialect.text("\r\n".join(parts).encode())


def _config_get(_: Session, peer: Peer, arguments: list[bytes]) -> bytes:
    check_patterns(arguments[2:])
    parameters = peer.shared.parameters
    found: dict[bytes, bytes] = {}
    for pattern in arguments[2:]:
        value = parameters.get(pattern.lower())
        if value is not None:
            found[pattern] = value  # by the name it was asked for, as in Redis
            continue
        glob = Glob(pattern.lower())
        found.update([(name, value) for name, value in parameters.items() if glob(name)])
    return peer.dialect.mapping([(replies.bulk(name), replies.bulk(value)) for name, value in found.items()])


CONFIG: Final[list[Command]] = [
    Command(
        "get", _config_get, -3, "admin", NO_KEYS, GROUP, "Returns parameters by the names that Redis has for them."
    ),
]

COMMANDS: Final[list[Command]] = [
    Command("time", _time, 1, "fast", NO_KEYS, GROUP, "Returns seconds since 1970, and microseconds."),
    Command(
        "info",
        _info,
        -1,
        "",
        NO_KEYS,
        GROUP,
        "Returns figures for people.",
        cost=SLOW_COST,
        in_queue=REFUSED,
        runs_always=True,
    ),
    container("config", CONFIG, GROUP, "Tells of parameters.", cost=SLOW_COST, in_queue=QUEUED),
]

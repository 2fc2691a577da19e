"""SENTINEL, as Redis's Sentinel has it: a client finds the leader by asking any of the servers.

The data set is the master that is watched, with the leader's address; the servers that stand by are its replicas, and
the others are sentinels, too. While no server leads, there is no such master. The fields that are always 0 are about
connections between sentinels, which kvs does not have.
"""

from collections.abc import Sequence
from typing import Final

from kvs.adapters.inbound.protocol.command import ANSWERED, OTHER, SLOW_COST, everywhere
from kvs.adapters.inbound.resp import replies
from kvs.adapters.inbound.resp.command import Handler, RespCommand
from kvs.adapters.inbound.resp.commands.roles import offset
from kvs.adapters.inbound.resp.commands.subcommands import container
from kvs.adapters.inbound.resp.context import ClientContext
from kvs.addresses import format_address
from kvs.domain.errors import UsageError
from kvs.ports.session import Session
from kvs.ports.topology import ServerInfo, Topology

QUORUM: Final = 2
"""Servers that must run for another to take over: the leader and one more. Votes are etcd's."""

LINK: Final = (
    ("link-pending-commands", 0),
    ("link-refcount", 1),
    ("last-ping-sent", 0),
    ("last-ok-ping-reply", 0),
    ("last-ping-reply", 0),
)

Fields = Sequence[tuple[str, str | int]]


def _topology(context: ClientContext) -> Topology:
    topology = context.shared.topology
    if topology is None:
        raise UsageError("this server is no sentinel")
    return topology


def _known(context: ClientContext, name: bytes) -> Topology:
    """Return the topology, if the name is that of its data set."""
    topology = _topology(context)
    if name != topology.name:
        raise UsageError("No such master with that name")
    return topology


def _led(context: ClientContext, name: bytes) -> tuple[Topology, ServerInfo]:
    """Return the topology, and the leader; without one there is no master of that name."""
    topology = _known(context, name)
    leader = topology.leader
    if leader is None:
        raise UsageError("No such master with that name")
    return topology, leader


def _get_master_addr_by_name(_: Session, context: ClientContext, arguments: list[bytes]) -> bytes:
    topology = _topology(context)
    leader = topology.leader
    if arguments[2] != topology.name or leader is None:
        return context.protocol.null_array
    return replies.bulks([leader.host.encode(), b"%d" % leader.port])


def _masters(_: Session, context: ClientContext, __: list[bytes]) -> bytes:
    topology = _topology(context)
    leader = topology.leader
    return replies.array([] if leader is None else [_described(context, _of_master(context, topology, leader))])


def _master(_: Session, context: ClientContext, arguments: list[bytes]) -> bytes:
    return _described(context, _of_master(context, *_led(context, arguments[2])))


def _replicas(session: Session, context: ClientContext, arguments: list[bytes]) -> bytes:
    topology = _known(context, arguments[2])
    entries = offset(session, context)
    return replies.array(
        [_described(context, _of_replica(context, topology, replica, entries)) for replica in topology.replicas]
    )


def _sentinels(_: Session, context: ClientContext, arguments: list[bytes]) -> bytes:
    topology = _known(context, arguments[2])
    return replies.array([_described(context, _of_sentinel(topology, other)) for other in topology.others])


def _ckquorum(_: Session, context: ClientContext, arguments: list[bytes]) -> bytes:
    usable = 1 + len(_known(context, arguments[2]).others)
    if usable < QUORUM:
        return replies.error_line(
            "NOQUORUM",
            b"%d usable Sentinels. Not enough available Sentinels to reach the specified quorum for this master"
            % usable,
        )
    return replies.simple(b"OK %d usable Sentinels. Quorum and failover authorization can be reached" % usable)


def _myid(_: Session, context: ClientContext, __: list[bytes]) -> bytes:
    return replies.bulk(_topology(context).ours.id.encode())


def _described(context: ClientContext, fields: Fields) -> bytes:
    return context.protocol.mapping(
        [(replies.bulk(name.encode()), replies.bulk(str(value).encode())) for name, value in fields]
    )


def _of_server(server: ServerInfo, name: str, flags: str, topology: Topology) -> Fields:
    """Return the fields that all have, in Sentinel's order."""
    return (
        ("name", name),
        ("ip", server.host),
        ("port", server.port),
        ("runid", server.id),
        ("flags", flags),
        *LINK,
        ("down-after-milliseconds", topology.failover_ms),
    )


def _of_master(context: ClientContext, topology: Topology, leader: ServerInfo) -> Fields:
    others = len(topology.others)
    return (
        *_of_server(leader, topology.name.decode(), "master", topology),
        ("info-refresh", 0),
        ("role-reported", "master"),
        ("role-reported-time", _led_ms(context)),
        ("config-epoch", topology.term),
        ("num-slaves", others),
        ("num-other-sentinels", others),
        ("quorum", QUORUM),
        ("failover-timeout", topology.failover_ms),
        ("parallel-syncs", 1),
    )


def _of_replica(context: ClientContext, topology: Topology, server: ServerInfo, entries: int) -> Fields:
    leader = topology.leader
    return (
        *_of_server(server, format_address((server.host, server.port)), "slave", topology),
        ("info-refresh", 0),
        ("role-reported", "slave"),
        ("role-reported-time", _led_ms(context)),
        ("master-link-down-time", 0),
        ("master-link-status", "err" if leader is None else "ok"),
        ("master-host", "?" if leader is None else leader.host),
        ("master-port", 0 if leader is None else leader.port),
        ("slave-priority", 100),
        ("slave-repl-offset", entries),
        ("replica-announced", 1),
    )


def _of_sentinel(topology: Topology, server: ServerInfo) -> Fields:
    return (
        *_of_server(server, server.id, "sentinel", topology),
        ("last-hello-message", 0),
        ("voted-leader", "?" if topology.leader is None else topology.leader.id),
        ("voted-leader-epoch", topology.term),
    )


def _led_ms(context: ClientContext) -> int:
    """Return for how long this server has led, or stood by."""
    return int((context.shared.uptime_clock() - context.shared.started_s) * 1000)


def _subcommand(name: str, run: Handler, *arguments: str) -> RespCommand:
    return RespCommand(
        f"sentinel|{name}", run, (OTHER, *arguments), cost=SLOW_COST, is_local=everywhere, on_standby=ANSWERED
    )


COMMANDS: Final[list[RespCommand]] = [
    container(
        "sentinel",
        [
            _subcommand("ckquorum", _ckquorum, OTHER),
            _subcommand("get-master-addr-by-name", _get_master_addr_by_name, OTHER),
            _subcommand("master", _master, OTHER),
            _subcommand("masters", _masters),
            _subcommand("myid", _myid),
            _subcommand("replicas", _replicas, OTHER),
            _subcommand("sentinels", _sentinels, OTHER),
            _subcommand("slaves", _replicas, OTHER),
        ],
    )
]

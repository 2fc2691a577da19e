"""Commands about the roles of servers: of several that share one data set, the leader is the master."""

from typing import Final

from kvs.adapters.inbound.protocol.command import ANSWERED, OTHER, SLOW_COST, everywhere
from kvs.adapters.inbound.resp import replies
from kvs.adapters.inbound.resp.command import RespCommand
from kvs.adapters.inbound.resp.context import ClientContext
from kvs.domain.errors import UsageError
from kvs.domain.updates import integer
from kvs.ports.session import Session
from kvs.ports.topology import ServerInfo

MAX_PORT: Final = 65_535


CONNECTED: Final = b"connected"
CONNECT: Final = b"connect"
"""States of the link to the leader, as Redis has them: it is there, or it is sought."""


def leads(context: ClientContext) -> bool:
    """Return whether this server leads, as one alone does."""
    topology = context.shared.topology
    return topology is None or topology.leads


def replicas(context: ClientContext) -> list[ServerInfo]:
    """Return the servers that stand by, as far as they are known; only the leader knows how far they are."""
    topology = context.shared.topology
    return [] if topology is None else topology.replicas


def offset(session: Session, context: ClientContext) -> int:
    """Return how much has been written: the number of entries in the journal that the servers share, else 0.

    A server that stands by knows how many it has read.
    """
    topology = context.shared.topology
    if topology is None:
        return 0
    return int(str(session.info()["server"].get("journal_entries", 0))) if topology.leads else topology.entries


def _role(session: Session, context: ClientContext, _: list[bytes]) -> bytes:
    entries = offset(session, context)
    topology = context.shared.topology
    if topology is not None and not topology.leads:
        leader = topology.leader
        return replies.array(
            [
                replies.bulk(b"slave"),
                replies.bulk(b"" if leader is None else leader.host.encode()),
                replies.number(0 if leader is None else leader.port),
                replies.bulk(CONNECT if leader is None else CONNECTED),
                replies.number(entries),
            ]
        )
    # Who takes over reads all that was acknowledged, so each is as far as the leader.
    standbys = [
        replies.bulks([other.host.encode(), b"%d" % other.port, b"%d" % entries]) for other in replicas(context)
    ]
    return replies.array([replies.bulk(b"master"), replies.number(entries), replies.array(standbys)])


def _wait(_: Session, context: ClientContext, arguments: list[bytes]) -> bytes:
    integer(arguments[1])
    try:
        timeout_ms = integer(arguments[2])
    except UsageError:
        raise UsageError("timeout is not an integer or out of range") from None
    if timeout_ms < 0:
        raise UsageError("timeout is negative")
    topology = context.shared.topology  # no reply leaves before all that the client has written is durable
    return replies.number(0 if topology is None else min(len(topology.others), max(topology.copies - 1, 0)))


def _replicaof(_: Session, __: ClientContext, arguments: list[bytes]) -> bytes:
    if arguments[1].lower() == b"no" and arguments[2].lower() == b"one":
        return replies.OK
    try:
        port = integer(arguments[2])
    except UsageError:
        port = -1
    if not 0 <= port <= MAX_PORT:
        raise UsageError("Invalid master port")
    raise UsageError(
        f"{arguments[0].decode().upper()} is not supported but with NO ONE: who leads is decided by the servers"
    )


COMMANDS: Final[list[RespCommand]] = [
    RespCommand("role", _role, cost=SLOW_COST, is_local=everywhere, on_standby=ANSWERED),
    RespCommand("wait", _wait, (OTHER, OTHER), is_local=everywhere),
    RespCommand("replicaof", _replicaof, (OTHER, OTHER), is_local=everywhere),
    RespCommand("slaveof", _replicaof, (OTHER, OTHER), is_local=everywhere),
]

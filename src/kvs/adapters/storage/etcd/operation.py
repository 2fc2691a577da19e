"""What operators ask of a cluster: how it is, and to put a new format in use."""

from contextlib import suppress
from typing import Final, NamedTuple

import msgspec

from kvs.adapters.storage.etcd.client.answers import KeyValue, RangeResult, Status
from kvs.adapters.storage.etcd.client.endpoints import Endpoint
from kvs.adapters.storage.etcd.client.errors import EtcdError
from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.client.requests import get, mod_revision_is, none_newer, put
from kvs.adapters.storage.etcd.formats import listed
from kvs.adapters.storage.etcd.layout import (
    EMPTY,
    Checkpoint,
    ClusterRecord,
    Head,
    Heartbeat,
    Keys,
    LayoutError,
    LeaderRecord,
    ServerRecord,
    decoded,
    encoded,
)
from kvs.addresses import format_address
from kvs.errors import CommandError

MAX_ATTEMPTS: Final = 10
MEMBER_TIMEOUT_S: Final = 2.0


class OperationError(CommandError):
    """Raised when something cannot be done; one line that says why."""


class Server(NamedTuple):
    """A server that runs; its record is None if this version cannot read it."""

    id: str
    record: ServerRecord | None

    @property
    def name(self) -> str:
        """Its address, and its version."""
        if self.record is None:
            return f"server {self.id}"
        return f"{format_address((self.record.host, self.record.port))} (kvs {self.record.version})"


class ClusterState(NamedTuple):
    """A namespace, as of one moment.

    Attributes:
        cluster: What its servers agree on.
        cluster_revision: When that was written.
        leader: Who leads; None: nobody.
        term: In which term.
        heartbeat: The last of a leader.
        head: The end of the journal.
        checkpoint: The last one.
        servers: Those that run.
        revision: etcd's.
    """

    cluster: ClusterRecord
    cluster_revision: int
    leader: LeaderRecord | None
    term: int
    heartbeat: Heartbeat | None
    head: Head
    checkpoint: Checkpoint | None
    servers: tuple[Server, ...]
    revision: int

    @property
    def newest_format(self) -> int:
        """The newest format that a server that runs can write."""
        known = [max(server.record.writes) for server in self.servers if server.record and server.record.writes]
        return max([self.cluster.format, *known])

    def cannot_read(self, wanted: int) -> list[str]:
        """Return the names of servers that do not read a format, or of which that is not known."""
        return [each.name for each in self.servers if each.record is None or wanted not in each.record.reads]


def look(client: EtcdClient, keys: Keys) -> ClusterState:
    """Return how a namespace is.

    Raises:
        OperationError: There is none.
        LayoutError: It is not one of kvs, or of a newer version.
        EtcdError: etcd does not answer.
    """
    names = (keys.cluster, keys.leader, keys.alive, keys.head, keys.checkpoint)
    result = client.txn([], [*map(get, names), get(keys.servers, keys.end(keys.servers))])
    cluster, leader, alive, head, checkpoint = map(_one, result.ranges[:5])
    if cluster is None:
        raise OperationError(f"etcd: {keys.prefix.decode()}: no server has ever used this namespace")
    servers = [] if result.ranges[5] is None else result.ranges[5].kvs
    return ClusterState(
        decoded(keys.cluster, cluster.value, ClusterRecord),
        cluster.mod_revision,
        None if leader is None else decoded(keys.leader, leader.value, LeaderRecord),
        0 if leader is None else leader.create_revision,
        None if alive is None else decoded(keys.alive, alive.value, Heartbeat),
        EMPTY if head is None else decoded(keys.head, head.value, Head),
        None if checkpoint is None else decoded(keys.checkpoint, checkpoint.value, Checkpoint),
        tuple(_server(keys, each) for each in servers),
        result.header.revision,
    )


def members(client: EtcdClient) -> dict[Endpoint, Status | EtcdError]:
    """Return what each member of etcd says of itself, or why it does not."""
    found: dict[Endpoint, Status | EtcdError] = {}
    for endpoint in client.endpoints:
        try:
            found[endpoint] = client.status(endpoint, timeout_s=MEMBER_TIMEOUT_S)
        except EtcdError as error:
            found[endpoint] = error
    return found


def finish_upgrade(client: EtcdClient, keys: Keys) -> tuple[int, int]:
    """Put the newest format in use that servers write; return the former one and this.

    Nothing is changed if meanwhile another server has registered, or this was done by somebody else: then it is looked
    at again.

    Raises:
        OperationError: A server cannot read it.
        LayoutError: The namespace is not one of kvs.
        EtcdError: etcd does not answer; it may have been done.
    """
    for _ in range(MAX_ATTEMPTS):
        state = look(client, keys)
        former, wanted = state.cluster.format, state.newest_format
        _check(state, wanted, keys)
        if wanted == former:
            return former, former
        unchanged = [
            mod_revision_is(keys.cluster, state.cluster_revision),
            none_newer(keys.servers, keys.end(keys.servers), state.revision),
        ]
        record = msgspec.structs.replace(state.cluster, format=wanted)
        if client.txn(unchanged, [put(keys.cluster, encoded(record))]).succeeded:
            return former, wanted
    raise OperationError(f"etcd: {keys.prefix.decode()}: servers come and go; nothing was changed, try again")


def _check(state: ClusterState, wanted: int, keys: Keys) -> None:
    where = f"etcd: {keys.prefix.decode()}"
    if not state.servers:
        raise OperationError(f"{where}: no server runs, so it is not known what they can read; nothing was changed")
    leader = state.leader
    if leader is not None and leader.port and all(each.id != leader.id for each in state.servers):
        raise OperationError(
            f"{where}: the leader, {format_address((leader.host, leader.port))}, is not registered at the moment; "
            "nothing was changed, try again"
        )
    if others := state.cannot_read(wanted):
        raise OperationError(
            f"{where}: format {wanted} cannot be used yet: {', '.join(others)} cannot read it; "
            f"nothing was changed, format{listed([state.cluster.format])} is in use"
        )


def _one(result: RangeResult | None) -> KeyValue | None:
    return result.kvs[0] if result is not None and result.kvs else None


def _server(keys: Keys, found: KeyValue) -> Server:
    name = found.key.removeprefix(keys.servers).decode(errors="replace")
    with suppress(LayoutError):
        return Server(name, decoded(found.key, found.value, ServerRecord))
    return Server(name, None)

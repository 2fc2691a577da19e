"""The registration of a server: the others know that it runs, and where, whether it leads or stands by.

A thread keeps ``servers/ID`` there, under a lease of its own, so a server that is gone disappears. It reads who else is
there, too, so that neither the loop nor the keeper of the lead waits for that.
"""

from contextlib import suppress
from threading import Event, Thread
from typing import Final, final

from kvs.adapters.storage.etcd.client.answers import KeyValue
from kvs.adapters.storage.etcd.client.errors import EtcdError, LeaseNotFoundError
from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.client.requests import get, mod_revision_is, put
from kvs.adapters.storage.etcd.cluster import Agreement, difference
from kvs.adapters.storage.etcd.formats import READS, WRITES, Formats, refusal_to_use
from kvs.adapters.storage.etcd.layout import ClusterRecord, Keys, LayoutError, ServerRecord, decoded, encoded
from kvs.adapters.storage.etcd.users import EtcdUsers
from kvs.log_type import FilteringBoundLogger
from kvs.ports.topology import ServerInfo, Topology

MAX_SERVERS: Final = 64
"""Servers that are listed; more may run."""

REFRESHES_PER_LEASE: Final = 4
LONGEST_PAUSE_S: Final = 1.0
TIMEOUT_S: Final = 1.0

CLOCK_STEP_MS: Final = 1000
"""How much the difference of a clock must change to be written again."""


@final
class Registration:
    """Registers a server until it is closed.

    Args:
        client: Calls etcd.
        keys: The names of keys.
        topology: This server, and where the others are noted.
        lease_s: How long it is there after its last sign of life, in whole seconds.
        agreement: What this server has agreed to.
        formats: Where it is noted that another format is in use.
        users: The users that the servers share, which are looked at, too.
        log: Bound logger.

    Attributes:
        agreed: The revision of what this server has agreed to.
        refusal: Why this server must not take part any more; empty: it may.
    """

    def __init__(
        self,
        client: EtcdClient,
        keys: Keys,
        topology: Topology,
        lease_s: int,
        agreement: Agreement,
        formats: Formats,
        users: EtcdUsers,
        log: FilteringBoundLogger,
    ) -> None:
        self.refusal = ""
        self.agreed = agreement.revision
        self._client = client
        self._keys = keys
        self._topology = topology
        self._lease_s = lease_s
        self._formats = formats
        self._users = users
        self._log = log
        self._complained = ""
        self._lease = 0
        self._written = b""  # this server's record, as last written
        self._ahead_ms = 0  # as last written
        self._stopping = Event()
        self._runner = Thread(target=self._run, name="kvs-registration", daemon=True)
        self._runner.start()

    def close(self) -> None:
        """Take it away."""
        self._stopping.set()
        self._runner.join()
        if self._lease:
            with suppress(EtcdError):  # the lease ends by itself
                self._client.revoke(self._lease, timeout_s=TIMEOUT_S)

    def _run(self) -> None:
        pause_s = min(self._lease_s / REFRESHES_PER_LEASE, LONGEST_PAUSE_S)
        while not (self._stopping.is_set() or self.refusal):
            for step in (
                self._look_at_users,
                self._keep,
                self._look,
            ):  # each for itself: the first may revoke
                with suppress(EtcdError, LayoutError):  # who needs etcd complains; what is known stays
                    step()
            self._stopping.wait(pause_s)

    def _look_at_users(self) -> None:
        complained, self._complained = self._complained, ""
        try:
            self._users.look()
        except LayoutError as error:
            self._complained = str(error)
            if self._complained != complained:
                self._log.error("users_unreadable", reason=self._complained)

    def _keep(self) -> None:
        client, ours = self._client, self._topology.ours
        if self._lease:
            try:
                client.keep_alive_once(self._lease, timeout_s=TIMEOUT_S)
            except LeaseNotFoundError:
                self._lease = 0
        if not self._lease:
            self._lease = client.grant(self._lease_s, timeout_s=TIMEOUT_S).id
            self._written = b""
        ahead_ms, cut_off_in, unreadable = self._clock_ahead_ms(), self._topology.cut_off_in, self._topology.unreadable
        record = encoded(
            ServerRecord(ours.host, ours.port, ours.version, ahead_ms, READS, WRITES, cut_off_in, unreadable)
        )
        if record != self._written:
            # What this server does not agree to, as a format that it does not read, comes only while it is not there.
            agreed = [mod_revision_is(self._keys.cluster, self.agreed)]
            then = [put(self._keys.server(ours.id), record, self._lease)]
            if client.txn(agreed, then, timeout_s=TIMEOUT_S).succeeded:
                self._written = record

    def _clock_ahead_ms(self) -> int:
        """Return by how much the clock here is ahead, roughly: it is measured anew with each heartbeat."""
        ahead_ms = self._topology.clock_ahead_ms
        if not (ahead_ms and self._ahead_ms) or abs(ahead_ms - self._ahead_ms) > CLOCK_STEP_MS:
            self._ahead_ms = ahead_ms
        return self._ahead_ms

    def _look(self) -> None:
        client, prefix, ours = self._client, self._keys.servers, self._topology.ours
        looks = [get(self._keys.cluster), get(prefix, self._keys.end(prefix), limit=MAX_SERVERS)]
        cluster, found = client.txn([], looks, timeout_s=TIMEOUT_S).ranges
        if cluster is not None and cluster.kvs and cluster.kvs[0].mod_revision != self.agreed:
            self._agree(cluster.kvs[0])
        others: dict[tuple[str, int], ServerInfo] = {}  # one that started anew may be there twice, for a while
        for entry in sorted([] if found is None else found.kvs, key=lambda entry: entry.create_revision):
            with suppress(LayoutError):
                record = decoded(entry.key, entry.value, ServerRecord)
                name = entry.key.removeprefix(prefix).decode(errors="replace")
                host, port = record.host, record.port
                others[host, port] = ServerInfo(
                    name, host, port, record.version, record.clock_ahead_ms, record.cut_off_in, record.unreadable
                )
        others.pop((ours.host, ours.port), None)
        self._topology.others = tuple(others.values())
        self._topology.copies = len(client.members(timeout_s=TIMEOUT_S))

    def _agree(self, found: KeyValue) -> None:
        """Note that something else is agreed on now."""
        record = decoded(found.key, found.value, ClusterRecord)
        refusal = refusal_to_use(record.format) or difference(
            self._keys, record, self._lease_s, self._topology.name.decode()
        )
        if not refusal:
            self._formats.in_use = record.format
            self.agreed = found.mod_revision
        self.refusal = refusal

"""Taking the lead, when nobody has it."""

from collections.abc import Callable
from typing import Final, final

from structlog.typing import FilteringBoundLogger

from kvs.adapters.storage.etcd.client.answers import KeyValue, RangeResult
from kvs.adapters.storage.etcd.client.errors import EtcdError, LeaseNotFoundError, UnknownOutcomeError
from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.client.requests import absent, get, put
from kvs.adapters.storage.etcd.layout import Heartbeat, Keys, LeaderRecord, decoded, encoded
from kvs.adapters.storage.etcd.lead import MARGIN_SHARE, Lead, clock_s
from kvs.ports.candidate import Leader

LOOKS_PER_LEASE: Final = 10
LONGEST_LOOK_S: Final = 0.2


@final
class Election:
    """A server that stands for the lead.

    Args:
        client: Calls etcd.
        keys: The names of keys.
        ours: This server.
        lease_s: Term of a lease, in whole seconds.
        sleep: Waits so many seconds, or raises what ends the election.
        seen: Called with who leads and the term, whenever that has changed; None: nobody does.
        log: For who leads meanwhile.
    """

    def __init__(
        self,
        client: EtcdClient,
        keys: Keys,
        ours: LeaderRecord,
        lease_s: int,
        sleep: Callable[[float], None],
        seen: Callable[[Leader | None], None],
        log: FilteringBoundLogger,
    ) -> None:
        self._client = client
        self._keys = keys
        self._ours = ours
        self._lease_s = lease_s
        self._sleep = sleep
        self._tell = seen
        self._log = log
        self._lease = 0
        self._seen: tuple[int, int] | None = None  # the revisions of the leader's last writes
        self._known_s = 0.0  # since when they are known here
        self._released = False

    def win(self) -> Lead:
        """Wait until nobody leads, and take the lead.

        Raises:
            LayoutError: The namespace is not one of kvs.
        """
        leader: Leader | None = None
        while True:
            try:
                found = self._look()
                if found != leader:
                    leader = found
                    self._tell(leader)
                    self._tell_of_leader(leader)
                if found is None:
                    lead = self._stand()
                    if lead is not None:
                        return lead
            except EtcdError as error:
                self._seen = None  # what is written meanwhile is not known
                self._tell_of_failure(error)
            self._sleep(min(self._lease_s / LOOKS_PER_LEASE, LONGEST_LOOK_S))

    def _tell_of_leader(self, leader: Leader | None) -> None:
        if leader is not None:
            self._log.info("standby", leader=f"{leader.host}:{leader.port}", term=leader.term)

    def _tell_of_failure(self, error: EtcdError) -> None:
        self._log.warning("etcd_unavailable", reason=f"{type(error).__name__}: {error}")

    def wait_for_former_leader(self) -> None:
        """Wait until no former leader may answer reads any more."""
        if not self._released:
            end_s = self._known_s + self._lease_s * (1 + MARGIN_SHARE)
            while (left_s := end_s - clock_s()) > 0:
                self._sleep(left_s)

    def _look(self) -> Leader | None:
        """Return who leads, and note the leader's last writes."""
        keys = self._keys
        leader, alive, head = self._client.txn([], [get(keys.leader), get(keys.alive), get(keys.head)]).ranges
        self._note(alive, head)
        owner = _one(leader)
        if owner is None:
            return None
        record = decoded(keys.leader, owner.value, LeaderRecord)
        return Leader(record.host, record.port, owner.create_revision)

    def _note(self, alive: RangeResult | None, head: RangeResult | None) -> None:
        """Note what the leader has written last, and since when that is known."""
        beat, end = _one(alive), _one(head)
        seen = (beat.mod_revision if beat else 0, end.mod_revision if end else 0)
        if seen != self._seen:
            self._seen = seen
            self._known_s = clock_s()
        self._released = beat is None or decoded(self._keys.alive, beat.value, Heartbeat).released

    def _stand(self) -> Lead | None:
        """Take the lead, if still nobody has it."""
        client, keys = self._client, self._keys
        if not self._lease:
            self._lease = client.grant(self._lease_s).id
        sent_s = clock_s()
        first_beat = put(keys.alive, encoded(Heartbeat(0, 0)))
        ours = put(keys.leader, encoded(self._ours), self._lease)
        try:
            result = client.txn([absent(keys.leader)], [get(keys.alive), get(keys.head), ours, first_beat])
        except LeaseNotFoundError:
            self._lease = 0
            return None
        except UnknownOutcomeError:
            owner = _one(client.range(keys.leader))
            if owner is None or owner.lease != self._lease:
                return None
            self._known_s, self._released = clock_s(), False
            term = owner.create_revision
        else:
            if not result.succeeded:
                return None
            self._note(result.ranges[0], result.ranges[1])
            term = result.header.revision
        lead = Lead(keys, self._ours.id, term, self._lease, self._lease_s)
        lead.confirm(sent_s)
        return lead


def _one(result: RangeResult | None) -> KeyValue | None:
    """Return the key that was asked for, if it is there."""
    return result.kvs[0] if result is not None and result.kvs else None

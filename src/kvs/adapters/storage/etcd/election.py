"""Taking the lead, when nobody has it."""

from collections import deque
from collections.abc import Callable
from typing import Final, final

from kvs.adapters.storage.etcd.client.answers import KeyValue, RangeResult
from kvs.adapters.storage.etcd.client.errors import ClusterChangedError, EtcdError, LeaseNotFoundError
from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.client.requests import absent, get, mod_revision_is, put
from kvs.adapters.storage.etcd.clock import Skew, clock_s
from kvs.adapters.storage.etcd.complaints import Complaints
from kvs.adapters.storage.etcd.layout import Heartbeat, Keys, LeaderRecord, decoded, encoded
from kvs.adapters.storage.etcd.lead import MARGIN_SHARE, Lead
from kvs.addresses import format_address
from kvs.log_type import FilteringBoundLogger
from kvs.ports.candidate import Leader
from kvs.ports.topology import Topology

LOOKS_PER_LEASE: Final = 10
LONGEST_LOOK_S: Final = 0.2

BACKS_OFF_LEASES: Final = 3
"""For how many leases a server whose clock differs leaves the lead to others whose clocks are right: who of them has
not taken it by then cannot."""

BEATS_COMPARED: Final = 5
"""Heartbeats with which the clock is compared: one that etcd has applied late tells of a time that is over."""


@final
class Election:
    """A server that stands for the lead.

    Args:
        client: Calls etcd.
        keys: The names of keys.
        ours: This server.
        lease_s: Term of a lease, in whole seconds.
        skew: Where it is noted how far the clock of this machine is ahead of the leader's.
        topology: Where it is noted whether the leader is silent.
        sleep: Waits so many seconds, or raises what ends the election.
        seen: Called with who leads and the term, whenever that has changed; None: nobody does, or does not serve yet.
        complaints: What has been logged of why etcd cannot be reached.
        log: For that, and for who leads meanwhile.
        agreed: Returns the revision of what this server has agreed to with the others: it does not stand if they agree
            on something else now, such as another lease; None: they agree on nothing.
    """

    def __init__(
        self,
        client: EtcdClient,
        keys: Keys,
        ours: LeaderRecord,
        lease_s: int,
        skew: Skew,
        topology: Topology,
        sleep: Callable[[float], None],
        seen: Callable[[Leader | None], None],
        complaints: Complaints,
        log: FilteringBoundLogger,
        *,
        agreed: Callable[[], int] | None = None,
    ) -> None:
        self._agreed = agreed
        self._client = client
        self._keys = keys
        self._ours = ours
        self._lease_s = lease_s
        self._skew = skew
        self._topology = topology
        self._sleep = sleep
        self._tell = seen
        self._complaints = complaints
        self._log = log
        self._lease = 0
        self._serving = 0  # the term whose leader is known to serve
        self._seen: tuple[int, int] | None = None  # the revisions of the leader's last writes
        self._known_s = 0.0  # since when they are known here
        self._released = False
        self._stamp: tuple[int, float] | None = None  # the leader's time, and when it was that
        self._ahead_ms: Final[deque[int]] = deque(maxlen=BEATS_COMPARED)
        self._looked_s = 0.0
        self._vacant_s: float | None = None  # since when nobody leads
        self._barred = False  # others could not reach this server while it led

    def win(self) -> Lead:
        """Wait until nobody leads, and take the lead.

        Raises:
            LayoutError: The namespace is not one of kvs.
            ClusterChangedError: Another cluster answers.
        """
        leader: Leader | None = None
        while True:
            try:
                owner = self._look()
                if owner is not None and owner.lease == self._lease != 0:
                    return self._lead(owner.create_revision)  # it has been taken, and the answer was lost
                found = None if owner is None else self._leader(owner)
                if found != leader:
                    leader = found
                    self._tell(leader)
                    self._tell_of_leader(leader)
                lead = self._stand() if owner is None and self._may_stand() else None
                if lead is not None:
                    return lead
                self._complaints.over()
            except ClusterChangedError:
                raise  # what is known is of another cluster
            except EtcdError as error:
                self._note_trouble(error)
            self._topology.leader_is_silent = clock_s() > self._known_s + self._longest_right_s
            self._sleep(min(self._lease_s / LOOKS_PER_LEASE, LONGEST_LOOK_S))

    def _leader(self, owner: KeyValue) -> Leader | None:
        """Return who has the lead, if it serves."""
        self._vacant_s = None
        record = decoded(self._keys.leader, owner.value, LeaderRecord)
        if not record.port or owner.create_revision != self._serving:
            return None
        return Leader(record.host, record.port, owner.create_revision, record.tls, record.admits)

    def _tell_of_leader(self, leader: Leader | None) -> None:
        if leader is not None:
            self._log.info("standby", leader=format_address((leader.host, leader.port)), term=leader.term)

    @property
    def _longest_right_s(self) -> float:
        """For how long a leader may answer reads after something that it has written is known here, at most."""
        return self._lease_s * (1 + MARGIN_SHARE)

    def wait_for_former_leader(self) -> None:
        """Wait until no former leader may answer reads any more."""
        if not self._released:
            end_s = self._known_s + self._longest_right_s
            while (left_s := end_s - clock_s()) > 0:
                self._sleep(left_s)

    def time_ms(self) -> int:
        """Return the server's time, which goes on from where the former leader's was.

        If the clock here differs by more than is allowed, the leader's counts: else one that is a day ahead would
        expire every session.
        """
        return max(self._skew.wall_ms() - self._ahead_of_leader_ms(), self.former_ms())

    def former_ms(self) -> int:
        """Return what the former leader's time is now, at the least; 0 if it is not known."""
        if self._stamp is None:
            return 0
        told_ms, noted_s = self._stamp
        told_ms += int((clock_s() - noted_s) * 1000)
        ahead_ms = self._ahead_of_leader_ms()
        return max(told_ms, self._skew.wall_ms() - ahead_ms) if ahead_ms else told_ms

    def _ahead_of_leader_ms(self) -> int:
        """Return by how much the clock here is ahead of the leader's, as far as is known; 0 if that is allowed."""
        ahead_ms = min(self._ahead_ms, default=0)
        return ahead_ms if abs(ahead_ms) > self._skew.max_ms else 0

    def _look(self) -> KeyValue | None:
        """Return who leads, None if nobody does, and note the leader's last writes."""
        keys, before_s, self._looked_s = self._keys, self._looked_s, clock_s()
        deposed = keys.deposed(self._ours.host, self._ours.port)
        looks = [get(keys.leader), get(keys.alive), get(keys.head), get(deposed)]
        leader, alive, head, barred = self._client.txn([], looks).ranges
        self._barred = _one(barred) is not None
        self._note(alive, head, prompt=clock_s() - before_s < self._skew.max_ms / 2000)
        return _one(leader)

    def _note(self, alive: RangeResult | None, head: RangeResult | None, *, prompt: bool = False) -> None:
        """Note what the leader has written last, and since when that is known.

        Args:
            alive: The heartbeat.
            head: The head of the journal.
            prompt: What is new has been written just now.
        """
        beat, end = _one(alive), _one(head)
        seen = (beat.mod_revision if beat else 0, end.mod_revision if end else 0)
        before, self._seen = self._seen, seen
        if seen != before:
            self._known_s = clock_s()
        if beat is None:
            self._released = end is None  # there has never been a leader
            return
        told = decoded(self._keys.alive, beat.value, Heartbeat)
        self._released = told.released
        if not told.prepares:  # for good, though an earlier heartbeat may be applied later
            self._serving = told.term
        if told.time_ms and (before is None or seen[0] != before[0]):
            self._note_time(told.time_ms, is_now=prompt and before is not None)

    def _note_time(self, time_ms: int, *, is_now: bool) -> None:
        """Note the leader's time. A heartbeat may have been late, so that of several that was the least counts."""
        self._stamp = time_ms, clock_s()
        if is_now:
            self._ahead_ms.append(self._skew.wall_ms() - time_ms)
            if len(self._ahead_ms) == BEATS_COMPARED:
                self._skew.note(min(self._ahead_ms))

    def _note_trouble(self, error: EtcdError) -> None:
        self._seen = None  # what is written meanwhile is not known
        self._vacant_s = None
        reason = self._complaints.reason(error)
        if reason:
            self._log.warning("etcd_unavailable", reason=reason)

    def _may_stand(self) -> bool:
        """Return whether to stand now.

        A server that others could not reach does not. One whose clock differs leaves it to others whose clocks do not.
        """
        now_s = clock_s()
        if self._vacant_s is None:
            self._vacant_s = now_s
        if self._barred:
            return False
        if not (self._skew.ahead_ms and self._skew.another_agrees):
            return True
        return now_s - self._vacant_s > BACKS_OFF_LEASES * self._lease_s

    def _stand(self) -> Lead | None:
        """Take the lead, if still nobody has it."""
        client, keys = self._client, self._keys
        if not self._lease:
            self._lease = client.grant(self._lease_s).id
        first_beat = put(keys.alive, encoded(Heartbeat(0, self.former_ms())))
        ours = put(keys.leader, encoded(self._ours), self._lease)
        vacant = [absent(keys.leader)]
        if self._agreed is not None:
            vacant.append(mod_revision_is(keys.cluster, self._agreed()))
        try:
            result = client.txn(vacant, [get(keys.alive), get(keys.head), ours, first_beat])
        except LeaseNotFoundError:
            self._lease = 0
            return None
        if not result.succeeded:
            return None
        self._note(result.ranges[0], result.ranges[1])
        return self._lead(result.header.revision)

    def _lead(self, term: int) -> Lead:
        return Lead(self._keys, self._ours.id, term, self._lease, self._lease_s)


def _one(result: RangeResult | None) -> KeyValue | None:
    """Return the key that was asked for, if it is there."""
    return result.kvs[0] if result is not None and result.kvs else None

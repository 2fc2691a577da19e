"""The lead: who may write, and until when it may answer reads.

*The term.* The key ``leader`` is under the leader's lease; its create revision is the term. Whatever a leader writes is
*fenced*: it compares that revision. So nothing that a former leader has sent can be applied once another has the lead.
It also compares that the last writes of this term are still there: they are not in an etcd that was restored from a
backup.

*The right to read.* A lease of etcd only brings an election about; no read relies on it, for a leader of etcd that is
stuck may go on confirming leases that its successor lets expire. Instead each fenced write that was sent at a moment
and has been applied gives the right to answer reads until that moment + lease - margin. A successor serves nothing
until lease + margin after it has learned of the last of those writes.

The keeper is a thread that writes heartbeats and renews the lease, as long as the loop of the server turns, and other
servers can reach it.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import BoundedSemaphore, Event, Lock, Thread
from typing import Final, NamedTuple, final

from kvs.adapters.storage.etcd.client.answers import Lease, RangeResult, TxnResult
from kvs.adapters.storage.etcd.client.errors import ClusterChangedError, EtcdError, LeaseNotFoundError, NoSpaceError
from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.client.requests import (
    Operation,
    create_revision_is,
    delete,
    get,
    mod_revision_is_at_least,
    put,
)
from kvs.adapters.storage.etcd.clock import ServerTime, clock_s
from kvs.adapters.storage.etcd.formats import Formats
from kvs.adapters.storage.etcd.layout import Heartbeat, Keys, encoded
from kvs.ports.candidate import LeadLostError
from kvs.ports.topology import Topology

MARGIN_SHARE: Final = 0.1
"""Margin for clocks that run at different speeds, as a share of the lease."""

BEATS_PER_LEASE: Final = 4

LONGEST_SILENCE_S: Final = 1.0
"""After so long a member is left from which nothing comes."""

RELEASE_TIMEOUT_S: Final = 2.0
"""For each of two calls that give up the lead; without them the lease ends by itself."""

DEPOSED_LEASES: Final = 10
"""For how many leases a server that others could not reach does not stand again."""

TAKEN: Final = "another server has taken it, or its lease has ended"
CUT_OFF: Final = "more than half of the servers cannot reach this one, so it gives the lead to another"
RESTORED: Final = "etcd was restored from a backup, or the keys there were changed by something else"


class Sent(NamedTuple):
    """When a transaction was sent: by the clock, and by the highest revision of etcd that was known."""

    at_s: float
    revision: int


@final
class Lead:
    """The lead of one term. Thread-safe.

    Args:
        keys: The names of keys.
        server_id: This server.
        term: The create revision of ``leader``.
        lease: Number of the lease.
        lease_s: Its time.

    Attributes:
        lost: Why the lead was lost; empty before.
        heard_s: When etcd has answered a fenced transaction last.
        beat_revision: That of its last heartbeat, as far as is known; 0: there is none yet.
        head_revision: That of its last entry, likewise.
        formats: In which format it writes.
    """

    def __init__(self, keys: Keys, server_id: str, term: int, lease: int, lease_s: float) -> None:
        self.server_id: Final = server_id
        self.term: Final = term
        self.lease: Final = lease
        self.lease_s: Final = lease_s
        self.lost = ""
        self.heard_s = clock_s()
        self.beat_revision = 0
        self.head_revision = 0
        self.formats = Formats()
        self._keys = keys
        self._margin_s = lease_s * MARGIN_SHARE
        self._right_until_s = 0.0
        self._revision = term
        self._changing = Lock()

    @property
    def fence(self) -> list[bytes]:
        """The compares of every write."""
        compares = [create_revision_is(self._keys.leader, self.term)]
        for key, revision in ((self._keys.alive, self.beat_revision), (self._keys.head, self.head_revision)):
            if revision:
                compares.append(mod_revision_is_at_least(key, revision))
        return compares

    def is_still_in(self, leader: RangeResult | None) -> bool:
        """Return whether the lead is still that of this term, by what the key ``leader`` has."""
        return leader is not None and bool(leader.kvs) and leader.kvs[0].create_revision == self.term

    @property
    def may_read(self) -> bool:
        """Whether what this server knows is still the newest."""
        return clock_s() < self._right_until_s and not self.lost

    def sending(self) -> Sent:
        """Return what :meth:`answered` needs to know of a transaction that is sent now."""
        return Sent(clock_s(), self._revision)

    def answered(self, sent: Sent, result: TxnResult, *, wrote: bool) -> None:
        """Note the answer to a fenced transaction.

        Args:
            sent: When it was sent.
            result: The answer.
            wrote: It has, by that sending, written something that a successor looks at: this gives the right to read.
        """
        revision = result.header.revision
        if revision < sent.revision:
            self.lose(f"etcd is at revision {revision} and was at {sent.revision}: it was restored from a backup")
            return
        self.heard_s = clock_s()
        with self._changing:
            self._revision = max(self._revision, revision)
            if wrote:
                self._right_until_s = max(self._right_until_s, sent.at_s + self.lease_s - self._margin_s)

    def judge(self, result: TxnResult, made: bytes) -> int:
        """Lose the lead if a fenced transaction was not applied, neither now nor by an earlier sending.

        Args:
            result: The answer; otherwise, ``leader`` was read, and the key that it puts besides others.
            made: What it puts there; empty: it puts nothing.

        Returns:
            The revision as of which it was applied; 0: it was not.
        """
        if result.succeeded:
            return result.header.revision
        leader, found = result.ranges
        if not self.is_still_in(leader):
            self.lose(TAKEN)
        elif not made or found is None or not found.kvs or found.kvs[0].value != made:
            self.lose(RESTORED)
        else:
            return found.kvs[0].mod_revision
        return 0

    def lose(self, reason: str) -> None:
        """Give up: this server is no leader any more, or cannot know that it is."""
        self.lost = self.lost or reason

    def check(self) -> None:
        """Raise if the lead is lost.

        Raises:
            LeadLostError: It is.
        """
        if self.lost:
            raise LeadLostError(f"etcd: this server has lost the lead: {self.lost}")


@final
class Keeper:
    """Keeps the lead: heartbeats, the lease, and when to give it up.

    Args:
        client: Calls etcd.
        keys: The names of keys.
        lead: What is kept.
        time: The server's time.
        topology: The servers.
    """

    def __init__(self, client: EtcdClient, keys: Keys, lead: Lead, time: ServerTime, topology: Topology) -> None:
        self._client = client
        self._keys = keys
        self._lead = lead
        self._time = time
        self._topology = topology
        self._wake: Callable[[], None] | None = None
        self._seen_s = clock_s()
        self._serves = False
        self._stopping = Event()
        self._releases = False
        self._beats = BoundedSemaphore(BEATS_PER_LEASE)  # more are not under way
        self._renewals = BoundedSemaphore(BEATS_PER_LEASE)  # likewise
        self._runner = Thread(target=self._run, name="kvs-lead", daemon=True)
        self._runner.start()

    def watch_loop(self, wake: Callable[[], None]) -> None:
        """From now on, keep the lead only while the loop turns.

        Args:
            wake: Has the loop call :meth:`loop_turns` soon.
        """
        self._seen_s = clock_s()
        self._wake = wake

    def loop_turns(self) -> None:
        """Note that the loop is alive. The first time, other servers are told at once that this one serves."""
        self._seen_s = clock_s()
        if not self._serves:
            self._serves = True
            self._tell()

    def begin_release(self) -> None:
        """Begin to give up the lead, so that another server can take it: this one answers nothing any more."""
        self._releases = True
        self._stopping.set()

    def release(self) -> None:
        """Give up the lead, and wait until that is done."""
        self.begin_release()
        self._runner.join()

    def _run(self) -> None:
        lead = self._lead
        interval_s = lead.lease_s / BEATS_PER_LEASE
        while not lead.lost:
            if self._wake is not None:
                self._wake()
            # A server that answers nothing must not keep the lead.
            if self._wake is None or clock_s() - self._seen_s <= lead.lease_s / 2:
                self._beat(interval_s)
            if self._stopping.wait(interval_s):
                break
            self._topology.leader_is_silent = not lead.may_read
            if self._topology.is_cut_off_in(lead.term):
                self._step_down()
        if self._releases and not lead.lost:
            self._give_up("it was released", [])
        elif self._wake is not None:
            self._wake()

    def _step_down(self) -> None:
        """Give up the lead, and leave it to others for a while."""
        ours, timeout_s = self._topology.ours, min(self._lead.lease_s, RELEASE_TIMEOUT_S)
        with suppress(EtcdError):  # nobody could take it now
            lease = self._client.grant(round(DEPOSED_LEASES * self._lead.lease_s), timeout_s=timeout_s).id
            self._give_up(CUT_OFF, [put(self._keys.deposed(ours.host, ours.port), b"{}", lease)])

    def _give_up(self, reason: str, puts: Sequence[Operation]) -> None:
        lead, keys = self._lead, self._keys
        lead.lose(reason)
        # Who has not served yet may have a predecessor that still answers reads: the next one waits for that, too.
        last = encoded(Heartbeat(lead.term, self._time.now_ms, released=self._wake is not None))
        try:
            timeout_s = min(lead.lease_s, RELEASE_TIMEOUT_S)
            then = [put(keys.alive, last), delete(keys.leader), *puts]
            self._client.txn(lead.fence, then, timeout_s=timeout_s, urgent=True)
            self._client.revoke(lead.lease, timeout_s=timeout_s)
        except EtcdError:
            pass  # the lease ends by itself

    def _beat(self, interval_s: float) -> None:
        """Send a heartbeat, and renew the lease.

        What is not answered when the next one is due, as when a disk of etcd is slow, is not given up: a renewal waits
        in etcd for what it has to apply, and one that is given up is none. But not for ever: who hears nothing of etcd
        must not keep the lead by what it sends.
        """
        lead = self._lead
        self._time.compare()
        self._tell()
        if clock_s() - lead.heard_s > lead.lease_s:
            return
        if self._renewals.acquire(blocking=False):
            silence_s = min(interval_s, LONGEST_SILENCE_S)
            self._client.submit_keep_alive(lead.lease, self._renewed, lead.lease_s, silence_s)

    def _renewed(self, result: Lease | EtcdError) -> None:
        """Note what became of a renewal; on a thread of the client. Else the lease ends by itself."""
        self._renewals.release()
        if isinstance(result, LeaseNotFoundError):
            self._lead.lose("its lease has ended")

    def _tell(self) -> None:
        """Send a heartbeat, unless too many are under way. Never waits."""
        if self._beats.acquire(blocking=False):
            lead, keys = self._lead, self._keys
            beat = put(keys.alive, encoded(Heartbeat(lead.term, self._time.now_ms, prepares=not self._serves)))
            sent = lead.sending()
            self._client.submit_txn(
                lead.fence, [beat], [get(keys.leader)], lambda result: self._beaten(sent, result), lead.lease_s
            )

    def _beaten(self, sent: Sent, result: TxnResult | EtcdError) -> None:
        """Note what became of a heartbeat; on a thread of the client."""
        lead = self._lead
        self._beats.release()
        if isinstance(result, ClusterChangedError):
            lead.lose(str(result))
        elif isinstance(result, NoSpaceError):
            lead.heard_s = clock_s()  # nobody else could take the lead now, either
        elif isinstance(result, EtcdError):
            pass  # the right to read ends by itself
        elif result.succeeded:
            lead.answered(sent, result, wrote=True)
            self._topology.leader_is_silent = False
            lead.beat_revision = max(lead.beat_revision, result.header.revision)
        else:
            lead.lose(RESTORED if lead.is_still_in(result.ranges[0]) else TAKEN)

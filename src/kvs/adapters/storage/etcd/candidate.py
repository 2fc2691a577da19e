"""A server that stands for the lead, and the storage that it has while it leads."""

import secrets
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from threading import Event, Timer
from typing import final

from kvs import __version__
from kvs.adapters.storage.etcd.checkpoints import Checkpoints
from kvs.adapters.storage.etcd.client.errors import AccessDeniedError, ClusterChangedError, EtcdError
from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.clock import ServerTime, Skew
from kvs.adapters.storage.etcd.cluster import join
from kvs.adapters.storage.etcd.complaints import Complaints
from kvs.adapters.storage.etcd.election import Election
from kvs.adapters.storage.etcd.follower import Follower
from kvs.adapters.storage.etcd.formats import Formats
from kvs.adapters.storage.etcd.journal import EtcdJournal
from kvs.adapters.storage.etcd.layout import Keys, LayoutError, LeaderRecord
from kvs.adapters.storage.etcd.lead import Keeper, Lead
from kvs.adapters.storage.etcd.options import EtcdOptions
from kvs.adapters.storage.etcd.registration import Registration
from kvs.adapters.storage.etcd.repair import Repair
from kvs.adapters.storage.etcd.replica import Replica
from kvs.adapters.storage.etcd.space import Space
from kvs.adapters.storage.etcd.steps import Steps
from kvs.adapters.storage.etcd.users import EtcdUsers
from kvs.adapters.storage.journaled import JournaledStorage
from kvs.adapters.storage.memory.storage import MemoryStorage
from kvs.config import Settings
from kvs.engine import StorageOpenError
from kvs.log_type import FilteringBoundLogger
from kvs.override import override
from kvs.ports.candidate import Candidate, Leader, LeadLostError
from kvs.ports.storage import Storage
from kvs.ports.topology import ServerInfo, Topology

ID_BYTES = 20
RETRY_S = 1.0
"""Time after which etcd is tried again, if it could not be reached."""

GOODBYE_S = 1.0
"""Time in which a server that ends may tell etcd so. Then all calls are cut off, and its leases end by themselves."""


class _StoppedError(Exception):
    """Raised in the thread that waits when it is to end."""


@final
class EtcdCandidate(Candidate):
    """See :class:`kvs.ports.candidate.Candidate`.

    Args:
        settings: Of the server.
        options: Of the engine.
        client: Calls etcd; closed with this.
        keys: The names of keys.
        address: Where other servers reach this one.
        log: Bound logger.
        joined: This server has taken part before: access that is refused now may be granted again.
    """

    def __init__(
        self,
        settings: Settings,
        options: EtcdOptions,
        client: EtcdClient,
        keys: Keys,
        address: tuple[str, int],
        log: FilteringBoundLogger,
        *,
        joined: bool = False,
    ) -> None:
        ours = ServerInfo(secrets.token_hex(ID_BYTES), *address, __version__)
        super().__init__(Topology(options.sentinel_name, ours, options.lease_s * 1000))
        self._users = self.users = EtcdUsers(client, keys)
        self._settings = settings
        self._options = options
        self._client = client
        self._keys = keys
        self._ours = LeaderRecord(ours.id, *address, tls=settings.requires_tls, admits=True)
        self._log = log
        self._unavailable = Complaints(client.endpoints)
        self._not_following = Complaints(client.endpoints)
        self._joined = joined
        self._leader: Leader | None = None
        self._changed: Callable[[], None] | None = None
        self._stopping = Event()
        self._held: Lead | None = None
        self._cutting: Timer | None = None
        self._storage: Storage | None = None
        self._replica: Replica | None = None  # what is known of the data
        self._follower: Follower | None = None
        self._registration: Registration | None = None
        self._formats = Formats()
        self._stack = ExitStack()
        self._stack.callback(client.close)

    @property
    @override
    def leader(self) -> Leader | None:
        return self._leader

    @override
    def when_leader_changes(self, changed: Callable[[], None]) -> None:
        self._changed = changed

    @property
    @override
    def storage(self) -> Storage | None:
        return self._storage

    @override
    def wait(self) -> None:
        try:
            while self._storage is None:
                try:
                    self._storage = self._lead()
                except ClusterChangedError as error:
                    self._complain(error)
                    self._replica = None
                    self._client.accept_any_cluster()  # as after a backup was restored: read everything anew
                    self._sleep(RETRY_S)
                except AccessDeniedError as error:
                    if not self._joined:
                        raise StorageOpenError(f"etcd: {self._options.endpoints}: {error}") from None
                    self._complain(error)
                    self._sleep(RETRY_S)
                except LayoutError as error:
                    raise StorageOpenError(f"etcd: {error}; nothing was changed") from None
                except (EtcdError, LeadLostError) as error:
                    self._complain(error)
                    self._sleep(RETRY_S)
        except _StoppedError:
            pass

    @override
    def stop(self) -> None:
        self._stopping.set()
        is_away = self._unavailable.lasts
        for complaints in (self._unavailable, self._not_following):
            complaints.end()
        if self._follower is not None:
            self._follower.stop_soon()
        if self._storage is None:
            self._cut_off(0 if is_away else GOODBYE_S)

    @override
    def cut_off(self) -> None:
        if self._held is not None:
            self._held.lose("the server ends, and a commit has not been confirmed in time")
        self._cut_off(0)

    @override
    def close(self) -> None:
        self.stop()
        try:
            self._stack.close()
        finally:
            if self._cutting is not None:
                self._cutting.cancel()

    def _cut_off(self, after_s: float = GOODBYE_S) -> None:
        """Have all calls fail after that time, those under way, too: threads that wait for etcd end."""
        if self._cutting is None:
            self._cutting = Timer(after_s, self._client.close)
            self._cutting.daemon = True
            self._cutting.start()

    @override
    def again(self) -> "EtcdCandidate":
        ours, client = self.topology.ours, self._client.again()
        address = ours.host, ours.port
        return EtcdCandidate(self._settings, self._options, client, self._keys, address, self._log, joined=self._joined)

    def _lead(self) -> Storage:
        """Wait for the lead, and return the storage."""
        client, keys, options = self._client, self._keys, self._options
        agreement = join(client, keys, options.lease_s, options.sentinel_name, self._sleep)
        self._joined = True
        self.secret, self._formats.in_use = agreement.record.id, agreement.record.format
        self._users.look()  # before any leader is known here, or this server leads
        if self._registration is None:
            self._registration = Registration(
                client, keys, self.topology, options.lease_s, agreement, self._formats, self._users, self._log
            )
            self._stack.callback(self._registration.close)
        replica = self._replica = self._replica or Replica(
            client, keys, self._memory(), self._log, self._note_unreadable
        )
        skew = Skew(self.topology, round(options.max_clock_skew_s * 1000), self._log, self.wall_clock)
        registration = self._registration
        election = Election(
            client,
            keys,
            self._ours,
            options.lease_s,
            skew,
            self.topology,
            self._sleep,
            self._see,
            self._unavailable,
            self._log,
            agreed=lambda: registration.agreed,
        )
        follower = Follower(replica, self._note_applied, self._not_following, self._log)
        with closing(follower) as self._follower:
            lead = election.win()
        self._follower = None  # it would keep what the first checkpoint is to forget
        lead.formats = self._formats
        with ExitStack() as stack:
            server_time = ServerTime(election.time_ms(), skew, self.clock)
            keeper = Keeper(client, keys, lead, server_time, self.topology)
            stack.callback(keeper.release)
            started_s = time.monotonic()
            replica.catch_up(lead.term, lambda: self._check(lead))
            took_s = time.monotonic() - started_s
            server_time.pass_to(replica.horizon_ms)
            pointer, chunks = replica.checkpoint()
            backlog = replica.backlog(options.max_journal_bytes)
            election.wait_for_former_leader()
            lead.check()
            self._replica = None  # from here on, memory may be ahead of what is stored
            timeout_s, reads = options.commit_timeout_s, options.reads
            journal = EtcdJournal(client, keys, lead, keeper, replica.head, backlog, timeout_s, reads)
            horizon_ms = max(replica.horizon_ms, election.former_ms())
            storage = JournaledStorage(replica.memory, journal, horizon_ms, server_time.now_s)
            steps = Steps(client, keys, lead, backlog, self._log)
            repair = Repair(storage, self.topology, steps)
            checkpoints = Checkpoints(
                steps, backlog, pointer, chunks, options.max_journal_bytes, self._log, repair=repair
            )
            self._start_threads(stack, steps, checkpoints, journal, storage)
            stack.callback(storage.close)
            stack.callback(journal.end_soon)  # first
            keeper.watch_loop(storage.wake)
            self._stack.push(stack.pop_all())
        self._held = lead
        self.term = self.topology.term = lead.term
        self._announce(replica, took_s)
        return storage

    def _start_threads(
        self, stack: ExitStack, steps: Steps, checkpoints: Checkpoints, journal: EtcdJournal, storage: JournaledStorage
    ) -> None:
        """Write checkpoints, and look after the space in etcd."""
        options = self._options
        compacts = options.compact == "own"
        space = Space(steps, checkpoints, options.quota_bytes, storage.refuse_puts, self._log, compacts=compacts)
        journal.figures = [checkpoints.stats, space.stats]
        for thread in (checkpoints, space):
            thread.start()
            stack.callback(thread.stop)
        # As soon as the last batch is durable.
        stack.callback(self._cut_off)
        stack.callback(steps.stopping.set)

    def _memory(self) -> MemoryStorage:
        return MemoryStorage(
            self._settings.max_data_bytes,
            self._settings.max_history_bytes,
            self._settings.transaction_timeout_s,
        )

    def _note_applied(self) -> None:
        if self._replica is not None:
            self.topology.entries = self._replica.head.number

    def _note_unreadable(self, checkpoint: str) -> None:
        self.topology.unreadable = checkpoint

    def _see(self, leader: Leader | None) -> None:
        self._leader = leader
        if self._changed is not None:
            self._changed()

    def _check(self, lead: Lead) -> None:
        self._sleep(0)
        lead.check()

    def _sleep(self, seconds: float) -> None:
        if self._registration is not None and self._registration.refusal:
            raise StorageOpenError(f"etcd: {self._keys.prefix.decode()}: {self._registration.refusal}")
        if self._stopping.wait(seconds):
            raise _StoppedError

    def _complain(self, error: Exception) -> None:
        reason = self._unavailable.reason(error)
        if reason:
            self._log.warning("etcd_unavailable", reason=reason)

    def _announce(self, replica: Replica, took_s: float) -> None:
        keys, entries = replica.memory.count(b""), replica.head.number
        self._log.info("leading", term=self.term, keys=keys, journal_entries=entries, seconds=round(took_s, 3))

"""Taking the lead and keeping it: what a server may do, and until when."""

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Final

import pytest
from structlog.typing import FilteringBoundLogger

from kvs.adapters.storage.etcd import election
from kvs.adapters.storage.etcd.backlog import Backlog
from kvs.adapters.storage.etcd.client.answers import Header, TxnResult
from kvs.adapters.storage.etcd.client.endpoints import Endpoint
from kvs.adapters.storage.etcd.client.errors import ConnectionLostError
from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.client.requests import put
from kvs.adapters.storage.etcd.clock import ServerTime, clock_s
from kvs.adapters.storage.etcd.complaints import Complaints
from kvs.adapters.storage.etcd.election import BACKS_OFF_LEASES, Election
from kvs.adapters.storage.etcd.journal import EtcdJournal
from kvs.adapters.storage.etcd.layout import EMPTY, Heartbeat, Keys, LeaderRecord, decoded, encoded
from kvs.adapters.storage.etcd.lead import BEATS_PER_LEASE, CUT_OFF, Keeper, Lead, Sent
from kvs.logs import make_logger
from kvs.ports.candidate import Leader, LeadLostError
from kvs.ports.topology import ServerInfo
from tests.support.etcd import Cluster, closing, free_ports
from tests.support.etcd_leader import skew, wall_ms
from tests.support.journals import append
from tests.support.proxy import HOST, Proxy
from tests.support.waiting import TIMEOUT_S, polling

LEASE_S: Final = 2
DAY_MS: Final = 86_400_000


def _ignore(_: object) -> None:
    """Do nothing, at once."""


class Bench:
    """Servers of a place of its own in etcd, without their loops."""

    def __init__(self, stack: ExitStack, cluster: Cluster, place: bytes, log: FilteringBoundLogger) -> None:
        self.keys = Keys(place)
        self.client = stack.enter_context(closing(cluster.client))
        self.proxy = Proxy(cluster.members[0].client_port)
        stack.callback(self.proxy.close)
        made = stack.enter_context(closing(lambda: EtcdClient([Endpoint(HOST, self.proxy.port)])))
        self.behind_proxy = made
        self.ahead_ms = 0  # of the clock of this machine
        self.skew = skew(log=log, wall_clock=lambda: time.time() + self.ahead_ms / 1000)
        self._stack = stack
        self._log = log

    def election(
        self,
        client: EtcdClient | None = None,
        port: int = 1,
        sleep: Callable[[float], None] = _ignore,
        seen: Callable[[Leader | None], None] = _ignore,
    ) -> Election:
        """Return one who stands, and waits for nothing."""
        return Election(
            client or self.client,
            self.keys,
            LeaderRecord("a", HOST, port),
            LEASE_S,
            self.skew,
            self.skew._topology,
            sleep,
            seen,
            Complaints(),
            self._log,
        )

    def keeper(self, lead: Lead, client: EtcdClient | None = None) -> Keeper:
        """Return what keeps a lead."""
        server_time = ServerTime(wall_ms(), self.skew, time.monotonic)
        keeper = Keeper(client or self.client, self.keys, lead, server_time, self.skew._topology)
        self._stack.callback(keeper.release)
        return keeper

    def beat(self, *, time_ms: int, released: bool = False) -> None:
        """Have a leader write a heartbeat."""
        self.client.txn([], [put(self.keys.alive, encoded(Heartbeat(1, time_ms, released)))])

    def version(self, key: bytes) -> int:
        """Return how often a key was written."""
        found = self.client.range(key).kvs
        return found[0].version if found else 0


@pytest.fixture
def bench(single: Cluster, place: bytes) -> Iterator[Bench]:
    """Return a place for servers."""
    with ExitStack() as stack:
        yield Bench(stack, single, place, make_logger("warning", "json", sys.stderr))


def test_what_is_found_applied_gives_no_right(bench: Bench) -> None:
    """An append whose answer was lost may have been seen by a successor since it was sent for the first time."""
    lead = bench.election().win()
    keeper = bench.keeper(lead)
    keeper.release()  # nothing else gives a right
    lead = bench.election().win()
    journal = EtcdJournal(
        bench.behind_proxy, bench.keys, lead, keeper, EMPTY, Backlog(EMPTY, 0, 1 << 20), 30.0, "lease"
    )
    bench.behind_proxy.range(b"anything")
    bench.proxy.hold(requests=False)
    appending = threading.Thread(target=append, args=(journal, [(b"k", b"v")]))
    appending.start()
    for _ in polling("it is applied"):
        if bench.version(bench.keys.head):
            break
    bench.proxy.cut()
    bench.proxy.let_go()
    appending.join()
    assert not lead.may_read
    append(journal, [(b"k", b"w")])
    assert lead.may_read
    assert bench.version(bench.keys.head) == 2


def test_an_etcd_that_goes_back_is_noticed(bench: Bench) -> None:
    """It was restored from a backup, and its cluster may have the same id."""
    lead = Lead(bench.keys, "a", 100, 1, LEASE_S)
    lead.answered(Sent(clock_s(), 100), TxnResult(Header(revision=101), True, ()), wrote=True)
    assert lead.may_read
    sent = lead.sending()
    lead.answered(sent, TxnResult(Header(revision=100), True, ()), wrote=True)
    assert not lead.may_read
    with pytest.raises(LeadLostError, match="restored from a backup"):
        lead.check()


def test_a_lead_that_was_taken_without_an_answer_is_found(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is taken up at the next look, and the wait for a former leader is a whole one."""
    real = bench.client.txn
    lost: list[TxnResult] = []

    def txn(*args: object, **options: object) -> TxnResult:
        result = real(*args, **options)  # type: ignore[arg-type]
        if args[0] and not lost:
            lost.append(result)
            raise ConnectionLostError("planted")
        return result

    monkeypatch.setattr(bench.client, "txn", txn)
    standing = bench.election()
    lead = standing.win()
    assert lost[0].succeeded
    assert lead.term == lost[0].header.revision
    assert not standing._released


def test_who_hears_nothing_does_not_keep_the_lead(bench: Bench) -> None:
    """By what it sends, which arrives."""
    lead = bench.election().win()
    bench.behind_proxy.range(b"anything")
    bench.proxy.hold(requests=False)
    bench.keeper(lead, bench.behind_proxy)
    for _ in polling("the lead is free"):
        if not bench.version(bench.keys.leader):
            break
    bench.proxy.let_go()
    for _ in polling("it knows"):
        if lead.lost:
            break


def assert_kept(bench: Bench, lead: Lead) -> None:
    """Assert that a lead outlives several leases."""
    bench.keeper(lead)
    beaten = bench.version(bench.keys.alive)
    for _ in polling("the time of several leases has passed"):
        assert not lead.lost
        if bench.version(bench.keys.alive) - beaten > 3 * BEATS_PER_LEASE:
            break
    assert bench.version(bench.keys.leader)


def test_a_lead_is_kept_though_heartbeats_are_slow(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a disk of etcd that is slow: each is answered when two more have been sent, and counts all the same."""
    lead = bench.election().win()
    real = bench.client.submit_txn
    late: deque[Callable[[], None]] = deque()

    def submit(compares: Any, then: Any, otherwise: Any, done: Callable[[object], None], timeout_s: float) -> None:
        real(compares, then, otherwise, lambda result: late.append(lambda: done(result)), timeout_s)
        if len(late) > 2:
            late.popleft()()

    monkeypatch.setattr(bench.client, "submit_txn", submit)
    assert_kept(bench, lead)


def test_a_lead_is_kept_though_renewals_are_slow(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with an etcd that has much to apply: each gets there when two more have been sent."""
    lead = bench.election().win()
    real = bench.client.submit_keep_alive
    late: deque[Callable[[], None]] = deque()

    def submit(*call: Any) -> None:
        late.append(lambda: real(*call))
        if len(late) > 2:
            late.popleft()()

    monkeypatch.setattr(bench.client, "submit_keep_alive", submit)
    assert_kept(bench, lead)


def test_renewals_that_nobody_answers_are_few(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """And none keeps the lead."""
    lead = bench.election().win()
    sent: list[object] = []
    monkeypatch.setattr(bench.client, "submit_keep_alive", lambda *call: sent.append(call))
    bench.keeper(lead)
    for _ in polling("the lead is free"):
        if not bench.version(bench.keys.leader):
            break
    assert len(sent) <= BEATS_PER_LEASE


def test_heartbeats_that_nobody_answers_are_few(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the lease is renewed beside them, for the time of one."""
    lead = bench.election().win()
    sent: list[object] = []
    renewed = threading.Semaphore(0)
    keep_alive = bench.client.submit_keep_alive

    def renew(*args: Any) -> None:
        renewed.release()
        keep_alive(*args)

    monkeypatch.setattr(bench.client, "submit_txn", lambda *call: sent.append(call))
    monkeypatch.setattr(bench.client, "submit_keep_alive", renew)
    bench.keeper(lead)
    assert renewed.acquire(timeout=TIMEOUT_S)
    assert renewed.acquire(timeout=TIMEOUT_S)
    for _ in polling("the lead is free"):
        if not bench.version(bench.keys.leader):
            break
    assert len(sent) <= BEATS_PER_LEASE


def test_a_lead_is_given_up_soon_though_etcd_is_gone(bench: Bench) -> None:
    """However long a lease is: it ends by itself."""
    with closing(lambda: EtcdClient([Endpoint(HOST, free_ports(1)[0])])) as nobody:
        keeper = bench.keeper(Lead(bench.keys, "a", 1, 1, 1000), nobody)
        releasing = threading.Thread(target=keeper.release, daemon=True)
        releasing.start()
        releasing.join(TIMEOUT_S)
        assert not releasing.is_alive()


def test_a_leader_that_others_cannot_reach_leaves_the_lead_to_them(bench: Bench) -> None:
    """For a while it does not stand, but any other server may."""
    lead = bench.election().win()
    bench.keeper(lead)
    others = [ServerInfo(name, HOST, port, "1", 0, lead.term) for name, port in (("b", 2), ("c", 3))]
    bench.skew._topology.others = tuple(others)
    for _ in polling("it gives up"):
        if lead.lost:
            break
    assert lead.lost == CUT_OFF
    for _ in polling("the lead is free"):
        if not bench.version(bench.keys.leader):
            break
    deposed, another = bench.election(), bench.election(port=2)
    assert deposed._look() is None
    assert not deposed._may_stand()
    assert another.win().term > lead.term


def test_a_deleted_heartbeat_ends_no_wait(bench: Bench) -> None:
    """Only who has written that it has released the lead answers nothing any more."""
    standing = bench.election()
    bench.client.txn([], [put(bench.keys.head, b"{}")])
    standing._look()
    assert not standing._released
    bench.beat(time_ms=wall_ms(), released=True)
    standing._look()
    assert standing._released


@pytest.mark.parametrize("ahead_ms", [DAY_MS, -DAY_MS])
def test_a_clock_that_differs_counts_for_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch, ahead_ms: int) -> None:
    """The server's time goes on from the leader's, and others may stand first."""
    bench.ahead_ms = ahead_ms
    standing = bench.election()
    for _ in polling("heartbeats are seen, each soon after the look before"):
        bench.beat(time_ms=wall_ms())
        standing._look()
        if bench.skew.ahead_ms:
            break
    assert abs(bench.skew.ahead_ms - ahead_ms) < DAY_MS // 100
    assert abs(standing.time_ms() - wall_ms()) < DAY_MS // 100
    topology = bench.skew._topology
    assert standing._may_stand()  # nobody else does
    topology.others = (ServerInfo("b", HOST, 2, "1", ahead_ms),)
    assert standing._may_stand()
    topology.others += (ServerInfo("c", HOST, 3, "1"),)
    standing._vacant_s = None
    now_s = clock_s()
    monkeypatch.setattr(election, "clock_s", lambda: now_s)
    assert not standing._may_stand()
    now_s += BACKS_OFF_LEASES * LEASE_S
    assert not standing._may_stand()
    now_s += 0.1
    assert standing._may_stand()


def test_one_heartbeat_is_enough_for_time_not_to_jump(bench: Bench) -> None:
    """Of a server that has begun to stand just before: whether its clock differs is not known for sure yet."""
    bench.ahead_ms = DAY_MS
    standing = bench.election()
    bench.beat(time_ms=wall_ms())
    standing._look()
    for _ in polling("a heartbeat is seen soon after the look before"):
        bench.beat(time_ms=wall_ms())
        standing._look()
        if standing._ahead_ms:
            break
    assert len(standing._ahead_ms) < election.BEATS_COMPARED
    assert not bench.skew.ahead_ms
    assert standing.time_ms() < wall_ms() + DAY_MS // 100


def test_a_heartbeat_that_is_late_does_not_turn_time_back(bench: Bench) -> None:
    """As when etcd stands still for a while: others tell that the clocks agree."""
    standing = bench.election()
    for late_ms in (0, 5000, 5000, 5000, 5000):
        before = len(standing._ahead_ms)
        for _ in polling("a heartbeat is seen soon after the look before"):
            bench.beat(time_ms=wall_ms() - late_ms)
            standing._look()
            if len(standing._ahead_ms) > before:
                break
    assert not bench.skew.ahead_ms
    assert standing.time_ms() >= wall_ms() - 1000


def test_time_goes_on_from_the_last_heartbeat(bench: Bench) -> None:
    """Also if it is not known when that was written: it does not go back."""
    bench.beat(time_ms=wall_ms() + DAY_MS)
    standing = bench.election()
    standing._look()
    assert not bench.skew.ahead_ms
    assert standing.time_ms() >= wall_ms() + DAY_MS - 1000
    lead = standing.win()
    first = decoded(bench.keys.alive, bench.client.range(bench.keys.alive).kvs[0].value, Heartbeat)
    assert first.time_ms >= wall_ms() + DAY_MS - DAY_MS // 100
    bench.keeper(lead)


def test_who_has_not_served_ends_no_wait(bench: Bench) -> None:
    """It may give the lead up while its own predecessor still answers reads, for which the next one waits, too."""
    former = bench.election().win()
    keeper = bench.keeper(former)
    bench.client.revoke(former.lease)  # and it does not know
    bench.keeper(bench.election().win()).release()
    standing = bench.election()
    standing.win()
    assert not standing._released
    keeper.release()


def test_who_has_served_ends_the_wait(bench: Bench) -> None:
    """It answers nothing any more."""
    keeper = bench.keeper(bench.election().win())
    keeper.watch_loop(keeper.loop_turns)
    keeper.release()
    standing = bench.election()
    standing.win()
    assert standing._released


def test_a_leader_is_seen_when_it_serves(bench: Bench) -> None:
    """Not as soon as it has the lead; and then it stays seen, though a heartbeat of before is applied later."""
    lead = bench.election().win()
    keeper = bench.keeper(lead)
    seen: list[Leader | None] = []

    def looks() -> Iterator[None]:
        """Go on at each look."""
        yield
        yield
        assert not seen
        keeper.loop_turns()
        for _ in polling("it is seen"):
            yield
            if seen:
                break
        bench.client.txn([], [put(bench.keys.alive, encoded(Heartbeat(lead.term, wall_ms(), prepares=True)))])
        yield
        yield
        assert seen == [Leader(HOST, 1, lead.term)]

    look = looks()
    with pytest.raises(StopIteration):
        bench.election(sleep=lambda _: next(look), seen=seen.append).win()

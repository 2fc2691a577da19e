"""Members that die, hang, lose their leader, or are those of another cluster."""

import signal
from contextlib import suppress
from queue import SimpleQueue

import pytest

from kvs.adapters.storage.etcd.client import link
from kvs.adapters.storage.etcd.client.answers import TxnResult
from kvs.adapters.storage.etcd.client.endpoints import Endpoint
from kvs.adapters.storage.etcd.client.errors import (
    ClusterChangedError,
    ConnectionLostError,
    DeadlineExceededError,
    EtcdError,
    NoLeaderError,
    NotSentError,
    RefusedError,
    UnknownOutcomeError,
)
from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.client.requests import absent, exists, get, prefix_end, put
from tests.support.etcd import HOST, Cluster, Member, closing, free_ports, running_cluster
from tests.support.waiting import TIMEOUT_S, polling


def until_done(client: EtcdClient, place: bytes) -> None:
    """Put a key again and again until that is known to be done."""
    for _ in polling("a put is done"):
        with suppress(EtcdError):
            client.txn([], [put(place, b"done")])
            return


def member_at(cluster: Cluster, endpoint: Endpoint | None) -> Member:
    """Return the member at an address."""
    return next(member for member in cluster.members if member.endpoint == endpoint)


def test_a_call_finds_a_member_that_lives(three: Cluster, place: bytes) -> None:
    """Whichever are named first; one of them dies, and the next call goes to another."""
    dead = Endpoint(HOST, free_ports(1)[0])
    with closing(lambda: EtcdClient((dead, *three.endpoints))) as client:
        client.range(place)
        used = client._ranges.endpoint
        member_at(three, used).kill()
        until_done(client, place)
        assert client._ranges.endpoint not in (used, dead)


def test_a_call_that_nobody_can_take_was_not_sent(place: bytes) -> None:
    """And says who was tried last, and why it was not to be had."""
    dead = Endpoint(HOST, free_ports(1)[0])
    with closing(lambda: EtcdClient((dead,))) as client, pytest.raises(NotSentError, match=f"{dead}: .*refused"):
        client.range(place, timeout_s=0.3)


def test_the_outcome_of_a_call_is_unknown_when_its_member_dies(single: Cluster, place: bytes) -> None:
    """It was sent, and nobody answered."""
    (member,) = single.members
    with closing(single.client) as client:
        client.submit_txn([], [get(place)], [], lambda _: None)
        for _ in polling("there is a connection"):
            if client.endpoint is not None:
                break
        told: SimpleQueue[TxnResult | EtcdError] = SimpleQueue()
        member.pause()
        client.submit_txn([absent(place)], [put(place, b"")], [], told.put)
        for _ in polling("it was sent"):
            if client._urgent._calls:
                break
        member.kill()
        assert isinstance(told.get(timeout=TIMEOUT_S), ConnectionLostError)
        member.restart()


def test_a_call_that_was_given_up_may_be_applied_later(single: Cluster, place: bytes) -> None:
    """So sending the same again is the only way to know: then it was applied once."""
    (member,) = single.members
    with closing(single.client) as client:
        client.txn([], [get(place)])
        member.pause()
        try:
            with pytest.raises(DeadlineExceededError) as raised:
                client.txn([absent(place)], [put(place, b"")], timeout_s=0.2)
        finally:
            member.resume()
        assert isinstance(raised.value, UnknownOutcomeError)
        for _ in polling("the same call has an answer"):
            with suppress(EtcdError):
                client.txn([absent(place)], [put(place, b"")])
                break
        assert client.range(place).kvs[0].version == 1


def test_a_member_that_stops_in_an_orderly_way_loses_no_answer(three: Cluster, place: bytes) -> None:
    """What was acknowledged is there, what was refused is not, and what was not sent moves on."""
    first, *others = three.members
    told: SimpleQueue[tuple[bytes, TxnResult | EtcdError]] = SimpleQueue()
    with closing(lambda: three.client([first, *others])) as client:
        client.submit_txn([], [get(place)], [], lambda outcome: told.put((place, outcome)))
        told.get(timeout=TIMEOUT_S)
        for number in range(200):
            key = place + b"%03d" % number
            client.submit_txn([absent(key)], [put(key, b"")], [], lambda outcome, key=key: told.put((key, outcome)))  # type: ignore[misc]
            if number == 100:
                first.send_signal(signal.SIGTERM)
        outcomes = dict(told.get(timeout=TIMEOUT_S) for _ in range(200))
        first.wait_exit()
        until_done(client, place)
        there = {found.key for found in client.range(place, prefix_end(place), keys_only=True).kvs}
        for key, outcome in outcomes.items():
            assert isinstance(outcome, EtcdError) or (outcome.succeeded and key in there)
            assert not isinstance(outcome, RefusedError) or key not in there
        for _ in polling("another member answers"):
            client.submit_txn([], [get(place)], [], lambda outcome: told.put((place, outcome)))
            if isinstance(told.get(timeout=TIMEOUT_S)[1], TxnResult):
                break
        assert client.endpoint in [member.endpoint for member in others]


def test_a_name_with_several_addresses_is_tried_at_each(single: Cluster, place: bytes) -> None:
    """As that of this machine, which is one of IPv6 as well."""
    (endpoint,) = single.endpoints
    with closing(lambda: EtcdClient((Endpoint("localhost", endpoint.port),))) as client:
        assert not client.range(place).kvs


def test_a_member_that_hangs_is_left(three: Cluster, place: bytes) -> None:
    """After the first call that it does not answer; the etcd leader it was, even."""
    leader = three.leader()
    others = [member for member in three.members if member is not leader]
    with closing(lambda: three.client([leader, *others])) as client:
        client.range(place)
        leader.pause()
        with pytest.raises(DeadlineExceededError):
            client.range(place, timeout_s=0.2)
        until_done(client, place)
        assert client._calls.endpoint in [member.endpoint for member in others]


def test_a_watch_notices_that_its_member_hangs(three: Cluster, place: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """By asking it for a sign of life."""
    monkeypatch.setattr(link, "PING_AFTER_S", 0.2)
    monkeypatch.setattr(link, "PING_TIMEOUT_S", 0.2)
    member = three.followers()[0]
    with closing(lambda: three.client([member])) as client:
        watch = client.watch(place)
        member.pause()
        try:
            with pytest.raises(ConnectionLostError, match="no sign of life"):
                watch.next(TIMEOUT_S)
        finally:
            watch.close()


def test_a_member_without_a_leader_refuses_before_it_does_anything(
    three: Cluster, single: Cluster, place: bytes
) -> None:
    """The next call goes to another one. It ends watches as well, and still tells its status."""
    alone, *others = three.members
    with closing(lambda: three.client([alone])) as client:
        watch = client.watch(place)
        for member in others:
            member.pause()
        refused: EtcdError | None = None
        for _ in polling("the member refuses"):
            try:
                client.txn([], [put(place, b"")], timeout_s=0.5)
            except EtcdError as error:
                refused = error
            if isinstance(refused, NoLeaderError):
                break
        assert isinstance(refused, RefusedError)
        with pytest.raises(NoLeaderError):
            watch.next(TIMEOUT_S)
        watch.close()
        assert client.status(alone.endpoint).leader == 0
        assert len(client.members()) == 3
    with closing(lambda: EtcdClient((alone.endpoint, *single.endpoints))) as client:
        with pytest.raises(NoLeaderError):
            client.range(place)
        assert not client.range(place).kvs


def test_what_is_on_its_way_to_a_cluster_that_loses_its_majority_is_unknown(three: Cluster, place: bytes) -> None:
    """It was applied in the end, or was not; sent again until it is answered, it was applied once."""
    leader = three.leader()
    others = [member for member in three.members if member is not leader]
    told: SimpleQueue[TxnResult | EtcdError] = SimpleQueue()
    with closing(lambda: three.client([leader])) as client:
        client.txn([], [get(place)])
        for member in others:
            member.pause()
        client.submit_txn([absent(place)], [put(place, b"")], [], told.put, timeout_s=0.5)
        assert isinstance(told.get(timeout=TIMEOUT_S), UnknownOutcomeError)
        three.repair()
        for _ in polling("the same call has an answer"):
            client.submit_txn([absent(place)], [put(place, b"")], [], told.put)
            if isinstance(told.get(timeout=TIMEOUT_S), TxnResult):
                break
        assert client.range(place).kvs[0].version == 1


def test_another_cluster_is_not_believed(single: Cluster, place: bytes) -> None:
    """Neither one that is not the cluster that was named, nor one that answers in its place."""
    with closing(lambda: single.client(cluster_id=1)) as client, pytest.raises(ClusterChangedError):
        client.range(place)
    with running_cluster() as other, closing(lambda: EtcdClient((*other.endpoints, *single.endpoints))) as client:
        header = client.range(place).header
        assert client.cluster_id == header.cluster_id
        other.members[0].kill()
        error: EtcdError | None = None
        for _ in polling("the other one answers"):
            try:
                client.txn([exists(place)], [])
            except EtcdError as raised:
                error = raised
            if not isinstance(error, ConnectionLostError):
                break
        assert isinstance(error, ClusterChangedError)
        assert isinstance(error, UnknownOutcomeError)
        with pytest.raises(ClusterChangedError):
            client.watch(place)


def test_answers_tell_of_revision_term_and_members(three: Cluster, place: bytes) -> None:
    """And each member of itself."""
    with closing(three.client) as client:
        header = client.txn([], [put(place, b"")]).header
        said = {endpoint: client.status(endpoint) for endpoint in three.endpoints}
        assert {status.header.cluster_id for status in said.values()} == {header.cluster_id}
        assert len({status.header.member_id for status in said.values()}) == 3
        assert header.member_id in {member.id for member in client.members()}
        assert {member.name for member in client.members()} == {"m0", "m1", "m2"}
        status = said[three.leader().endpoint]
        assert status.leader == status.header.member_id
        assert status.raft_term == header.raft_term > 0
        assert header.revision == client.range(place).kvs[0].mod_revision
        assert status.db_size_bytes >= status.db_used_bytes > 0
        assert client.alarms() == ()
        assert client.defragment(three.endpoints[0], timeout_s=30).cluster_id in (0, header.cluster_id)

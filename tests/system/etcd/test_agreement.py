"""What the servers of a namespace agree on, and who may change that."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from typing import Final

import msgspec
import pytest
import structlog

from kvs.adapters.storage.etcd.client.endpoints import namespace_prefix
from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.client.requests import Operation, delete, put
from kvs.adapters.storage.etcd.cluster import Agreement, join
from kvs.adapters.storage.etcd.complaints import Complaints
from kvs.adapters.storage.etcd.election import Election
from kvs.adapters.storage.etcd.layout import ClusterRecord, Heartbeat, Keys, LeaderRecord, decoded, encoded
from kvs.engine import StorageOpenError
from tests.support.etcd import Cluster
from tests.support.etcd_leader import skew, topology
from tests.support.etcd_server import EtcdServer
from tests.support.waiting import polling

LEASE_S: Final = 2
NAME: Final = "name"

_numbers: Final = count()


class StoppedError(Exception):
    """Raised in place of a wait."""


@pytest.fixture
def namespace() -> str:
    """Return a namespace that no other test uses."""
    return f"agreement-{next(_numbers)}"


@pytest.fixture
def keys(namespace: str) -> Keys:
    """Return its keys."""
    return Keys(namespace_prefix(namespace))


def stop(_: float) -> None:
    """Wait for nothing."""
    raise StoppedError


def joined(
    client: EtcdClient, keys: Keys, lease_s: int = LEASE_S, name: str = NAME, sleep: Callable[[float], None] = stop
) -> Agreement:
    """Join as a server does, and check that what is agreed on is what is stored."""
    agreement = join(client, keys, lease_s, name, sleep)
    (found,) = client.range(keys.cluster).kvs
    assert agreement == (decoded(found.key, found.value, ClusterRecord), found.mod_revision)
    return agreement


def test_who_is_alone_may_change_what_was_agreed_on(client: EtcdClient, keys: Keys) -> None:
    """But the secret stays, and so does the format."""
    first = joined(client, keys)
    assert joined(client, keys) == first
    second = joined(client, keys, 5, "other")
    assert second.record == ClusterRecord(first.record.id, first.record.format, 5, "other")


def test_who_is_not_alone_may_not(client: EtcdClient, keys: Keys) -> None:
    """Be the other one a server that stands by, or one that leads and has lost its registration."""
    first = joined(client, keys)
    for name in (keys.server("a"), keys.leader):
        client.txn([], [put(name, b"{}")])
        for lease_s, sentinel_name in ((5, NAME), (LEASE_S, "other")):
            with pytest.raises(StorageOpenError, match="stop all servers of the namespace first"):
                joined(client, keys, lease_s, sentinel_name)
        assert joined(client, keys) == first
        client.txn([], [delete(name)])


@pytest.mark.parametrize("what", ["server", "leader", "heartbeat", "entry", "agreement"])
def test_who_comes_between_the_look_and_the_change_is_noticed(
    client: EtcdClient, keys: Keys, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Whatever is written first by another one."""
    first = joined(client, keys)
    written: dict[str, Operation] = {
        "server": put(keys.server("late"), b"{}"),
        "leader": put(keys.leader, b"{}"),
        "heartbeat": put(keys.alive, encoded(Heartbeat(1, 1))),
        "entry": put(keys.head, b"{}"),
        "agreement": put(keys.cluster, encoded(ClusterRecord(first.record.id, first.record.format, 7, NAME))),
    }
    client.txn([], [put(keys.alive, encoded(Heartbeat(1, 1, released=True)))])
    real = client.txn
    calls = count()

    def txn(*arguments: object) -> object:
        if next(calls) == 1:  # after the look
            real([], [written[what]])
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(client, "txn", txn)
    if what in ("server", "leader"):
        with pytest.raises(StorageOpenError):
            join(client, keys, 5, NAME, stop)
    elif what == "heartbeat":
        with pytest.raises(StoppedError):
            join(client, keys, 5, NAME, stop)
    else:
        join(client, keys, 5, NAME, stop)
    assert next(calls) > 2


def test_a_change_waits_until_no_former_leader_may_answer_reads(client: EtcdClient, keys: Keys) -> None:
    """Which it may for the lease that was agreed on before, after whatever it has written last."""
    joined(client, keys)
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 1:
            client.txn([], [put(keys.alive, encoded(Heartbeat(1, 2)))])

    client.txn([], [put(keys.alive, encoded(Heartbeat(1, 1)))])
    assert joined(client, keys, 1, NAME, sleep).record.lease_s == 1
    assert len(waits) == 2
    assert min(waits) > LEASE_S


def test_what_older_versions_have_not_said_is_taken_over(client: EtcdClient, keys: Keys) -> None:
    """Though there are others: these take it over, too, or are refused."""
    first = joined(client, keys)
    older = {"id": first.record.id, "format": first.record.format, "lease_s": LEASE_S}
    client.txn([], [put(keys.cluster, encoded_json(older)), put(keys.server("a"), b"{}")])
    assert joined(client, keys).record == first.record
    with pytest.raises(StorageOpenError, match=f"sentinel_name is other here and {NAME} in"):
        joined(client, keys, LEASE_S, "other")


def encoded_json(record: dict[str, object]) -> bytes:
    """Return a record of another version."""
    return json.dumps(record).encode()


def test_who_does_not_agree_any_more_does_not_stand(client: EtcdClient, keys: Keys) -> None:
    """Its lease is not that of the others."""
    agreed = joined(client, keys).revision

    def election() -> Election:
        ours = LeaderRecord("a", "127.0.0.1", 1)
        log = structlog.get_logger()
        return Election(
            client,
            keys,
            ours,
            LEASE_S,
            skew(),
            topology(),
            stop,
            lambda _: None,
            Complaints(),
            log,
            agreed=lambda: agreed,
        )

    joined(client, keys, 5)
    with pytest.raises(StoppedError):
        election().win()
    assert not client.range(keys.leader).kvs
    agreed = joined(client, keys).revision
    assert election().win().term


def test_who_was_away_while_others_agreed_on_something_else_ends(
    client: EtcdClient, keys: Keys, single: Cluster, namespace: str
) -> None:
    """With the difference."""
    with ExitStack() as stack:
        first, second = (stack.enter_context(EtcdServer(single, namespace)) for _ in range(2))
        for _ in polling("one of them leads"):
            if first.term or second.term:
                break
        standby = second if first.term else first
        standby.stands_by()
        (found,) = client.range(keys.cluster).kvs
        record = msgspec.structs.replace(decoded(found.key, found.value, ClusterRecord), lease_s=3)
        client.txn([], [put(keys.cluster, encoded(record))])
        assert standby.wait_exit() == 1
        assert f"lease_s is 2 here and 3 in {namespace}/cluster" in standby.other_lines[0]

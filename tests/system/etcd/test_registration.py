"""Servers register in etcd, and the leader shows the others as replicas."""

import signal
from contextlib import ExitStack, closing
from itertools import count
from typing import Final

import pytest

from kvs.adapters.storage.etcd.client.endpoints import namespace_prefix
from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.client.requests import put
from kvs.adapters.storage.etcd.layout import Keys
from tests.support.etcd import HOST, Cluster
from tests.support.etcd_server import EtcdServer
from tests.support.resp_wire import Reply, Wire
from tests.support.waiting import polling

_numbers: Final = count()


@pytest.fixture
def namespace() -> str:
    """Return a namespace that no other test uses."""
    return f"registration-{next(_numbers)}"


def wait_for_replicas(server: EtcdServer, *replicas: EtcdServer, relayed: bool = False) -> list[Reply]:
    """Wait until the leader shows these as replicas, asked directly or through another; return the reply to ROLE."""
    expected = {(HOST.encode(), b"%d" % replica.port) for replica in replicas}
    with Wire((HOST, server.port)) as wire:
        if relayed:
            wire.ask("DBSIZE")
        for _ in polling("the replicas are known"):
            role = wire.ask("ROLE")
            assert isinstance(role, list)
            assert role[0] == b"master"
            assert isinstance(role[2], list)
            if {tuple(replica[:2]) for replica in role[2] if isinstance(replica, list)} == expected:
                return role
    raise AssertionError


def test_the_leader_knows_who_stands_by(single: Cluster, namespace: str) -> None:
    """Until that one is gone; and the next leader knows the others in turn."""
    with ExitStack() as stack:
        servers = [stack.enter_context(EtcdServer(single, namespace)) for _ in range(3)]
        leader = next(server for server in servers if server is leader_of(servers))
        first, second = (server for server in servers if server is not leader)
        wait_for_replicas(leader, first, second)
        wait_for_replicas(first, first, second, relayed=True)
        second.kill()
        wait_for_replicas(leader, first)
        leader.send_signal(signal.SIGTERM)
        assert leader.wait_exit() == 0
        assert first.leads()
        wait_for_replicas(first)


def leader_of(servers: list[EtcdServer]) -> EtcdServer:
    """Wait until one of them leads, and return it."""
    for _ in polling("a server leads"):
        for server in servers:
            if server.events("listening"):
                return server
    raise AssertionError


def test_offset_and_wait(three: Cluster, namespace: str) -> None:
    """ROLE has the entries of the journal; WAIT counts other servers, at most one less than etcd's members."""
    with ExitStack() as stack:
        leader = stack.enter_context(EtcdServer(three, namespace))
        assert leader.leads()
        with Wire((HOST, leader.port)) as wire:
            before = wait_for_replicas(leader)[1]
            assert wire.ask("WAIT", 1, 0) == 0
            wire.ask("SET", "key", "value")
            role = wait_for_replicas(leader)
            assert isinstance(before, int)
            assert role[1] == before + 1
            others = [stack.enter_context(EtcdServer(three, namespace)) for _ in range(3)]
            wait_for_replicas(leader, *others)
            assert wire.ask("WAIT", 1, 0) == 2


def test_what_is_no_registration_is_left_out(client: EtcdClient, single: Cluster, namespace: str) -> None:
    """Whatever stands there."""
    keys = Keys(namespace_prefix(namespace))
    for name, value in (("a", b"{}"), ("b", b""), ("c", b'{"host": "a\\nb", "port": 1, "version": "1"}')):
        client.txn([], [put(keys.server(name), value)])
    with EtcdServer(single, namespace) as leader, EtcdServer(single, namespace) as other:
        first = leader_of([leader, other])
        wait_for_replicas(first, other if first is leader else leader)
        with closing(first.connect()) as line:
            assert line.ask("PING")["result"] == "PONG"

"""Clients of Redis Sentinel find the leader through any server, and the next one when it is gone."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from typing import Any, Final

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as LostError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as LateError
from redis.sentinel import MasterNotFoundError, Sentinel

from tests.support.etcd import HOST, Cluster
from tests.support.etcd_server import EtcdServer
from tests.support.resp_wire import Wire
from tests.support.waiting import TIMEOUT_S, polling

_numbers: Final = count()


@pytest.fixture
def servers(single: Cluster) -> Iterator[tuple[EtcdServer, EtcdServer]]:
    """Yield a leader and a standby."""
    namespace = f"sentinel-{next(_numbers)}"
    with ExitStack() as stack:
        leader = stack.enter_context(EtcdServer(single, namespace, options=["sentinel_name=data"]))
        assert leader.leads()
        standby = stack.enter_context(EtcdServer(single, namespace, options=["sentinel_name=data"]))
        standby.stands_by()
        yield leader, standby


def sentinel_of(*servers: EtcdServer) -> Any:
    """Return redis-py's client of Sentinel, whose functions have no types."""
    addresses = [(HOST, server.port) for server in servers]
    make: Any = Sentinel
    return make(addresses, socket_timeout=TIMEOUT_S, sentinel_kwargs={"socket_timeout": TIMEOUT_S})


def test_a_standby_names_the_leader(servers: tuple[EtcdServer, EtcdServer]) -> None:
    """As the master, and itself as a replica and another sentinel, as soon as it is registered."""
    leader, standby = servers
    sentinel = sentinel_of(standby)
    assert sentinel.discover_master("data") == (HOST, leader.port)
    for _ in polling("the standby is known"):
        if sentinel.discover_slaves("data") == [(HOST, standby.port)]:
            break
    sentinel.min_other_sentinels = 1
    assert sentinel.discover_master("data") == (HOST, leader.port)
    with pytest.raises(MasterNotFoundError):
        sentinel.discover_master("mymaster")
    master = sentinel.master_for("data")
    replica = sentinel.slave_for("data")
    assert master.set("key", "value")
    assert replica.get("key") == b"value"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_client_finds_the_next_leader(servers: tuple[EtcdServer, EtcdServer], how: signal.Signals) -> None:
    """By itself: it is only asked again."""
    leader, standby = servers
    master = sentinel_of(leader, standby).master_for("data")
    assert master.set("key", "value")
    leader.send_signal(how)
    leader.wait_exit()
    for _ in polling("the client has found the next leader"):
        try:
            assert master.get("key") == b"value"
        except (LostError, LateError):
            continue
        break
    assert master.connection_pool.master_address == (HOST, standby.port)
    assert master.set("key", "new")


def test_subscribers_are_disconnected_when_the_leader_changes(servers: tuple[EtcdServer, EtcdServer]) -> None:
    """Which tells them to ask again; until then they are only confirmed what they have subscribed to."""
    leader, standby = servers
    with Wire((HOST, standby.port)) as wire:
        assert wire.ask("SUBSCRIBE", "+switch-master") == [b"subscribe", b"+switch-master", 1]
        leader.send_signal(signal.SIGTERM)
        assert wire.rest() == b""


def test_other_channels_are_unknown(servers: tuple[EtcdServer, EtcdServer]) -> None:
    """As they are to servers that are no sentinels."""
    with Redis(host=HOST, port=servers[1].port) as client, pytest.raises(ResponseError, match="unknown command"):
        client.execute_command("SUBSCRIBE", "news")

"""Clients of Redis Sentinel find the leader through any server, and the next one when it is gone."""

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from itertools import count
from typing import Any, Final

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as LostError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as LateError
from redis.sentinel import MasterNotFoundError, Sentinel

from tests.support.etcd import HOST, Cluster
from tests.support.etcd_server import EtcdServer, vacate
from tests.support.resp_wire import NULL_ARRAY, OK, PONG, Reply, Typed, Wire, error, request
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


def test_redis_py_learns_about_the_server_it_has_asked(servers: tuple[EtcdServer, EtcdServer]) -> None:
    """What it begins a connection with, as it comes, opens no relay; the first other command does."""
    for server, role in zip(servers, ("master", "slave"), strict=True):
        make: Any = Redis
        with closing(make(host=HOST, port=server.port, socket_timeout=TIMEOUT_S)) as client:
            assert client.ping()
            assert client.role()[0] == role.encode()
            assert client.info("replication")["role"] == role
            assert client.set("key", role)
            assert client.info("replication")["role"] == "master"


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


def test_who_is_told_of_the_next_leader_is_served_by_it(single: Cluster) -> None:
    """At once, though it has had the lead for a while: until the rights of the former one have ended, it waits."""
    with ExitStack() as stack:
        namespace = f"sentinel-{next(_numbers)}"
        leader = stack.enter_context(EtcdServer(single, namespace, options=["sentinel_name=data"]))
        assert leader.leads()
        standbys = [
            stack.enter_context(EtcdServer(single, namespace, options=["sentinel_name=data"])) for _ in range(2)
        ]
        wires = []
        for standby in standbys:
            standby.stands_by()
            wires.append(stack.enter_context(Wire((HOST, standby.port))))
            wires[-1].ask("SUBSCRIBE", "+switch-master")
        vacate(single, namespace)
        leader.kill()
        with ThreadPoolExecutor(len(wires)) as pool:
            assert list(pool.map(first_reply_of_next, wires)) == [OK, OK]


def first_reply_of_next(wire: Wire) -> Reply:
    """Wait until a subscriber is told of the next leader; return what that one answers to a client."""
    message = wire.reply()
    assert isinstance(message, list)
    text = message[-1]
    assert isinstance(text, bytes)
    with Wire((HOST, int(text.split()[-1]))) as client:
        return client.ask("SET", "key", "value")


@pytest.mark.parametrize(("version", "head"), [(2, "*"), (3, ">")])
def test_subscribers_are_told_of_the_next_leader(single: Cluster, version: int, head: str) -> None:
    """By a server that goes on to stand by, and by the one that leads now, which then closes their connections."""
    with ExitStack() as stack:
        namespace = f"sentinel-{next(_numbers)}"
        servers = [stack.enter_context(EtcdServer(single, namespace, options=["sentinel_name=data"]))]
        assert servers[0].leads()
        for _ in range(2):
            servers.append(stack.enter_context(EtcdServer(single, namespace, options=["sentinel_name=data"])))
            servers[-1].stands_by()
        leader, *standbys = servers
        wires = [stack.enter_context(Wire((HOST, standby.port))) for standby in standbys]
        for wire in wires:
            wire.ask("HELLO", version)
            wire.send(request("SUBSCRIBE", "+switch-master") + request("PSUBSCRIBE", "+sw*", "-*"))
            for _ in range(3):
                wire.reply()
        leader.send_signal(signal.SIGTERM)
        told = [wire.reply() for wire in wires]
        leading: list[EtcdServer] = []
        for _ in polling("one of them leads"):
            leading = [standby for standby in standbys if standby.events("leading")]
            if leading:
                break
        (next_leader,) = leading
        text = f"data {HOST} {leader.port} {HOST} {next_leader.port}".encode()
        for wire, standby, message in zip(wires, standbys, told, strict=True):
            assert message == as_message(head, b"message", b"+switch-master", text)
            assert wire.reply() == as_message(head, b"pmessage", b"+sw*", b"+switch-master", text)
            if standby is next_leader:
                assert wire.rest() == b""
            else:
                assert wire.ask("PING") == ([b"pong", b""] if version == 2 else PONG)


def as_message(head: str, *items: bytes) -> Reply:
    """Return a message as it is read."""
    return [*items] if head == "*" else Typed(head, [*items])


def test_without_a_leader_there_is_no_master(single: Cluster) -> None:
    """As a sentinel says of a name that it does not know, so that clients ask the next one."""
    with ExitStack() as stack:
        options = ["sentinel_name=data", "lease_s=60"]
        leader = stack.enter_context(EtcdServer(single, "sentinel-none", options=options))
        assert leader.leads()
        standby = stack.enter_context(EtcdServer(single, "sentinel-none", options=options))
        standby.stands_by()
        with Wire((HOST, standby.port)) as wire:
            assert wire.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "data") == [HOST.encode(), b"%d" % leader.port]
            leader.kill()
            leader.wait_exit()
            vacate(single, "sentinel-none")
            for _ in polling("the standby knows"):
                if wire.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "data") == NULL_ARRAY:
                    break
            assert wire.ask("SENTINEL", "MASTERS") == []
            assert wire.ask("SENTINEL", "MASTER", "data") == error("ERR No such master with that name")
            with pytest.raises(MasterNotFoundError):
                sentinel_of(standby).discover_master("data")


def test_other_channels_are_unknown(servers: tuple[EtcdServer, EtcdServer]) -> None:
    """As they are to servers that are no sentinels."""
    with Redis(host=HOST, port=servers[1].port) as client, pytest.raises(ResponseError, match="unknown command"):
        client.execute_command("SUBSCRIBE", "news")

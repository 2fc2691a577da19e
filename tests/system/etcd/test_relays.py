"""Standbys relay their clients to the leader."""

import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import count
from pathlib import Path
from typing import Final

import pytest

from kvs.adapters.inbound.net.relay import preamble
from kvs.adapters.inbound.protocol.client_state import ClientState
from tests.support.etcd import HOST, Cluster, free_ports
from tests.support.etcd_server import EtcdServer
from tests.support.harness import OK
from tests.support.line_client import Client
from tests.support.resp_wire import OK as RESP_OK
from tests.support.resp_wire import Wire
from tests.support.waiting import TIMEOUT_S

_numbers: Final = count()


@pytest.fixture(scope="module")
def servers(single: Cluster) -> Iterator[tuple[EtcdServer, EtcdServer]]:
    """Yield a leader and a standby."""
    namespace = f"relays-{next(_numbers)}"
    with EtcdServer(single, namespace) as leader:
        assert leader.leads()
        with EtcdServer(single, namespace) as standby:
            standby.stands_by()
            yield leader, standby


@pytest.fixture
def client(servers: tuple[EtcdServer, EtcdServer]) -> Iterator[Client]:
    """Yield a client of the standby."""
    with closing(servers[1].connect()) as client:
        yield client


def test_transactions_of_both_protocols(client: Client, servers: tuple[EtcdServer, EtcdServer]) -> None:
    """What one writes through the standby the other reads at the leader."""
    client.ok("START", "PUT a 1", "START", "PUT b 2", "ROLLBACK", "COMMIT")
    with closing(servers[0].connect()) as direct:
        direct.send_raw(b"*2\r\n$4\r\nMGET\r\n$1\r\na\r\n*2\r\n$6\r\nEXISTS\r\n$1\r\nb\r\n")
        assert direct.socket.recv(1 << 16) == b"*1\r\n$1\r\n1\r\n:0\r\n"
    with socket.create_connection((HOST, servers[1].port), TIMEOUT_S) as resp:
        resp.sendall(b"*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$1\r\n3\r\n")
        assert resp.recv(1 << 16) == b"+OK\r\n"


def test_much_in_both_directions(client: Client) -> None:
    """More than any buffer on the way has, pipelined, and answered in order."""
    large = "x" * 200_000
    client.send_behind(b"".join(b"PUT key%d %b\nGET key%d\n" % (at % 7, large.encode(), at % 7) for at in range(100)))
    for _ in range(100):
        assert client.reply() == OK
        assert client.reply()["result"] == large


def test_the_leader_knows_the_client(client: Client, servers: tuple[EtcdServer, EtcdServer]) -> None:
    """By its own address, in the log as well."""
    assert client.ask("COUNT")["status"] == "Ok"
    client.close()
    servers[0].wait_for("client_disconnected", peer=client.name)


def test_half_closed_clients_get_their_replies(client: Client) -> None:
    """As from the leader itself."""
    client.send(*["PING", "COUNT"] * 50)
    client.half_close()
    assert len(client.rest()) == 100


@pytest.mark.parametrize(
    "line",
    [
        preamble("0" * 32, 1, "1.2.3.4:5", ClientState()),
        b"\0KVS-RELAY-2\n",
        b"\0KVS-RELAY-2 " + b"x" * 100_000,
        b"\0" * 20,
        b"\0\n",
    ],
    ids=["secret", "words", "endless", "other", "empty"],
)
@pytest.mark.parametrize("at", [0, 1], ids=["leader", "standby"])
def test_strangers_are_no_relays(servers: tuple[EtcdServer, EtcdServer], at: int, line: bytes) -> None:
    """They are disconnected without a word.

    At a standby, so is any relay: it has not heard yet that this server does not lead. An answer would be for its
    client, which may speak another protocol.
    """
    with socket.create_connection((HOST, servers[at].port), TIMEOUT_S) as sock:
        sock.sendall(line + b"PING\n")
        with suppress(ConnectionError):
            assert sock.recv(100) == b""


def test_an_address_of_ipv6(single: Cluster, ipv6_loopback: str) -> None:
    """Is given and shown in brackets."""
    namespace, (port,) = f"relays-{next(_numbers)}", free_ports(1)
    place = f"[{ipv6_loopback}]:{port}"
    flags = ("--host", ipv6_loopback, "--port", str(port))
    with EtcdServer(single, namespace, *flags, options=[f"advertise_address={place}"]) as leader:
        assert leader.leads()
        with EtcdServer(single, namespace) as standby, closing(standby.connect()) as client:
            assert standby.wait_for("standby")["leader"] == place
            assert client.ask("INFO")["result"]["server"]["leader"] == place
            assert client.ask("PUT a b") == OK
            standby.wait_for("client_relayed", leader=place)


def test_who_has_authenticated_stays_who_it_is(single: Cluster, tmp_path: Path) -> None:
    """The standby asks, and the leader knows; who has not authenticated is not relayed, in either protocol."""
    namespace, secret = f"relays-{next(_numbers)}", "ab" * 32
    path = tmp_path / "password"
    path.write_text(secret)
    flags = ("--password-file", str(path))
    with EtcdServer(single, namespace, *flags) as leader:
        assert leader.leads()
        with EtcdServer(single, namespace, *flags) as standby:
            standby.stands_by()
            with closing(standby.connect()) as client:
                assert client.ask("GET k")["code"] == "unauthenticated"
                client.ok(f"AUTH default {secret}", "PUT k 1")
                assert client.ask("GET k")["result"] == "1"
            with Wire((HOST, standby.port)) as wire:
                assert "NOAUTH" in str(wire.ask("GET", "k"))
                assert wire.ask("AUTH", secret) == RESP_OK
                assert wire.ask("GET", "k") == b"1"
                assert wire.ask("ACL", "WHOAMI") == b"default"
            assert not leader.events("authentication_failed")

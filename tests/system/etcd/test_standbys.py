"""A standby answers what is about itself; the first other request opens a relay, with all that follows."""

import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from itertools import count
from typing import Any, Final

import pytest

from tests.support.etcd import HOST, Cluster, free_ports
from tests.support.etcd_server import EtcdServer, vacate
from tests.support.harness import OK, PONG
from tests.support.line_client import Client
from tests.support.proxy import Proxy
from tests.support.resp_wire import OK as DONE
from tests.support.resp_wire import PONG as PONGED
from tests.support.resp_wire import Typed, Wire, error, request
from tests.support.waiting import polling

_numbers: Final = count()

SHARED: Final = "standbys-shared"
"""The namespace of the servers that most tests use."""

UNAVAILABLE: Final = error("UNAVAILABLE There is no leader at the moment. Retry.")


@pytest.fixture(scope="module")
def servers(single: Cluster) -> Iterator[tuple[EtcdServer, EtcdServer]]:
    """Yield a leader and a standby."""
    with ExitStack() as stack:
        leader = stack.enter_context(EtcdServer(single, SHARED))
        assert leader.leads()
        yield leader, standby_of(stack, single, SHARED)


@pytest.fixture(scope="module")
def alone(single: Cluster) -> Iterator[EtcdServer]:
    """Yield a standby without a leader: it has the lead, and does not serve before a lease has passed."""
    namespace = "standbys-alone"
    with ExitStack() as stack:
        leader = stack.enter_context(EtcdServer(single, namespace, options=["lease_s=3600"]))
        assert leader.leads()
        standby = standby_of(stack, single, namespace, options=["lease_s=3600"])
        leader.kill()
        leader.wait_exit()
        vacate(single, namespace)
        with Wire((HOST, standby.port)) as wire:
            for _ in polling("the standby knows that there is no leader"):
                if wire.ask("ROLE") == [b"slave", b"", 0, b"connect", 0]:
                    break
        yield standby


def standby_of(stack: ExitStack, cluster: Cluster, namespace: str, *flags: str, options: Any = ()) -> EtcdServer:
    """Start a standby."""
    standby = stack.enter_context(EtcdServer(cluster, namespace, *flags, options=options))
    standby.stands_by()
    return standby


@pytest.fixture
def client(servers: tuple[EtcdServer, EtcdServer]) -> Iterator[Client]:
    """Yield a client of the standby."""
    with closing(servers[1].connect()) as client:
        yield client


@pytest.fixture
def wire(servers: tuple[EtcdServer, EtcdServer]) -> Iterator[Wire]:
    """Yield a client of the standby, in RESP."""
    with Wire((HOST, servers[1].port)) as wire:
        yield wire


def replication(wire: Wire) -> dict[str, str]:
    """Return the section of INFO."""
    text = wire.ask("INFO", "replication")
    raw = text.value if isinstance(text, Typed) else text
    assert isinstance(raw, bytes)
    return dict(line.split(":", 1) for line in raw.decode().split("\r\n") if ":" in line)


def test_roles(wire: Wire, servers: tuple[EtcdServer, EtcdServer]) -> None:
    """It is a replica of the leader, in every command that tells, until the first command that is the leader's."""
    leader = servers[0].port
    assert wire.ask("PING") == PONGED
    role = wire.ask("ROLE")
    assert isinstance(role, list)
    *of_the_leader, entries = role
    assert of_the_leader == [b"slave", HOST.encode(), leader, b"connected"]
    assert isinstance(entries, int)  # those that tests before this one have left
    told = replication(wire)
    assert {name: told[name] for name in ("role", "master_host", "master_port", "master_link_status")} == {
        "role": "slave",
        "master_host": HOST,
        "master_port": str(leader),
        "master_link_status": "up",
    }
    hello = wire.ask("HELLO", 3)
    assert isinstance(hello, Typed)
    assert isinstance(hello.value, list)
    assert hello.value[hello.value.index(b"role") + 1] == b"replica"
    assert wire.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster") == [HOST.encode(), b"%d" % leader]
    assert wire.ask("COMMAND", "COUNT") != 0
    assert wire.ask("SELECT", 0) == DONE
    assert wire.ask("NONE", "such") == error("ERR unknown command 'NONE', with args beginning with: 'such' ")
    assert wire.ask("GET", "missing") == Typed("_", None)
    role = wire.ask("ROLE")
    assert isinstance(role, list)
    assert role[0] == b"master"


def test_lines(client: Client, servers: tuple[EtcdServer, EtcdServer]) -> None:
    """PING, HELP and INFO are answered, and INFO has the role."""
    assert client.ask("PING") == PONG
    assert client.ask("HELP GET")["status"] == "Ok"
    info = client.ask("INFO")["result"]["server"]
    assert (info["role"], info["leader"]) == ("standby", f"{HOST}:{servers[0].port}")
    assert client.ask("COUNT missing")["result"] == 0
    assert client.ask("INFO")["result"]["server"]["role"] == "leader"


@pytest.mark.parametrize("size", [1, 7, 1 << 16], ids=["bytes", "pieces", "whole"])
def test_order(wire: Wire, client: Client, size: int) -> None:
    """What is answered here comes before what the leader answers, in pipelines of any pieces, in both protocols."""
    commands = ["PING a", "ECHO b", "SET order c", "PING d", "GET order", "ECHO e"]
    sent = b"".join(request(*command.split()) for command in commands)
    for at in range(0, len(sent), size):
        wire.send(sent[at : at + size])
    assert [wire.reply() for _ in commands] == [b"a", b"b", DONE, b"d", b"c", b"e"]
    sent = b"PING\r\n PUT  order f\r\nPING\nGET order \n"
    for at in range(0, len(sent), size):
        client.send_raw(sent[at : at + size])
    assert client.socket.recv(7, socket.MSG_WAITALL) == b"+PONG\r\n"
    assert client.replies(2)[1] == PONG
    client.send_raw(b"QUIT\n")
    assert [reply["status"] for reply in client.rest()] == ["Ok", "Ok"]


def test_what_the_client_has_set(wire: Wire) -> None:
    """Its protocol, its names and its subscriptions go with it."""
    wire.ask("HELLO", 3, "SETNAME", "me")
    for line in ("CLIENT SETINFO LIB-NAME lib", "CLIENT SETINFO lib-ver 1.0", "CLIENT NO-EVICT on"):
        assert wire.asked(line) == DONE
    wire.asked("SUBSCRIBE +a +switch-master")
    wire.reply()
    wire.asked("PSUBSCRIBE -*")
    info = wire.asked("CLIENT INFO")
    assert isinstance(info, Typed)
    assert isinstance(info.value, bytes)
    fields = dict(field.split("=", 1) for field in info.value.decode().split(":", 1)[1].split())
    expected = {"name": "me", "lib-name": "lib", "lib-ver": "1.0", "flags": "Pe", "sub": "2", "psub": "1", "resp": "3"}
    assert {name: fields[name] for name in expected} == expected


def test_a_first_request_without_a_reply(wire: Wire, servers: tuple[EtcdServer, EtcdServer]) -> None:
    """Does not keep the next ones from being read."""
    wire.send(request("CLIENT", "REPLY", "OFF"))
    servers[1].wait_for("client_relayed", peer="{}:{}".format(*wire.socket.getsockname()))
    wire.send(request("SET", "quiet", "value"))
    assert wire.asked("CLIENT REPLY ON") == DONE
    assert wire.ask("GET", "quiet") == b"value"


def test_the_protocol_is_decided_once(client: Client) -> None:
    """By the first line, also if the first request for the leader looks like another protocol."""
    client.send("PING")
    assert client.reply() == PONG
    client.send_raw(b"*1\r\n$4\r\nPING\r\nSET a b\r\nPUT x y HTTP/1.1\r\n")
    assert [reply.get("code") for reply in client.replies(5)] == ["unknown_command"] * 2 + [
        None,
        "unknown_command",
        None,
    ]


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\nPUT a b\n", b"protocol"),
        (b"\x16\x03\x01\x02\x00\x01", b"protocol"),
        (b"*1\r\n$-5\r\n", b"-ERR Protocol error"),
        (b"*1\r\n$4\r\nPOST\r\n", b""),
    ],
    ids=["HTTP", "TLS", "RESP", "POST"],
)
def test_other_protocols_end_at_the_standby(servers: tuple[EtcdServer, EtcdServer], sent: bytes, code: bytes) -> None:
    """They are refused as by any server, and nothing of them gets to the leader."""
    with Wire((HOST, servers[1].port)) as wire:
        wire.send(sent)
        name = "{}:{}".format(*wire.socket.getsockname())
        rest = wire.rest()
        assert code in rest
        assert rest or not code
        servers[1].wait_for("client_disconnected", peer=name)
        assert not servers[0].events("client_connected", peer=name)


def test_half_closed_with_the_first_request(servers: tuple[EtcdServer, EtcdServer]) -> None:
    """What has arrived is answered, and then the connection ends."""
    for sent, answers in (
        (b"PING\nCOUNT half\nPING\n", 3),
        (b"COUNT half\nCOUNT", 2),
        (b"PING\n", 1),
        (b"PING\nPI", 2),
    ):
        with closing(servers[1].connect()) as client:
            client.send_raw(sent)
            client.half_close()
            assert len(client.rest()) == answers


def test_without_a_leader(alone: EtcdServer) -> None:
    """What is about the server is answered, and the rest is unavailable, on a connection that stays open."""
    with closing(alone.connect()) as client:
        client.send("PING", "GET key", "PUT key value", "PING")
        assert [reply.get("code") for reply in client.replies(4)] == [None, "unavailable", "unavailable", None]
        assert client.ask("INFO")["result"]["server"]["leader"] is None
    with Wire((HOST, alone.port)) as wire:
        assert wire.ask("GET", "key") == UNAVAILABLE
        assert replication(wire)["master_link_status"] == "down"
        assert wire.ask("PING") == PONGED


@pytest.mark.parametrize("begin", ["MULTI", "WATCH key", "START", "CLIENT REPLY OFF", "MONITOR", "CLIENT TRACKING on"])
def test_without_a_leader_nothing_is_begun(alone: EtcdServer, begin: str) -> None:
    """So what follows, and would be run by itself if there were one soon, is not even read."""
    with Wire((HOST, alone.port)) as wire:
        wire.send(request("PING") + request(*begin.split()) + request("PING"))
        assert wire.reply() == PONGED
        assert wire.reply() == UNAVAILABLE
        assert wire.rest() == b""


def test_without_a_leader_no_line_begins_anything(alone: EtcdServer) -> None:
    """START, that is."""
    with closing(alone.connect()) as client:
        client.send("PING", "START READONLY", "PUT a b")
        assert [reply.get("code") for reply in client.rest()] == [None, "unavailable"]


def test_a_leader_that_cannot_be_reached(single: Cluster) -> None:
    """Is unavailable within a bounded time, also to many; once it can be reached the same connections are relayed."""
    namespace = f"standbys-{next(_numbers)}"
    (port,) = free_ports(1)
    with ExitStack() as stack:
        leader = stack.enter_context(EtcdServer(single, namespace, options=[f"advertise_address={HOST}:{port}"]))
        assert leader.leads()
        standby = standby_of(stack, single, namespace)
        clients = [stack.enter_context(closing(standby.connect())) for _ in range(20)]
        for client in clients:
            client.send("PUT key value", "PING")
        for client in clients:
            assert [reply.get("code") for reply in client.replies(2)] == ["unavailable", None]
        standby.wait_for("leader_unreachable", leader=f"{HOST}:{port}")
        proxy = Proxy(leader.port, port)
        stack.callback(proxy.close)
        for client in clients:
            assert client.ask("PUT key value") == OK
        standby.wait_for("client_relayed", peer=clients[0].name)


@pytest.mark.parametrize("there", ["nobody", "etcd"])
def test_a_leader_that_most_servers_cannot_reach_is_replaced(single: Cluster, there: str) -> None:
    """It advertises a closed port, or another program's. It stands by, and the next one serves its clients."""
    namespace = f"standbys-{next(_numbers)}"
    port = free_ports(1)[0] if there == "nobody" else single.members[0].client_port
    with ExitStack() as stack:
        first = stack.enter_context(EtcdServer(single, namespace, options=[f"advertise_address={HOST}:{port}"]))
        assert first.leads()
        standbys = [standby_of(stack, single, namespace) for _ in range(2)]
        for server in standbys:
            client = stack.enter_context(closing(server.connect()))
            for _ in polling("it has tried to reach the leader"):
                assert client.ask("GET key")["code"] == "unavailable"
                if server.events("leader_unreachable"):
                    break
        reason = first.wait_for("lead_lost")["reason"]
        assert "cannot reach this one" in reason
        for server in (*standbys, first):
            for _ in polling("another server leads, and this one knows"):
                with closing(server.connect()) as client, suppress(ConnectionError):  # by a server that takes the lead
                    client.send("PUT key value", "EXIT")
                    if client.rest()[:1] == [OK]:
                        break


def test_clients_wait_no_longer_than_they_may(single: Cluster) -> None:
    """For the rest of a request, and between requests; of a relayed one the silence is for the leader to judge."""
    namespace = f"standbys-{next(_numbers)}"
    with ExitStack() as stack:
        leader = stack.enter_context(EtcdServer(single, namespace))
        assert leader.leads()
        standby = standby_of(stack, single, namespace, "--input-timeout-s", "1", "--idle-timeout-s", "3")
        relayed = stack.enter_context(closing(standby.connect()))
        relayed.send("COUNT")  # so it is relayed before it is looked at
        assert relayed.reply()["status"] == "Ok"
        for sent in (b"*2\r\n$4\r\nECHO\r\n$5\r\nab", b"PING\n"):
            with closing(standby.connect()) as client:
                client.send_raw(sent)
                standby.wait_for("client_disconnected", peer=client.name, reason="timeout")
        assert relayed.ask("COUNT")["status"] == "Ok"


def test_no_more_clients_than_there_may_be(single: Cluster) -> None:
    """Are admitted, relayed or not; others are told so."""
    namespace = f"standbys-{next(_numbers)}"
    with ExitStack() as stack:
        leader = stack.enter_context(EtcdServer(single, namespace))
        assert leader.leads()
        standby = standby_of(stack, single, namespace, "--max-clients", "2")
        for line in ("COUNT", "PING"):
            assert stack.enter_context(closing(standby.connect())).ask(line)["status"] == "Ok"
        with closing(standby.connect()) as third:
            assert [reply["code"] for reply in third.rest()] == ["limit"]


def test_who_does_not_read_is_not_read_for(single: Cluster) -> None:
    """A standby keeps little for it, and drops it in the end."""
    namespace = f"standbys-{next(_numbers)}"
    with ExitStack() as stack:
        leader = stack.enter_context(EtcdServer(single, namespace))
        assert leader.leads()
        standby = standby_of(stack, single, namespace, "--output-timeout-s", "4", "--max-output-bytes", "100000")
        with closing(leader.connect()) as direct:
            direct.ok("PUT large " + "x" * 1_000_000)
        before = peak_bytes(standby)
        client = stack.enter_context(closing(Client(HOST, standby.port, receive_buffer_bytes=4096)))
        client.send_behind(b"GET large\n" * 200)
        standby.wait_for("client_dropped", peer=client.name)
        assert peak_bytes(standby) - before < 30_000_000


def peak_bytes(server: EtcdServer) -> int:
    """Return how much memory a server has had at most, as it says."""
    with Wire((HOST, server.port)) as wire:
        text = wire.ask("INFO", "memory")
    assert isinstance(text, bytes)
    (line,) = (line for line in text.split(b"\r\n") if line.startswith(b"used_memory_peak:"))
    return int(line.partition(b":")[2])


def test_a_stopped_standby_lets_relayed_clients_finish(servers: tuple[EtcdServer, EtcdServer], single: Cluster) -> None:
    """What has arrived is answered by the leader before the connection ends."""
    with ExitStack() as stack:
        standby = standby_of(stack, single, SHARED)
        clients = [stack.enter_context(closing(standby.connect())) for _ in range(10)]
        for client in clients:
            assert client.ask("PUT key value") == OK
        for client in clients:
            client.send(*["INCR finish"] * 100)
        for client in clients:
            client.wait_sent()
        standby.send_signal(signal.SIGTERM)
        assert all(len(client.rest()) == 100 for client in clients)
        assert standby.wait_exit() == 0
        standby.wait_for("stopped", exit_code=0)


def test_relayed_clients_are_disconnected_when_the_leader_changes(single: Cluster) -> None:
    """Others stay, at a server that goes on to stand by, and are relayed to the next leader."""
    namespace = f"standbys-{next(_numbers)}"
    with ExitStack() as stack:
        leader = stack.enter_context(EtcdServer(single, namespace))
        assert leader.leads()
        standbys = [standby_of(stack, single, namespace) for _ in range(2)]
        pairs = [[stack.enter_context(closing(standby.connect())) for _ in range(2)] for standby in standbys]
        for relayed, local in pairs:
            assert relayed.ask("PUT key value") == OK
            assert local.ask("PING") == PONG
        leader.send_signal(signal.SIGSTOP)  # so its connections stay
        for relayed, _ in pairs:
            assert relayed.rest() == []
        for _ in polling("another leads"):
            leading = [standby for standby in standbys if standby.events("listening")]
            if leading:
                break
        kept = pairs[standbys.index(leading[0]) - 1][1]
        for _ in polling("the client is relayed to the next leader"):
            reply = kept.ask("GET key")
            if reply == {"status": "Ok", "result": "value"}:
                break
            assert reply["code"] == "unavailable"


def test_a_request_that_is_too_large_for_the_memory(single: Cluster) -> None:
    """Of all clients is refused here, as everywhere; others are relayed."""
    namespace = f"standbys-{next(_numbers)}"
    with ExitStack() as stack:
        leader = stack.enter_context(EtcdServer(single, namespace))
        assert leader.leads()
        standby = standby_of(stack, single, namespace, "--max-clients-bytes", "1MiB")
        wire = stack.enter_context(Wire((HOST, standby.port)))
        reply = wire.ask("SET", "key", "x" * 2_000_000)
        assert isinstance(reply, Typed)
        assert reply.kind == "-"
        assert "max_clients_bytes" in repr(reply.value)
        assert wire.ask("SET", "key", "x" * 200_000) == DONE
        assert wire.ask("STRLEN", "key") == 200_000

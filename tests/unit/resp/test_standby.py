"""What a server that stands by answers itself, and what it tells of itself."""

from typing import Final

import pytest

from kvs.adapters.inbound.line.commands import COMMANDS as LINE_COMMANDS
from kvs.adapters.inbound.protocol.client_state import ClientState
from kvs.adapters.inbound.protocol.command import ANSWERED, BEGINS
from kvs.adapters.inbound.resp.commands.registry import COMMANDS, OF_SENTINELS
from kvs.adapters.inbound.resp.connection import RespConnection
from kvs.domain.errors import StorageUnavailableError
from kvs.ports.topology import ServerInfo, Topology
from tests.support.resp_connection import RespServer
from tests.support.resp_wire import request, words
from tests.support.sessions import output_of

OURS: Final = ServerInfo("a" * 40, "10.0.0.1", 4000, "1.0")
LEADER: Final = ServerInfo("b" * 40, "10.0.0.2", 4001, "1.0")
THIRD: Final = ServerInfo("c" * 40, "::1", 4002, "1.0")

ANSWERED_HERE: Final = """
    acl acl|cat acl|dryrun acl|genpass acl|getuser acl|help acl|list acl|load acl|log acl|save acl|users acl|whoami auth
    client client|getname client|help client|id client|no-evict client|no-touch client|setinfo client|setname command
    command|count command|docs command|getkeys command|getkeysandflags command|help command|info command|list config
    config|help echo hello info latency latency|help memory memory|help object object|help ping psubscribe punsubscribe
    quit reset role select sentinel sentinel|ckquorum sentinel|get-master-addr-by-name sentinel|help sentinel|master
    sentinel|masters sentinel|myid sentinel|replicas sentinel|sentinels sentinel|slaves slowlog slowlog|help subscribe
    unsubscribe
"""
BEGUN: Final = "client|reply client|tracking monitor multi start watch"


@pytest.fixture
def topology() -> Topology:
    """Return that of a standby, which knows a leader and another standby."""
    made = Topology("data", OURS, 2000)
    made.others = (LEADER, THIRD)
    made.see_leader(LEADER.host, LEADER.port, 7)
    made.entries = 5
    return made


@pytest.fixture
def connection(topology: Topology) -> RespConnection:
    """Return a connection to it."""
    server = RespServer()
    server.shared.topology = topology
    return server.connect()


def ask(connection: RespConnection, line: str) -> bytes:
    """Return what a line is answered."""
    connection.receive(request(*words(line)))
    return output_of(connection)


def test_commands() -> None:
    """Each has been thought of: what is answered is not about data, and what later requests build on ends a client."""
    commands = [*COMMANDS, *OF_SENTINELS.values()]
    commands += [each for command in commands for each in (command.subcommands or {}).values()]
    assert {each.name.decode() for each in commands if each.on_standby == ANSWERED} == set(ANSWERED_HERE.split())
    assert {each.name.decode() for each in commands if each.on_standby == BEGINS} == set(BEGUN.split())
    lines = {command.name.decode(): command.on_standby for command in LINE_COMMANDS.values()}
    assert {name for name, what in lines.items() if what == ANSWERED} == {
        "PING",
        "HELP",
        "INFO",
        "AUTH",
        "EXIT",
        "QUIT",
    }
    assert {name for name, what in lines.items() if what == BEGINS} == {"START"}


def test_role(connection: RespConnection, topology: Topology) -> None:
    """As that of a replica, with what it has read; without a leader there is nothing to be connected to."""
    assert ask(connection, "ROLE") == b"*5\r\n$5\r\nslave\r\n$8\r\n10.0.0.2\r\n:4001\r\n$9\r\nconnected\r\n:5\r\n"
    topology.leader = None
    assert ask(connection, "ROLE") == b"*5\r\n$5\r\nslave\r\n$0\r\n\r\n:0\r\n$7\r\nconnect\r\n:5\r\n"


def test_info(connection: RespConnection, topology: Topology) -> None:
    """The same, and never that of a master."""
    figures = ask(connection, "INFO").splitlines()
    for figure in (b"role:slave", b"master_host:10.0.0.2", b"master_port:4001", b"master_link_status:up"):
        assert figure in figures
    assert b"slave_repl_offset:5" in figures
    assert sum(figure.startswith((b"role:", b"leader:")) for figure in figures) == 1
    topology.leader = None
    assert b"master_link_status:down" in ask(connection, "INFO").splitlines()
    assert b"replica" in ask(connection, "HELLO 2")


def test_sentinel(connection: RespConnection, topology: Topology) -> None:
    """The leader is the master, and who stands by are the replicas, this one included."""
    assert ask(connection, "SENTINEL GET-MASTER-ADDR-BY-NAME data") == b"*2\r\n$8\r\n10.0.0.2\r\n$4\r\n4001\r\n"
    assert b"\r\nb%b\r\n" % (b"b" * 39) in ask(connection, "SENTINEL MASTER data")
    assert topology.replicas == [OURS, THIRD]
    replicas = ask(connection, "SENTINEL REPLICAS data")
    assert replicas.startswith(b"*2\r\n")
    assert b"10.0.0.1:4000" in replicas
    sentinels = ask(connection, "SENTINEL SENTINELS data")
    assert sentinels.startswith(b"*2\r\n")
    assert OURS.id.encode() not in sentinels.replace(b"voted-leader", b"")
    assert ask(connection, "SENTINEL MYID") == b"$40\r\n%b\r\n" % OURS.id.encode()


def test_without_a_leader_there_is_no_master(connection: RespConnection, topology: Topology) -> None:
    """All servers are replicas of nobody."""
    topology.leader = None
    assert ask(connection, "SENTINEL GET-MASTER-ADDR-BY-NAME data") == b"*-1\r\n"
    assert ask(connection, "SENTINEL MASTERS") == b"*0\r\n"
    assert ask(connection, "SENTINEL MASTER data") == b"-ERR No such master with that name\r\n"
    assert ask(connection, "SENTINEL REPLICAS data").startswith(b"*3\r\n")
    assert ask(connection, "SENTINEL SENTINELS data").startswith(b"*2\r\n")


def test_a_leader_that_is_not_registered_yet(topology: Topology) -> None:
    """Is known by its address."""
    topology.see_leader("other", 1, 8)
    assert topology.leader == ServerInfo("", "other", 1, "")
    assert (topology.term, topology.leads) == (8, False)
    topology.leader = OURS
    assert topology.leads
    assert topology.replicas == [LEADER, THIRD]


@pytest.mark.parametrize(
    ("subscribe", "messages"),
    [
        ("SUBSCRIBE +switch-master", [b"message"]),
        ("PSUBSCRIBE +* *switch*", [b"pmessage", b"pmessage"]),
        ("SUBSCRIBE +sdown", []),
        ("PSUBSCRIBE -*", []),
    ],
)
def test_who_has_subscribed_is_told_of_a_switch(
    connection: RespConnection, subscribe: str, messages: list[bytes]
) -> None:
    """Once for each subscription that fits, in the words of Sentinel."""
    ask(connection, subscribe)
    connection.tell_of_leader(("a", 1), ("b", 2))
    told = output_of(connection)
    assert [word for word in told.split(b"\r\n") if word in (b"message", b"pmessage")] == messages
    assert told.count(b"\r\ndata a 1 b 2\r\n") == len(messages)


def test_who_has_not_is_not(connection: RespConnection) -> None:
    """Nor when there is only one server."""
    connection.tell_of_leader(("a", 1), ("b", 2))
    assert output_of(connection) == b""


def test_what_goes_to_the_leader(connection: RespConnection) -> None:
    """The request as it was understood, and what came behind it as it came."""
    handed: list[int] = []
    connection.hand_over = lambda: handed.append(connection.requests)
    connection.receive(b"PING\r\n*2\r\n$3\r\nGE")
    connection.receive(b'T\r\n$1\r\na\r\nSET "b \\x00" c\r\nPING\r\n*1')
    assert output_of(connection) == b"+PONG\r\n"
    assert handed == [1]
    assert b"".join(connection.release_input()) == (request("GET", "a") + b'SET "b \\x00" c\r\nPING\r\n*1')


def test_what_is_refused_is_answered_in_turn(connection: RespConnection) -> None:
    """And so is what comes behind it."""
    connection.hand_over = lambda: connection.refuse(StorageUnavailableError("No."))
    connection.receive(request("GET", "a") + request("PING") + request("GET", "b") + request("PING") + b"*1\r\n$")
    out = output_of(connection)
    while connection.backlog:
        connection.resume()
        out += output_of(connection)
    assert out == b"-UNAVAILABLE No.\r\n+PONG\r\n" * 2
    assert not connection.closing
    connection.receive(b"5\r\nMULTI\r\n" + request("PING"))
    assert output_of(connection) == b"-UNAVAILABLE No.\r\n"
    assert connection.closing


def test_a_client_of_another_server_goes_on(connection: RespConnection) -> None:
    """As it has set there."""
    state = ClientState(3, b"me", b"lib", b"1", no_evict=True, channels=[b"+a"], patterns=[b"-*", b"+*"])
    connection.restore(state)
    assert connection.state() == state
    info = connection.client_info()
    assert (info.name, info.library, info.library_version, info.version) == ("me", "lib", "1", 3)
    assert (info.flags, info.channels, info.patterns) == ("Pe", 1, 2)

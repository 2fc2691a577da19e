"""Commands about the roles of servers, where several share one data set."""

from typing import Final

import pytest

from kvs.adapters.inbound.resp.connection import RespConnection
from kvs.ports.topology import ServerInfo, Topology
from tests.support.resp_connection import RespServer
from tests.support.resp_wire import request, words
from tests.support.sessions import output_of

OURS: Final = ServerInfo("a" * 40, "10.0.0.1", 4000, "1.0")
OTHERS: Final = (ServerInfo("b" * 40, "10.0.0.2", 4001, "1.0"), ServerInfo("c" * 40, "::1", 4002, "1.0"))


@pytest.fixture
def topology() -> Topology:
    """Return that of a leader, of two servers that stand by, and of five machines that keep the data."""
    made = Topology("data", OURS, 2000)
    made.others = OTHERS
    made.copies = 5
    made.term = 7
    return made


@pytest.fixture
def connection(topology: Topology) -> RespConnection:
    """Return a connection to the leader."""
    server = RespServer()
    server.shared.topology = topology
    return server.connect()


def ask(connection: RespConnection, line: str) -> bytes:
    """Return what a line is answered."""
    connection.receive(request(*words(line)))
    return output_of(connection)


def test_role_names_the_others(connection: RespConnection) -> None:
    """As replicas that are as far as the leader."""
    assert ask(connection, "ROLE") == (
        b"*3\r\n$6\r\nmaster\r\n:0\r\n*2\r\n"
        b"*3\r\n$8\r\n10.0.0.2\r\n$4\r\n4001\r\n$1\r\n0\r\n*3\r\n$3\r\n::1\r\n$4\r\n4002\r\n$1\r\n0\r\n"
    )


def test_info_names_the_others(connection: RespConnection) -> None:
    """In Redis's words."""
    figures = ask(connection, "INFO replication").splitlines()
    assert b"connected_slaves:2" in figures
    assert b"slave1:ip=::1,port=4002,state=online,offset=0,lag=0" in figures


@pytest.mark.parametrize(("copies", "servers", "answer"), [(5, 2, 2), (2, 2, 1), (1, 2, 0), (3, 0, 0), (3, 1, 1)])
def test_wait_counts_who_could_take_over(
    connection: RespConnection, topology: Topology, copies: int, servers: int, answer: int
) -> None:
    """Other servers, at most one less than the machines that keep the data; it never blocks."""
    topology.copies, topology.others = copies, OTHERS[:servers]
    assert ask(connection, "WAIT 100 0") == b":%d\r\n" % answer


def test_no_server_becomes_a_replica_by_command(connection: RespConnection) -> None:
    """The servers decide themselves who leads."""
    for name in ("REPLICAOF", "SLAVEOF"):
        assert ask(connection, f"{name} 10.0.0.2 4001").startswith(b"-ERR %b is not supported but" % name.encode())
        assert ask(connection, f"{name} no one") == b"+OK\r\n"

"""A server that does not lead answers at the leader's address: clients get an error, and operators a warning."""

from contextlib import ExitStack, closing
from itertools import count
from typing import Final

import pytest

from tests.support.etcd import HOST, Cluster, free_ports
from tests.support.etcd_server import EtcdServer
from tests.support.harness import OK, PONG
from tests.support.resp_wire import PONG as PONGED
from tests.support.resp_wire import Typed, Wire

_numbers: Final = count()


def assert_unavailable(server: EtcdServer) -> None:
    """Assert that requests for the leader are unavailable in both protocols, on connections that stay open."""
    with closing(server.connect()) as client:
        client.send("PING", "GET a", "PING", "GET b")
        assert [reply.get("code") for reply in client.replies(4)] == [None, "unavailable", None, "unavailable"]
        assert client.ask("PING") == PONG
    with Wire((HOST, server.port)) as wire:
        reply = wire.ask("GET", "a")
        assert isinstance(reply, Typed)
        assert "UNAVAILABLE" in repr(reply.value)
        assert wire.ask("PING") == PONGED


def test_a_leader_that_was_deposed_while_etcd_is_gone(three: Cluster) -> None:
    """So that nobody hears of it: it refuses relays, and answers its own clients as the others do theirs."""
    namespace = f"refused-relays-{next(_numbers)}"
    with ExitStack() as stack:
        leader = stack.enter_context(EtcdServer(three, namespace, options=["commit_timeout_s=1"]))
        assert leader.leads()
        standby = stack.enter_context(EtcdServer(three, namespace))
        standby.stands_by()
        relayed = stack.enter_context(closing(standby.connect()))
        assert relayed.ask("PUT a b") == OK
        for member in three.members[1:]:
            member.pause()
        relayed.send("PUT a c")
        leader.wait_for("lead_lost")
        assert [reply["code"] for reply in relayed.rest()] == ["outcome_unknown"]  # it may be applied yet
        for server in (leader, standby):
            assert_unavailable(server)
        standby.wait_for("leader_unreachable", leader=f"{HOST}:{leader.port}")


def test_two_servers_with_one_address(single: Cluster) -> None:
    """A standby that is to relay to itself says that it cannot."""
    namespace = f"refused-relays-{next(_numbers)}"
    (port,) = free_ports(1)
    with ExitStack() as stack:
        leader = stack.enter_context(EtcdServer(single, namespace, options=[f"advertise_address={HOST}:{port}"]))
        assert leader.leads()
        standby = stack.enter_context(EtcdServer(single, namespace, "--port", str(port)))
        standby.stands_by()
        assert_unavailable(standby)
        assert standby.wait_for("leader_unreachable")["leader"] == f"{HOST}:{port}"


@pytest.mark.parametrize("protocol", ["line", "RESP"])
def test_a_leader_with_too_many_clients(single: Cluster, protocol: str) -> None:
    """It can be reached: the client gets the error in its protocol, and may try again."""
    namespace = f"refused-relays-{next(_numbers)}"
    with ExitStack() as stack:
        leader = stack.enter_context(EtcdServer(single, namespace, "--max-clients", "1"))
        assert leader.leads()
        standby = stack.enter_context(EtcdServer(single, namespace))
        standby.stands_by()
        with closing(leader.connect()) as direct:
            assert direct.ask("PING") == PONG
            if protocol == "line":
                client = stack.enter_context(closing(standby.connect()))
                client.send("GET a", "PING")
                assert [reply.get("code") for reply in client.replies(2)] == ["limit", None]
            else:
                wire = stack.enter_context(Wire((HOST, standby.port)))
                assert "too many clients" in repr(wire.ask("GET", "a"))
                assert wire.ask("PING") == PONGED
        assert not standby.events("leader_unreachable")

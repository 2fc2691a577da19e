"""What probes are told of a server in each of its states."""

from typing import Any, cast

import pytest

from kvs.adapters.inbound.net.health import CHANGING, DRAINING, LOADING, NO_LEADER, SILENT, TURNED_LATELY_S, Health
from kvs.ports.topology import ServerInfo, Topology
from kvs.testing.drivers import Clock

pytestmark = pytest.mark.one_build

COLLECTOR = cast("Any", object())


def test_a_server_is_ready_from_listening_to_stopping() -> None:
    """Not while the engine loads, nor from the signal on."""
    health = Health(Clock())
    assert health.not_ready() == [LOADING]
    health.begin(COLLECTOR, None)
    assert health.not_ready() == []
    health.drain()
    assert health.not_ready() == [DRAINING]
    health.end(goes_on=False)
    assert health.not_ready() == [DRAINING]
    assert health.collector is None


def test_a_standby_is_ready_while_there_is_a_leader() -> None:
    """To which it relays; and not between two roles."""
    ours = ServerInfo("1" * 40, "here", 1, "1")
    topology, health = Topology("name", ours, 1000), Health(Clock())
    topology.leader = None
    health.begin(COLLECTOR, topology)
    assert health.not_ready() == [NO_LEADER]
    topology.see_leader("there", 1, 1)
    assert health.not_ready() == []
    topology.leader_is_silent = True
    assert health.not_ready() == [SILENT]
    topology.leader_is_silent = False
    health.end(goes_on=True)
    assert health.not_ready() == [CHANGING]
    topology.leader = ours
    health.begin(COLLECTOR, topology)
    assert health.not_ready() == []


def test_a_loop_that_does_not_turn_is_noticed() -> None:
    """But not while there is none: the main thread loads, or changes the role."""
    clock = Clock()
    health = Health(clock)
    clock.now_s += 1000
    assert health.turned_lately
    health.begin(COLLECTOR, None)
    clock.now_s += TURNED_LATELY_S
    assert health.turned_lately
    clock.now_s += 0.1
    assert not health.turned_lately
    health.turned()
    assert health.turned_lately
    health.end(goes_on=True)
    clock.now_s += 1000
    assert health.turned_lately

"""What a server knows of the others of its data set."""

import pytest

from kvs.ports.topology import ServerInfo, Topology

OURS = ServerInfo("a", "10.0.0.1", 4000, "1.0")
TERM = 7


@pytest.mark.parametrize(
    ("complaints", "cut_off"),
    [([], False), ([TERM], False), ([TERM, 0], False), ([TERM, TERM - 1], False), ([TERM, TERM], True)],
)
def test_more_than_half_of_all_servers_must_complain(complaints: list[int], cut_off: bool) -> None:
    """Of this very term; the leader itself is one of them."""
    topology = Topology("data", OURS, 2000)
    topology.others = tuple(ServerInfo("b", "10.0.0.2", at, "1.0", 0, term) for at, term in enumerate(complaints))
    assert topology.is_cut_off_in(TERM) == cut_off

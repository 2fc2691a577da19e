"""The clients that see the commands of all."""

import pytest

from kvs.adapters.inbound.line.commands import COMMANDS
from kvs.adapters.inbound.protocol.monitors import MAX_WAITING_BYTES, Monitors
from kvs.adapters.inbound.protocol.observation import Observation
from kvs.adapters.inbound.protocol.peer import Peer
from kvs.testing.drivers import Clock

GET = COMMANDS[b"GET"]


@pytest.fixture
def peer() -> Peer:
    """Return a client."""
    peer = Peer()
    peer.address = "127.0.0.1:5"
    return peer


def test_line_goes_to_all_that_listen(peer: Peer) -> None:
    """Until they do not any more."""
    monitors = Monitors(Clock())
    one: list[bytes] = []
    two: list[bytes] = []
    monitors.add(1, one.append)
    monitors.add(2, two.append)
    monitors.show(peer, GET, [b"GET", b'a"\n'])
    monitors.remove(1)
    monitors.show(peer, GET, [b"GET", b"b"])
    lines = [b'+1000.000000 [0 127.0.0.1:5] "GET" "a\\"\\n"\r\n', b'+1000.000000 [0 127.0.0.1:5] "GET" "b"\r\n']
    assert (one, two) == (lines[:1], lines)


def test_lines_of_workers_wait_for_the_loop(peer: Peer) -> None:
    """A bounded number of them."""
    monitors = Monitors(Clock())
    monitors.use_workers()
    seen: list[bytes] = []
    monitors.add(1, seen.append)
    monitors.show(peer, GET, [b"GET", b"a"])
    assert seen == []
    monitors.flush()
    assert len(seen) == 1
    for _ in range(MAX_WAITING_BYTES // 1000 + 100):
        monitors.show(peer, GET, [b"GET", b"x" * 1000])
    seen.clear()
    monitors.flush()
    assert MAX_WAITING_BYTES < sum(map(len, seen)) < MAX_WAITING_BYTES + 2000
    monitors.show(peer, GET, [b"GET", b"a"])
    monitors.flush()
    assert seen[-1].endswith(b'"GET" "a"\r\n')


def test_work_grows_with_the_listeners_and_the_line(peer: Peer) -> None:
    """Each of them is sent it."""
    monitors = Monitors(Clock())
    for number in range(50):
        monitors.add(number, lambda _: None)
    assert monitors.show(peer, GET, [b"GET", b"a"]) >= 50
    assert monitors.show(peer, GET, [b"GET", b"\0" * 1000]) >= 50 + 40


def test_fast_paths_are_off_while_anybody_listens() -> None:
    """And while the slow log has to see every request."""
    observation = Observation()
    assert not observation.sees_all
    observation.listen(1, lambda _: None)
    observation.listen(2, lambda _: None)
    observation.end_listening(1)
    assert observation.sees_all
    observation.end_listening(2)
    assert not observation.sees_all
    for threshold_us, sees_all in ((0, True), (999, True), (1000, False), (-1, False)):
        observation.slow_log.set_threshold(threshold_us)
        observation.decide()
        assert observation.sees_all == sees_all

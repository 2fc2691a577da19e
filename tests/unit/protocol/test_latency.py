"""The latency monitor."""

import pytest

from kvs.adapters.inbound.protocol.latency import MAX_SAMPLES, SYNC, TICK, LatencyMonitor
from kvs.testing.drivers import Clock

MS = 1_000_000


@pytest.fixture
def clock() -> Clock:
    """Return the time."""
    return Clock()


@pytest.fixture
def monitor(clock: Clock) -> LatencyMonitor:
    """Return a monitor of what takes 5 ms."""
    monitor = LatencyMonitor(clock)
    monitor.set_threshold(5)
    return monitor


def samples(monitor: LatencyMonitor, name: bytes) -> list[tuple[int, int]]:
    """Return the samples of an event."""
    return list(monitor.events[name].samples)


def test_events_below_the_threshold_are_not_noted(monitor: LatencyMonitor) -> None:
    """Others are, each under its name."""
    for duration_ns in (0, 5 * MS - 1):
        monitor.add(SYNC, duration_ns)
    assert monitor.events == {}
    monitor.add(SYNC, 5 * MS)
    monitor.add_s(TICK, 0.0079)
    assert samples(monitor, SYNC) == [(1000, 5)]
    assert samples(monitor, TICK) == [(1000, 7)]


def test_threshold_of_0_notes_nothing(monitor: LatencyMonitor) -> None:
    """It is off."""
    assert monitor.is_on
    monitor.set_threshold(0)
    assert not monitor.is_on
    monitor.add(SYNC, 1 << 50)
    assert monitor.events == {}


def test_second_has_one_sample_the_longest(monitor: LatencyMonitor, clock: Clock) -> None:
    """As in Redis; the longest of all is kept for ever."""
    for now_s, duration_ms in ((1000.0, 50), (1001.1, 7), (1001.5, 9), (1001.9, 8)):
        clock.now_s = now_s
        monitor.add(SYNC, duration_ms * MS)
    assert samples(monitor, SYNC) == [(1000, 50), (1001, 9)]
    assert monitor.events[SYNC].longest_ms == 50


def test_number_of_samples_is_bounded(monitor: LatencyMonitor, clock: Clock) -> None:
    """The oldest are dropped."""
    for _ in range(MAX_SAMPLES + 10):
        clock.now_s += 1
        monitor.add(SYNC, 5 * MS)
    assert len(samples(monitor, SYNC)) == MAX_SAMPLES
    assert samples(monitor, SYNC)[-1][0] == 1000 + MAX_SAMPLES + 10

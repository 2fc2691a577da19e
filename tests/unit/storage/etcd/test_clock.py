"""The server's time over etcd: by clocks that the test holds."""

import io
import json
from typing import Final

import pytest

from kvs.adapters.storage.etcd.clock import SLEW_SHARE, ServerTime, Skew
from kvs.adapters.storage.memory.storage import MemoryStorage
from kvs.application.expiry import Expiry
from kvs.domain.values import Record
from kvs.logs import make_logger
from kvs.ports.topology import ServerInfo
from tests.support.etcd_leader import MAX_SKEW_MS, skew
from tests.support.sessions import UNLIMITED

BEGIN_S: Final = 1_764_350_000.0
HOUR_S: Final = 3600.0
RIGHT: Final = ServerInfo("1", "127.0.0.1", 2, "1")
WRONG: Final = RIGHT._replace(clock_ahead_ms=5000)


class Machine:
    """A machine, whose wall clock may be set, and its server's time."""

    def __init__(self, *others: ServerInfo) -> None:
        self.log = io.StringIO()
        self.passed_s = 0.0
        self.wall_ahead_s = 0.0
        self.skew: Skew = skew(*others, log=make_logger("info", "json", self.log), wall_clock=self.wall_s)
        self.time = ServerTime(int(BEGIN_S * 1000), self.skew, lambda: self.passed_s)

    def wall_s(self) -> float:
        """Return what the wall clock has."""
        return BEGIN_S + self.passed_s + self.wall_ahead_s

    def ahead_s(self) -> float:
        """Return by how much the server's time is ahead of what has passed."""
        return self.time.now_s() - BEGIN_S - self.passed_s

    def pass_s(self, seconds: float, steps: int = 10) -> None:
        """Let time pass, during which it is asked for the server's time, which never goes back."""
        for _ in range(steps):
            before_s = self.time.now_s()
            self.passed_s += seconds / steps
            assert self.time.now_s() >= before_s

    def events(self) -> list[str]:
        """Return what was logged."""
        return [json.loads(line)["event"] for line in self.log.getvalue().splitlines()]


def test_time_follows_a_clock_that_is_right() -> None:
    """Exactly, however often it is asked for."""
    machine = Machine()
    for _ in range(1000):
        machine.pass_s(0.7)
        machine.wall_ahead_s += 0.005
        machine.pass_s(0.7)
        assert machine.time.now_s() == pytest.approx(machine.wall_s(), abs=1e-5)


@pytest.mark.parametrize("step_s", [HOUR_S, -HOUR_S])
@pytest.mark.parametrize("steps", [1, 7, 1000])
def test_a_step_is_slewed(step_s: float, steps: int) -> None:
    """By one percent of what passes, until it is made up for."""
    machine = Machine()
    machine.pass_s(10)
    machine.wall_ahead_s = step_s
    sign = 1 if step_s > 0 else -1
    assert machine.ahead_s() == 0
    machine.pass_s(1000, steps)
    assert machine.ahead_s() == pytest.approx(sign * 1000 * SLEW_SHARE, abs=1e-3)
    machine.pass_s(HOUR_S / SLEW_SHARE - 1000, steps)
    assert machine.ahead_s() == pytest.approx(step_s, abs=1e-3)
    machine.pass_s(1000)
    assert machine.ahead_s() == pytest.approx(step_s, abs=1e-3)


def test_a_clock_that_others_contradict_is_not_followed() -> None:
    """As long as any of them says that the time is right."""
    machine = Machine(WRONG, RIGHT)
    machine.wall_ahead_s = HOUR_S
    machine.pass_s(1000)
    assert machine.ahead_s() == pytest.approx(0, abs=1e-6)
    machine.skew._topology.others = (WRONG,)
    machine.pass_s(100)
    assert machine.ahead_s() == pytest.approx(1, abs=1e-3)
    machine.skew._topology.others = (RIGHT,)
    machine.wall_ahead_s = 0.5  # within the bound
    machine.pass_s(100)
    assert machine.ahead_s() == pytest.approx(0.5, abs=1e-3)


def test_what_was_read_is_never_gone_below() -> None:
    """And is made up for slowly."""
    machine = Machine()
    machine.time.pass_to(int((BEGIN_S + HOUR_S) * 1000))
    machine.time.pass_to(int(BEGIN_S * 1000))
    assert machine.ahead_s() == HOUR_S
    machine.pass_s(1000)
    assert machine.ahead_s() == pytest.approx(HOUR_S - 10, abs=1e-3)


def test_a_difference_is_logged_once_and_so_is_its_end() -> None:
    """However often it is looked at, and also if it varies about the bound."""
    machine = Machine(RIGHT)
    for ahead_s, ahead_ms in ((0.0, 0), (0.9, 0), (1.1, 1100), (0.9, 900), (1.1, 1100), (HOUR_S, 3_600_000)):
        machine.wall_ahead_s = ahead_s + machine.ahead_s()
        machine.time.compare()
        assert machine.skew.ahead_ms == pytest.approx(ahead_ms, abs=2)
    assert machine.events() == ["clock_differs"]
    machine.wall_ahead_s = machine.ahead_s() + MAX_SKEW_MS / 2000
    machine.time.compare()
    assert machine.skew.ahead_ms == 0
    assert machine.events() == ["clock_differs", "clock_agrees"]


@pytest.mark.parametrize("step_s", [HOUR_S, -HOUR_S])
def test_nothing_expires_early_or_late_by_a_step(step_s: float) -> None:
    """But by one percent."""
    machine = Machine()
    storage = MemoryStorage(0, UNLIMITED)
    expiry = Expiry(storage, machine.time.now_s, machine.time.now_s, make_logger("info", "json", machine.log))
    assert expiry.now_ms == int(BEGIN_S * 1000)
    storage.put(b"session", Record(b"v", expiry.now_ms + 1_000_000))
    expiry.end_tick()
    machine.wall_ahead_s = step_s
    for passed_s, expired in ((0, 0), (985, 0), (1015, 1)):
        machine.passed_s = passed_s
        expiry.begin_tick()
        assert expiry.deleted == expired
    assert machine.events() == []

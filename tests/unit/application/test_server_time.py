"""The server's time: where it begins, when an engine is told of it, and the warning if the clock is far behind."""

import asyncio
import io
import json

import pytest

from kvs.adapters.storage.memory.storage import MemoryStorage
from kvs.application.expiry import MAX_BEHIND_MS, Expiry
from kvs.bootstrap import Container, shut_down
from kvs.config import Settings
from kvs.domain.values import MAX_DEADLINE_MS, Record
from kvs.logs import make_logger
from kvs.override import override
from kvs.ports.storage import Storage
from kvs.testing.drivers import Clock
from tests.support.scripted_storage import ScriptedStorage, raising, returning
from tests.support.sessions import UNLIMITED, Bench

WALL_MS = 1_764_350_000_000


def started(storage: Storage, log: io.StringIO, clock: Clock | None = None) -> Expiry:
    """Return the expiry of a server that has just started."""
    return Expiry(storage, lambda: WALL_MS / 1000, clock or Clock(), make_logger("info", "json", log))


@pytest.mark.parametrize("ahead_ms", [-5, 0, 5, MAX_BEHIND_MS, MAX_BEHIND_MS + 1])
def test_a_start_takes_the_later_of_two_clocks(ahead_ms: int) -> None:
    """And warns if that of the machine is far behind."""
    log = io.StringIO()
    expiry = started(ScriptedStorage({"horizon_ms": returning(WALL_MS + ahead_ms)}), log)
    assert expiry.now_ms == WALL_MS + max(ahead_ms, 0)
    events = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [event["event"] for event in events] == ["clock_behind"] * (ahead_ms > MAX_BEHIND_MS)
    for event in events:
        assert (event["level"], event["wall_clock"], event["server_time"]) == (
            "warning",
            "2025-11-28T17:13:20+00:00",
            "2025-11-28T18:13:20+00:00",
        )


def test_a_time_that_no_calendar_has_is_told_of_all_the_same() -> None:
    """The last that there is."""
    log = io.StringIO()
    assert started(ScriptedStorage({"horizon_ms": returning(MAX_DEADLINE_MS)}), log).now_ms == MAX_DEADLINE_MS
    assert "9999-12-31T23:59:59+00:00" in log.getvalue()


def figure(bench: Bench, name: str) -> object:
    """Return a figure, as the admin port asks for it: no tick comes first."""
    return bench.sessions.info()[name]


def test_an_idle_server_is_no_further_behind_its_machine() -> None:
    """However long no tick comes."""
    bench = Bench(MemoryStorage(0, UNLIMITED))
    for _ in range(2):
        bench.clock.now_s += 3600
        assert figure(bench, "server_time_ahead_ms") == 0


def test_expiry_lags_more_and_more_while_no_tick_comes() -> None:
    """As while the engine has refused, or a worker hangs in it; and by nothing where nothing is due."""
    storage = ScriptedStorage({"expire": raising(OSError("full"))})
    bench = Bench(storage)
    bench.clock.now_s += 60
    assert figure(bench, "expiry_lag_s") == 0
    bench.expiry.begin_tick()
    storage.on["earliest_deadline_ms"] = returning(bench.expiry.now_ms + 1000)
    bench.expiry.end_tick()
    bench.clock.now_s += 2
    bench.expiry.begin_tick()
    lag_s = figure(bench, "expiry_lag_s")
    bench.clock.now_s += 60
    later_s = figure(bench, "expiry_lag_s")
    assert isinstance(lag_s, float)
    assert isinstance(later_s, float)
    assert 0.99 < lag_s < 1.01
    assert later_s == pytest.approx(lag_s + 60)


class SetForward:
    """A server whose wall clock is set.

    Attributes:
        wall: The wall clock.
        clock: The monotonic clock.
    """

    def __init__(self) -> None:
        self.wall, self.clock, self.log = Clock(), Clock(), io.StringIO()
        self.wall.now_s = WALL_MS / 1000
        self.storage = MemoryStorage(0, UNLIMITED)
        self.expiry = Expiry(self.storage, self.wall, self.clock, make_logger("info", "json", self.log))
        self.ticks = 0
        self.expiry.when_swept(self.begin_tick)

    def begin_tick(self) -> None:
        """Begin a tick."""
        self.ticks += 1
        self.expiry.end_tick()
        self.expiry.begin_tick()

    @property
    def passed_ms(self) -> int:
        """How much time has passed for clients."""
        return self.expiry.now_ms - WALL_MS


@pytest.mark.parametrize("set_s", [-3600, -1, 0, 0.5, 1])
def test_a_wall_clock_that_is_hardly_ahead_or_behind_is_not_followed(set_s: float) -> None:
    """The time goes on evenly, and nothing is logged."""
    server = SetForward()
    server.wall.now_s += 60 + set_s
    server.clock.now_s += 60
    assert not server.expiry.follow_wall_clock()
    server.begin_tick()
    assert server.passed_ms == 60_000
    assert server.log.getvalue() == ""


def test_a_wall_clock_that_is_ahead_is_followed_and_what_is_due_is_deleted() -> None:
    """At once, as a tick is begun; and it is not followed back."""
    server = SetForward()
    server.storage.put(b"k", Record(b"v", WALL_MS + 3_600_000))
    server.wall.now_s += 3600.5
    server.begin_tick()
    assert server.passed_ms == 0
    assert server.expiry.follow_wall_clock()
    assert server.ticks == 2
    assert server.passed_ms == 3_600_500
    assert server.storage.get(b"k") is None
    (event,) = map(json.loads, server.log.getvalue().splitlines())
    assert (event["event"], event["level"], event["forward_s"]) == ("clock_followed", "info", 3600.5)
    server.wall.now_s -= 3600
    assert not server.expiry.follow_wall_clock()
    server.clock.now_s += 1
    server.begin_tick()
    assert server.passed_ms == 3_601_500


def test_a_reload_follows_the_wall_clock() -> None:
    """As SIGHUP asks for it; the engine's own clock would be the time in place of both."""
    container = Container(settings=Settings())
    wall = Clock()
    container.wall_clock.override(wall)
    try:
        before_ms = container.expiry().now_ms
        reload = container.reloaders()["clock"]
        assert asyncio.run(reload()) == []
        wall.now_s += 5
        assert asyncio.run(reload()) == ["clock"]
        container.expiry().begin_tick()
        assert container.expiry().now_ms - before_ms >= 5000
    finally:
        shut_down(container)


class Told(ScriptedStorage):
    """An engine that keeps the times it was told of."""

    def __init__(self) -> None:
        self.memory = MemoryStorage(0, UNLIMITED)
        super().__init__({"earliest_deadline_ms": self.memory.earliest_deadline_ms})
        self.times_ms: list[int] = []

    @override
    def note_horizon(self, now_ms: int) -> None:
        self.times_ms.append(now_ms)


def test_an_engine_is_told_of_the_time_once_a_tick_if_anybody_looks_at_it() -> None:
    """While there are deadlines, every tick does."""
    storage, clock = Told(), Clock()
    expiry = started(storage, io.StringIO(), clock)
    expiry.begin_tick()
    expiry.end_tick()
    assert storage.times_ms == []
    clock.now_s += 1
    expiry.begin_tick()
    assert expiry.now_ms == expiry.now_ms == WALL_MS + 1000
    assert storage.times_ms == [WALL_MS + 1000]
    storage.memory.put(b"k", Record(b"v", WALL_MS + 100_000))
    expiry.end_tick()
    clock.now_s += 1
    expiry.begin_tick()
    assert storage.times_ms == [WALL_MS + 1000, WALL_MS + 2000]

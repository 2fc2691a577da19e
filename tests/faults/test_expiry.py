"""Deadlines and kills: what is gone stays gone, and nothing goes before it is due, whatever the clock is set to."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Final

import pytest

from kvs.adapters.storage.sqlite.journal import HORIZON_STEP_MS
from kvs.application.expiry import Expiry
from kvs.config import Settings
from kvs.domain.values import NEVER_MS, NO_DEADLINE, Key, Value, deadline_of, with_deadline
from kvs.engines import open_storage
from kvs.ports.storage import Storage
from kvs.testing.drivers import Clock
from tests.faults.points import scratch_directory
from tests.faults.recovery import LOG, read_all
from tests.faults.server import ServerProcess
from tests.support.harness import polling
from tests.support.resp_wire import NULL, OK, Wire
from tests.support.seeds import seeds

DAY_S: Final = 86_400
SHIFTS_S: Final = (-DAY_S, -1, 0, 1, DAY_S)
KEYS: Final = [b"key%d" % number for number in range(12)]
LASTS_MS: Final = (0, 1, 5, 600, 4000, 60_000, DAY_S * 1500)
RUNS: Final = 20
TICKS: Final = 30


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Return a directory in memory."""
    with scratch_directory() as directory:
        yield directory


class Run:
    """An engine and the server's time, from a start to its end.

    Attributes:
        data: The committed data, as replies have shown it.
        told_ms: The server's time when they were told so last.
        written_ms: The server's time when something was made durable last while there were deadlines.
        clock: The monotonic clock.
    """

    def __init__(self, storage: Storage, wall_s: float) -> None:
        self.clock = Clock()
        self._storage = storage
        self._expiry = Expiry(storage, lambda: wall_s, self.clock, LOG)
        self.written_ms = 0
        self._expire()
        self._tell(wrote=self._expiry.deleted > 0)

    def tick(self, chance: Random) -> None:
        """Let time pass, and make durable what is written, and tell."""
        self._tell(wrote=self.write(chance))

    def write(self, chance: Random) -> bool:
        """Let time pass, delete what is due, and write something; return whether anything was written."""
        self.clock.now_s += chance.choice((0, 0.001, 0.01, 0.5, 3))
        deleted = self._expiry.deleted
        self._expire()
        writes = chance.randrange(3)
        for _ in range(writes):
            lasts_ms = chance.choice(LASTS_MS)
            deadline_ms = self._expiry.now_ms + lasts_ms if lasts_ms else NO_DEADLINE
            self._storage.put(chance.choice(KEYS), with_deadline(chance.randbytes(5), deadline_ms))
        if chance.random() < 0.3:
            writes += self._storage.delete(chance.choice(KEYS))
        self._expiry.end_tick()
        return writes > 0 or self._expiry.deleted > deleted

    def _expire(self) -> None:
        self._expiry.begin_tick()
        while self._expiry.lagging:
            self._expiry.begin_tick()

    def _tell(self, *, wrote: bool) -> None:
        self._storage.sync()
        self.data: dict[Key, Value] = read_all(self._storage)
        self.told_ms = self._expiry.now_ms
        if wrote and self._storage.earliest_deadline_ms() != NEVER_MS:
            self.written_ms = self.told_ms


@contextmanager
def running(directory: Path, wall_s: float) -> Iterator[Run]:
    """Start an engine, which deletes what is due."""
    with open_storage(Settings(storage="sqlite", data_dir=str(directory)), {}, LOG) as storage:
        yield Run(storage, wall_s)


@pytest.mark.draws
@pytest.mark.parametrize("seed", seeds(2))
def test_whenever_it_is_killed_and_started(scratch: Path, seed: int) -> None:
    """A start has exactly what was told of and is not due by the server's time, which hardly ever goes back."""
    chance = Random(seed)
    wall_s = 1_800_000_000.0
    expected: dict[Key, Value] = {}
    earliest_ms = 0
    expired = 0
    for number in range(RUNS):
        directory = scratch / str(number)
        with running(directory, wall_s + chance.choice(SHIFTS_S)) as run:
            now_ms = run.told_ms
            assert now_ms >= earliest_ms
            living = {key: value for key, value in expected.items() if not NO_DEADLINE < deadline_of(value) <= now_ms}
            assert run.data == living
            expired += len(expected) - len(living)
            run.written_ms = max(run.written_ms, earliest_ms)
            for _ in range(chance.randrange(TICKS)):
                run.tick(chance)
            end = chance.choice(("stop", "kill", "kill before the sync"))
            if end == "kill before the sync":
                run.write(chance)
            if end != "stop":
                shutil.copytree(directory, scratch / str(number + 1))
        if end == "stop":
            shutil.copytree(directory, scratch / str(number + 1))
        expected = run.data
        earliest_ms = run.told_ms if end == "stop" else run.written_ms - HORIZON_STEP_MS
        wall_s += run.clock.now_s + chance.choice((0, 0.1, 10, 3600))
    assert expired


SHIFTED: Final = """
import sys, time
from dependency_injector import providers
from kvs.bootstrap import Container
shift_s = float(sys.argv[1])
del sys.argv[1:5]
Container.wall_clock.override(providers.Object(lambda: time.time() + shift_s))
from kvs.__main__ import main
main()
"""
"""Runs the command that follows with a wall clock that is set forward, or back."""


@pytest.mark.parametrize("shift_s", [-DAY_S, 0, DAY_S])
def test_a_server_is_killed_and_the_clock_is_set(scratch: Path, shift_s: int) -> None:
    """What was gone is gone; what is left is what is not due by the time of the new start."""
    with ServerProcess(scratch) as server:
        assert server.listens()
        with Wire(("127.0.0.1", server.port)) as client:
            assert client.ask("SET", "plain", "1") == OK
            assert client.ask("SET", "hours", "1", "EX", 3600) == OK
            assert client.ask("SET", "days", "1", "EX", 2 * DAY_S) == OK
            assert client.ask("SET", "soon", "1", "PX", 30) == OK
            for _ in polling("it expires"):
                if client.ask("GET", "soon") == NULL:
                    break
            deadline_ms = client.ask("PEXPIRETIME", "days")
            server.kill()
            server.wait_exit()
    with ServerProcess(scratch, before=(sys.executable, "-c", SHIFTED, str(shift_s))) as server:
        assert server.listens(), server.other_lines
        with Wire(("127.0.0.1", server.port)) as client:
            assert client.ask("GET", "soon") == NULL
            assert client.ask("GET", "plain") == b"1"
            assert client.ask("GET", "hours") == (NULL if shift_s > 0 else b"1")
            assert client.ask("DBSIZE") == (2 if shift_s > 0 else 3)
            assert client.ask("PEXPIRETIME", "days") == deadline_ms
            left_s = client.ask("TTL", "days")
            assert isinstance(left_s, int)
            assert left_s <= 2 * DAY_S - max(shift_s, 0)
        warnings = server.events("clock_behind")
        assert len(warnings) == (shift_s < 0)
        assert all(warning["wall_clock"] < warning["server_time"] for warning in warnings)
        assert server.stop() == 0

"""What is due in a blocking engine is deleted by a worker, one commit at a time, while the loop goes on."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from kvs.adapters.inbound.net.tick import Tick
from kvs.adapters.inbound.protocol.latency import LatencyMonitor
from kvs.adapters.storage.indexed import IndexedStorage
from kvs.application.disposal import Disposal
from kvs.application.executor import Job, WorkerThreads
from kvs.application.expiry import NEVER_S, RETRY_S, Expiry
from kvs.domain.errors import StorageUnavailableError
from kvs.domain.values import Key, Record
from kvs.logs import make_logger
from kvs.testing.drivers import Clock
from tests.support.gated_storage import GatedStorage
from tests.support.scripted_storage import GO_ON, ScriptedStorage, raising, returning
from tests.support.sessions import Bench, run

TIMEOUT_S = 20.0
STEPS = 10


class Sweeping:
    """Sessions over an engine whose commits wait at a gate, and workers.

    Attributes:
        sweeps: What workers were given to do.
        swept: Released for each sweep that has told of its end.
    """

    def __init__(self, threads: WorkerThreads) -> None:
        engine = GatedStorage()
        self.gate = engine.gate
        self.storage = IndexedStorage(engine)
        self.bench = Bench(self.storage)
        self.clock = self.bench.clock
        self.expiry = self.bench.expiry
        self.swept = threading.Semaphore(0)
        self.sweeps: list[Job] = []

        def sweep_on(sweep: Job) -> None:
            self.sweeps.append(sweep)
            threads.run(sweep)

        self.expiry.sweep_on(sweep_on)
        self.expiry.when_swept(self.swept.release)

    def put(self, number: int) -> None:
        """Store so many records that are due in a second."""
        for each in range(number):
            self.storage.put(b"%d" % each, Record(b"v", self.expiry.now_ms + 1000))
        self.expiry.end_tick()

    def pass_time(self) -> None:
        """Let that second pass."""
        self.clock.now_s += 1
        self.expiry.begin_tick()

    def wait(self) -> None:
        """Wait for the end of a sweep."""
        assert self.swept.acquire(timeout=TIMEOUT_S)


@pytest.fixture
def sweeping() -> Iterator[Sweeping]:
    """Return sessions over such an engine."""
    with closing(WorkerThreads(2)) as threads:
        yield Sweeping(threads)


def test_a_worker_deletes_what_is_due(sweeping: Sweeping) -> None:
    """The loop only says so."""
    sweeping.put(3)
    sweeping.pass_time()
    sweeping.wait()
    assert sweeping.storage.count(b"") == 0
    assert sweeping.expiry.deleted == 3
    commits = [thread for name, thread in sweeping.gate.calls if name == "commit"]
    assert threading.get_ident() not in commits[-1:]
    assert not sweeping.expiry.lagging
    assert sweeping.expiry.delay_s() == NEVER_S


def test_one_worker_deletes_at_a_time(sweeping: Sweeping) -> None:
    """However many ticks there are until it has; no timer is needed, since the worker tells."""
    sweeping.put(3)
    sweeping.gate.shut()
    sweeping.pass_time()
    sweeping.gate.wait_for_calls(1)
    for _ in range(5):
        sweeping.expiry.end_tick()
        assert sweeping.expiry.delay_s() == NEVER_S
        sweeping.expiry.begin_tick()
    assert sweeping.expiry.sweeping
    assert sweeping.expiry.lagging
    assert len(sweeping.sweeps) == 1
    sweeping.gate.open()
    sweeping.wait()
    assert not sweeping.expiry.sweeping
    assert not sweeping.swept.acquire(blocking=False)


def test_a_key_that_is_put_anew_stays() -> None:
    """A worker has seen that it is due, and then another one puts something."""
    engine = ScriptedStorage()
    bench = Bench(engine)
    engine.put(b"k", Record(b"old", bench.expiry.now_ms))
    seen = [engine.get(b"k")] * 2

    def get(_: Key) -> object:
        if not seen:
            return GO_ON
        engine.put(b"k", b"new")
        return seen.pop()

    engine.on["get"] = get
    session = bench.open()
    session.get(b"k")
    assert session.get(b"k") == b"new"


def test_commands_do_not_wait_for_it(sweeping: Sweeping) -> None:
    """A read of what is due finds nothing; a count deletes what it needs itself."""
    sweeping.put(3)
    sweeping.expiry.sweep_on(lambda _: None)  # all workers are busy
    sweeping.pass_time()
    session = sweeping.bench.open()
    assert session.get(b"0") is None
    session.start()
    assert session.get(b"1") == Record(b"v", sweeping.expiry.now_ms)  # by the clock of its snapshot
    session.rollback()
    assert run(session.count(b"")) == 0
    assert sweeping.storage.count(b"") == 0
    session.close()


def test_what_is_refused_is_tried_again_later(sweeping: Sweeping) -> None:
    """Not at once, and it is logged once."""
    sweeping.put(3)
    for _ in range(3):
        sweeping.gate.raises = lambda: StorageUnavailableError("away")
        with closing(WorkerThreads(1)) as threads:
            sweeping.expiry.sweep_on(threads.run)
            sweeping.pass_time()
        assert not sweeping.expiry.sweeping
        assert sweeping.expiry.lagging
        sweeping.expiry.end_tick()
        assert sweeping.expiry.delay_s() == RETRY_S
    assert not sweeping.swept.acquire(blocking=False)
    events = [json.loads(line)["event"] for line in sweeping.bench.log.getvalue().splitlines()]
    assert events == ["engine_failed"]


def test_what_an_engine_on_the_loop_refuses_is_tried_again_later() -> None:
    """Ticks would follow each other for nothing."""
    engine = ScriptedStorage({"earliest_deadline_ms": returning(1), "expire": raising(StorageUnavailableError("away"))})
    expiry = Bench(engine).expiry
    expiry.begin_tick()
    assert expiry.lagging
    assert not expiry.has_work
    assert expiry.delay_s() == RETRY_S


def test_a_sweep_ends_in_a_tick() -> None:
    """So that the horizon moves, and the rest of what is due is deleted, while no request arrives."""

    async def scenario() -> None:
        storage = IndexedStorage(GatedStorage())
        clock = Clock()
        failures: list[Exception] = []
        expiry = Expiry(storage, clock, clock, make_logger("info", "json", Bench().log), STEPS)
        with closing(WorkerThreads(1)) as threads:
            expiry.sweep_on(threads.run)
            loop, latency = asyncio.get_running_loop(), LatencyMonitor(clock)
            tracking = Bench().tracking
            tick = Tick(loop, storage, Disposal(), expiry, tracking, latency, failures.append, 16, 1 << 20)
            for each in range(5 * STEPS):
                storage.put(b"%d" % each, Record(b"v", expiry.now_ms + 1000))
            tick.begin()
            tick.end()
            clock.now_s += 1
            tick.begin()
            tick.end()
            async with asyncio.timeout(TIMEOUT_S):
                while expiry.lagging:  # noqa: ASYNC110  # turns of the loop are what it needs
                    await asyncio.sleep(0)
        assert storage.count(b"") == 0
        assert expiry.deleted == 5 * STEPS
        assert failures == []

    asyncio.run(scenario())

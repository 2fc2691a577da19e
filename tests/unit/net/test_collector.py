"""Figures that the loop collects for other threads: in steps, with pauses, and never more often than it may."""

import asyncio
import io
import threading
from collections.abc import Callable
from itertools import count

import pytest

from kvs.adapters.inbound.net.collector import (
    ENDED_BY_OPERATOR,
    PAUSE_FACTOR,
    SHORTEST_S,
    Collected,
    Collector,
)
from kvs.adapters.inbound.net.registry import ChannelRegistry
from kvs.adapters.inbound.protocol.observation import Observation
from kvs.application.executor import WorkerThreads
from kvs.application.figure_table import FIGURES
from kvs.application.registry import SESSIONS_PER_STEP
from kvs.logs import make_logger
from kvs.ports.histogram import Counts
from tests.support.gated_storage import GatedStorage
from tests.support.sessions import Bench
from tests.support.socketless import Socketless
from tests.support.waiting import TIMEOUT_S


class Timer:
    """A clock that advances a little whenever it is read."""

    def __init__(self, step_s: float = 0.0) -> None:
        self.s = 0.0
        self.step_s = step_s

    def __call__(self) -> float:
        self.s += self.step_s
        return self.s


class Watched:
    """A collector of a bench."""

    def __init__(self, bench: Bench | None = None, timer: Callable[[], float] | None = None) -> None:
        self.bench = Bench() if bench is None else bench
        self.clients = ChannelRegistry()
        self.observation = Observation()
        self.timer = Timer() if timer is None else timer
        self.collector = Collector(
            self.bench.sessions,
            self.bench.storage,
            self.clients,
            self.observation,
            None,
            make_logger("info", "json", self.bench.log),
            self.bench.clock,
            self.timer,
        )
        self.collector.start(asyncio.get_running_loop())

    async def collect(self) -> Collected:
        """Return what is collected."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Collected] = loop.create_future()

        def receive(collected: Collected) -> None:
            loop.call_soon_threadsafe(future.set_result, collected)

        self.collector.ask(receive)
        async with asyncio.timeout(TIMEOUT_S):
            return await future


def test_figures_of_all_parts_are_collected() -> None:
    """Sessions, the engine, commands and errors; each is in the table."""

    async def run() -> None:
        watched = Watched()
        statistics = watched.observation.statistics
        for number in range(25):
            statistics.ran(b"command%d" % number, 5000, b"")
        statistics.ran(b"get", 1000, b"CONFLICT")
        statistics.refused(b"put", b"LIMIT")
        watched.bench.storage.put(b"k", b"v")
        collected = await watched.collect()
        figures = collected.figures
        assert figures.keys() <= FIGURES.keys()
        assert (figures["keys"], figures["clients"]) == (1, 0)
        assert figures["errors"] == {"CONFLICT": 1, "LIMIT": 1}
        assert figures["commands_refused"] == dict.fromkeys((f"command{number}" for number in range(25)), 0) | {
            "get": 0,
            "put": 1,
        }
        durations = figures["command_ns"]
        assert isinstance(durations, dict)
        assert len(durations) == 26
        of_get = durations["get"]
        assert isinstance(of_get, Counts)
        assert (sum(of_get.buckets), of_get.total) == (1, 1000)
        assert (collected.transactions, collected.conflict_keys, collected.slow_commands) == ([], [], [])

    asyncio.run(run())


def test_all_who_ask_meanwhile_get_the_same() -> None:
    """And who asks too soon what there was."""

    async def run() -> None:
        timer = Timer()
        watched = Watched(timer=timer)
        first, second = await asyncio.gather(watched.collect(), watched.collect())
        assert first is second
        timer.s += SHORTEST_S / 2
        assert await watched.collect() is first
        timer.s += SHORTEST_S / 2
        assert await watched.collect() is not first

    asyncio.run(run())


def test_each_step_is_followed_by_a_pause_of_nineteen_times_its_length() -> None:
    """So that it takes at most 5 % of the loop, whoever asks, and however many clients there are."""

    async def run() -> None:
        timer = Timer(0.001)
        watched = Watched(timer=timer)
        sessions = [watched.bench.open() for _ in range(SESSIONS_PER_STEP * 4)]
        pauses: list[float] = []
        loop = asyncio.get_running_loop()
        call_later = loop.call_later

        def note(delay_s: float, callback: Callable[..., object], *arguments: object) -> asyncio.TimerHandle:
            pauses.append(delay_s)
            return call_later(0, callback, *arguments)

        loop.call_later = note  # type: ignore[method-assign, assignment]
        collected = await watched.collect()
        assert collected.figures["clients"] == len(sessions)
        assert len(pauses) >= 6
        assert all(pause_s >= PAUSE_FACTOR * 0.001 * 0.99 for pause_s in pauses)
        timer.step_s = 0.0
        timer.s += PAUSE_FACTOR * 0.001 * 0.9
        assert await watched.collect() is collected
        for session in sessions:
            session.close()

    asyncio.run(run())


@pytest.mark.one_build  # compiled classes have no interpreted children
def test_open_transactions_are_told_oldest_first() -> None:
    """With address, age, depth and size."""

    async def run() -> None:
        watched = Watched()
        channels = [Socketless(watched.bench)]
        channels += [Socketless(watched.bench, channels[0]) for _ in range(2)]
        for channel in channels:
            watched.clients.add(channel)
        for channel in channels[1:]:
            channel.arrive(b"START\nSTART\nPUT k v\n")
            watched.bench.clock.now_s += 5
        collected = await watched.collect()
        older, younger = collected.transactions
        assert (older.session, older.age_s, older.depth) == (channels[1].connection.session.id, 10, 2)
        assert (younger.age_s, younger.address) == (5, "here")
        assert younger.held_bytes == channels[2].connection.session.held_bytes

    asyncio.run(run())


@pytest.mark.one_build  # compiled classes have no interpreted children
def test_an_operator_ends_the_transaction_that_was_seen_and_no_later_one() -> None:
    """The client gets an error and is closed."""

    async def run() -> None:
        watched = Watched()
        channel = Socketless(watched.bench)
        watched.clients.add(channel)
        session = channel.connection.session
        channel.arrive(b"START\n")

        async def abort(number: int, seen_s: float) -> bool:
            loop = asyncio.get_running_loop()
            future: asyncio.Future[bool] = loop.create_future()
            watched.collector.abort(number, seen_s, future.set_result)
            async with asyncio.timeout(TIMEOUT_S):
                return await future

        seen_s = (await watched.collect()).seen_s
        assert not await abort(session.id + 1, seen_s)
        channel.arrive(b"ROLLBACK\n")
        assert not await abort(session.id, seen_s)
        watched.bench.clock.now_s += 1
        channel.arrive(b"START\n")
        assert not await abort(session.id, seen_s)
        assert session.depth
        assert await abort(session.id, watched.bench.clock.now_s)
        channel.tick_of_all.end()
        assert not session.depth
        assert ENDED_BY_OPERATOR.encode() in channel.sent
        assert b'"code": "timeout"' in channel.sent
        assert channel.reason == "killed"
        assert '"event": "transaction_aborted"' in watched.bench.log.getvalue()
        watched.clients.remove(channel)
        assert watched.clients.figures()["aborts_by_reason"] == {"killed": 1}

    asyncio.run(run())


def test_a_blocking_engine_is_asked_by_a_worker() -> None:
    """Never by the loop."""

    async def run() -> None:
        engine = GatedStorage()
        watched = Watched(Bench(engine))
        threads = WorkerThreads(1)
        watched.collector.ask_engine_on(threads.run)
        called: list[int] = []
        stats = engine.stats

        def noted() -> object:
            called.append(threading.get_ident())
            return stats()

        engine.stats = noted  # type: ignore[method-assign, assignment]
        figures = (await watched.collect()).figures
        assert "keys" in figures
        assert called
        assert threading.get_ident() not in called
        threads.close()

    asyncio.run(run())


def test_an_engine_that_hangs_is_not_waited_for() -> None:
    """Its figures are missing, and the others are there; nor is it asked again."""

    async def run() -> None:
        watched, jobs = Watched(), list[Callable[[], None]]()
        watched.collector.ask_engine_on(jobs.append)
        figures = (await watched.collect()).figures
        assert "keys" not in figures
        assert "commits" in figures
        watched.timer.s += 1  # type: ignore[attr-defined]
        await watched.collect()
        assert len(jobs) == 1
        jobs.pop()()
        watched.timer.s += 1  # type: ignore[attr-defined]
        collecting = asyncio.ensure_future(watched.collect())
        while not jobs:  # noqa: ASYNC110
            await asyncio.sleep(0)
        jobs.pop()()
        assert "keys" in (await collecting).figures

    asyncio.run(run())


def test_an_engine_that_fails_is_logged_and_left_out() -> None:
    """The other figures are there."""

    async def run() -> None:
        watched = Watched()

        def fail() -> object:
            raise ValueError("broken")

        watched.bench.storage.stats = fail  # type: ignore[method-assign, assignment]
        figures = (await watched.collect()).figures
        assert "keys" not in figures
        assert "commits" in figures
        assert '"event": "engine_failed"' in watched.bench.log.getvalue()

    asyncio.run(run())


def test_nobody_hears_anything_once_the_loop_has_ended() -> None:
    """Who gives up gets what was collected last."""
    watched: list[Watched] = []

    async def run() -> None:
        watched.append(Watched())
        await watched[0].collect()

    asyncio.run(run())
    collector, received = watched[0].collector, io.StringIO()

    def receive(_: Collected) -> None:
        received.write("called")

    watched[0].timer.s += 1  # type: ignore[attr-defined]
    collector.ask(receive)
    assert collector.give_up(receive) is not None
    assert received.getvalue() == ""


def test_numbers_of_steps_grow_with_commands() -> None:
    """So that no step gets longer."""
    numbers = count()

    async def run() -> None:
        watched = Watched()
        for _ in range(100):
            watched.observation.statistics.ran(b"command%d" % next(numbers), 1, b"")
        steps = watched.collector._collect()
        taken = 0
        while True:
            try:
                next(steps)
            except StopIteration:
                break
            taken += 1
        assert taken >= 10

    asyncio.run(run())

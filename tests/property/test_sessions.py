"""Several sessions against the reference model: in process, and over sockets in each protocol."""

from collections.abc import Callable, Iterator
from contextlib import closing
from random import Random
from typing import Final

import pytest

from kvs.adapters.storage.memory.storage import MemoryStorage
from kvs.ports.storage import Storage
from kvs.testing.calls import METHODS
from kvs.testing.drivers import Driver, InProcessDriver
from kvs.testing.machine import LOOK_AROUND, random_call, random_walk, run_machine
from tests.support.drivers import LineDriver, RespDriver
from tests.support.harness import Server, slow_engine
from tests.support.naive_storage import LockedStorage, NaiveStorage
from tests.support.seeds import seeds

NO_LIMIT: Final = 1 << 40

BLOCKING: Final = slow_engine(0.0)[0]
ASYNCIO: Final = ("--transport", "asyncio")


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((), id="memory"),
        pytest.param(ASYNCIO, id="asyncio, memory", marks=pytest.mark.variant),
        pytest.param(("--storage", "sqlite"), id="sqlite", marks=pytest.mark.variant),
        pytest.param(BLOCKING, id="blocking", marks=pytest.mark.variant),
        pytest.param((*ASYNCIO, *BLOCKING), id="asyncio, blocking", marks=pytest.mark.variant),
    ],
)
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    """One real server for all the tests here, of each transport there is on any system, and an engine of each kind."""
    with Server(*request.param) as server:
        yield server.port


DEADLINES: Final = {"deadline", "put_for"}
"""What depends on the time, which a test sets in this process only."""

protocols = pytest.mark.parametrize("driver", [LineDriver, RespDriver])


def memory() -> MemoryStorage:
    """Open an empty memory engine, without limits."""
    return MemoryStorage(0, NO_LIMIT)


def in_process() -> InProcessDriver:
    """Return the driver of sessions in this process."""
    return InProcessDriver(closing(memory()))


engines = pytest.mark.parametrize("engine", [memory, NaiveStorage, LockedStorage])


class TestMachine:
    """The state machine, which shrinks what it finds. It is one of those that draw: see ``tests/conftest.py``."""

    def test_every_reply_in_process_is_the_models(self) -> None:
        """Random calls of several sessions come to what the model predicts."""
        run_machine(in_process)

    @engines
    def test_every_reply_on_worker_threads_is_the_models(self, engine: Callable[[], Storage]) -> None:
        """Who calls the engine cannot be told from the replies."""
        run_machine(lambda: InProcessDriver(closing(engine()), by_workers=True), share=0.1)

    @protocols
    def test_every_reply_over_sockets_is_the_models(self, port: int, driver: type[LineDriver | RespDriver]) -> None:
        """The same, with a real server and real connections that get cut."""
        run_machine(lambda: driver(port), share=0.1, can=driver.can)


class TestWalk:
    """The random walk: thousands of calls on one data set, so that histories and read sets grow old."""

    @pytest.mark.draws
    @pytest.mark.parametrize("seed", seeds(3))
    def test_walk_in_process_agrees_with_the_model(self, seed: int) -> None:
        """The longest."""
        random_walk(in_process(), seed, 40_000)

    @pytest.mark.draws
    @engines
    @pytest.mark.parametrize("by_workers", [False, True])
    @pytest.mark.parametrize("seed", seeds(1))
    def test_walk_while_expiry_lags_agrees_with_the_model(
        self, engine: Callable[[], Storage], by_workers: bool, seed: int
    ) -> None:
        """Commands delete what is due themselves, if nobody else does."""
        random_walk(InProcessDriver(closing(engine()), by_workers=by_workers, lazy=True), seed, 10_000)

    @engines
    def test_walk_on_worker_threads_agrees_with_the_model(self, engine: Callable[[], Storage]) -> None:
        """By whom the engine is called is of no matter."""
        random_walk(InProcessDriver(closing(engine()), by_workers=True), 12, 3_000)

    @protocols
    def test_walk_over_sockets_agrees_with_the_model(self, port: int, driver: type[LineDriver | RespDriver]) -> None:
        """The same over sockets."""
        random_walk(driver(port), 100, 4_000)


class TestCapabilities:
    """What a protocol has no words for, and so is left out of what is tried over it: this and nothing else."""

    @pytest.mark.parametrize(
        ("driver", "lacks"),
        [
            (InProcessDriver, set()),
            (
                LineDriver,
                {"clear", "execute", "put_all", "reset", "transact", "unwatch", "update", "view", "watch"} | DEADLINES,
            ),
            (RespDriver, DEADLINES),
        ],
    )
    def test_driver_lacks_exactly(self, driver: type[Driver], lacks: set[str]) -> None:
        """Of the calls that a walk makes, by their methods."""
        random = Random(1)
        assert {
            call.method for call in (random_call(random) for _ in range(2_000)) if driver.can(call)
        } == METHODS - lacks

    @pytest.mark.parametrize("driver", [LineDriver, RespDriver])
    def test_driver_can_look_around(self, driver: type[Driver]) -> None:
        """At every key and at all of them; only RESP does not count those under a prefix."""
        unsaid = [call for call in LOOK_AROUND if not driver.can(call)]
        assert [call.method for call in unsaid] == (["count"] if driver is RespDriver else [])

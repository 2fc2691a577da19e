"""Several sessions against the reference model, in process and over real sockets."""

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from kvs.adapters.storage.memory.storage import MemoryStorage
from kvs.ports.storage import Storage
from kvs.testing.drivers import InProcessDriver
from kvs.testing.machine import random_walk, run_machine
from tests.support.drivers import SocketDriver, server_process
from tests.support.harness import slow_engine
from tests.support.naive_storage import NaiveStorage
from tests.support.seeds import seeds

NO_LIMIT = 1 << 40


BLOCKS, BLOCKS_ENVIRONMENT = slow_engine(0.0)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("auto", (), {}), id="memory"),
        pytest.param(("asyncio", (), {}), id="asyncio, memory"),
        pytest.param(("auto", ("--storage", "sqlite"), {}), id="sqlite"),
        pytest.param(("auto", BLOCKS, BLOCKS_ENVIRONMENT), id="blocking"),
        pytest.param(("asyncio", BLOCKS, BLOCKS_ENVIRONMENT), id="asyncio, blocking"),
    ],
)
def port(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """One real server for all the tests here, of each transport there is on any system, and an engine of each kind."""
    transport, flags, env = request.param
    if "sqlite" in flags:
        flags = (*flags, "--data-dir", str(tmp_path_factory.mktemp("data")))
    with server_process("--transport", transport, *flags, env=env) as number:
        yield number


def memory() -> MemoryStorage:
    """Open an empty memory engine, without limits."""
    return MemoryStorage(0, NO_LIMIT)


def in_process() -> InProcessDriver:
    """Hand lines to one in this process."""
    return InProcessDriver(closing(memory()))


def test_every_reply_in_process_is_the_models() -> None:
    """Random commands of several sessions are answered as the model predicts."""
    run_machine(in_process, share=2)


def test_every_reply_over_sockets_is_the_models(port: int) -> None:
    """The same, with a real server and real connections that get cut."""
    run_machine(lambda: SocketDriver(port), share=0.25)


@pytest.mark.draws
@pytest.mark.parametrize("seed", seeds(3))
def test_a_long_random_walk_in_process_agrees_with_the_model(seed: int) -> None:
    """Thousands of commands on one data set, so that histories and read sets grow old."""
    random_walk(in_process(), seed, 20_000)


def test_a_long_random_walk_over_sockets_agrees_with_the_model(port: int) -> None:
    """The same over sockets."""
    random_walk(SocketDriver(port), 100, 2_000)


@pytest.mark.parametrize("engine", [memory, NaiveStorage])
def test_every_reply_is_the_models_when_workers_call_the_engine(engine: Callable[[], Storage]) -> None:
    """Who calls the engine cannot be told from the replies."""
    run_machine(lambda: InProcessDriver(closing(engine()), by_workers=True), share=0.1)


@pytest.mark.parametrize("engine", [memory, NaiveStorage])
def test_a_long_random_walk_agrees_with_the_model_when_workers_call_the_engine(engine: Callable[[], Storage]) -> None:
    """The same at length."""
    random_walk(InProcessDriver(closing(engine()), by_workers=True), 12, 3_000)

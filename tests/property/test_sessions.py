"""Several sessions against the reference model, in process and over real sockets."""

from collections.abc import Iterator

import pytest

from kvs.adapters.storage.memory import MemoryStorage
from tests.drivers import InProcessDriver, SocketDriver, server_process
from tests.machine import random_walk, run_machine

NO_LIMIT = 1 << 40


@pytest.fixture(scope="module", params=["auto", "asyncio", "sqlite"])
def port(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """One real server for all the tests here, of each transport there is on any system, and of the durable engine."""
    flags = ["--transport", request.param]
    if request.param == "sqlite":
        flags = ["--storage", "sqlite", "--data-dir", str(tmp_path_factory.mktemp("data"))]
    with server_process(*flags) as number:
        yield number


def in_process() -> InProcessDriver:
    """Open an empty memory engine."""
    return InProcessDriver(MemoryStorage(0, NO_LIMIT))


def test_every_reply_in_process_is_the_models() -> None:
    """Random commands of several sessions are answered as the model predicts."""
    run_machine(in_process, share=2)


def test_every_reply_over_sockets_is_the_models(port: int) -> None:
    """The same, with a real server and real connections that get cut."""
    run_machine(lambda: SocketDriver(port), share=0.25)


@pytest.mark.parametrize("seed", range(3))
def test_a_long_random_walk_in_process_agrees_with_the_model(seed: int) -> None:
    """Thousands of commands on one data set, so that histories and read sets grow old."""
    random_walk(in_process(), seed, 20_000)


def test_a_long_random_walk_over_sockets_agrees_with_the_model(port: int) -> None:
    """The same over sockets."""
    random_walk(SocketDriver(port), 100, 2_000)

"""Sessions over every engine, against the reference model: which engine it is cannot be told from the replies."""

from collections.abc import Callable

import pytest

from kvs.ports.storage import Storage
from tests.drivers import InProcessDriver
from tests.machine import random_walk, run_machine

OpenStorage = Callable[[], Storage]


def test_every_reply_is_the_models(open_storage: OpenStorage) -> None:
    """Random commands of several sessions are answered as the model predicts."""
    run_machine(lambda: InProcessDriver(open_storage()), share=0.5)


@pytest.mark.parametrize("seed", [10, 11])
def test_a_long_random_walk_agrees_with_the_model(open_storage: OpenStorage, seed: int) -> None:
    """Thousands of commands on one data set."""
    random_walk(InProcessDriver(open_storage()), seed, 10_000)


def test_every_reply_is_the_models_when_workers_call_the_engine(open_storage: OpenStorage) -> None:
    """Nor can it be told who calls the engine."""
    run_machine(lambda: InProcessDriver(open_storage(), worker_threads=2), share=0.1)


def test_a_long_random_walk_agrees_with_the_model_when_workers_call_the_engine(open_storage: OpenStorage) -> None:
    """The same at length."""
    random_walk(InProcessDriver(open_storage(), worker_threads=2), 12, 3_000)

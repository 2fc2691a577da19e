"""The engines that the contract is run for."""

from collections.abc import Callable, Iterator

import pytest

from kvs.adapters.storage.memory import MemoryStorage
from kvs.ports.storage import Storage
from tests.naive_storage import NaiveStorage

ENGINES: dict[str, Callable[[], Storage]] = {
    "memory": lambda: MemoryStorage(0, 1 << 40),
    "memory with a limit on its data": lambda: MemoryStorage(1 << 40, 1 << 40),
    "naive": NaiveStorage,
}
"""Ways to open an engine that is empty."""


@pytest.fixture(params=ENGINES)
def open_storage(request: pytest.FixtureRequest) -> Callable[[], Storage]:
    """A way to open an empty engine."""
    return ENGINES[request.param]


@pytest.fixture
def storage(open_storage: Callable[[], Storage]) -> Iterator[Storage]:
    """An empty engine, closed after the test."""
    opened = open_storage()
    yield opened
    opened.close()

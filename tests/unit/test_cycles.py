"""What the server leaves behind is freed by reference counts alone, and the collector does not stop it for long.

See ``tune_gc`` in :mod:`kvs.process`.
"""

import asyncio
import gc
import io
import json
import select
import socket
from collections.abc import Callable

import pytest
from dependency_injector import providers

from kvs.adapters.storage.memory.storage import MemoryStorage
from kvs.bootstrap import Container
from kvs.config import Settings
from kvs.logs import make_logger
from kvs.ports.storage import Storage
from kvs.process import tune_gc
from tests.support.gated_storage import GatedStorage

CLIENTS = 100


def visit(port: int, number: int) -> None:
    """Come, leave a transaction, a mistake and half a line behind, and go; so many times."""
    for _ in range(number):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
            sock.sendall(b"START\nPUT a 1\nKEYS\nnonsense\nGET")
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="the other transport says that it leaves cycles")
@pytest.mark.parametrize("open_storage", [lambda: MemoryStorage(0, 1 << 30), GatedStorage], ids=["memory", "blocking"])
def test_clients_that_left_are_in_no_cycle(open_storage: Callable[[], Storage]) -> None:
    """After many clients the garbage collector finds no more than after a few."""
    log = io.StringIO()
    container = Container(
        settings=Settings(port=0, transport="epoll"),
        storage=providers.Object(open_storage()),
        log=providers.Object(make_logger("info", "json", log)),
    )
    server = container.server()
    found: list[int] = []

    async def serve() -> None:
        running = asyncio.create_task(server.run())
        while "listening" not in log.getvalue():  # noqa: ASYNC110  # the event is a line of the log
            await asyncio.sleep(0)  # the event is a line of the log
        port = json.loads(log.getvalue().splitlines()[0])["port"]
        for number in (10, CLIENTS):
            await asyncio.to_thread(visit, port, number)
            found.append(gc.collect())
        server.stop()
        assert await running == 0

    gc.collect()
    gc.disable()
    try:
        asyncio.run(serve())
    finally:
        gc.enable()
        container.shutdown_resources()
    assert log.getvalue().count("client_disconnected") == 10 + CLIENTS
    assert found[1] < found[0] + CLIENTS // 2


def test_old_versions_of_many_keys_wake_the_collector_for_young_objects_only() -> None:
    """A collection of an older generation would look at all of them while everybody waits."""
    keys = [b"%06d" % number for number in range(50_000)]
    storage = MemoryStorage(0, 1 << 30)
    for key in keys:
        storage.put(key, b"old")
    collected: list[int] = []

    def note(phase: str, about: dict[str, int]) -> None:
        if phase == "start":
            collected.append(about["generation"])

    thresholds = gc.get_threshold()
    gc.callbacks.append(note)
    try:
        tune_gc()
        snapshot = storage.snapshot()
        for key in keys:
            storage.put(key, b"new")
    finally:
        gc.callbacks.remove(note)
        gc.set_threshold(*thresholds)
        gc.unfreeze()
    assert set(collected) == {0}
    assert snapshot.get(keys[0]) == b"old"


def test_the_collector_knows_the_data_set_before_it_is_large() -> None:
    """Else it would look through the whole of it when the first old version is kept. Or it never does."""
    storage = MemoryStorage(0, 1 << 30)
    (data,) = (held for held in gc.get_referents(storage) if isinstance(held, dict))
    tracked = gc.is_tracked(data)
    storage.put(b"k", b"old")
    snapshot = storage.snapshot()
    storage.put(b"k", b"new")
    assert snapshot.get(b"k") == b"old"
    assert gc.is_tracked(data) == tracked

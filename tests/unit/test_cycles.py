"""What the server leaves behind is freed by reference counts alone; see ``_spare_the_collector`` in the bootstrap."""

import asyncio
import gc
import io
import json
import select
import socket

import pytest
from dependency_injector import providers

from kvs.bootstrap import Container
from kvs.config import Settings
from kvs.logs import make_logger

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
def test_clients_that_left_are_in_no_cycle() -> None:
    """After many clients the garbage collector finds no more than after a few."""
    log = io.StringIO()
    container = Container(
        settings=Settings(port=0, transport="epoll"), log=providers.Object(make_logger("info", "json", log))
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
    assert log.getvalue().count("client_left") == 10 + CLIENTS
    assert found[1] < found[0] + CLIENTS // 2

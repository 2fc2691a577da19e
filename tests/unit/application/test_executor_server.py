"""A server over an engine that blocks, in this process: tests see when its loop sleeps, and put its clock forward."""

import asyncio
import io
import json
import select
import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, Literal

import pytest
from dependency_injector import providers

from kvs.bootstrap import Container, shut_down
from kvs.config import ConfigError, Settings
from kvs.domain.errors import LimitError
from kvs.logs import make_logger
from tests.support.gated_storage import TIMEOUT_S, GatedStorage
from tests.support.naive_storage import NaiveStorage

TRANSPORTS = ["epoll", "asyncio"] if hasattr(select, "epoll") else ["asyncio"]


class NotingSelector(selectors.DefaultSelector):
    """Notes when the loop has nothing to do."""

    def __init__(self) -> None:
        super().__init__()
        self.asleep = threading.Event()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """See :class:`selectors.BaseSelector`."""
        if timeout is None or timeout > 0:
            self.asleep.set()
        return super().select(timeout)


class Loop(asyncio.SelectorEventLoop):
    """A loop whose clock can be put forward."""

    def __init__(self) -> None:
        self.noting = NotingSelector()
        self._ahead_s = 0.0
        super().__init__(self.noting)

    def time(self) -> float:
        """See :class:`asyncio.AbstractEventLoop`."""
        return super().time() + self._ahead_s

    def put_forward(self, seconds: float) -> None:
        """Let so much time pass at once. By any thread."""
        done: Future[None] = Future()

        def jump() -> None:
            self._ahead_s += seconds
            done.set_result(None)

        self.call_soon_threadsafe(jump)
        done.result(TIMEOUT_S)


class Client:
    """A connection that is asked a line at a time."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self._replies = self._socket.makefile("rb")

    def send(self, line: str) -> None:
        """Send a line."""
        self._socket.sendall(line.encode() + b"\n")

    def reply(self) -> dict[str, Any]:
        """Return the next reply."""
        reply: dict[str, Any] = json.loads(self._replies.readline())
        return reply

    def ask(self, line: str) -> object:
        """Send a line; return what came of it: its result, or its code."""
        self.send(line)
        reply = self.reply()
        return reply.get("code", reply.get("result"))

    def ends(self) -> bool:
        """Return whether nothing follows."""
        return self._replies.read() == b""

    def close(self) -> None:
        """Leave."""
        self._replies.close()
        self._socket.close()


Script = Callable[[Loop, GatedStorage, Callable[[], Client]], None]


def run(
    transport: Literal["auto", "epoll", "asyncio"],
    script: Script,
    prepare: Callable[[Container], object] = lambda _: None,
    **settings: Any,
) -> None:
    """Run a script, in a thread, against a server that the test may look at first."""
    log = io.StringIO()
    engine = GatedStorage()
    container = Container(
        settings=Settings(port=0, transport=transport, worker_threads=2, **settings),
        storage=providers.Object(engine),
        log=providers.Object(make_logger("info", "json", log)),
    )
    server = container.server()
    prepare(container)
    clients: list[Client] = []

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Loop)
        running = asyncio.create_task(server.run())
        while "listening" not in log.getvalue():  # noqa: ASYNC110  # the event is a line of the log
            await asyncio.sleep(0)
        port = json.loads(log.getvalue().splitlines()[0])["port"]

        def connect() -> Client:
            clients.append(Client(port))
            return clients[-1]

        try:
            await asyncio.to_thread(script, loop, engine, connect)
        finally:
            engine.gate.open()
            for client in clients:
                client.close()
            server.stop()
            assert await running == 0

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(serve())
    shut_down(container)
    assert '"level": "error"' not in log.getvalue()


def test_threads_that_cannot_be_had_are_a_mistake_in_the_settings() -> None:
    """And leave none behind."""
    before = threading.active_count()
    container = Container(settings=Settings(worker_threads=2), storage=providers.Object(GatedStorage()))
    default = threading.stack_size(1 << 46)  # more than there are addresses for
    try:
        with pytest.raises(ConfigError, match=r"^worker_threads: 2 "):
            container.sessions()
    finally:
        threading.stack_size(default)
    assert threading.active_count() == before


def test_threads_end_before_the_engine_is_closed() -> None:
    """Whatever it holds for each of them, nobody uses it any more."""
    before = set(threading.enumerate())  # of other tests, which may end meanwhile
    workers: set[threading.Thread] = set()
    left: list[list[threading.Thread]] = []

    def open_engine() -> Iterator[GatedStorage]:
        yield GatedStorage()
        left.append([worker for worker in workers if worker.is_alive()])

    container = Container(settings=Settings(worker_threads=3), storage=providers.Resource(open_engine))
    container.sessions()
    workers |= set(threading.enumerate()) - before
    assert len(workers) == 3
    shut_down(container)
    assert left == [[]]


def test_engine_that_does_not_block_has_no_threads() -> None:
    """Its sessions are asked without a detour."""
    before = set(threading.enumerate())
    container = Container(settings=Settings(), storage=providers.Object(NaiveStorage()))
    session, executor = container.sessions()()
    assert executor is None
    session.close()
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_loop_sleeps_while_a_call_is_in_flight(transport: Literal["epoll", "asyncio"]) -> None:
    """A client that waits for the engine costs nothing meanwhile, whatever else it has sent."""

    def script(loop: Loop, engine: GatedStorage, connect: Callable[[], Client]) -> None:
        client, other = connect(), connect()
        engine.gate.shut()
        client.send("GET a\nPING\nGET b")
        engine.gate.wait_for_calls(1)
        loop.noting.asleep.clear()
        assert other.ask("PING") == "PONG"
        assert loop.noting.asleep.wait(TIMEOUT_S)
        engine.gate.open()
        assert [client.reply().get("result") for _ in range(3)] == [None, "PONG", None]
        assert engine.gate.names() == ["get", "get"]

    run(transport, script)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("setting", "inside"), [("idle_timeout_s", False), ("idle_timeout_s", True), ("transaction_idle_timeout_s", True)]
)
def test_time_a_call_takes_is_not_its_clients(
    transport: Literal["epoll", "asyncio"], setting: str, inside: bool
) -> None:
    """Whoever waits for an answer is not idle, and has all its time when the answer has come."""

    def script(loop: Loop, engine: GatedStorage, connect: Callable[[], Client]) -> None:
        client, idle = connect(), connect()
        for one in (client, idle):
            assert one.ask("START" if inside else "PING") == (None if inside else "PONG")
        engine.gate.shut()
        client.send("GET a")
        engine.gate.wait_for_calls(1)
        loop.put_forward(3600)
        assert idle.reply()["code"] == "timeout"
        engine.gate.open()
        assert client.reply()["result"] is None
        loop.put_forward(30)  # everybody's timeouts are looked at next
        assert connect().ask("PING") == "PONG"
        assert client.ask("PING") == "PONG"
        loop.put_forward(60)
        assert client.reply()["code"] == "timeout"

    run(transport, script, transaction_timeout_s=0.0, **dict[str, Any]({setting: 60.0}))


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_transaction_is_not_ended_while_its_commit_is_in_flight(transport: Literal["epoll", "asyncio"]) -> None:
    """However long that takes."""

    def script(loop: Loop, engine: GatedStorage, connect: Callable[[], Client]) -> None:
        client, old = connect(), connect()
        for one in (client, old):
            assert [one.ask("START"), one.ask("PUT a 1")] == [None, None]
        engine.gate.shut()
        client.send("COMMIT")
        engine.gate.wait_for_calls(1)
        loop.put_forward(3600)
        assert old.reply()["code"] == "timeout"
        engine.gate.open()
        assert client.reply() == {"status": "Ok"}
        assert client.ask("GET a") == "1"

    run(transport, script, transaction_timeout_s=60.0)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_busy_client_that_is_ended_by_an_error_gets_all_its_replies(transport: Literal["epoll", "asyncio"]) -> None:
    """The connection is not closed before the worker is done."""
    containers: list[Container] = []

    def script(loop: Loop, engine: GatedStorage, connect: Callable[[], Client]) -> None:
        client = connect()
        assert client.ask("PUT a 1") is None
        (channel,) = containers[0].clients().channels.values()
        engine.gate.shut()
        client.send("GET a\nGET b")
        engine.gate.wait_for_calls(1)
        loop.call_soon_threadsafe(channel.fail, LimitError("enough"), "test")
        assert connect().ask("PING") == "PONG"  # after which the channel has been flushed
        engine.gate.open()
        assert client.reply()["result"] == "1"
        assert client.reply()["code"] == "limit"
        assert client.ends()

    run(transport, script, containers.append)

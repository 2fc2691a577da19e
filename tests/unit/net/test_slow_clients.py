"""Clients that are slow but honest: a server in this process, whose clock stands still unless a test puts it forward.

The sockets are real ones. However slow the machine is, the server's clock moves on only when a client has taken the
bytes that the test says it takes, so nobody is ended for the machine's slowness.
"""

import asyncio
import contextlib
import io
import json
import select
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal, TypeAlias

import pytest
from dependency_injector import providers

from kvs.bootstrap import Container, shut_down
from kvs.config import Settings
from kvs.logs import make_logger
from tests.support.waiting import readable

TRANSPORTS: Final = ["epoll", "asyncio"] if hasattr(select, "epoll") else ["asyncio"]
both_transports = pytest.mark.parametrize("transport", TRANSPORTS)
Transport: TypeAlias = Literal["epoll", "asyncio"]

VALUE: Final = b"x" * (8 << 20)
GOT_VALUE: Final = b'{"status": "Ok", "result": "%b"}\n' % VALUE
OK: Final = b'{"status": "Ok"}\n'
PONG: Final = b'{"status": "Ok", "result": "PONG"}\n'

SIP_BYTES: Final = 5000
SIP_S: Final = 0.5
TIMEOUT_S: Final = 60.0
LONG_S: Final = 8 * TIMEOUT_S
"""How long a client is slow for. It takes 5 MB in this time, which is more than any kernel buffers of 8 MiB."""

TURNS: Final = 8
"""Turns of the loop in which everything is done that is due."""


class Loop(asyncio.SelectorEventLoop):
    """A loop whose clock stands still."""

    now_s = 1000.0

    def time(self) -> float:
        """See :class:`asyncio.AbstractEventLoop`."""
        return self.now_s


class Scene:
    """The server's loop, log and port, as a script uses them."""

    def __init__(self, loop: Loop, log: io.StringIO, stop: Callable[[], None]) -> None:
        self.loop = loop
        self.stop = stop
        self._log = log
        self._sockets: list[socket.socket] = []
        self.port = self.events("listening")[0]["port"]

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the events of a name so far."""
        return [event for event in map(json.loads, self._log.getvalue().splitlines()) if event["event"] == name]

    def connect(self) -> socket.socket:
        """Return a client whose kernel takes little."""
        sock = socket.socket()
        self._sockets.append(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 10)
        sock.connect(("127.0.0.1", self.port))
        sock.setblocking(False)
        return sock

    async def send(self, sock: socket.socket, data: bytes) -> None:
        """Send, as fast as the server takes it."""
        await self.loop.sock_sendall(sock, data)

    async def take(self, sock: socket.socket, count: int) -> bytes:
        """Take so many bytes, or all up to the end."""
        taken = bytearray()
        while len(taken) < count:
            data = await self.loop.sock_recv(sock, min(count - len(taken), 1 << 18))
            if not data:
                break
            taken += data
        return bytes(taken)

    def has_something(self, sock: socket.socket) -> bool:
        """Return whether a client can take something, or its end."""
        return readable(sock)

    async def pass_time(self, seconds: float) -> None:
        """Put the clock forward, and let the server do what is due."""
        self.loop.now_s += seconds
        for _ in range(TURNS):
            await asyncio.sleep(0)

    async def sip(self, sock: socket.socket, seconds: float, meanwhile: bytes = b"") -> bytes:
        """Take a little at a time for so long, or up to the end; send something each time."""
        taken = bytearray()
        end_s = self.loop.now_s + seconds
        while self.loop.now_s < end_s:
            if meanwhile:
                with contextlib.suppress(BlockingIOError):
                    sock.send(meanwhile)
            sip = await self.take(sock, SIP_BYTES)
            taken += sip
            if len(sip) < SIP_BYTES:
                break
            await self.pass_time(SIP_S)
        return bytes(taken)

    def close(self) -> None:
        """Close all clients."""
        for sock in self._sockets:
            sock.close()


def play(transport: Transport, script: Callable[[Scene], Awaitable[None]], **settings: Any) -> None:
    """Run a script beside a server that has a large value under the key ``big``."""
    log = io.StringIO()
    container = Container(
        settings=Settings(port=0, transport=transport, **settings),
        log=providers.Object(make_logger("info", "json", log)),
    )
    server = container.server()
    container.storage().put(b"big", VALUE)

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Loop)
        running = asyncio.create_task(server.run())
        while "listening" not in log.getvalue():  # noqa: ASYNC110  # the event is a line of the log
            await asyncio.sleep(0)
        scene = Scene(loop, log, server.stop)
        try:
            await script(scene)
        finally:
            scene.close()
            server.stop()
            while not running.done():
                await scene.pass_time(1.0)
            assert running.result() == 0

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(serve())
    shut_down(container)


@both_transports
def test_any_byte_taken_is_progress(transport: Transport) -> None:
    """A client that takes 5 kB every half second gets a reply of megabytes, which takes many times the timeout."""

    async def script(scene: Scene) -> None:
        client = scene.connect()
        await scene.send(client, b"GET big\nPING\n")
        taken = await scene.sip(client, LONG_S)
        assert not scene.events("client_dropped")
        taken += await scene.take(client, len(GOT_VALUE + PONG) - len(taken))
        assert taken == GOT_VALUE + PONG

    play(transport, script, output_timeout_s=TIMEOUT_S)


@both_transports
@pytest.mark.parametrize("request_", [b"GET big\n", b"GET big\nEXIT\n"], ids=["stays", "leaves"])
def test_a_client_that_takes_nothing_is_dropped(transport: Transport, request_: bytes) -> None:
    """When the timeout is over, not before; also if it took something at first."""

    async def script(scene: Scene) -> None:
        client = scene.connect()
        await scene.send(client, request_)
        await scene.sip(client, 2 * TIMEOUT_S)
        for _ in range(int(TIMEOUT_S) - 10):  # what it took last may be seen some seconds later
            await scene.pass_time(1.0)
        assert not scene.events("client_dropped")
        while not scene.events("client_dropped"):
            await scene.pass_time(1.0)
        assert scene.events("client_dropped")[0]["unread_output_s"] >= TIMEOUT_S
        assert scene.events("client_disconnected")

    play(transport, script, output_timeout_s=TIMEOUT_S)


@both_transports
def test_the_last_reply_is_waited_for(transport: Transport) -> None:
    """However slowly it is taken, and whatever is sent behind it: the kernel has megabytes of it when we have none."""

    async def script(scene: Scene) -> None:
        client = scene.connect()
        await scene.send(client, b"GET big\nEXIT\n")
        taken = await scene.sip(client, float("inf"), meanwhile=b"PING\n")
        assert taken == GOT_VALUE + OK
        assert not scene.events("client_dropped")

    play(transport, script, output_timeout_s=TIMEOUT_S)


@both_transports
def test_the_drain_waits_for_who_takes_a_little(transport: Transport) -> None:
    """For as long as the drain may last; then the server has stopped in order."""

    async def script(scene: Scene) -> None:
        client = scene.connect()
        await scene.send(client, b"GET big\n")
        taken = await scene.sip(client, TIMEOUT_S)
        scene.stop()
        await scene.pass_time(0.0)  # what comes from now on is not answered
        taken += await scene.sip(client, float("inf"), meanwhile=b"PING\n")
        assert taken == GOT_VALUE
        assert not scene.events("drain_interrupted")

    play(transport, script, output_timeout_s=TIMEOUT_S, drain_timeout_s=10 * LONG_S)


@both_transports
@pytest.mark.parametrize("request_", [b"PUT a 1\n", b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n"], ids=["line", "resp"])
def test_who_sends_a_byte_now_and_then_finishes_the_request(transport: Transport, request_: bytes) -> None:
    """A pause is one in which nothing comes at all."""

    async def script(scene: Scene) -> None:
        client = scene.connect()
        for at in range(len(request_)):
            await scene.send(client, request_[at : at + 1])
            for _ in range(int(TIMEOUT_S) - 5):
                await scene.pass_time(1.0)
        assert await scene.take(client, 3) in (b"+OK", OK[:3])

    play(transport, script, input_timeout_s=TIMEOUT_S)


@both_transports
def test_the_last_reply_outlives_any_amount_of_input_behind_it(transport: Transport) -> None:
    """A client that sends all it has before it reads gets what it is owed."""

    async def script(scene: Scene) -> None:
        client = scene.connect()
        await scene.send(client, b"GET big\nEXIT\n" + b"PUT big no\n" * (3 << 20))
        assert await scene.take(client, len(GOT_VALUE + OK) + 1) == GOT_VALUE + OK

    play(transport, script, max_output_bytes=64 << 20, max_tick_output_bytes=64 << 20)  # so that EXIT is run at once


@both_transports
@pytest.mark.parametrize("setting", ["idle_timeout_s", "transaction_idle_timeout_s"])
def test_who_is_still_reading_is_not_idle(transport: Transport, setting: str) -> None:
    """The time to think begins when the reply has been taken."""

    async def script(scene: Scene) -> None:
        client = scene.connect()
        await scene.send(client, b"START\nGET big\n")
        taken = await scene.sip(client, 1.5 * LONG_S)
        taken += await scene.take(client, len(OK + GOT_VALUE) - len(taken))
        await scene.pass_time(TIMEOUT_S / 2)
        await scene.send(client, b"PING\n")
        assert taken + await scene.take(client, len(PONG)) == OK + GOT_VALUE + PONG
        while not scene.has_something(client):
            await scene.pass_time(1.0)
        assert json.loads(await scene.take(client, 1 << 20))["code"] == "timeout"

    play(transport, script, **{setting: TIMEOUT_S})


@both_transports
@pytest.mark.parametrize(
    ("setting", "begin"),
    [("idle_timeout_s", b""), ("transaction_idle_timeout_s", b"START\n"), ("input_timeout_s", b"PI")],
)
def test_what_has_been_sent_and_not_been_read_yet_counts(transport: Transport, setting: str, begin: bytes) -> None:
    """A server that was stopped for long (Ctrl-Z, a laptop's lid) ends nobody who has sent something meanwhile.

    There are more clients than it reads in one turn, and the timeouts are looked at in that turn.
    """

    async def script(scene: Scene) -> None:
        clients = [scene.connect() for _ in range(400)]
        for client in clients:
            await scene.send(client, b"PING\n" + begin)
            assert await scene.take(client, len(PONG)) == PONG
            if begin.endswith(b"\n"):
                assert await scene.take(client, len(OK)) == OK
        for _ in range(10):
            await scene.pass_time(1.0)
        for client in clients:
            client.send(b"NG\n" if begin == b"PI" else b"PING\n")
        await scene.pass_time(3600.0)
        for client in clients:
            assert await scene.take(client, len(PONG)) == PONG

    play(transport, script, **{setting: TIMEOUT_S, "transaction_timeout_s": 0.0})


@both_transports
@pytest.mark.parametrize("turns", range(1, 10))
def test_a_client_that_came_just_before_the_stop_is_answered(transport: Transport, turns: int) -> None:
    """However far the server had got with it."""

    async def script(scene: Scene) -> None:
        client = scene.connect()
        client.send(b"PING\n")
        while not (scene.has_something(client) or scene.events("client_connected")):  # noqa: ASYNC110  # a line of the log
            await asyncio.sleep(0)
        for _ in range(turns - 1):
            await asyncio.sleep(0)
        scene.stop()
        assert await scene.take(client, len(PONG) + 1) == PONG

    play(transport, script)

"""Endpoints: where a server listens, and what is spoken there."""

import asyncio
import io
import socket
from collections.abc import Awaitable, Callable

import pytest

from kvs.adapters.inbound.net.listener import Endpoint, Listener, ListenError, TcpBinding
from kvs.adapters.inbound.protocol.connection import Connection
from kvs.logs import make_logger

pytestmark = pytest.mark.one_build


def refuse() -> Connection:
    """Open no conversation: these tests end before one begins."""
    raise AssertionError


def greet() -> Connection:
    """Like :func:`refuse`, and told apart from it."""
    raise AssertionError


def listen(endpoints: list[Endpoint], script: Callable[["Heard", list[int]], Awaitable[None]]) -> None:
    """Run a script beside a listener on endpoints; it is given what is accepted, and the ports."""

    async def run() -> None:
        heard = Heard()
        listener = Listener(endpoints, heard.accept, 1.0, make_logger("info", "json", io.StringIO()))
        try:
            listener.resume()
            await script(heard, [port for _, port in listener.addresses])
        finally:
            listener.close()

    asyncio.run(run())


class Heard:
    """Who has been accepted where."""

    def __init__(self) -> None:
        self.accepted: list[tuple[str, Callable[[], Connection]]] = []
        self._more = asyncio.Event()

    def accept(self, sock: socket.socket, address: str, endpoint: Endpoint) -> None:
        """Note a client and let it go."""
        sock.close()
        self.accepted.append((address, endpoint.connect))
        self._more.set()

    async def wait(self, number: int) -> None:
        """Wait until so many have been accepted."""
        while len(self.accepted) < number:
            self._more.clear()
            await self._more.wait()


def at(port: int, connect: Callable[[], Connection], bound: list[int]) -> Endpoint:
    """Return an endpoint on loopback, which notes its port."""
    return Endpoint(TcpBinding(("127.0.0.1",), port), connect, bound=lambda sock: bound.append(sock.getsockname()[1]))


def test_each_endpoint_has_a_conversation_of_its_own() -> None:
    """And tells its port."""
    bound: list[int] = []
    endpoints = [at(0, connect, bound) for connect in (refuse, greet)]

    async def script(heard: Heard, ports: list[int]) -> None:
        assert bound == ports
        assert ports[0] != ports[1]
        for number, (port, connect) in enumerate(zip(reversed(ports), (greet, refuse), strict=True), 1):
            with socket.create_connection(("127.0.0.1", port)) as client:
                host, own_port = client.getsockname()
                await heard.wait(number)
                assert heard.accepted[-1] == (f"{host}:{own_port}", connect)

    listen(endpoints, script)


def test_one_that_cannot_be_bound_frees_the_others() -> None:
    """Nothing is listened on then."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        bound: list[int] = []
        free = at(0, refuse, bound)

        async def never(_: Heard, __: list[int]) -> None:
            raise AssertionError

        with pytest.raises(ListenError, match=f"127.0.0.1:{port}"):
            listen([free, at(port, refuse, bound)], never)
        with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", bound[0])):
            pass

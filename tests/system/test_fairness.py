"""One client's work does not delay another's PING: 1, 10 and 200 hostile clients over real sockets.

The server runs in this process, so that its work can be counted: between a PING and its reply it may use a few budgets
of a tick, in units, whatever the hostile clients ask for. How long a PING took is recorded, and asserted nowhere.
"""

import asyncio
import io
import json
import select
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal

import pytest
from dependency_injector import providers

from kvs.adapters.inbound.net.server import Server
from kvs.adapters.inbound.net.tick import UNITS_PER_TICK
from kvs.bootstrap import Container, shut_down
from kvs.config import Settings
from kvs.logs import make_logger
from tests.support.resp_wire import request

BACKENDS: Final = ["epoll", "asyncio"] if hasattr(select, "epoll") else ["asyncio"]

PINGS: Final = 10
ROUNDS: Final = 2
"""How many answers to its request every hostile client gets while others are served."""

MAX_UNITS: Final = 3 * UNITS_PER_TICK
"""Between a PING and its reply: deferred work that had begun, the packets of the PING's tick, and, as the client is in
this process, the deferred work after it. Each of the three is at most one budget."""

PONG: Final = b'{"status": "Ok", "result": "PONG"}\n'


@dataclass(frozen=True)
class Hostile:
    """What a hostile client sends.

    Attributes:
        prepare: Sent once.
        request: Sent again and again, when the reply to the last one has come.
        end: What the reply to the request ends with.
    """

    prepare: Callable[[int], bytes]
    request: bytes
    end: bytes


MARK: Final = b"the end"

HOSTILE: Final = {
    "pipelined reads": Hostile(lambda _: b"", b"GET k\n" * 300 + b"GET mark\n", MARK + b'"}\n'),
    "pipelined writes": Hostile(lambda _: b"", b"PUT k%b\n" % (b"v" * 100) * 300 + b"GET mark\n", MARK + b'"}\n'),
    "unknown commands": Hostile(lambda _: b"", b"NONSENSE\n" * 20 + b"GET mark\n", MARK + b'"}\n'),
    "listings of a transaction": Hostile(
        lambda number: b"START\n" + b"".join(b"PUT %d/%d v\n" % (number, at) for at in range(50)),
        b"COUNT\nKEYS\n" * 4 + b"GET mark\n",
        MARK + b'"}\n',
    ),
    "many keys in one request": Hostile(
        lambda _: b"",
        request("MSET", *[word for at in range(200) for word in (f"k{at}", "v")]) * 2 + request("GET", "mark"),
        MARK + b"\r\n",
    ),
    "large replies": Hostile(lambda _: b"", b"GET big\n" * 5 + b"GET mark\n", MARK + b'"}\n'),
    "small requests": Hostile(lambda _: b"", b"GET mark\n", MARK + b'"}\n'),
}
OVERSHOOT: Final = 110
"""Units of the dearest single request of them: what a budget can be exceeded by."""


@asynccontextmanager
async def serving(backend: Literal["epoll", "asyncio"]) -> AsyncIterator[tuple[Server, int]]:
    """Run a server in this loop; yield it with its port."""
    log = io.StringIO()
    container = Container(
        settings=Settings(port=0, transport=backend), log=providers.Object(make_logger("info", "json", log))
    )
    container.storage().put(b"mark", MARK)
    container.storage().put(b"big", b"x" * 20_000)
    server = container.server()
    running = asyncio.create_task(server.run())
    while "listening" not in log.getvalue():  # noqa: ASYNC110  # the event is a line of the log
        await asyncio.sleep(0)
    try:
        yield server, json.loads(log.getvalue().splitlines()[0])["port"]
    finally:
        server.stop()
        assert await running == 0
        shut_down(container)


class Attacker:
    """A hostile client.

    Attributes:
        rounds: How many times its request has been answered.
    """

    def __init__(self, hostile: Hostile, number: int) -> None:
        self.rounds = 0
        self._hostile = hostile
        self._number = number

    async def attack(self, port: int) -> None:
        """Attack until cancelled."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(self._hostile.prepare(self._number))
            while True:
                writer.write(self._hostile.request)
                tail = b""
                while not tail.endswith(self._hostile.end):
                    data = await reader.read(1 << 16)
                    assert data, "the server has closed the connection"
                    tail = (tail + data)[-len(self._hostile.end) :]
                self.rounds += 1
        finally:
            writer.close()


@pytest.mark.parametrize(
    ("backend", "clients"),
    [(backend, clients) for backend in BACKENDS for clients in (1, 10, 200) if clients == 10 or backend == BACKENDS[0]],
)
@pytest.mark.parametrize("name", HOSTILE)
def test_ping_waits_for_no_more_than_a_bounded_amount_of_work(
    name: str, clients: int, backend: Literal["epoll", "asyncio"], record_property: Callable[[str, object], None]
) -> None:
    """And every hostile client gets on."""
    hostile = HOSTILE[name]
    units: list[int] = []
    seconds: list[float] = []

    async def ping(server: Server, port: int, attackers: list[Attacker]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while min(attacker.rounds for attacker in attackers) < 1:  # until then, nobody knows what their requests cost
            writer.write(b"PING\n")
            assert await reader.readexactly(len(PONG)) == PONG
        while len(units) < PINGS or min(attacker.rounds for attacker in attackers) < ROUNDS:
            used, started_s = server.tick.used_units, time.perf_counter()
            writer.write(b"PING\n")
            assert await reader.readexactly(len(PONG)) == PONG
            units.append(server.tick.used_units - used)
            seconds.append(time.perf_counter() - started_s)
        writer.close()

    async def run() -> None:
        async with serving(backend) as (server, port):
            attackers = [Attacker(hostile, number) for number in range(clients)]
            attacks = [asyncio.create_task(attacker.attack(port)) for attacker in attackers]
            await ping(server, port, attackers)
            for attack in attacks:
                attack.cancel()
            await asyncio.wait(attacks)
            assert all(attack.cancelled() for attack in attacks)

    asyncio.run(run())
    record_property("longest_ping_ms", round(max(seconds) * 1000, 1))
    record_property("most_units", max(units))
    assert max(units) <= MAX_UNITS + 3 * OVERSHOOT

"""A channel whose client has not told its protocol yet goes on as any other, once it has."""

import asyncio
from collections.abc import Callable
from typing import Final

import pytest

from kvs.adapters.inbound.resp.connection import RespConnection
from tests.support.sessions import Bench
from tests.support.socketless import Socketless

# An interpreted class cannot derive from the compiled one.
pytestmark = pytest.mark.one_build

PONG: Final = b"+PONG\r\n"


def play(script: Callable[[Socketless], None]) -> None:
    """Run a script with a channel."""

    async def run() -> None:
        channel = Socketless(Bench())
        script(channel)
        channel.abort()

    asyncio.run(run())


@pytest.mark.parametrize("pings", [0, 1, 2])
def test_the_drain_ends_behind_what_had_arrived(pings: int) -> None:
    """Also if the protocol is found on the way there; what comes later is not run."""

    def script(channel: Socketless) -> None:
        packets = [b"PING\r\n"] * pings + [b"SET k v\r\n", b"GET k\r\n"]
        channel.to_come = sum(map(len, packets))
        channel.drain()
        for packet in packets:
            assert not channel.connection.closing
            channel.arrive(packet)
        assert channel.connection.closing
        channel.arrive(b"SET k w\r\n")
        assert channel.sent == PONG * pings + b"+OK\r\n$1\r\nv\r\n"

    play(script)


def test_what_comes_behind_the_first_line_is_charged() -> None:
    """A packet that tells the protocol is charged with all that it has run, in either protocol."""

    def script(channel: Socketless) -> None:
        channel.arrive(b"PING\r\n" * 20 + b"SET k v\r\n" + b"GET k\r\n" * 10)
        assert isinstance(channel.connection, RespConnection)
        assert channel.sent == PONG * 20 + b"+OK\r\n" + b"$1\r\nv\r\n" * 10
        assert channel.tick_of_all.used_units == 31

    play(script)

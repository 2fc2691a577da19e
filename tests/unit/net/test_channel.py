"""A channel whose client has not told its protocol yet goes on as any other, once it has."""

import asyncio
from collections.abc import Callable
from typing import Final

import pytest

from kvs.adapters.inbound.net.reasons import RELAY_REFUSED
from kvs.adapters.inbound.net.relay import ADMITTED, RelayGuard, preamble
from kvs.adapters.inbound.protocol.client_state import ClientState
from kvs.adapters.inbound.resp.connection import RespConnection
from tests.support.sessions import Bench
from tests.support.socketless import Socketless

# An interpreted class cannot derive from the compiled one.
pytestmark = pytest.mark.one_build

PONG: Final = b"+PONG\r\n"
SECRET: Final = "0123456789abcdef" * 2


def play(script: Callable[[Socketless], None], relays: RelayGuard | None = None) -> None:
    """Run a script with a channel."""

    async def run() -> None:
        channel = Socketless(Bench(), relays=relays)
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


def test_a_relay_is_admitted_before_anything_else_is_said() -> None:
    """Its standby sends nothing of the client before."""

    def script(channel: Socketless) -> None:
        channel.arrive(preamble(SECRET, 7, "1.2.3.4:5", ClientState(2)))
        assert channel.sent == ADMITTED + b"\n"
        channel.resume(1)  # it looks whether something has come with the preamble
        channel.arrive(b"*1\r\n$4\r\nPING\r\n")
        assert channel.sent == ADMITTED + b"\n" + PONG
        assert channel.remote_address == "1.2.3.4:5"

    play(script, RelayGuard(SECRET, 7))


def test_a_relay_of_an_older_version_is_told_nothing() -> None:
    """It would take that for a reply to its client."""

    def script(channel: Socketless) -> None:
        channel.arrive(b"\0KVS-RELAY-1 %b 7 1.2.3.4:5\nPING\r\nSET k v\r\n" % SECRET.encode())
        assert channel.sent == PONG + b"+OK\r\n"

    play(script, RelayGuard(SECRET, 7))


def test_a_server_that_stops_admits_no_relay() -> None:
    """What its client sends would not be read, and nobody would know whether it was run."""

    def script(channel: Socketless) -> None:
        line = preamble(SECRET, 7, "1.2.3.4:5", ClientState())
        channel.to_come = len(line)
        channel.drain()
        channel.arrive(line)
        assert channel.sent == b""
        assert channel.connection.closing

    play(script, RelayGuard(SECRET, 7))


def test_a_relay_of_another_term_is_refused() -> None:
    """Without a word."""

    def script(channel: Socketless) -> None:
        channel.arrive(preamble(SECRET, 6, "1.2.3.4:5", ClientState()))
        assert channel.sent == b""
        assert channel.reason == RELAY_REFUSED

    play(script, RelayGuard(SECRET, 7))

"""A channel whose client has not told its protocol yet goes on as any other, once it has."""

import asyncio
import io
from collections.abc import Callable
from typing import Final

import pytest

from kvs.adapters.inbound.net.channel import Channel, ChannelContext
from kvs.adapters.inbound.net.tick import Tick
from kvs.adapters.inbound.net.timeouts import ServerLimits
from kvs.adapters.inbound.protocol.latency import LatencyMonitor
from kvs.adapters.inbound.resp.connection import RespConnection
from kvs.logs import make_logger
from tests.support.detection import new_detector
from tests.support.sessions import Bench

# An interpreted class cannot derive from the compiled one.
pytestmark = pytest.mark.one_build

PONG: Final = b"+PONG\r\n"


class Socketless(Channel):
    """A channel without a socket.

    Attributes:
        sent: What was sent.
        to_come: Size of the input that is said to have arrived.
    """

    def __init__(self, bench: Bench) -> None:
        loop = asyncio.get_running_loop()
        self.tick_of_all = Tick(
            loop, bench.storage, bench.disposal, bench.expiry, LatencyMonitor(bench.clock), lambda _: None
        )
        limits = ServerLimits(10, 0, 0, 0, 0, 0, 0)
        log = make_logger("info", "json", io.StringIO())
        context = ChannelContext(loop, self.tick_of_all, bench.budget, limits, lambda _: None, log)
        self.sent = b""
        self.to_come = 0
        super().__init__(context, new_detector(bench).connect(), "here")

    def arrive(self, data: bytes) -> None:
        """Deliver a packet, and end the tick."""
        self.tick_of_all.begin()
        self.data_received(data)
        self.tick_of_all.end()

    def write(self, output: list[bytes], size: int) -> None:
        """See :class:`Channel`, as for all of these."""
        self.sent += b"".join(output)
        assert len(b"".join(output)) == size

    def get_write_buffer_size(self) -> int:
        return 0

    def fileno(self) -> int:
        return -1

    def find_local_address(self) -> str:
        return ""

    def unread_bytes(self) -> int:
        return self.to_come

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def write_eof(self) -> None:
        pass

    def close(self) -> None:
        self.connection_lost(None)

    def abort(self) -> None:
        self.connection_lost(None)


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

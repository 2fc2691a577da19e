"""A channel without a socket."""

import asyncio
import io

from kvs.adapters.inbound.net.channel import Channel
from kvs.adapters.inbound.net.channel_context import ChannelContext
from kvs.adapters.inbound.net.guard import Guard
from kvs.adapters.inbound.net.handshakes import Handshakes
from kvs.adapters.inbound.net.relay import RelayGuard
from kvs.adapters.inbound.net.tick import Tick
from kvs.adapters.inbound.net.timeouts import ServerLimits
from kvs.adapters.inbound.protocol.latency import LatencyMonitor
from kvs.logs import make_logger
from tests.support.detection import new_detector
from tests.support.sessions import Bench


class Socketless(Channel):
    """A channel without a socket.

    Args:
        bench: The engine, and what else channels share.
        other: A channel with which it shares the tick.
        max_output_bytes: Held output above which it is not served.
        guard: Its guard.
        relays: Admits relays; None: there are none.

    Attributes:
        sent: What was sent.
        closed: Whether it was closed behind that.
        reading: Whether it reads.
        to_come: Size of the input that is said to have arrived.
        unsent_bytes: Size of the output that the kernel is said not to have taken.
        failures: What the engine has failed with.
    """

    def __init__(
        self,
        bench: Bench,
        other: "Socketless | None" = None,
        max_output_bytes: int = 1 << 20,
        guard: Guard | None = None,
        relays: RelayGuard | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.failures: list[Exception] = []
        failed, latency = self.failures.append, LatencyMonitor(bench.clock)
        self.tick_of_all: Tick = (
            Tick(loop, bench.storage, bench.disposal, bench.expiry, bench.tracking, latency, failed, 16, 1 << 20)
            if other is None
            else other.tick_of_all
        )
        limits = ServerLimits(10, 0, 0, 0, 0, 0, 0, max_output_bytes, 16, 1 << 20)
        log = make_logger("info", "json", io.StringIO())
        context = ChannelContext(
            loop,
            self.tick_of_all,
            bench.budget,
            limits,
            relays,
            Handshakes(10),
            lambda _: None,
            lambda _: None,
            log,
            lambda _: None,
        )
        self.sent = b""
        self.closed = False
        self.reading = True
        self.to_come = 0
        self.unsent_bytes = 0
        super().__init__(context, new_detector(bench).connect(), "here", guard)

    def arrive(self, data: bytes) -> None:
        """Deliver a packet, and end the tick."""
        self.tick_of_all.begin()
        self.data_received(data)
        self.tick_of_all.end()

    def write(self, output: list[bytes], size: int) -> None:
        """See :class:`Channel`, as for all of these."""
        data = b"".join(output)
        assert len(data) == size
        assert not self.closed
        tls = None if self._guard is None else self._guard.tls
        self.sent += data if tls is None else tls.seal(data)

    def write_sealed(self, data: bytes) -> None:
        self.sent += data

    def get_write_buffer_size(self) -> int:
        return self.unsent_bytes

    def fileno(self) -> int:
        return -1

    def find_local_address(self) -> str:
        return ""

    def unread_bytes(self) -> int:
        return self.to_come

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def write_eof(self) -> None:
        self.closed = True

    def close(self) -> None:
        self.closed = True
        self.connection_lost(None)

    def abort(self) -> None:
        self.connection_lost(None)

"""Output that waits until the batches which it may tell of are durable."""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Final, final

from kvs.adapters.inbound.net.tick_member import TickMember
from kvs.adapters.inbound.protocol.latency import SYNC, LatencyMonitor
from kvs.domain.errors import OutcomeUnknownError

LOST: Final = "The engine has failed: what was not answered may or may not have been applied."


@final
class ChannelOutput:
    """The output of one channel that is held, tick by tick.

    Attributes:
        size_bytes: Size of all of it.
        since_s: When the oldest came, or what was before it was sent; in seconds of the loop's clock.
    """

    __slots__ = ("_ticks", "since_s", "size_bytes")

    def __init__(self) -> None:
        self._ticks: Final[list[tuple[list[bytes], int]]] = []
        self.size_bytes = 0
        self.since_s = 0.0

    @property
    def empty(self) -> bool:
        """Whether there is none."""
        return not self._ticks

    def add(self, output: list[bytes], size: int, now_s: float) -> None:
        """Hold the output of a tick, which has so many bytes."""
        if not self._ticks:
            self.since_s = now_s
        self._ticks.append((output, size))
        self.size_bytes += size

    def take(self, now_s: float) -> tuple[list[bytes], int]:
        """Return the output of the oldest tick, and its size."""
        output, size = self._ticks.pop(0)  # one, as nearly always, or a few
        self.size_bytes -= size
        self.since_s = now_s
        return output, size

    def clear(self) -> None:
        """Drop all of it."""
        self._ticks.clear()
        self.size_bytes = 0


@final
class Ticks:
    """Consecutive ticks whose output waits for the same batch.

    Attributes:
        mark: Mark of the batch.
        sealed_s: When the first of them ended, in seconds of the loop's clock.
        members: Those that hold output, once for each tick.
        size_bytes: Size of that output.
    """

    __slots__ = ("mark", "members", "sealed_s", "size_bytes")

    def __init__(self, mark: int, sealed_s: float) -> None:
        self.mark: Final = mark
        self.sealed_s: Final = sealed_s
        self.members: Final[list[TickMember]] = []
        self.size_bytes = 0


@final
class HeldOutput:
    """All output that is held, in order.

    Args:
        loop: For its clock.
        latency: Notes how long batches take.

    Attributes:
        size_bytes: Size of the output.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, latency: LatencyMonitor) -> None:
        self.size_bytes = 0
        self._loop = loop
        self._latency = latency
        self._ticks: Final[deque[Ticks]] = deque()

    def hold(self, mark: int, members: Iterable[TickMember]) -> None:
        """Hold the output of a tick until a batch is durable.

        Args:
            mark: Mark of the batch, which is not before that of the last tick.
            members: Those that are dirty.
        """
        if not self._ticks or self._ticks[-1].mark != mark:
            self._ticks.append(Ticks(mark, self._loop.time()))
        ticks = self._ticks[-1]
        for member in members:
            member.dirty = False
            try:
                size = member.hold()
            except Exception as error:  # one client's trouble is not another's
                member.crash(error)
                continue
            if size >= 0:
                ticks.members.append(member)
                ticks.size_bytes += size
                self.size_bytes += size

    def release(self, durable_mark: int) -> None:
        """Send the output that has waited for this batch, or for earlier ones."""
        if not self._ticks or self._ticks[0].mark > durable_mark:
            return
        now_s = self._loop.time()
        while self._ticks and self._ticks[0].mark <= durable_mark:
            ticks = self._ticks.popleft()
            self.size_bytes -= ticks.size_bytes
            if self._latency.is_on:
                self._latency.add_s(SYNC, now_s - ticks.sealed_s)
            for member in ticks.members:
                try:
                    member.release(now_s)
                except Exception as error:  # as above
                    member.crash(error)

    def discard(self, dirty: Iterable[TickMember]) -> None:
        """Drop all output, also that of the current tick, and tell those who were owed some that they cannot know."""
        owed = dict.fromkeys([member for ticks in self._ticks for member in ticks.members] + list(dirty))
        self._ticks.clear()
        self.size_bytes = 0
        for member in owed:
            try:
                member.discard(OutcomeUnknownError(LOST))
            except Exception as error:  # as above
                member.crash(error)

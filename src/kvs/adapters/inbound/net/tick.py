"""The tick: run requests, make their effects durable, send the replies. And the budget that bounds its work.

The order
    Channels run their packets as the backend delivers them, and mark themselves dirty. When every packet of an
    iteration of the loop has been run, the tick ends: one ``sync`` of the engine, then every dirty channel sends its
    replies, also those to reads. No output is sent earlier, so no client sees a result that is not as durable as the
    engine promises. A blocking engine needs no ``sync``: its calls return when their effects are durable.

The budget
    All channels together do a bounded amount of work between two polls of the sockets. It is counted in units of about
    1 us in the compiled build; a connection gets a quota and returns the units used. Every packet gets a small quota on
    arrival, so that a short request is answered in its tick, whatever the other clients do. A channel with requests
    left over is deferred. Deferred channels share the rest of the budget, round robin, after the sockets have been
    polled again and the ready replies have been sent; at least a quarter of the budget is reserved for them, so that
    they make progress however many packets arrive. A request cannot always be interrupted; a channel that has exceeded
    its quotas is in debt, and its packets are deferred until it has used as much less. When the budget is exceeded by
    half, packets that may complete a large request are deferred, too: many may come at once.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final, final

from kvs.adapters.inbound.protocol.latency import EXPIRE_CYCLE, SYNC, TICK, LatencyMonitor
from kvs.application.disposal import Disposal
from kvs.application.expiry import NEVER_S, Expiry
from kvs.build import BUILD
from kvs.ports.storage import Storage

UNITS_PER_TICK: Final = 10_000 if BUILD == "compiled" else 2_500
"""About 10 ms of work. Some requests take more than their price: one in a transaction 2 us, one with a new key 3."""

BUSY_S: Final = 0.02
"""Time after a request in which others may be on their way, so that ticks stay short."""

ALARM_SLACK_S: Final = 0.001
"""The server's time is in whole milliseconds, so a deadline may be passed by nearly one."""

PACKETS_PER_TICK: Final = 128
"""Packets per tick that are guaranteed a quota. A backend should deliver no more before it ends the tick."""


class TickMember(ABC):
    """A channel, as the tick sees it.

    Attributes:
        dirty: It is flushed at the end of this tick.
        deferred: It is in the queue of members with work left over.
        debt: Units by which it has exceeded its quotas.
    """

    __slots__ = ("debt", "deferred", "dirty")

    def __init__(self) -> None:
        self.dirty = False
        self.deferred = False
        self.debt = 0

    @property
    @abstractmethod
    def holds_large_input(self) -> bool:
        """Whether a packet may complete a request that takes long to copy."""

    @abstractmethod
    def resume(self, quota: int) -> int:
        """Run about so many units of the work left over; return the units used."""

    @abstractmethod
    def flush(self) -> None:
        """Send the output; call :meth:`Tick.defer` if work is left over."""

    @abstractmethod
    def crash(self, error: Exception) -> None:
        """Close at once: a bug or lack of memory has left the member in an unknown state."""


@final
class Tick:
    """The ticks of one server.

    Args:
        loop: The running loop.
        storage: The engine, for its ``sync``.
        disposal: What clients have dropped; some is freed in each tick.
        expiry: Deletes what is due, at the beginning of each tick.
        latency: Notes what has taken long.
        sync_failed: Called when ``sync`` raises. Nothing is sent from then on.
        units: Budget of a tick.

    Attributes:
        now_s: When the tick began, in seconds of the loop's clock.
        used_units: Total units used.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        storage: Storage,
        disposal: Disposal,
        expiry: Expiry,
        latency: LatencyMonitor,
        sync_failed: Callable[[Exception], None],
        units: int = UNITS_PER_TICK,
    ) -> None:
        self.now_s = loop.time()
        self.used_units = 0
        self._loop = loop
        self._storage = storage
        self._disposal = disposal
        self._expiry = expiry
        self._latency = latency
        self._alarm: asyncio.TimerHandle | None = None  # for the earliest deadline
        self._syncs = not storage.blocking
        expiry.when_swept(self._wake_after_sweep)
        self._sync_failed = sync_failed
        self._units = units
        self._half = units // 2  # below this, packets get no more than ...
        self._base_quota = max(1, self._half // PACKETS_PER_TICK)
        self._left = units
        self._packets = 0
        self._dirty: list[TickMember] = []
        self._woken: list[TickMember] = []
        self._deferred: deque[TickMember] = deque()
        self._busy_s = 0.0  # when there were requests
        self._open = False
        self._end_scheduled = False
        self._serving = False  # serving the deferred is scheduled, and ends this budget
        self._failed = False

    def begin(self) -> None:
        """Begin a tick. The caller calls :meth:`end` in the same iteration of the loop."""
        if not self._open:
            self._open = True
            self._packets = 0
            self.now_s = self._loop.time()
            if self._left < self._units:
                self._busy_s = self.now_s
            self._expiry.begin_tick(busy=self.now_s - self._busy_s < BUSY_S)
            if self._latency.is_on:
                self._latency.add_s(EXPIRE_CYCLE, self._loop.time() - self.now_s)
            if not self._serving:
                self._left = self._units

    def packet_quota(self, member: TickMember) -> int:
        """Return the quota of a packet that has just arrived, which grows with the budget left."""
        if not self._open:
            self._begin_and_schedule_end()
        if member.debt > self._base_quota or (self._left < -self._half and member.holds_large_input):
            return 0
        self._packets += 1
        spare = self._left - self._half
        if spare > 0:
            return self._base_quota + (spare >> 3)
        return self._base_quota if self._left > 0 or self._packets <= PACKETS_PER_TICK else 0

    def charge(self, member: TickMember, quota: int, units: int) -> None:
        """Charge the budget with the units that a member has used of a quota."""
        self._left -= units
        self.used_units += units
        if units > quota or member.debt:
            member.debt = min(max(0, member.debt + units - quota), self._units)

    def mark_dirty(self, member: TickMember) -> None:
        """Flush a member at the end of this tick."""
        if not member.dirty:
            member.dirty = True
            self._dirty.append(member)
            if not self._open:
                self._begin_and_schedule_end()

    def wake(self, member: TickMember) -> None:
        """Resume a member in this tick, as if a packet had arrived, and flush it. Safe to call while it runs."""
        self._woken.append(member)
        if not self._open:
            self._begin_and_schedule_end()

    def defer(self, member: TickMember) -> None:
        """Queue a member, to be resumed when its turn comes."""
        if not member.deferred:
            member.deferred = True
            self._deferred.append(member)
            self._schedule_deferred()

    def end(self) -> None:
        """Make the effects of this tick durable, then send its replies."""
        if not self._open or self._failed:
            return
        if self._woken:
            woken, self._woken = self._woken, []
            for member in woken:
                self._resume(member, 0 if member.deferred else self.packet_quota(member))
        self._open = False
        has_work = False
        if self._syncs:
            began_s = self._loop.time() if self._latency.is_on else 0.0
            try:
                self._storage.sync()
                has_work = self._storage.has_work
            except Exception as error:  # any exception means that the engine has failed
                self._failed = True
                self._sync_failed(error)
                return
            if self._latency.is_on and began_s:
                self._latency.add_s(SYNC, self._loop.time() - began_s)
        expiry = self._expiry
        if (expiry.end_tick() or (self._alarm is None and expiry.in_use)) and not expiry.lagging:
            self._set_alarm()
        dirty, self._dirty = self._dirty, []
        for member in dirty:
            member.dirty = False
            try:
                member.flush()
            except Exception as error:  # one client's trouble is not another's
                member.crash(error)
        if self._disposal.has_work:
            self._disposal.step()
            has_work = has_work or self._disposal.has_work
        if self._latency.is_on:
            self._latency.add_s(TICK, self._loop.time() - self.now_s)
        if (has_work or self._expiry.has_work) and not self._open:
            self._begin_and_schedule_end()

    def check_engine(self) -> None:
        """Check the engine, and do its background work while no requests arrive.

        Raises:
            Exception: The engine has failed.
        """
        if not self._failed:
            self._storage.check()
            if not self._open and (self._disposal.has_work or (self._syncs and self._storage.has_work)):
                self._begin_and_schedule_end()
            if self._expiry.end_tick() or self._alarm is None:
                self._set_alarm()

    def _set_alarm(self) -> None:
        """Begin a tick when the earliest deadline is reached."""
        delay_s = self._expiry.delay_s()
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._loop.call_later(delay_s + ALARM_SLACK_S, self._ring) if delay_s < NEVER_S else None

    def _ring(self) -> None:
        self._alarm = None
        if not self._open:
            self._begin_and_schedule_end()

    def _wake_after_sweep(self) -> None:
        """Begin a tick. By a worker."""
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._ring)

    def _begin_and_schedule_end(self) -> None:
        self.begin()
        if not self._end_scheduled:  # else each packet would add one that comes again as long as there is work
            self._end_scheduled = True
            self._loop.call_soon(self._end_as_scheduled)

    def _end_as_scheduled(self) -> None:
        self._end_scheduled = False
        self.end()

    def _schedule_deferred(self) -> None:
        """Schedule the deferred after the callbacks of sockets that are ready by then."""
        if not self._serving:
            self._serving = True
            self._loop.call_soon(self._loop.call_soon, self._serve_deferred)

    def _serve_deferred(self) -> None:
        """Resume deferred members in order, with the rest of the budget."""
        self.end()  # the replies of packets that have arrived meanwhile
        if self._failed:
            return
        self.begin()
        self._left = max(self._left, self._units >> 2)
        deferred = self._deferred
        for turns in range(len(deferred), 0, -1):
            if self._left <= 0:
                break
            member = deferred.popleft()
            member.deferred = False
            self._resume(member, max(self._base_quota, self._left // turns))
        self._serving = False
        self._left = self._units
        self.end()
        if deferred:
            self._schedule_deferred()

    def _resume(self, member: TickMember, quota: int) -> None:
        try:
            self.charge(member, quota, member.resume(quota))
        except Exception as error:
            member.crash(error)

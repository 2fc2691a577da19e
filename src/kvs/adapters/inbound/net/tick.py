"""The tick: run requests, have their effects made durable, send the replies. And the budget that bounds its work.

The order
    Channels run their packets as the backend delivers them, and mark themselves dirty. When every packet of an
    iteration of the loop has been run, the tick ends: the engine seals the batch of its writes, and once that is
    durable, every dirty channel sends its replies, also those to reads. No output is sent earlier, so no client sees a
    result that is not as durable as the engine promises. If that takes time, the output is held, and the loop goes on
    with the next tick. A blocking engine has nothing to seal: its calls return when their effects are durable.

The budget
    All channels together do a bounded amount of work between two polls of the sockets. It is counted in units of about
    1 us in the compiled build; a connection gets a quota and returns the units used. Every packet gets a small quota on
    arrival, so that a short request is answered in its tick, whatever the other clients do. A channel with requests
    left over is deferred. Deferred channels share the rest of the budget, round robin, after the sockets have been
    polled again and the ready replies have been sent; at least a quarter of the budget is reserved for them, so that
    they make progress however many packets arrive. A request cannot always be interrupted; a channel that has exceeded
    its quotas is in debt, and its packets are deferred until it has used as much less. Once half of the budget is used,
    packets that may complete a large request are deferred, too: many may come at once. And once the budget is exceeded
    by half, which packets with quotas do not do, all are: some cost far more than they look. So a tick ends with at
    most one and a half budgets, and one request. What it has overspent is not taken from the packets of the next one.

The bound of what waits
    When too many batches are on their way, or they and the output held for them take too much memory, no request is run
    until one of them is durable: every packet is deferred, and nothing more is read from its channel.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, final

from kvs.adapters.inbound.net.held_output import HeldOutput
from kvs.adapters.inbound.net.tick_member import TickMember
from kvs.adapters.inbound.protocol.latency import EXPIRE_CYCLE, SYNC, TICK, LatencyMonitor
from kvs.adapters.inbound.protocol.tracking import Tracking
from kvs.application.disposal import Disposal
from kvs.application.expiry import NEVER_S, Expiry
from kvs.build import BUILD
from kvs.ports.storage import Storage

if TYPE_CHECKING:
    from mypy_extensions import i64  # an int in a register, to the compiler

    from kvs.application.changes import Change

UNITS_PER_TICK: Final = 10_000 if BUILD == "compiled" else 2_500
"""About 10 ms of work. Some requests take more than their price: one in a transaction 2 us, one with a new key 3."""

BUSY_S: Final = 0.02
"""Time after a request in which others may be on their way, so that ticks stay short."""

ALARM_SLACK_S: Final = 0.001
"""The server's time is in whole milliseconds, so a deadline may be passed by nearly one."""

ALARM_UNITS: Final = 16
"""When the alarm rings, as much is deleted as if so much work had been done since the last tick."""

PACKETS_PER_TICK: Final = 128
"""Packets per tick that are guaranteed a quota. A backend should deliver no more before it ends the tick."""


@final
class Tick:
    """The ticks of one server.

    Args:
        loop: The running loop.
        storage: The engine, which seals batches.
        disposal: What clients have dropped; some is freed in each tick.
        expiry: Deletes what is due, at the beginning of each tick.
        tracking: Sends messages of changes that have become durable.
        latency: Notes what has taken long.
        engine_failed: Called when a batch has failed. Nothing is sent from then on.
        max_batches_in_flight: Batches from which on no request is run.
        max_held_bytes: The same for their memory, and that of the output held for them.
        units: Budget of a tick.

    Attributes:
        now_s: When the tick began, in seconds of the loop's clock.
        used_units: Total units used.
        received_bytes: Total input of all clients.
        sent_bytes: Total output for all clients.
        held: Output that waits for batches.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        storage: Storage,
        disposal: Disposal,
        expiry: Expiry,
        tracking: Tracking,
        latency: LatencyMonitor,
        engine_failed: Callable[[Exception], None],
        max_batches_in_flight: int,
        max_held_bytes: int,
        units: int = UNITS_PER_TICK,
    ) -> None:
        self.now_s = loop.time()
        self.used_units = 0
        self.received_bytes: i64 = 0
        self.sent_bytes: i64 = 0
        self._ticks: i64 = 0
        self._loop = loop
        self._storage = storage
        self.disposal: Final = disposal
        self._expiry = expiry
        self._tracking = tracking
        self._changes = tracking.changes
        self._latency = latency
        self._alarm: asyncio.TimerHandle | None = None  # for the earliest deadline
        self._seals = not storage.blocking
        self._mark = 0  # of the last batch
        self.held: Final = HeldOutput(loop, latency)
        self._max_batches_in_flight = max_batches_in_flight
        self._max_held_bytes = max_held_bytes
        self._full = False  # so no request is run
        self._undurable: deque[tuple[int, list[Change]]] = deque()  # of which messages leave when a batch is durable
        storage.when_durable(self._wake_when_durable)
        expiry.when_swept(self._wake_after_sweep)
        self._engine_failed = engine_failed
        self._units = units
        self._half = units // 2  # below this, packets get no more than ...
        self._base_quota = max(1, self._half // PACKETS_PER_TICK)
        self._left = units
        self._packets = 0
        self._dirty: list[TickMember] = []
        self._woken: list[TickMember] = []
        self._deferred: deque[TickMember] = deque()
        self._former_units = 0  # used before this tick
        self._busy_s = 0.0  # when there were requests
        self._open = False
        self._end_scheduled = False
        self._serving = False  # serving the deferred is scheduled, and ends this budget
        self._ended = False

    def begin(self, spare_units: int = 0) -> None:
        """Begin a tick. The caller calls :meth:`end` in the same iteration of the loop.

        Args:
            spare_units: Units of work that could have been done since the last tick.
        """
        if not self._open:
            self._open = True
            self._ticks += 1
            self._packets = 0
            self.now_s = self._loop.time()
            units = self.used_units - self._former_units
            self._former_units = self.used_units
            if units:
                self._busy_s = self.now_s
            self._expiry.begin_tick(max(units, spare_units) if self.now_s - self._busy_s < BUSY_S else None)
            if self._latency.is_on:
                self._latency.add_s(EXPIRE_CYCLE, self._loop.time() - self.now_s)
            if not self._serving:
                self._left = self._units
            else:  # what the tick before has overspent keeps no packet of this one waiting
                self._left = max(0, self._left)

    def packet_quota(self, member: TickMember) -> int:
        """Return the quota of a packet that has just arrived, which grows with the budget left."""
        if not self._open:
            self._begin_and_schedule_end()
        if self._full or member.debt > self._base_quota:
            return 0
        self._packets += 1
        spare = self._left - self._half
        if spare > 0:
            return self._base_quota + (spare >> 3)
        if self._left < -self._half or member.holds_large_input:
            return 0
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
        """Have the effects of this tick made durable, and its replies sent after that."""
        if not self._open or self._ended:
            return
        if self._woken:
            woken, self._woken = self._woken, []
            for member in woken:
                self._resume(member, 0 if member.deferred else self.packet_quota(member))
        has_work = False
        if self._seals:
            began_s = self._loop.time() if self._latency.is_on else 0.0
            former_mark = self._mark
            try:
                self._mark = self._storage.seal()
                has_work = self._storage.has_work
            except Exception as error:  # any exception means that the engine has failed
                self._fail(error)
                return
            if self._latency.is_on and former_mark < self._mark == self._storage.durable_mark:
                self._latency.add_s(SYNC, self._loop.time() - began_s)  # the engine has not left it to a thread
        durable = self._mark == 0 or self._is_durable()  # asked once: nothing may pass what is held
        if durable:
            if self._changes.waiting:
                self._tracking.became_durable(self._changes.take())
        elif self._changes.waiting:
            self._undurable.append((self._mark, self._changes.take()))
        if self._tracking.has_work:
            self._tracking.step()
            has_work = has_work or self._tracking.has_work
        for member in self._woken:  # by messages, which leave behind the replies of this tick
            self.mark_dirty(member)
        self._woken.clear()
        self._open = False
        expiry = self._expiry
        if (expiry.end_tick() or (self._alarm is None and expiry.in_use)) and not expiry.lagging:
            self._set_alarm()
        dirty, self._dirty = self._dirty, []
        if not durable:
            self.held.hold(self._mark, dirty)
            self._look_whether_full()
        else:
            for member in dirty:
                member.dirty = False
                try:
                    member.flush()
                except Exception as error:  # one client's trouble is not another's
                    member.crash(error)
        if self.disposal.has_work:
            self.disposal.step()
            has_work = has_work or self.disposal.has_work
        if self._latency.is_on:
            self._latency.add_s(TICK, self._loop.time() - self.now_s)
        if self._open:
            return
        if has_work:
            self._begin_and_schedule_end()
        elif expiry.has_work:
            self._go_on_deleting()

    @property
    def in_flight(self) -> bool:
        """Whether a batch is on its way."""
        return self._mark > self._storage.durable_mark

    def figures(self) -> dict[str, object]:
        """Return what has been counted, by name."""
        return {
            "ticks": int(self._ticks),
            "work_units": self.used_units,
            "received_bytes": int(self.received_bytes),
            "sent_bytes": int(self.sent_bytes),
            "held_output_bytes": self.held.size_bytes,
        }

    def check_engine(self) -> None:
        """Check the engine, and do its background work while no requests arrive."""
        if self._check():
            if not self._open and (self.disposal.has_work or (self._seals and self._storage.has_work)):
                self._begin_and_schedule_end()
            if self._expiry.end_tick() or self._alarm is None:
                self._set_alarm()

    def retire(self) -> None:
        """Let other servers take over. All requests have been run, and all replies sent."""
        if self._check():
            self._ended = True
            self._storage.retire()

    # Batches.

    def _check(self) -> bool:
        """Return whether the engine goes on."""
        if not self._ended:
            try:
                self._storage.check()
            except Exception as error:  # any exception means that the engine has failed
                self._fail(error)
        return not self._ended

    def _fail(self, error: Exception) -> None:
        """Send nothing any more: what the output tells may not be durable."""
        self._ended = True
        self.held.discard([*self._dirty, *self._deferred])
        self._engine_failed(error)

    def _wake_when_durable(self) -> None:
        """Send what has waited. By any thread."""
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._send_durable)

    def _send_durable(self) -> None:
        if self._check():
            self._is_durable()
            if self._tracking.has_work and not self._open:
                self._begin_and_schedule_end()

    def _is_durable(self) -> bool:
        """Send what waits for nothing any more; return whether that is all."""
        durable_mark = self._storage.durable_mark
        self.held.release(durable_mark)
        while self._undurable and self._undurable[0][0] <= durable_mark:
            self._tracking.became_durable(self._undurable.popleft()[1])
        if self._full:
            self._look_whether_full()
        return durable_mark >= self._mark

    def _look_whether_full(self) -> None:
        batches = self._mark - self._storage.durable_mark
        held_bytes = self.held.size_bytes + self._storage.in_flight_bytes
        self._full = batches > 0 and (batches >= self._max_batches_in_flight or held_bytes >= self._max_held_bytes)
        if self._deferred:
            self._schedule_deferred()

    def _set_alarm(self) -> None:
        """Begin a tick when the earliest deadline is reached."""
        delay_s = self._expiry.delay_s()
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._loop.call_later(delay_s + ALARM_SLACK_S, self._ring) if delay_s < NEVER_S else None

    def _ring(self) -> None:
        self._alarm = None
        if not self._open:
            self._begin_and_schedule_end(ALARM_UNITS)

    def _go_on_deleting(self) -> None:
        """Begin the next tick behind the replies of this one; if there are none, wait for requests or the alarm."""
        if self.used_units > self._former_units or self.now_s - self._busy_s >= BUSY_S:
            self._begin_and_schedule_end()
        else:
            self._set_alarm()

    def _wake_after_sweep(self) -> None:
        """Begin a tick. By a worker."""
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._ring)

    def _begin_and_schedule_end(self, spare_units: int = 0) -> None:
        self.begin(spare_units)
        if not self._end_scheduled:  # else each packet would add one that comes again as long as there is work
            self._end_scheduled = True
            self._loop.call_soon(self._end_as_scheduled)

    def _end_as_scheduled(self) -> None:
        self._end_scheduled = False
        self.end()

    def _schedule_deferred(self) -> None:
        """Schedule the deferred after the callbacks of sockets that are ready by then."""
        if not (self._serving or self._full):
            self._serving = True
            self._loop.call_soon(self._loop.call_soon, self._serve_deferred)

    def _serve_deferred(self) -> None:
        """Resume deferred members in order, with the rest of the budget."""
        self.end()  # the replies of packets that have arrived meanwhile
        if self._ended:
            return
        self.begin()
        self._left = max(self._left, self._units >> 2)
        deferred = self._deferred
        for turns in range(len(deferred), 0, -1):
            if self._left <= 0 or self._full:
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

"""The tick's order and its budget, with scripted members: units and turns of the loop are counted, nothing is timed."""

import asyncio
import socket
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

import pytest

from kvs.adapters.inbound.net.tick import ALARM_SLACK_S, BUSY_S, PACKETS_PER_TICK, Tick
from kvs.adapters.inbound.net.tick_member import TickMember
from kvs.adapters.inbound.protocol.latency import SYNC, LatencyMonitor
from kvs.adapters.inbound.protocol.tracking import Tracking
from kvs.adapters.inbound.protocol.tracking_table import Tracker
from kvs.adapters.inbound.resp.replies import invalidation
from kvs.application.changes import ChangeFeed
from kvs.application.disposal import Disposal
from kvs.application.expiry import Expiry
from kvs.application.memory_budget import MemoryBudget
from kvs.domain.errors import KvsError
from kvs.domain.values import NEVER_MS, Key
from kvs.logs import make_logger
from tests.support.naive_storage import NaiveStorage

# A compiled tick has compiled members only, which keeps their calls fast; and its arithmetic is the same.
pytestmark = pytest.mark.one_build

UNITS: Final = 25_600
SHARE: Final = UNITS // 2 // PACKETS_PER_TICK
MAX_BATCHES: Final = 4
MAX_BYTES: Final = 1000


class Room:
    """A tick, and what happens in it, in order.

    Such as ``run NAME UNITS``, ``sync``, ``flush NAME``, ``poll``, ``hold NAME``, ``release NAME``.
    """

    def __init__(self, *, blocking: bool = False, sync_error: Exception | None = None) -> None:
        self.events: list[str] = []
        self.used: Counter[str] = Counter()
        self.failures: list[Exception] = []
        self.storage = Synced(self.events, blocking=blocking, error=sync_error)
        self.latency = LatencyMonitor(time.time)
        loop = asyncio.get_running_loop()
        expiry = Expiry(self.storage, time.time, loop.time, make_logger("info", "json", sys.stderr))
        self.tracking = tracking = Tracking(ChangeFeed(), MemoryBudget(1 << 30), 0, invalidation, 1 << 20)
        failed, bounds = self.failures.append, (MAX_BATCHES, MAX_BYTES)
        self.tick = Tick(loop, self.storage, Disposal(), expiry, tracking, self.latency, failed, *bounds, UNITS)

    def track(self, key: bytes, member: "Member") -> None:
        """Have a member told of changes of a key."""
        tracker = Tracker(1)
        self.tracking.add(tracker, [])
        self.tracking.register(tracker, [key])

        def push(_: bytes) -> None:
            self.events.append(f"tell {member.name}")
            self.tick.wake(member)

        tracker.push = push

    def units(self, name: str) -> int:
        """Return how many units a member has used in all."""
        return self.used[name]

    def arrive(self, *members: "Member") -> None:
        """Deliver a packet of each member in one tick, as the epoll backend does."""
        self.events.append("poll")
        self.tick.begin()
        for member in members:
            member.arrive()
        self.tick.end()


class Synced(NaiveStorage):
    """Notes when it is asked to make things durable."""

    def __init__(self, events: list[str], *, blocking: bool, error: Exception | None) -> None:
        super().__init__()
        self._blocking = blocking
        self._events = events
        self._error = error
        self.has_background_work = False
        self.due = 0  # records
        self.overlaps = False
        self.writes = False  # in the current batch
        self.mark = 0
        self.durable = 0
        self.batch_bytes = 0
        self.becomes_durable = 0  # after the next look, or after one more for each of these
        self.looks_before = 0
        self.failure: Exception | None = None
        self.wake: Callable[[], None] = lambda: None

    def earliest_deadline_ms(self) -> int:
        """See :class:`kvs.ports.storage.Storage`."""
        return 1 if self.due else NEVER_MS

    def expire(self, now_ms: int, max_steps: int) -> list[Key]:  # noqa: ARG002
        """See :class:`kvs.ports.storage.Storage`."""
        self._events.append("expire")
        deleted = min(max_steps, self.due)
        self.due -= deleted
        return [b"%d" % number for number in range(deleted)]

    def seal(self) -> int:
        """See :class:`kvs.ports.storage.Storage`."""
        if not self.overlaps:
            return super().seal()
        self.mark += self.writes
        self.writes = False
        return self.mark

    @property
    def durable_mark(self) -> int:
        """See :class:`kvs.ports.storage.Storage`."""
        durable = self.durable
        if self.looks_before:
            self.looks_before -= 1
        else:
            self.durable = max(self.durable, self.becomes_durable)
        return durable

    @property
    def in_flight_bytes(self) -> int:
        """See :class:`kvs.ports.storage.Storage`."""
        return self.batch_bytes * (self.mark - self.durable)

    def when_durable(self, wake: Callable[[], None]) -> None:
        """See :class:`kvs.ports.storage.Storage`."""
        self.wake = wake

    def check(self) -> None:
        """See :class:`kvs.ports.storage.Storage`."""
        if self.failure is not None:
            raise self.failure

    @property
    def has_work(self) -> bool:
        """See :class:`kvs.ports.storage.Storage`."""
        return self.has_background_work

    @property
    def blocking(self) -> bool:
        """See :class:`kvs.ports.storage.Storage`."""
        return self._blocking

    def sync(self) -> None:
        """See :class:`kvs.ports.storage.Storage`."""
        self._events.append("sync")
        if self._error is not None:
            raise self._error


class Member(TickMember):
    """A member with so much work to do, which comes in steps of so many units."""

    def __init__(self, room: Room, name: str, work: int, step: int = 1, *, large: bool = False) -> None:
        super().__init__()
        self.large = large
        self.room = room
        self.name = name
        self.work = work
        self.step = step
        self.crashes: list[Exception] = []
        self.error: Exception | None = None
        self.output_bytes = 1

    @property
    def holds_large_input(self) -> bool:
        return self.large

    def arrive(self) -> None:
        """Take a packet, as a channel does."""
        tick = self.room.tick
        quota = tick.packet_quota(self)
        tick.charge(self, quota, self.run(quota))
        tick.mark_dirty(self)

    def run(self, quota: int) -> int:
        """Run steps until the quota is used up."""
        used = min(self.work, -(-quota // self.step) * self.step)
        self.work -= used
        self.room.used[self.name] += used
        self.room.events.append(f"run {self.name} {used}")
        return used

    def resume(self, quota: int) -> int:
        if self.error is not None:
            raise self.error
        used = self.run(quota)
        self.room.tick.mark_dirty(self)
        return used

    def flush(self) -> None:
        self.room.events.append(f"flush {self.name}")
        if self.work > 0:
            self.room.tick.defer(self)

    def hold(self) -> int:
        self.room.events.append(f"hold {self.name}")
        if self.work > 0:
            self.room.tick.defer(self)
        return self.output_bytes

    def release(self, now_s: float) -> None:  # noqa: ARG002
        if self.error is not None:
            raise self.error
        self.room.events.append(f"release {self.name}")

    def discard(self, error: KvsError) -> None:
        self.room.events.append(f"discard {self.name} {error.code}")

    def crash(self, error: Exception) -> None:
        self.crashes.append(error)


def play(script: Callable[[], Awaitable[None]]) -> None:
    """Run a script on a loop of its own."""

    async def run() -> None:
        await script()

    asyncio.run(run())


async def turns(number: int) -> None:
    """Let the loop turn."""
    for _ in range(number):
        await asyncio.sleep(0)


class TestOrder:
    """What follows what."""

    def test_replies_leave_after_the_sync(self) -> None:
        """One sync for all packets of a tick, and every reply after it."""

        async def script() -> None:
            room = Room()
            room.arrive(Member(room, "a", 1), Member(room, "b", 1))
            assert room.events == ["poll", "run a 1", "run b 1", "sync", "flush a", "flush b"]

        play(script)

    def test_a_blocking_engine_is_not_synced(self) -> None:
        """What its calls have returned is durable."""

        async def script() -> None:
            room = Room(blocking=True)
            room.arrive(Member(room, "a", 1))
            assert room.events == ["poll", "run a 1", "flush a"]

        play(script)

    @pytest.mark.parametrize("blocking", [False, True])
    def test_changes_are_told_after_the_sync(self, *, blocking: bool) -> None:
        """And before replies are flushed, so that what is told leaves with them; no further tick is needed."""

        async def script() -> None:
            room = Room(blocking=blocking)
            writer, reader = Member(room, "writer", 1), Member(room, "reader", 0)
            room.track(b"a", reader)
            room.tracking.changes.add([b"a"], 7)
            room.arrive(writer)
            after = ["tell reader", "flush writer", "flush reader"]
            assert room.events == ["poll", "run writer 1", *([] if blocking else ["sync"]), *after]
            await turns(5)
            assert room.events[-1] == "flush reader"

        play(script)

    def test_nothing_is_told_after_a_sync_that_failed(self) -> None:
        """The change may not be durable."""

        async def script() -> None:
            room = Room(sync_error=OSError("disk"))
            room.track(b"a", Member(room, "reader", 0))
            room.tracking.changes.add([b"a"], 7)
            room.arrive(Member(room, "writer", 1))
            await turns(5)
            assert room.events == ["poll", "run writer 1", "sync", "discard writer outcome_unknown"]

        play(script)

    def test_ticks_go_on_until_all_is_told(self) -> None:
        """However many changes there were, and though nothing arrives."""

        async def script() -> None:
            room = Room()
            reader = Member(room, "reader", 0)
            keys = [b"%d" % number for number in range(5000)]
            room.track(b"last", reader)
            room.tracking.changes.add([*keys, b"last"], 7)
            room.arrive(Member(room, "writer", 1))
            assert "tell reader" not in room.events
            await turns(20)
            assert room.events.count("tell reader") == 1
            assert room.events[-1] in ("flush reader", "sync")

        play(script)

    def test_no_reply_leaves_after_a_sync_that_failed(self) -> None:
        """Neither in that tick nor later."""

        async def script() -> None:
            error = OSError("disk")
            room = Room(sync_error=error)
            member = Member(room, "a", 10 * UNITS)
            room.arrive(member)
            room.tick.wake(member)
            room.tick.defer(member)
            await turns(10)
            assert room.failures == [error]
            ran = f"run a {SHARE + UNITS // 16}"
            assert room.events == ["poll", ran, "sync", "discard a outcome_unknown"]

        play(script)

    def test_the_end_is_scheduled_by_the_first_that_is_dirty(self) -> None:
        """If no backend ends the tick: in the next turn of the loop, for all that are dirty by then."""

        async def script() -> None:
            room = Room()
            for member in (Member(room, "a", 1), Member(room, "b", 1)):
                member.arrive()
            assert room.events == ["run a 1", "run b 1"]
            await turns(1)
            assert room.events == ["run a 1", "run b 1", "sync", "flush a", "flush b"]
            await turns(5)
            assert len(room.events) == 5

        play(script)

    def test_packets_add_no_ticks_to_those_of_an_engine_with_work(self) -> None:
        """However many arrive, such ticks come once in each turn of the loop."""

        async def script() -> None:
            room = Room()
            room.storage.has_background_work = True
            for _ in range(20):
                room.arrive(Member(room, "a", 1))
                await turns(1)
            room.events.clear()
            await turns(10)
            assert room.events == ["sync"] * 10

        play(script)

    def test_a_member_that_is_woken_runs_before_the_sync(self) -> None:
        """And not inside the call that wakes it: it may be running."""

        async def script() -> None:
            room = Room()
            room.tick.wake(Member(room, "a", 5))
            assert not room.events
            await turns(1)
            assert room.events == ["run a 5", "sync", "flush a"]

        play(script)

    def test_one_that_crashes_leaves_the_others_alone(self) -> None:
        """Whether it is resumed or flushed."""

        async def script() -> None:
            room = Room()
            broken, other = Member(room, "broken", 1), Member(room, "other", 1)
            broken.error = RuntimeError("bug")
            room.tick.wake(broken)
            room.tick.defer(broken)
            room.tick.wake(other)
            await turns(5)
            assert broken.crashes == [broken.error] * 2
            assert room.events == ["run other 1", "sync", "flush other", "sync"]

        play(script)


class TestBudget:
    """Who gets how much."""

    def test_a_light_member_is_answered_in_the_tick_in_which_it_came(self) -> None:
        """However many heavy ones came before it in the same tick, each as heavy as it likes."""

        async def script() -> None:
            room = Room()
            heavy = [Member(room, f"heavy{number}", 10 * UNITS) for number in range(PACKETS_PER_TICK - 1)]
            room.arrive(*heavy, Member(room, "light", SHARE))
            assert f"run light {SHARE}" in room.events
            assert room.events[-1] == "flush light"
            used = sum(room.units(member.name) for member in heavy)
            assert used + SHARE <= UNITS

        play(script)

    def test_so_it_is_when_one_exceeds_its_quota(self) -> None:
        """A request that cannot be interrupted costs others time, and not their turn."""

        async def script() -> None:
            room = Room()
            room.arrive(Member(room, "heavy", UNITS, step=UNITS), Member(room, "light", 3))
            assert room.events == ["poll", f"run heavy {UNITS}", "run light 3", "sync", "flush heavy", "flush light"]

        play(script)

    def test_large_requests_that_come_at_once_are_run_in_several_ticks(self) -> None:
        """And a packet among them is run in its tick, wherever it comes: they leave it half of the budget."""

        async def script() -> None:
            room = Room()
            large = [Member(room, f"large{number}", UNITS, step=UNITS, large=True) for number in range(10)]
            room.arrive(*large, Member(room, "light", 3))
            assert "run light 3" in room.events
            assert sum(room.units(member.name) for member in large) == UNITS
            await turns(40)
            assert sum(room.units(member.name) for member in large) == 10 * UNITS

        play(script)

    @pytest.mark.parametrize("step", [UNITS // 10, UNITS // 2, 2 * UNITS])
    def test_dear_requests_that_come_at_once_are_run_in_several_ticks(self, step: int) -> None:
        """However little input they hold: a tick ends about half a budget, and one of them, behind its budget."""

        async def script() -> None:
            room = Room()
            dear = [Member(room, f"dear{number}", step, step=step) for number in range(PACKETS_PER_TICK)]
            room.arrive(*dear)
            begun = sum(room.units(member.name) for member in dear)
            assert UNITS <= begun <= UNITS + UNITS // 2 + step
            while any(member.work for member in dear):
                light = Member(room, "light", 3)
                room.arrive(light)
                assert light.work == 0  # in its own tick, whatever the one before has overspent
                before = sum(room.units(member.name) for member in dear)
                await turns(1)
                assert sum(room.units(member.name) for member in dear) - before <= UNITS + step

        play(script)

    def test_a_tick_with_more_packets_than_it_should_have_is_bounded(self) -> None:
        """What comes when the budget is used up is kept, and run in turn."""

        async def script() -> None:
            room = Room()
            members = [Member(room, f"m{number}", UNITS) for number in range(4 * PACKETS_PER_TICK)]
            room.arrive(*members)
            assert sum(room.units(member.name) for member in members) <= UNITS + SHARE
            assert room.units("m511") == 0
            while room.units("m511") == 0:
                await turns(1)
            assert members[0].work > 0

        play(script)

    def test_one_that_has_exceeded_its_quota_is_served_in_turn_the_next_time(self) -> None:
        """Behind those that were deferred before it, and until its debt is paid."""

        async def script() -> None:
            room = Room()
            others = [Member(room, f"other{number}", 3 * UNITS) for number in range(4)]
            greedy = Member(room, "greedy", UNITS, step=UNITS)
            room.arrive(greedy, *others)
            assert room.units("greedy") == UNITS
            greedy.work = greedy.step = 5
            room.arrive(greedy)
            assert room.units("greedy") == UNITS
            while greedy.work:
                await turns(1)
            order = [event.split()[1] for event in room.events if event.startswith("run") and not event.endswith(" 0")]
            assert order[-5:] == ["other0", "other1", "other2", "other3", "greedy"]
            for _ in range(20):  # with little to do, and nobody else about, its debt is soon paid
                greedy.work = 5
                room.arrive(greedy)
                if greedy.work == 0:
                    break
                while greedy.work or any(other.work for other in others):
                    await turns(1)
            else:
                raise AssertionError("it is served in turn for ever")

        play(script)

    def test_deferred_members_share_what_is_left(self) -> None:
        """Two get half each; a third of the work is not left lying while there is budget for it."""

        async def script() -> None:
            room = Room()
            one, other = Member(room, "one", 10 * UNITS), Member(room, "other", 10 * UNITS)
            room.arrive(one, other)
            first = room.units("one"), room.units("other")
            while room.units("other") == first[1]:
                await turns(1)
            left = UNITS - sum(first)
            assert room.units("one") - first[0] == left // 2
            assert room.units("other") - first[1] == left - left // 2

        play(script)

    def test_between_two_polls_only_one_budget_is_used(self) -> None:
        """However many are deferred, and however often the sockets are polled."""

        async def script() -> None:
            room = Room()
            loop = asyncio.get_running_loop()
            members = [Member(room, f"m{number}", 50 * UNITS) for number in range(600)]

            def poll() -> None:
                room.arrive()
                if any(member.work for member in members):
                    loop.call_soon(poll)

            room.arrive(*members)
            poll()
            await turns(200)
            used, most = 0, 0
            for event in room.events:
                used = 0 if event == "poll" else used + (int(event.split()[2]) if event.startswith("run") else 0)
                most = max(most, used)
            assert 0 < most <= UNITS + SHARE

        play(script)

    def test_nobody_starves(self) -> None:
        """200 that never end, and as many packets as fit into every tick: each of the 200 gets on, in turn."""

        async def script() -> None:
            room = Room()
            loop = asyncio.get_running_loop()
            heavy = [Member(room, f"heavy{number}", 1000 * UNITS) for number in range(200)]
            packets = [Member(room, f"packet{number}", 0) for number in range(PACKETS_PER_TICK)]
            polls = 0

            def poll() -> None:
                nonlocal polls
                polls += 1
                for packet in packets:
                    packet.work = SHARE
                room.arrive(*packets)
                if polls < 400:
                    loop.call_soon(poll)

            for start in range(0, 200, 100):
                room.arrive(*heavy[start : start + 100])
            begun = {member.name: room.units(member.name) for member in heavy}
            poll()
            while polls < 400:
                await turns(1)
            served = [room.units(member.name) - begun[member.name] for member in heavy]
            assert min(served) > 0
            assert max(served) <= 2 * min(served) + UNITS // 4
            assert all(packet.work == 0 for packet in packets)

        play(script)

    def test_replies_that_are_ready_leave_before_the_deferred_run(self) -> None:
        """Those of packets that asyncio's transports report between two rounds."""

        async def script() -> None:
            room = Room()
            room.arrive(Member(room, "heavy", 10 * UNITS))
            asyncio.get_running_loop().call_soon(Member(room, "light", 1).arrive)
            seen = len(room.events)
            while not any(event.startswith("run heavy") for event in room.events[seen:]):
                await turns(1)
            assert room.events[seen : seen + 3] == ["run light 1", "sync", "flush light"]

        play(script)

    def test_sockets_are_polled_before_the_deferred_run(self) -> None:
        """A packet that comes while others are served is run, and answered, before those that were deferred."""

        async def script() -> None:
            room = Room()
            light = Member(room, "light", 1)
            ours, theirs = socket.socketpair()
            with ours, theirs:

                def read() -> None:
                    ours.recv(1)
                    room.arrive(light)

                asyncio.get_running_loop().add_reader(ours, read)
                room.arrive(Member(room, "heavy", 10 * UNITS))
                theirs.send(b"x")
                seen = len(room.events)
                while len(room.events) < seen + 5:
                    await turns(1)
                asyncio.get_running_loop().remove_reader(ours)
            assert room.events[seen : seen + 4] == ["poll", "run light 1", "sync", "flush light"]

        play(script)

    def test_a_member_that_is_pushed_to_gets_no_more_than_its_turn(self) -> None:
        """One that is deferred is flushed when it is woken, and not run."""

        async def script() -> None:
            room = Room()
            heavy = Member(room, "heavy", 10 * UNITS)
            room.arrive(heavy)
            before = room.units("heavy")
            for _ in range(3):
                room.tick.wake(heavy)
            room.tick.end()
            assert room.units("heavy") == before
            assert room.events[-1] == "flush heavy"

        play(script)


class TestExpiry:
    """What is due is deleted beside requests, and keeps none of them waiting long."""

    @staticmethod
    def room() -> Room:
        """Return a room in which much has just fallen due."""
        room = Room()
        room.storage.due = 1_000_000
        room.arrive()
        room.events.clear()
        return room

    def test_deletions_come_behind_the_replies_and_pause_while_requests_may_be_on_their_way(self) -> None:
        async def script() -> None:
            loop = asyncio.get_running_loop()
            now_s = loop.time()
            loop.time = lambda: now_s  # type: ignore[method-assign]
            room = self.room()
            room.arrive(Member(room, "a", 1))
            await turns(10)
            assert room.events == ["poll", "expire", "run a 1", "sync", "flush a", "expire", "sync"]
            room.events.clear()
            room.arrive(Member(room, "b", 1))
            await turns(10)
            assert room.events == ["poll", "run b 1", "sync", "flush b", "expire", "sync"]
            room.events.clear()
            now_s += ALARM_SLACK_S
            await turns(10)
            assert room.events == ["expire", "sync"]
            now_s += BUSY_S
            await turns(1000)
            assert room.events.count("expire") > 100

        play(script)

    def test_beside_requests_that_are_served_in_turn_deletions_go_on(self) -> None:
        async def script() -> None:
            room = self.room()
            room.arrive(Member(room, "heavy", 1000 * UNITS))
            await turns(20)
            events = [event.split()[0] for event in room.events]
            assert events.count("run") > 2
            assert events.count("expire") >= events.count("run")

        play(script)


class TestBatches:
    """An engine that makes batches durable while ticks go on."""

    @staticmethod
    def room() -> Room:
        """Return a room with such an engine."""
        room = Room()
        room.storage.overlaps = True
        return room

    @staticmethod
    def write(room: Room, *members: Member) -> None:
        """Run a tick with writes."""
        room.storage.writes = True
        room.arrive(*members)

    def test_output_waits_for_the_batch_before_it_even_if_it_only_reads(self) -> None:
        """What it read may not be durable; and the loop does not wait."""

        async def script() -> None:
            room = self.room()
            a, b = Member(room, "a", 1), Member(room, "b", 1)
            self.write(room, a)
            room.arrive(b)
            assert room.events == ["poll", "run a 1", "hold a", "poll", "run b 1", "hold b"]
            room.storage.durable = 1
            room.storage.wake()
            await turns(2)
            assert room.events[6:] == ["release a", "release b"]
            b.work = 1
            room.arrive(b)
            assert room.events[8:] == ["poll", "run b 1", "flush b"]

        play(script)

    def test_output_is_sent_in_order(self) -> None:
        """Also if a tick ends between the moment in which a batch is durable and that in which the loop is told."""

        async def script() -> None:
            room = self.room()
            a = Member(room, "a", 1)
            for durable in range(3):
                a.work = 1
                room.storage.durable = durable
                self.write(room, a)
            assert [event for event in room.events if event != "poll"] == [
                *("run a 1", "hold a", "run a 1", "release a", "hold a", "run a 1", "release a", "hold a")
            ]

        play(script)

    def test_nothing_passes_what_is_held_if_a_batch_is_durable_during_a_tick(self) -> None:
        """A thread may make it durable between any two looks; the output of that tick waits behind what is held."""

        async def script() -> None:
            room = self.room()
            a = Member(room, "a", 1)
            self.write(room, a)
            seen = len(room.events)
            a.work = 1
            room.storage.becomes_durable = 1
            room.arrive(a)
            await turns(2)
            room.storage.wake()
            await turns(2)
            assert room.events[seen:] == ["poll", "run a 1", "hold a", "release a", "release a"]

        play(script)

    def test_what_the_engine_makes_durable_at_once_is_not_held(self) -> None:
        """How long that took is noted, as if it had been."""

        async def script() -> None:
            room = self.room()
            room.latency.is_on, room.latency.threshold_ns = True, 0
            a = Member(room, "a", 1)
            room.arrive(a)
            assert SYNC not in room.latency.events
            a.work = 1
            room.storage.durable = 1
            self.write(room, a)
            assert room.events[3:] == ["poll", "run a 1", "flush a"]
            assert SYNC in room.latency.events

        play(script)

    def test_each_tick_waits_for_its_own_batch(self) -> None:
        """And not for one that has been sealed after it."""

        async def script() -> None:
            room = self.room()
            members = [Member(room, f"m{number}", 1) for number in range(3)]
            for member in members:
                self.write(room, member)
            for durable in (1, 2, 3):
                room.storage.durable = durable
                room.storage.wake()
                await turns(2)
                assert room.events[-1] == f"release m{durable - 1}"
            assert room.tick.held.size_bytes == 0
            assert not room.tick.in_flight

        play(script)

    def test_changes_are_told_when_their_batch_is_durable(self) -> None:
        """Behind the reply to the write; and held back again, if another batch is in flight by then."""

        async def script() -> None:
            room = self.room()
            writer, reader = Member(room, "writer", 1), Member(room, "reader", 0)
            room.track(b"a", reader)
            room.tracking.changes.add([b"a"], 7)
            self.write(room, writer)
            await turns(5)
            assert room.events == ["poll", "run writer 1", "hold writer"]
            writer.work = 1
            self.write(room, writer)
            room.storage.durable = 1
            room.storage.wake()
            await turns(5)
            assert room.events[3:] == [
                "poll",
                "run writer 1",
                "hold writer",
                "release writer",
                "tell reader",
                "hold reader",
            ]
            room.storage.durable = 2
            room.storage.wake()
            await turns(5)
            assert room.events[9:] == ["release writer", "release reader"]

        play(script)

    @pytest.mark.parametrize("by_bytes", [False, True], ids=["batches", "bytes"])
    def test_with_too_much_in_flight_no_request_is_run(self, *, by_bytes: bool) -> None:
        """Whoever sends one is served in turn, once there is room, and nothing is dropped."""

        async def script() -> None:
            room = self.room()
            room.storage.batch_bytes = MAX_BYTES if by_bytes else 0
            for number in range(1 if by_bytes else MAX_BATCHES):
                self.write(room, Member(room, f"m{number}", 1))
            late = Member(room, "late", 1)
            for _ in range(3):
                room.arrive(late)
                await turns(3)
            assert room.units("late") == 0
            room.storage.durable = 1
            room.storage.wake()
            await turns(5)
            assert room.units("late") == 1

        play(script)

    @pytest.mark.parametrize("looks", range(4))
    def test_who_has_to_wait_is_not_forgotten(self, looks: int) -> None:
        """Also if a batch becomes durable between two looks of a tick at how many are in flight."""

        async def script() -> None:
            room = self.room()
            a, late = Member(room, "a", 0), Member(room, "late", 5)
            for _ in range(MAX_BATCHES):
                self.write(room, a)
            room.storage.becomes_durable, room.storage.looks_before = 1, looks
            room.arrive(late)
            room.storage.becomes_durable = MAX_BATCHES
            room.storage.wake()
            await turns(20)
            assert late.work == 0

        play(script)

    def test_held_output_counts_as_much(self) -> None:
        """Replies may be larger than what was written."""

        async def script() -> None:
            room = self.room()
            large, late = Member(room, "large", 1), Member(room, "late", 1)
            large.output_bytes = MAX_BYTES
            self.write(room, large)
            room.arrive(late)
            await turns(3)
            assert room.units("late") == 0

        play(script)

    def test_a_failed_batch_discards_what_waits(self) -> None:
        """Each client is told once that the outcome is unknown; nothing else is sent, then or later."""

        async def script() -> None:
            room = self.room()
            a, b = Member(room, "a", 1), Member(room, "b", 1)
            self.write(room, a, b)
            self.write(room, a)
            seen = len(room.events)
            room.storage.failure = error = OSError("no disk")
            room.storage.wake()
            await turns(2)
            assert room.failures == [error]
            assert room.events[seen:] == ["discard a outcome_unknown", "discard b outcome_unknown"]
            room.storage.durable = 2
            room.storage.wake()
            room.tick.check_engine()
            self.write(room, b)
            await turns(2)
            assert room.failures == [error]
            assert not {"release a", "flush b", "hold b"} & set(room.events[seen + 2 :])

        play(script)

    def test_one_that_cannot_be_sent_to_does_not_stop_the_others(self) -> None:
        """One client's trouble is not another's."""

        async def script() -> None:
            room = self.room()
            a, b = Member(room, "a", 1), Member(room, "b", 1)
            self.write(room, a, b)
            a.error = OSError("gone")
            room.storage.durable = 1
            room.storage.wake()
            await turns(2)
            assert a.crashes == [a.error]
            assert room.events[-1] == "release b"

        play(script)

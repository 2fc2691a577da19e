"""The server's time, and the deletion of records that are due.

*Time.* The server's time is the wall clock at its start, or the time that the engine has stored if that is later, plus
the time of the monotonic clock since then. So it never goes back, and jumps only when SIGHUP makes it follow a wall
clock that was set forward. An engine of several servers may have a clock of its own in place of both. The time stands
still during a tick: all requests of a tick have the same time. An engine stores it with what is written in a tick that
looks at it.

*The horizon* is the time up to which every due record has been deleted. A tick begins with deletions, in one commit;
beside requests, their number follows the work that those took. If not all that is due has been deleted, expiry is
*lagging*: until it has caught up, commands delete the due records among their own keys, and those that read ranges in
these ranges. A snapshot's clock is the horizon at the moment it was taken, so no snapshot holds a record that is due by
its own clock.

*History.* What is deleted is kept for the snapshots that still see it. If there is no room, the engine refuses with a
``LimitError`` rather than end a young snapshot, and expiry lags until one is closed.

*A blocking engine* is always lagging for a while: a worker deletes, one commit at a time, and commands go on meanwhile.
"""

from bisect import bisect_left
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Final, TypeAlias, final

from kvs.application.changes import SERVER, ChangeFeed
from kvs.build import BUILD
from kvs.domain.commit import KeyRange
from kvs.domain.errors import LimitError, StorageUnavailableError
from kvs.domain.updates import Expire
from kvs.domain.values import NEVER_MS, NO_DEADLINE, Key, Record, Value
from kvs.log_type import FilteringBoundLogger
from kvs.ports.session import Steps, Work
from kvs.ports.storage import Storage

STEPS_PER_TICK: Final = 500 if BUILD == "compiled" else 100
"""Records deleted at the beginning of a tick, or some times as many moved in the index: 0.5 ms if most of all keys are
due, up to 3 ms if they are few among a million."""

STEPS_PER_UNIT: Final = 2
"""Records deleted beside requests for each unit of their work: an eighth of the time that they take, system and all."""

LEAST_STEPS: Final = 8
"""Records deleted beside requests at least."""

STEP_UP_MS: Final = 2000
"""Twice as many each time that expiry has lagged for so long: beside requests without end, a million go within 10 s."""

NEVER_S: Final = NEVER_MS / 1000

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MS: Final = 253_402_300_799_000
"""The end of the year 9999, which is the last that Python knows."""

MAX_BEHIND_MS: Final = 3_600_000
"""By how much the wall clock may be behind the server's time without a warning."""

FOLLOWED_MS: Final = 1000
"""By how much the wall clock has to be ahead of the server's time to be followed: more than two clocks drift apart."""

KEYS_PER_SHARE: Final = 256
"""Keys of a range that a command looks at before others get a turn, and before ..."""

STEPS_PER_SHARE: Final = 16
"""... so many records are deleted elsewhere, which takes as long."""

KEYS_PER_UNIT: Final = 4
"""Keys looked at per unit of work."""

UNITS_PER_STEP: Final = 4
"""Units of work to delete a record."""

ALL_KEYS: Final = 1 << 62

RETRY_S: Final = 1.0
"""Time after which deletions that the engine has refused are tried again, if no request comes first."""

Job: TypeAlias = Callable[[], None]


@final
class Expiry:
    """Deletes records when they are due.

    Args:
        storage: The engine.
        wall_clock: Seconds since 1970; looked at here, and when it is to be followed.
        clock: Monotonic seconds; of an engine with a clock of its own both are that.
        log: For failures of the engine, and a wall clock that is far behind.
        steps_per_tick: Records deleted at the beginning of a tick, or some times as many moved in the index.
        changes: Is told what is deleted; None: nobody is.

    Attributes:
        sweeping: Whether a worker is deleting what is due.
        lagging: Whether records may be due that have not been deleted.
        deleted: Number of records deleted.
    """

    def __init__(
        self,
        storage: Storage,
        wall_clock: Callable[[], float],
        clock: Callable[[], float],
        log: FilteringBoundLogger,
        steps_per_tick: int = STEPS_PER_TICK,
        changes: ChangeFeed | None = None,
    ) -> None:
        self._storage = storage
        self._wall_clock = wall_clock
        self._clock = clock
        self._log = log
        self._steps_per_tick = steps_per_tick
        self._changes = ChangeFeed() if changes is None else changes
        self._waits = False  # the engine has not deleted what it should
        self._failed = False  # and that was logged
        self._run: Callable[[Job], None] | None = None
        self._swept: Job | None = None
        self._changing = Lock()  # the figure, for workers
        self.sweeping = False
        wall_ms, stored_ms = int(wall_clock() * 1000), storage.horizon_ms
        self._now_ms = max(wall_ms, stored_ms)
        self._ahead_ms = self._now_ms - int(clock() * 1000)
        self._stale = False  # the time of this tick has not been needed yet
        self._earliest_ms = storage.earliest_deadline_ms()
        self._horizon_ms = min(self._now_ms, self._earliest_ms - 1)  # while expiry lags
        self.lagging = self._earliest_ms <= self._now_ms
        self.deleted = 0
        if stored_ms - wall_ms > MAX_BEHIND_MS:
            log.warning("clock_behind", wall_clock=_utc(wall_ms), server_time=_utc(stored_ms))

    @property
    def now_ms(self) -> int:
        """The server's time, in milliseconds since 1970."""
        if self._stale:
            self._stale = False
            self._now_ms = self._present_ms()
            self._storage.note_horizon(self._now_ms)
        return self._now_ms

    def ahead_ms(self, wall_s: float) -> int:
        """Return by how much the server's time is ahead of a wall clock that says ``wall_s``.

        That is as of this moment: figures are also asked for while no tick comes. By any thread.
        """
        return self._present_ms() - int(wall_s * 1000)

    @property
    def lag_ms(self) -> int:
        """For how long by now something has been due that is not deleted; 0 if nothing is. By any thread.

        The horizon does not tell: if the engine has deleted nothing, it is the time of the last tick, long before.
        """
        return max(0, self._present_ms() - self._earliest_ms) if self.lagging else 0

    @property
    def in_use(self) -> bool:
        """Whether any record has a deadline, as of the last look at the engine."""
        return self._earliest_ms != NEVER_MS

    @property
    def horizon_ms(self) -> int:
        """The time up to which every due record has been deleted.

        It is not brought up to date where nobody has needed the time of this tick: then no record has a deadline.
        """
        return self._horizon_ms if self.lagging else self._now_ms

    @property
    def has_work(self) -> bool:
        """Whether the next tick can delete more. What was refused is tried again later; workers tell by themselves."""
        return self.lagging and not self._waits and not self._storage.blocking

    def begin_tick(self, units: int | None = None) -> None:
        """Let time pass, and delete some of what is due.

        Args:
            units: Work that has been done for requests since the last tick. After none, only what has fallen due since
                then is deleted, as requests may be on their way. None: there are no requests.
        """
        lagged = self.lagging
        if not lagged:
            self._horizon_ms = self._now_ms
        self._stale = True
        if self._earliest_ms == NEVER_MS:
            return  # as long as nobody uses deadlines, a tick does not look at the clock
        self.lagging = self._earliest_ms <= self.now_ms
        if not self.lagging:
            return
        if self._storage.blocking:
            if self._run is not None and not self.sweeping:
                self.sweeping = True
                self._run(self._sweep)
        elif units is None:
            self._delete(self._steps_per_tick)
        elif units or not lagged:
            self._delete(self._steps_beside(units))

    def _steps_beside(self, units: int) -> int:
        """Return how many records to delete beside requests that took so much work."""
        most = self._steps_per_tick
        steps_up = min(most.bit_length(), (self.now_ms - self._earliest_ms) // STEP_UP_MS)
        return min(most, max(LEAST_STEPS, units * STEPS_PER_UNIT) << steps_up)

    def end_tick(self) -> bool:
        """Look at what requests have changed; return whether :meth:`delay_s` may be another."""
        earliest_ms = self._storage.earliest_deadline_ms()
        if earliest_ms == self._earliest_ms:
            return False
        self._earliest_ms = earliest_ms
        return True

    def delay_s(self) -> float:
        """Return how long there will be nothing to do, in seconds."""
        if self._earliest_ms == NEVER_MS or self.sweeping:
            return NEVER_S
        return RETRY_S if self._waits else max(0, self._earliest_ms - self.now_ms) / 1000

    def sweep_on(self, run: Callable[[Job], None]) -> None:
        """Have a worker delete what is due in a blocking engine.

        Args:
            run: Queues a job for a worker.
        """
        self._run = run

    def stop_sweeping(self) -> None:
        """Begin no sweep any more; one may be under way."""
        self._run = None

    def when_swept(self, swept: Job) -> None:
        """Have this called to begin a tick: by a worker that has deleted something, or when the time has jumped."""
        self._swept = swept

    def follow_wall_clock(self) -> bool:
        """Have the next tick go on from the wall clock if that is ahead; return whether it is. On the loop."""
        forward_ms = -self.ahead_ms(self._wall_clock())
        if forward_ms <= FOLLOWED_MS:
            return False
        self._ahead_ms += forward_ms
        if self._swept is not None:
            self._swept()
        self._log.info("clock_followed", forward_s=forward_ms / 1000)
        return True

    def is_due(self, value: Value | None) -> bool:
        """Return whether a value has expired, though it may not have been deleted yet."""
        return isinstance(value, Record) and NO_DEADLINE < value.deadline_ms <= self.now_ms

    def delete_due(self, key: Key) -> bool:
        """Delete a key if its record is due; return whether it is. It may stay if the engine is unavailable."""
        if not self.is_due(self._storage.get(key)):
            return False
        try:
            return self._delete_one(key)
        except StorageUnavailableError:
            return True

    def may_be_due(self, keys: list[Key]) -> bool:
        """Return whether the record of any of these keys may be due."""
        return len(self._storage.due_among(keys, self.now_ms)) > 0

    def catch_up(self, work: Work, keys: KeyRange, live: int = ALL_KEYS) -> Steps[None]:
        """Delete what is due by now in a range, in shares.

        It looks at each key there. What else is due is deleted meanwhile, and when that is all, this ends, too.

        Args:
            work: Is charged.
            keys: The range.
            live: How many keys of the range are wanted: it need not look beyond so many that are not due.

        Raises:
            StorageUnavailableError: The engine does not delete.
        """
        now_ms, after = self.now_ms, keys.low
        first = [after] if after and self._storage.get(after) is not None else []
        more = True
        while more and self.lagging and self.horizon_ms < now_ms:
            page = first + self._storage.scan(b"", after, KEYS_PER_SHARE)
            more = len(page) >= KEYS_PER_SHARE
            if more:
                first, after = [], page[-1]
            if keys.high is not None and page and page[-1] >= keys.high:
                more = False
                del page[bisect_left(page, keys.high) :]
            due = set(self._storage.due_among(page, self.now_ms))
            for key in page:
                if key not in due or not self._delete_one(key):
                    live -= 1
                    if live == 0:
                        more = False
                        break
            work.left -= len(page) // KEYS_PER_UNIT + len(due) * UNITS_PER_STEP
            if more and self._delete(STEPS_PER_SHARE):
                work.left -= STEPS_PER_SHARE * UNITS_PER_STEP
            if work.left <= 0:
                yield
        self._look()

    def _present_ms(self) -> int:
        """Return what :attr:`now_ms` would be if a tick began now."""
        return int(self._clock() * 1000) + self._ahead_ms

    def _look(self) -> None:
        """Look how far the deletions have come."""
        self._earliest_ms = self._storage.earliest_deadline_ms()
        self._horizon_ms = max(self._horizon_ms, self._earliest_ms - 1)
        self.lagging = self._earliest_ms <= self.now_ms

    def _delete_one(self, key: Key) -> bool:
        """Delete a key unless another worker has put something; return whether it is gone."""
        old, new = self._storage.update(key, Expire(self.now_ms))
        if old is not None and new is None:
            self._count((key,))
        return new is None

    def _sweep(self) -> None:
        """Delete some of what is due. By a worker."""
        deleted = self._delete(self._steps_per_tick)
        self.sweeping = False
        if deleted and self._swept is not None:
            self._swept()

    def _delete(self, max_steps: int) -> bool:
        """Delete some of what is due; return whether the engine did so."""
        try:
            self._count(self._storage.expire(self.now_ms, max_steps))
            self._look()
        except LimitError:  # of history: open snapshots need it
            self._waits = self.lagging = True
            return False
        except Exception as error:  # noqa: BLE001  # whatever it is, it is tried again, and what is due is absent
            self._waits = self.lagging = True
            failed_before, self._failed = self._failed, True
            if not failed_before:
                self._log.error("engine_failed", call="expire", exc_info=error)
            return False
        self._waits = self._failed = False
        return True

    def _count(self, deleted: Collection[Key]) -> None:
        """Count keys that have been deleted, and tell of them."""
        if self._storage.blocking:
            with self._changing:
                self.deleted += len(deleted)
        else:
            self.deleted += len(deleted)
        if self._changes.wanted and deleted:
            self._changes.add(deleted, SERVER)


def _utc(time_ms: int) -> str:
    """Return a time in the form of the log."""
    return (_EPOCH + timedelta(milliseconds=min(time_ms, _LAST_MS))).isoformat(timespec="seconds")

"""The clocks of a server over etcd: one for its rights, and one that all servers of a namespace agree on."""

import time
from collections.abc import Callable
from threading import Lock
from typing import Final, final

from kvs.log_type import FilteringBoundLogger
from kvs.ports.topology import Topology

CLOCK: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

SLEW_SHARE: Final = 0.01
"""By how much the server's time may be faster or slower than time passes."""


def clock_s() -> float:
    """Return seconds of a clock that also counts the time for which the machine was suspended."""
    return time.clock_gettime(CLOCK)


@final
class Skew:
    """By how much the clock of this machine differs from the server's time; and whether another server's does not.

    Args:
        topology: Where both are noted.
        max_ms: By how much it may differ.
        log: For when it begins to differ by more, and when it no longer does.
        wall_clock: That clock: seconds since 1970.

    Attributes:
        max_ms: See above.
    """

    def __init__(
        self, topology: Topology, max_ms: int, log: FilteringBoundLogger, wall_clock: Callable[[], float]
    ) -> None:
        self.max_ms: Final = max_ms
        self.wall_clock: Final = wall_clock
        self._topology = topology
        self._log = log

    def wall_ms(self) -> int:
        """Return milliseconds since 1970, by the clock here."""
        return int(self.wall_clock() * 1000)

    @property
    def ahead_ms(self) -> int:
        """By how much the clock here is ahead; 0 if that is allowed."""
        return self._topology.clock_ahead_ms

    @property
    def another_agrees(self) -> bool:
        """Whether another server runs whose clock does not differ."""
        return any(not other.clock_ahead_ms for other in self._topology.others)

    def note(self, ahead_ms: int) -> None:
        """Note by how much the clock here is ahead."""
        before = self._topology.clock_ahead_ms
        differs = abs(ahead_ms) > (self.max_ms // 2 if before else self.max_ms)
        self._topology.clock_ahead_ms = ahead_ms if differs else 0
        if differs and not before:
            self._log.warning("clock_differs", ahead_s=round(ahead_ms / 1000, 3))
        elif before and not differs:
            self._log.info("clock_agrees")


@final
class ServerTime:
    """The server's time: it begins where that of the former leader was, never goes back, and does not jump.

    It follows the wall clock, but at most one percent faster or slower than time passes. And as long as the clocks of
    others say that it is right, it does not follow a wall clock that is wrong. Thread-safe.

    Args:
        now_ms: What it is now, in milliseconds since 1970.
        skew: Which clock is right; :meth:`compare` reports this one to it.
        clock: Monotonic seconds.
    """

    def __init__(self, now_ms: int, skew: Skew, clock: Callable[[], float]) -> None:
        self._skew = skew
        self._clock = clock
        self._changing = Lock()
        self._read_s = clock()
        self._now_s = now_ms / 1000

    def now_s(self) -> float:
        """Return the server's time, in seconds since 1970."""
        with self._changing:
            read_s = self._clock()
            passed_s, self._read_s = read_s - self._read_s, read_s
            self._now_s += passed_s
            ahead_s = self._skew.wall_clock() - self._now_s
            if abs(ahead_s) * 1000 <= self._skew.max_ms or not self._skew.another_agrees:
                self._now_s += max(-SLEW_SHARE * passed_s, min(SLEW_SHARE * passed_s, ahead_s))
            return self._now_s

    @property
    def now_ms(self) -> int:
        """The same in whole milliseconds."""
        return int(self.now_s() * 1000)

    def pass_to(self, time_ms: int) -> None:
        """Let it be no less than another time."""
        with self._changing:
            self._now_s = max(self._now_s, time_ms / 1000)

    def compare(self) -> None:
        """Have it noted by how much the wall clock differs."""
        self._skew.note(int((self._skew.wall_clock() - self.now_s()) * 1000))

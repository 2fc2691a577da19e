"""The clocks of a server over etcd: one for its rights, and one that all servers of a namespace agree on."""

import time
from typing import Final, final

CLOCK: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def clock_s() -> float:
    """Return seconds of a clock that also counts the time for which the machine was suspended."""
    return time.clock_gettime(CLOCK)


def wall_ms() -> int:
    """Return milliseconds since 1970, by the clock of this machine."""
    return int(time.time() * 1000)


@final
class ServerTime:
    """The server's time: it begins where that of the former leader was, and never goes back.

    Args:
        now_ms: What it is now, in milliseconds since 1970.
    """

    def __init__(self, now_ms: int) -> None:
        self._ahead_ms = now_ms - _monotonic_ms()

    @property
    def now_ms(self) -> int:
        """The server's time."""
        return self._ahead_ms + _monotonic_ms()

    def pass_to(self, time_ms: int) -> None:
        """Let it be no less than another time."""
        self._ahead_ms += max(0, time_ms - self.now_ms)


def _monotonic_ms() -> int:
    return int(time.monotonic() * 1000)

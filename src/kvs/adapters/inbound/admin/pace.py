"""Bounds the processor time of the admin port's threads: while one of them computes, the loop waits."""

import time
from collections.abc import Callable
from threading import Lock
from typing import Final, final

SHARE: Final = 0.05
BURST_S: Final = 0.25
"""Processor time that may be used at once."""


@final
class Pace:
    """How much processor time may be used.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._left_s = BURST_S
        self._seen_s = clock()

    def charge(self, used_s: float) -> None:
        """Charge processor time that has been used."""
        with self._lock:
            self._refill()
            self._left_s -= used_s

    def delay_s(self, longest_s: float) -> float:
        """Return how long to wait before more is used."""
        with self._lock:
            self._refill()
            return min(longest_s, max(0.0, -self._left_s / SHARE))

    def _refill(self) -> None:
        now_s = self._clock()
        self._left_s = min(BURST_S, self._left_s + (now_s - self._seen_s) * SHARE)
        self._seen_s = now_s

"""The latency monitor: what has held the server up for longer than a threshold, by kind of event."""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from mypy_extensions import i64  # an int in a register, to the compiler

COMMAND: Final = b"command"
FAST_COMMAND: Final = b"fast-command"
EXPIRE_CYCLE: Final = b"expire-cycle"
SYNC: Final = b"sync"
TICK: Final = b"tick"

NEVER_NS: Final = 1 << 62
NS_PER_MS: Final = 1_000_000

MAX_SAMPLES: Final = 160
"""As in Redis."""


@final
class LatencyEvent:
    """An event that has taken long.

    Attributes:
        samples: When, in seconds since 1970, and for how many milliseconds; one for each second, the longest.
        longest_ms: The longest of all.
    """

    def __init__(self) -> None:
        self.samples: deque[tuple[int, int]] = deque(maxlen=MAX_SAMPLES)
        self.longest_ms = 0


@final
class LatencyMonitor:
    """Notes what has taken long.

    Args:
        clock: Seconds since 1970.

    Attributes:
        threshold_ms: Duration from which on an event is noted, in milliseconds; 0: none is.
        threshold_ns: The same in nanoseconds.
        is_on: Whether any event is noted.
        events: Those that have been noted, by name.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.threshold_ms = 0
        self.threshold_ns: i64 = NEVER_NS
        self.is_on = False
        self.events: dict[bytes, LatencyEvent] = {}

    def set_threshold(self, threshold_ms: int) -> None:
        """Change what is noted."""
        self.threshold_ms = threshold_ms
        self.threshold_ns = min(threshold_ms * NS_PER_MS, NEVER_NS) if threshold_ms else NEVER_NS
        self.is_on = threshold_ms > 0

    def add(self, name: bytes, duration_ns: "i64") -> None:
        """Note an event if it has taken long."""
        if duration_ns < self.threshold_ns:
            return
        event = self.events.get(name)
        if event is None:
            event = self.events[name] = LatencyEvent()
        unix_s, duration_ms = int(self._clock()), int(duration_ns // NS_PER_MS)
        event.longest_ms = max(event.longest_ms, duration_ms)
        if event.samples and event.samples[-1][0] == unix_s:
            event.samples[-1] = (unix_s, max(duration_ms, event.samples[-1][1]))
        else:
            event.samples.append((unix_s, duration_ms))

    def add_s(self, name: bytes, duration_s: float) -> None:
        """Note an event whose duration is in seconds if it has taken long."""
        self.add(name, int(duration_s * 1e9))

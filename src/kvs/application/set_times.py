"""When a transaction has set deadlines, from which the time left until them counts."""

from typing import Final, final

TIMES_KEPT: Final = 64
"""Deadlines of which the time is kept; all others count from when the last of them was set."""


@final
class SetTimes:
    """The times, in milliseconds since 1970, of one transaction. Of bounded size, whatever is rolled back."""

    __slots__ = ("_before_ms", "_times")

    def __init__(self) -> None:
        self._times: dict[int, int] = {}  # by deadline, in their order
        self._before_ms = 0  # of the last that was dropped

    def note(self, deadline_ms: int, now_ms: int) -> None:
        """Note that a deadline has been set."""
        times = self._times
        times.pop(deadline_ms, None)
        if len(times) == TIMES_KEPT:
            self._before_ms = times.pop(next(iter(times)))
        times[deadline_ms] = now_ms

    def of(self, deadline_ms: int) -> int:
        """Return when a deadline was set, or a later time if that is not known any more; 0: never."""
        return self._times.get(deadline_ms, self._before_ms)

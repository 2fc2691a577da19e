"""Whether the loop makes a batch durable by itself, or leaves it to the journal's thread.

The thread lets the loop go on, but to hand a batch over and back costs both of them, and clients wait longer. On a disk
that takes a fraction of a millisecond, this is more than there is to gain.
"""

from typing import Final, final

USUAL_S: Final = 0.00075
"""Usual time of a call up to which the loop makes it: from there on, the thread gives 64 clients more commits."""

LONGEST_THREAD_S: Final = 0.002
"""How long the thread's last call may have taken, which includes its way to Python's lock."""

LONGEST_BORNE_S: Final = 0.01
"""A call from which on the disk is left to the thread at once, for as long as possible: it has held up everybody."""

STEP: Final = 0.05
"""By which share each call moves the usual time up or down, which leads to the median: slow calls come now and then
beside a checkpoint, and a mean would take them for a slow disk. After Ma, Muthukrishnan and Sandler, Frugal Streaming
for Estimating Quantiles (2013)."""

FIRST_GUESS_S: Final = 0.9 * USUAL_S
"""Where the usual time begins: a disk is slow only if the first three calls are."""

FIRST_RETRY_S: Final = 0.1
LAST_RETRY_S: Final = 10.0
"""Time after which a disk that was slow is tried again: twice as long each time, since a trial holds up the loop."""

MAX_ROWS: Final = 128
MAX_BYTES: Final = 1 << 17
"""Size of a batch that the loop makes durable: beyond, the work of the journal is more than that of handing it over."""


@final
class InlineAppends:
    """Decides by how long calls of the journal take.

    Attributes:
        thread_s: How long the last call by the thread has taken.
    """

    def __init__(self) -> None:
        self.thread_s = 0.0
        self._usual_s = FIRST_GUESS_S
        self._not_before_s = 0.0
        self._retry_s = FIRST_RETRY_S

    def allow(self, rows: int, size: int, now_s: float) -> bool:
        """Return whether the loop is to make a batch durable.

        Args:
            rows: Its number of rows.
            size: Its size in bytes.
            now_s: Seconds of a monotonic clock.
        """
        is_small = 0 < rows <= MAX_ROWS and size <= MAX_BYTES
        return is_small and now_s >= self._not_before_s and self.thread_s <= LONGEST_THREAD_S

    def note(self, took_s: float, now_s: float) -> None:
        """Take in how long a call by the loop has taken."""
        self._usual_s *= 1 + STEP if took_s > self._usual_s else 1 - STEP
        if took_s > LONGEST_BORNE_S:
            self._retry_s = LAST_RETRY_S
        if took_s > LONGEST_BORNE_S or self._usual_s > USUAL_S:
            self._usual_s = FIRST_GUESS_S
            self._not_before_s = now_s + self._retry_s
            self._retry_s = min(self._retry_s * 2, LAST_RETRY_S)
        elif self._usual_s < FIRST_GUESS_S:
            self._retry_s = max(self._retry_s / 2, FIRST_RETRY_S)

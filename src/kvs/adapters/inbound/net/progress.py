"""Whether a client takes its output, however little at a time.

A client that takes any of its replies is neither stalled nor idle. What it has taken shows in the kernel first:
after a reply of megabytes, the server cannot send more before the client has taken a third of what the kernel holds,
which may take it minutes. So the kernel is asked, now and then.
"""

from typing import final


@final
class OutputProgress:
    """What a client has been given, and how much of it it had taken at the last look.

    Attributes:
        given_bytes: Given in all.
        took_s: When it last took something, as far as known, in seconds of the loop's clock.
    """

    __slots__ = ("_looked_s", "_taken_bytes", "_taken_s", "_taking", "given_bytes", "took_s")

    def __init__(self, now_s: float) -> None:
        self.given_bytes = 0
        self.took_s = now_s
        self._taken_bytes = 0  # at the last look
        self._taken_s = now_s  # the look at which that was first so
        self._taking = False  # at the last look there was something left to take
        self._looked_s = now_s

    @property
    def complete(self) -> bool:
        """Whether it had taken everything at the last look, and has been given nothing since."""
        return self._taken_bytes == self.given_bytes

    def look(self, now_s: float, untaken_bytes: int, unsent_bytes: int) -> float:
        """Return how long it has taken nothing.

        Args:
            now_s: Seconds of the loop's clock.
            untaken_bytes: What it has not taken.
            unsent_bytes: How much of that the kernel has not got yet.
        """
        last_look_s, self._looked_s = self._looked_s, now_s
        taken_bytes = self.given_bytes - untaken_bytes
        if taken_bytes > self._taken_bytes or not self._taking:
            if self._taking:  # if it has everything now, it may have had it since the last look
                self.took_s = now_s if unsent_bytes else last_look_s
            self._taken_bytes = taken_bytes
            self._taken_s = now_s
            self._taking = untaken_bytes > 0
        return now_s - self._taken_s

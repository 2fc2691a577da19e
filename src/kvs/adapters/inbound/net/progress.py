"""Detects whether a client reads its output, however slowly.

A client that reads its replies is neither stalled nor idle. Its progress shows in the kernel first: after a reply of
megabytes, the server cannot send more before the client has read a third of the kernel's buffer, which may take
minutes. So the kernel's buffer is polled periodically.
"""

from typing import final


@final
class OutputProgress:
    """The output given to a client, and how much of it the client had received at the last check.

    Attributes:
        given_bytes: Total output given.
        took_s: When it last received something, as far as known, in seconds of the loop's clock.
    """

    __slots__ = ("_looked_s", "_taken_bytes", "_taken_s", "_taking", "given_bytes", "took_s")

    def __init__(self, now_s: float) -> None:
        self.given_bytes = 0
        self.took_s = now_s
        self._taken_bytes = 0  # at the last look
        self._taken_s = now_s  # the look at which that was first so
        self._taking = False  # at the last check it had not received everything
        self._looked_s = now_s

    @property
    def complete(self) -> bool:
        """Whether it had received everything at the last check, and has been given nothing since."""
        return self._taken_bytes == self.given_bytes

    def look(self, now_s: float, untaken_bytes: int, unsent_bytes: int) -> float:
        """Return how long it has received nothing.

        Args:
            now_s: Seconds of the loop's clock.
            untaken_bytes: Output that it has not received.
            unsent_bytes: The part of that which is not in the kernel's buffer yet.
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

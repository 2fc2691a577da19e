"""What the tick runs and flushes."""

from abc import ABC, abstractmethod

from kvs.domain.errors import KvsError


class TickMember(ABC):
    """A channel, as the tick sees it.

    Attributes:
        dirty: It is flushed at the end of this tick.
        deferred: It is in the queue of members with work left over.
        debt: Units by which it has exceeded its quotas.
    """

    __slots__ = ("debt", "deferred", "dirty")

    def __init__(self) -> None:
        self.dirty = False
        self.deferred = False
        self.debt = 0

    @property
    @abstractmethod
    def holds_large_input(self) -> bool:
        """Whether a packet may complete a request that takes long to copy."""

    @abstractmethod
    def resume(self, quota: int) -> int:
        """Run about so many units of the work left over; return the units used."""

    @abstractmethod
    def flush(self) -> None:
        """Send the output; have the tick defer the rest of the work, if any."""

    @abstractmethod
    def hold(self) -> int:
        """Keep the output until :meth:`release` is called for it, and return its size; else as :meth:`flush`.

        Returns:
            -1 if nothing needs to be released.
        """

    @abstractmethod
    def release(self, now_s: float) -> None:
        """Send the oldest output that is held.

        Args:
            now_s: Seconds of the loop's clock.
        """

    @abstractmethod
    def discard(self, error: KvsError) -> None:
        """Drop all output, tell a client that was owed some the error instead, and close. Safe to call again."""

    @abstractmethod
    def crash(self, error: Exception) -> None:
        """Close at once: a bug or lack of memory has left the member in an unknown state."""

"""The memory budget that all clients share."""

from typing import final


@final
class MemoryBudget:
    """Bytes of input, output and transactions that all clients hold together, against ``max_clients_bytes``.

    Each holder updates ``used_bytes`` as its memory changes. Nothing is reserved in advance, so one client can exceed
    the limit by the work of one tick.
    """

    __slots__ = ("limit_bytes", "used_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0

    def exhausted(self) -> bool:
        """Return whether only requests that free memory should run."""
        return self.used_bytes >= self.limit_bytes

    def settle(self, other: "MemoryBudget") -> None:
        """Move the charges of another budget here."""
        self.used_bytes += other.used_bytes
        other.used_bytes = 0

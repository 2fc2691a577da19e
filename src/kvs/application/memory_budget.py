"""The memory that all clients share: one figure, one limit."""

from typing import final


@final
class MemoryBudget:
    """Bytes of input, output and transactions that all clients hold together, against ``max_clients_bytes``.

    Each holder adds and takes off what it holds as that changes. Nothing is reserved beforehand, so the limit can be
    overshot by what one client may do in one tick.
    """

    __slots__ = ("limit_bytes", "used_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0

    def exhausted(self) -> bool:
        """Return whether only what gives memory back should run."""
        return self.used_bytes >= self.limit_bytes

    def settle(self, other: "MemoryBudget") -> None:
        """Take over what was charged to another budget, which is empty then."""
        self.used_bytes += other.used_bytes
        other.used_bytes = 0

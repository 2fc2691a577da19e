"""What watches the requests of all connections of a server."""

from collections.abc import Callable
from time import perf_counter_ns
from typing import TYPE_CHECKING, final

from kvs.adapters.inbound.protocol.command import Command
from kvs.adapters.inbound.protocol.statistics import Statistics

if TYPE_CHECKING:
    from mypy_extensions import i64  # an int in a register, to the compiler


@final
class Observation:
    """Is told of every request, in any protocol, except those that fast paths count by themselves.

    Args:
        clock_ns: A monotonic clock, in nanoseconds.

    Attributes:
        clock_ns: See above.
        statistics: Counts the requests.
    """

    def __init__(self, clock_ns: Callable[[], int] = perf_counter_ns) -> None:
        self.clock_ns = clock_ns
        self.statistics = Statistics(clock_ns)

    def ran(self, command: Command, duration_ns: "i64", error: bytes) -> None:
        """Note that a command has been run, and the code of the error that answers it, if any."""
        self.statistics.ran(command.name, duration_ns, error)

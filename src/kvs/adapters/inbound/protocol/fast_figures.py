"""The figures of the commands that fast paths run."""

from typing import TYPE_CHECKING

from kvs.adapters.inbound.protocol.latency import FAST_COMMAND
from kvs.adapters.inbound.protocol.observation import Observation
from kvs.adapters.inbound.protocol.statistics import NS_PER_S, CommandFigures
from kvs.ports.histogram import bucket_of

if TYPE_CHECKING:
    from mypy_extensions import i64  # an int in a register, to the compiler


class FastPathFigures:
    """What a protocol derives from to count the requests that its fast path runs.

    A run takes the time of all its requests together, and each is counted with the mean.

    Args:
        observation: Has all figures.

    Attributes:
        timer: Monotonic seconds.
    """

    def __init__(self, observation: Observation) -> None:
        self.timer = observation.timer
        self._statistics = observation.statistics
        self._latency = observation.latency

    def begin(self, began_s: float, requests: "i64") -> "tuple[i64, i64]":
        """Begin to count a run; :meth:`end` must follow.

        Args:
            began_s: When it began, by the timer.
            requests: How many there were.

        Returns:
            The mean duration of its requests in nanoseconds, and the bucket of that.
        """
        elapsed_ns: i64 = int((self.timer() - began_s) * NS_PER_S)
        each_ns: i64 = elapsed_ns // requests
        if each_ns >= self._latency.threshold_ns:
            self._latency.add(FAST_COMMAND, each_ns)
        lock = self._statistics.lock
        if lock is not None:
            lock.acquire()
        return each_ns, bucket_of(each_ns)

    def end(self) -> None:
        """End to count a run."""
        lock = self._statistics.lock
        if lock is not None:
            lock.release()

    def failed(self, command: CommandFigures, error: bytes) -> None:
        """Count an error, by its code, that answered one of the requests."""
        self._statistics.failed(command, error)

"""The figures of the commands that the fast path runs."""

from typing import TYPE_CHECKING, final

from kvs.adapters.inbound.protocol.latency import FAST_COMMAND
from kvs.adapters.inbound.protocol.observation import Observation
from kvs.adapters.inbound.protocol.statistics import CommandFigures
from kvs.adapters.inbound.resp.replies import error_code

if TYPE_CHECKING:
    from mypy_extensions import i64  # an int in a register, to the compiler


@final
class FastPathFigures:
    """The figures of the commands that the fast path runs.

    A run of it takes the time of all its requests together, and each is counted with the mean.

    Args:
        observation: Has all figures.
    """

    def __init__(self, observation: Observation) -> None:
        statistics = observation.statistics
        self.timer = statistics.timer
        self.get = statistics.of(b"get")
        self.set = statistics.of(b"set")
        self.incr = statistics.of(b"incr")
        self.watch = statistics.of(b"watch")
        self.multi = statistics.of(b"multi")
        self.exec = statistics.of(b"exec")
        self._statistics = statistics
        self._latency = observation.latency

    def add(self, each_ns: "i64", gets: "i64", sets: "i64", incrs: "i64", watches: "i64", queues: "i64") -> None:
        """Count the requests of a run, with a MULTI and an EXEC for each queue."""
        if each_ns >= self._latency.threshold_ns:
            self._latency.add(FAST_COMMAND, each_ns)
        lock = self._statistics.lock
        if lock is not None:  # not with a context manager, which would need a second method for what follows
            lock.acquire()
        if gets:
            self.get.add(gets, each_ns)
        if sets:
            self.set.add(sets, each_ns)
        if incrs:
            self.incr.add(incrs, each_ns)
        if watches:
            self.watch.add(watches, each_ns)
        if queues:
            self.multi.add(queues, each_ns)
            self.exec.add(queues, each_ns)
        if lock is not None:
            lock.release()

    def failed(self, command: CommandFigures, reply: bytes) -> None:
        """Count the error that a reply reports."""
        self._statistics.failed(command, error_code(reply))

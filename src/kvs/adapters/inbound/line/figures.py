"""The figures of the commands that the fast path runs."""

from typing import TYPE_CHECKING, final

from kvs.adapters.inbound.line.replies import error_code
from kvs.adapters.inbound.protocol.latency import FAST_COMMAND
from kvs.adapters.inbound.protocol.observation import Observation
from kvs.adapters.inbound.protocol.statistics import CommandFigures

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
        self.put = statistics.of(b"put")
        self.start = statistics.of(b"start")
        self.commit = statistics.of(b"commit")
        self.rollback = statistics.of(b"rollback")
        self.ping = statistics.of(b"ping")
        self._statistics = statistics
        self._latency = observation.latency

    def add(
        self, each_ns: "i64", gets: "i64", puts: "i64", starts: "i64", commits: "i64", rollbacks: "i64", pings: "i64"
    ) -> None:
        """Count the requests of a run."""
        if each_ns >= self._latency.threshold_ns:
            self._latency.add(FAST_COMMAND, each_ns)
        lock = self._statistics.lock
        if lock is not None:  # not with a context manager, which would need a second method for what follows
            lock.acquire()
        if gets:
            self.get.add(gets, each_ns)
        if puts:
            self.put.add(puts, each_ns)
        if starts:
            self.start.add(starts, each_ns)
        if commits:
            self.commit.add(commits, each_ns)
        if rollbacks:
            self.rollback.add(rollbacks, each_ns)
        if pings:
            self.ping.add(pings, each_ns)
        if lock is not None:
            lock.release()

    def failed(self, command: CommandFigures, reply: bytes) -> None:
        """Count the error that a reply reports."""
        self._statistics.failed(command, error_code(reply))

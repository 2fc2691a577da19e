"""The figures of the commands that the fast path runs."""

from typing import TYPE_CHECKING, final

from kvs.adapters.inbound.protocol.fast_figures import FastPathFigures
from kvs.adapters.inbound.protocol.observation import Observation

if TYPE_CHECKING:
    from mypy_extensions import i64  # an int in a register, to the compiler


@final
class LineFigures(FastPathFigures):
    """The figures of the commands that the fast path runs."""

    def __init__(self, observation: Observation) -> None:
        super().__init__(observation)
        statistics = observation.statistics
        self.get = statistics.of(b"get")
        self.put = statistics.of(b"put")
        self.start = statistics.of(b"start")
        self.commit = statistics.of(b"commit")
        self.rollback = statistics.of(b"rollback")
        self.ping = statistics.of(b"ping")

    def add(
        self,
        began_s: float,
        requests: "i64",
        gets: "i64",
        puts: "i64",
        starts: "i64",
        commits: "i64",
        rollbacks: "i64",
        pings: "i64",
    ) -> None:
        """Count the requests of a run."""
        each_ns, bucket = self.begin(began_s, requests)
        if gets:
            self.get.add(gets, each_ns, bucket)
        if puts:
            self.put.add(puts, each_ns, bucket)
        if starts:
            self.start.add(starts, each_ns, bucket)
        if commits:
            self.commit.add(commits, each_ns, bucket)
        if rollbacks:
            self.rollback.add(rollbacks, each_ns, bucket)
        if pings:
            self.ping.add(pings, each_ns, bucket)
        self.end()

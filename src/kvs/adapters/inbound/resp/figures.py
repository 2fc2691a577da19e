"""The figures of the commands that the fast path runs."""

from typing import TYPE_CHECKING, final

from kvs.adapters.inbound.protocol.fast_figures import FastPathFigures
from kvs.adapters.inbound.protocol.observation import Observation

if TYPE_CHECKING:
    from mypy_extensions import i64  # an int in a register, to the compiler


@final
class RespFigures(FastPathFigures):
    """The figures of the commands that the fast path runs."""

    def __init__(self, observation: Observation) -> None:
        super().__init__(observation)
        statistics = observation.statistics
        self.get = statistics.of(b"get")
        self.set = statistics.of(b"set")
        self.mset = statistics.of(b"mset")
        self.incr = statistics.of(b"incr")
        self.watch = statistics.of(b"watch")
        self.multi = statistics.of(b"multi")
        self.exec = statistics.of(b"exec")

    def add(
        self,
        began_s: float,
        requests: "i64",
        gets: "i64",
        sets: "i64",
        msets: "i64",
        incrs: "i64",
        watches: "i64",
        queues: "i64",
    ) -> None:
        """Count the requests of a run, with a MULTI and an EXEC for each queue."""
        each_ns, bucket = self.begin(began_s, requests)
        if gets:
            self.get.add(gets, each_ns, bucket)
        if sets:
            self.set.add(sets, each_ns, bucket)
        if msets:
            self.mset.add(msets, each_ns, bucket)
        if incrs:
            self.incr.add(incrs, each_ns, bucket)
        if watches:
            self.watch.add(watches, each_ns, bucket)
        if queues:
            self.multi.add(queues, each_ns, bucket)
            self.exec.add(queues, each_ns, bucket)
        self.end()

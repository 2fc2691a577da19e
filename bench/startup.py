"""The time from starting the process to its `listening` log line."""

import time
from collections.abc import Sequence

from bench.servers import running
from bench.spread import Row, Sections, spread


def measure(names: Sequence[str], python: str, rounds: int) -> Sections:
    """Start and stop each server so many times, in turn."""
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            begin = time.perf_counter()
            with running(name, python):
                times[name].append((time.perf_counter() - begin) * 1e3)
    rows: list[Row] = [{"server": name, "starts": rounds, "ms": spread(each)} for name, each in times.items()]
    return {"From start to listening": rows}

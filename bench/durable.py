"""What durability costs: commits that are on the disk, beside Redis that syncs as often, and reads that need no disk.

Both servers sync once for all clients they hear in a turn, so both are measured with many clients at depth 1. All
directories are on one disk, where TMPDIR points.
"""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from bench.errors import BenchError
from bench.generator import Work, load, run
from bench.servers import Server, running
from bench.spread import Row, Sections, spread

CLIENTS: Final = 64


def measure(python: str, keys: int, seconds: float, rounds: int) -> Sections:
    """Measure commits, reads and starts with so many keys."""
    with tempfile.TemporaryDirectory(prefix="bench-durable-") as directory:
        flags = ("--storage", "sqlite", "--data-dir", directory)
        with running("redis-durable", python) as redis, running("kvs", python, *flags) as durable:
            for server in (redis, durable):
                load(server, keys)
            work = Work("put", CLIENTS, keys=keys, seconds=seconds)
            sections: Sections = {
                f"Commits, {CLIENTS} clients at depth 1, any of {keys} keys": [
                    _compared("kvs sqlite, full / redis, always", work, redis, durable, rounds)
                ]
            }
            with running("kvs", python) as memory:
                load(memory, keys)
                reads = [replace(work, workload="get", depth=depth) for depth in (1, 16, 64)]
                sections[f"Reads, {CLIENTS} clients, any of {keys} keys"] = [
                    _compared(f"kvs sqlite / kvs memory, depth {work.depth}", work, memory, durable, rounds)
                    for work in reads
                ]
        sections[f"Starts with {keys} keys"] = _starts(python, flags, rounds)
    return sections


def _compared(what: str, work: Work, base: Server, other: Server, rounds: int) -> Row:
    """Run both in alternating order and compare them round by round."""
    pairs = []
    for number in range(rounds):
        first, second = (base, other) if number % 2 == 0 else (other, base)
        rates = {server.port: run(work, server) for server in (first, second)}
        pairs.append((rates[base.port], rates[other.port]))
    return {
        "what": what,
        "requests/s": spread(after.requests_per_s for _, after in pairs),
        "ratio": spread(after.requests_per_s / before.requests_per_s for before, after in pairs),
        "p99 us": spread(after.p99_us for _, after in pairs),
        "longest us": spread(after.max_us for _, after in pairs),
        "p99 us of the other": spread(before.p99_us for before, _ in pairs),
        "longest us of the other": spread(before.max_us for before, _ in pairs),
    }


def _starts(python: str, flags: Sequence[str], rounds: int) -> list[Row]:
    """Start again and again on what the runs before have left."""
    seconds: list[float] = []
    rates: list[float] = []
    rows = 0
    for _ in range(rounds):
        with running("kvs", python, *flags) as server:
            event = _loaded(server.log)
        rows = event["keys"] + event["journal_rows"]
        seconds.append(event["seconds"])
        rates.append(event["rows_per_s"])
    return [{"rows": rows, "seconds": spread(seconds), "rows/s": spread(rates)}]


def _loaded(log: Path) -> dict[str, Any]:
    for line in log.read_text().splitlines():
        event: dict[str, Any] = json.loads(line)
        if event["event"] == "loaded":
            return event
    raise BenchError(f"{log} does not tell of what was loaded")

"""What durability costs: commits that are on the disk, beside Redis that syncs as often, and reads that need no disk.

And how fast all the data go out and in, by the command line, which runs on the generator's core.

Both servers sync once for all clients they hear in a turn, so both are measured with many clients at depth 1. All
directories are on one disk, where TMPDIR points.
"""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench.client import LineClient
from bench.errors import BenchError
from bench.generator import Work, load, run
from bench.servers import Server, running
from bench.spread import Row, Sections, spread

CLIENTS: Final = 64
SETTLE_S: Final = 3.0
BARE_SYNCS: Final = 200
BYTES_PER_COMMIT: Final = 64
"""In the journal: a key of 16 bytes, a value of 32, and their lengths."""


def measure(python: str, keys: int, seconds: float, rounds: int) -> Sections:
    """Measure commits, reads and starts with so many keys."""
    with tempfile.TemporaryDirectory(prefix="bench-durable-") as directory:
        flags = ("--storage", "sqlite", "--data-dir", directory)
        with running("redis-durable", python) as redis, running("kvs", python, *flags) as durable:
            for server in (redis, durable):
                load(server, keys)
            work = Work("put", CLIENTS, keys=keys, seconds=seconds)
            syncs_us: list[float] = []

            def rest() -> None:
                _wait_until_compacted(durable)  # else on Redis's time
                syncs_us.append(_bare_sync_us(directory))

            row = _compared(
                "kvs sqlite, full / redis, always",
                work,
                redis,
                durable,
                rounds,
                before=rest,
            )
            row = {**row, "a bare write and fdatasync of as much, us": spread(syncs_us)}
            sections: Sections = {f"Commits, {CLIENTS} clients at depth 1, any of {keys} keys": [row]}
            with running("kvs", python) as memory:
                load(memory, keys)
                with running("redis", python) as undurable:
                    load(undurable, keys)
                    _wait_until_compacted(durable)
                    without = _compared("kvs memory / redis without a log", work, undurable, memory, rounds)
                sections["The same, and nothing is durable"] = [without]
                reads = [replace(work, workload="get", depth=depth) for depth in (1, 16, 64)]
                sections[f"Reads, {CLIENTS} clients, any of {keys} keys"] = [
                    _compared(f"kvs sqlite / kvs memory, depth {work.depth}", work, memory, durable, rounds)
                    for work in reads
                ]
        sections[f"Starts with {keys} keys"] = _starts(python, flags, rounds)
        sections[f"Dump and load of {keys} keys, whole commands"] = _dumps_and_loads(python, flags, keys, rounds)
    return sections


def _wait_until_compacted(server: Server) -> None:
    """Wait until the server has no work of its own left: it would be done on the core that is measured."""
    with LineClient(server) as client:
        waiting = None
        while (now := _journal_bytes(client)) != waiting:
            waiting = now
            time.sleep(SETTLE_S)


def _journal_bytes(client: LineClient) -> int:
    (info,) = client.ask("INFO")
    if not isinstance(info, dict):
        raise BenchError("INFO has no figures")
    return int(info["server"]["journal_bytes"])


def _bare_sync_us(directory: str) -> float:
    """Return the median time to append what a batch of all clients has to a file, and to sync that."""
    times_s: list[float] = []
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        for _ in range(BARE_SYNCS):
            begin_s = time.perf_counter()
            file.write(bytes(CLIENTS * BYTES_PER_COMMIT))
            os.fdatasync(file.fileno())
            times_s.append(time.perf_counter() - begin_s)
    return median(times_s) * 1e6


def _compared(
    what: str, work: Work, base: Server, other: Server, rounds: int, before: Callable[[], object] = lambda: None
) -> Row:
    """Run both in alternating order and compare them round by round; do something before each run."""
    pairs = []
    for number in range(rounds):
        rates = {}
        for server in (base, other) if number % 2 == 0 else (other, base):
            before()
            rates[server.port] = run(work, server)
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


def _dumps_and_loads(python: str, flags: Sequence[str], keys: int, rounds: int) -> list[Row]:
    """Dump what is there, and load it into a new server and a new data directory."""
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-care-") as directory:
        file = str(Path(directory, "dump"))
        for number in range(rounds):
            fresh = str(Path(directory, f"data{number}"))
            with running("kvs", python, *flags) as server:
                _timed(rates, "kvs dump", keys, python, "dump", "--port", str(server.port), file)
            with running("kvs", python) as server:
                _timed(rates, "kvs load, memory", keys, python, "load", "--port", str(server.port), file)
            with running("kvs", python, "--storage", "sqlite", "--data-dir", fresh) as server:
                _timed(rates, "kvs load, sqlite", keys, python, "load", "--port", str(server.port), file)
            _timed(rates, "kvs dump --data-dir", keys, python, "dump", "--data-dir", fresh, file)
            _timed(rates, "kvs load --data-dir", keys, python, "load", "--data-dir", f"{fresh}-again", file)
    return [{"command": command, "keys/s": spread(each)} for command, each in rates.items()]


def _timed(rates: dict[str, list[float]], name: str, keys: int, python: str, *arguments: str) -> None:
    begin = time.perf_counter()
    done = subprocess.run([python, "-m", "kvs", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"{name} failed: {done.stderr.strip()}")
    rates.setdefault(name, []).append(keys / (time.perf_counter() - begin))


def _loaded(log: Path) -> dict[str, Any]:
    for line in log.read_text().splitlines():
        event: dict[str, Any] = json.loads(line)
        if event["event"] == "loaded":
            return event
    raise BenchError(f"{log} does not tell of what was loaded")

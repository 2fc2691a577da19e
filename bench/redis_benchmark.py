"""Redis's own benchmark, on Redis and on kvs by turns."""

import csv
import subprocess
from collections.abc import Sequence
from typing import Final

from bench import machine
from bench.errors import BenchError
from bench.servers import Server, running
from bench.spread import Row, Sections, spread

TESTS: Final = "set,get,incr,mset"
WORK: Final = ("-r", "100000", "-d", "32", "-c", "50")
DEPTHS: Final = (1, 16)
REQUESTS_PER_S: Final = 60_000  # what one at a time comes to, roughly: turns seconds into a number of requests
TIMEOUT_S: Final = 300


def measure(python: str, seconds: float, rounds: int) -> Sections:
    """Run each test on each server so many times, back and forth."""
    sections: Sections = {}
    with running("redis", python) as redis, running("kvs-resp", python) as kvs:
        for depth in DEPTHS:
            rates: dict[tuple[str, str], list[float]] = {}
            for number in range(rounds):
                for server in (redis, kvs) if number % 2 == 0 else (kvs, redis):
                    for test, rate in _run(server, depth, int(seconds * REQUESTS_PER_S * depth**0.5)).items():
                        rates.setdefault((test, server.name), []).append(rate)
            tests = list(dict.fromkeys(test for test, _ in rates))
            sections[f"redis-benchmark -t {TESTS} {' '.join(WORK)} -P {depth}"] = [
                _row(test, rates[test, redis.name], rates[test, kvs.name]) for test in tests
            ]
    return sections


def _run(server: Server, depth: int, requests: int) -> dict[str, float]:
    """Return the requests per second of each test."""
    command = ["redis-benchmark", "-p", str(server.port), "-t", TESTS, *WORK, "-P", str(depth)]
    with machine.pinned(machine.GENERATOR_CORE):
        ran = subprocess.run(
            [*command, "-n", str(requests), "--csv"], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    if ran.returncode != 0 or "rror" in ran.stdout + ran.stderr:
        raise BenchError(f"redis-benchmark on {server.name} failed: {(ran.stderr or ran.stdout).strip()}")
    return {row["test"]: float(row["rps"]) for row in csv.DictReader(ran.stdout.splitlines())}


def _row(test: str, redis: Sequence[float], kvs: Sequence[float]) -> Row:
    return {
        "test": test,
        "Redis, per second": spread(redis),
        "kvs, per second": spread(kvs),
        "of Redis": spread(ours / theirs for ours, theirs in zip(kvs, redis, strict=True)),
    }

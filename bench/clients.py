"""Ten thousand idle connections beside two hundred busy ones.

Does the server answer them all, and what does an idle one cost?
"""

import resource
from contextlib import ExitStack
from typing import Final

from bench import machine
from bench.client import LineClient
from bench.errors import BenchError
from bench.generator import Work, load, run
from bench.servers import find, running
from bench.spread import Row, Sections

IDLE: Final = 10_000
BUSY: Final = 200
SPARE_DESCRIPTORS: Final = 500


def measure(name: str, python: str, seconds: float) -> Sections:
    """Measure one server that speaks the line protocol."""
    if find(name).protocol != "line":
        raise BenchError(f"{name} does not speak the line protocol")
    _raise_descriptor_limit(IDLE + SPARE_DESCRIPTORS)
    work = Work("mixed", BUSY, seconds=seconds)
    with running(name, python, "--max-clients", "11000") as server, ExitStack() as stack:
        load(server, work.keys)
        alone = run(work, server)
        before = machine.resident_bytes(server.pid)
        idle = [stack.enter_context(LineClient(server)) for _ in range(IDLE)]
        for client in idle:
            client.ask("PING")
        growth = machine.resident_bytes(server.pid) - before
        beside = run(work, server)
        for client in idle:
            client.ask("PING")
        rows: list[Row] = [
            {
                "server": name,
                "idle": IDLE,
                "busy": BUSY,
                "memory per idle connection, bytes": growth / IDLE,
                "requests/s, no idle ones": alone.requests_per_s,
                "requests/s beside them": beside.requests_per_s,
                "ratio": beside.requests_per_s / alone.requests_per_s,
                "p99 us beside them": beside.p99_us,
            }
        ]
    return {"Many clients": rows}


def _raise_descriptor_limit(wanted: int) -> None:
    """Raise the soft limit to the hard one; the servers inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise BenchError(f"{wanted} file descriptors are needed and the hard limit is {hard} (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

"""Ten thousand idle connections beside two hundred busy ones, and a thousand busy ones against fifty.

Does the server answer them all, what does an idle one cost, and what do many at once?
"""

import resource
from contextlib import ExitStack
from dataclasses import replace
from typing import Final

from bench import machine
from bench.client import LineClient
from bench.errors import BenchError
from bench.generator import Work, load, run
from bench.plans import DEPTHS
from bench.servers import Server, find, running
from bench.spread import Row, Sections, spread

IDLE: Final = 10_000
BUSY: Final = 200
FEW_BUSY: Final = 50
MANY_BUSY: Final = 1000
ROUNDS: Final = 5
SPARE_DESCRIPTORS: Final = 2000


def measure(name: str, python: str, seconds: float) -> Sections:
    """Measure one server; the idle connections only of one that speaks the line protocol."""
    with running(name, python) as server:
        load(server, Work("mixed").keys)
        busy = [_many_busy(server, replace(Work("mixed"), depth=depth, seconds=seconds / 3)) for depth in DEPTHS]
    sections: Sections = {f"{name}: {MANY_BUSY} busy clients against {FEW_BUSY}": busy}
    if find(name).protocol == "line":
        sections |= _many_idle(name, python, seconds)
    return sections


def _many_busy(server: Server, work: Work) -> Row:
    """Compare in alternating rounds; many get twice the time, since each is answered less often."""
    few = replace(work, connections=FEW_BUSY)
    many = replace(work, connections=MANY_BUSY, seconds=2 * work.seconds, warmup_s=2 * work.warmup_s)
    pairs = [(run(few, server).requests_per_s, run(many, server).requests_per_s) for _ in range(ROUNDS)]
    return {
        "depth": work.depth,
        f"requests/s, {FEW_BUSY}": spread(before for before, _ in pairs),
        f"requests/s, {MANY_BUSY}": spread(after for _, after in pairs),
        "ratio": spread(after / before for before, after in pairs),
    }


def _many_idle(name: str, python: str, seconds: float) -> Sections:
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
    return {f"{name}: {IDLE} idle clients": rows}


def _raise_descriptor_limit(wanted: int) -> None:
    """Raise the soft limit to the hard one; the servers inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise BenchError(f"{wanted} file descriptors are needed and the hard limit is {hard} (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

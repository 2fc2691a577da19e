"""The longest time a client waits for one answer while the server does something big.

A probe sends one request every millisecond on a connection of its own. A long wait counts for every request
that was due in it, so a pause of 10 ms weighs as the ten requests it delays. Meanwhile others load, overwrite,
list, count, hold snapshots and delete. They stand back behind the probe (nice 19), since they share its core.
The first phase, in which nothing else happens, shows the noise of the machine itself; a pause of the server's
own making comes back in every round, so the lowest maximum tells the two apart.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Final

from bench.client import LineClient
from bench.generator import Sample, Work, load, run, started
from bench.servers import Server, running
from bench.spread import Row, Sections, spread

INTERVAL_US: Final = 1000
PROBE_KEYS: Final = 1000
PROBE_FIRST: Final = 900_000_000_000  # beyond all other keys
SNAPSHOTS: Final = 100
# A modest load: requests of the others that share a tick with the probe's are load, not pause.
CLIENTS: Final = 4
DEPTH: Final = 16
BACKGROUND: Final = 19


def measure(names: Sequence[str], python: str, keys: int, seconds: float, rounds: int) -> Sections:
    """Probe each server through all phases it knows, each round on a fresh one."""
    sections: Sections = {}
    for name in names:
        samples: dict[str, list[Sample]] = {}
        for _ in range(rounds):
            with running(name, python) as server:
                load(server, PROBE_KEYS, first_key=PROBE_FIRST)
                for phase, background in _phases(server, keys, seconds):
                    samples.setdefault(phase, []).append(probed(server, background))
        sections[f"{name}: pauses at {keys:,} keys"] = [row(*each) for each in samples.items()]
    return sections


def _phases(server: Server, keys: int, seconds: float) -> Iterator[tuple[str, Callable[[], object]]]:
    yield "nothing else", lambda: time.sleep(seconds)
    everything = Work("load", CLIENTS, DEPTH, keys=keys)
    yield f"load from 0 to {keys:,} keys", lambda: _background(server, everything)
    overwrite = Work("put", CLIENTS, DEPTH, keys=keys, seconds=seconds)
    yield "overwrite", lambda: _background(server, overwrite)
    if server.protocol == "line":
        yield "count", lambda: _count(server, seconds)
        yield "list all keys", lambda: _list_all(server)
        more = Work("load", CLIENTS, DEPTH, keys=keys // 10, first_key=keys)
        yield "list while keys are added", lambda: _list_beside(server, more)
        yield f"overwrite under {SNAPSHOTS} snapshots, then close them", lambda: _snapshots(server, overwrite)
        fewer = Work("unload", CLIENTS, DEPTH, keys=keys // 10, first_key=keys)
        yield "list while keys are deleted", lambda: _list_beside(server, fewer)
    yield "delete all keys", lambda: _background(server, replace(everything, workload="unload"))


def probed(server: Server, background: Callable[[], object], workload: str = "mixed") -> Sample:
    """Return what the probe saw while the background ran."""
    work = Work(workload, 1, 1, keys=PROBE_KEYS, first_key=PROBE_FIRST, seconds=3600, interval_us=INTERVAL_US)
    with started(work, server) as probe:
        time.sleep(2 * work.warmup_s)
        background()
        probe.stop()
        return probe.sample()


def row(phase: str, samples: Sequence[Sample]) -> Row:
    """Sum up what the probe saw in all rounds of a phase."""
    return {
        "meanwhile": phase,
        "probes": sum(sample.requests for sample in samples),
        "p50 ms": spread(sample.p50_us / 1e3 for sample in samples),
        "p99 ms": spread(sample.p99_us / 1e3 for sample in samples),
        "p999 ms": spread(sample.p999_us / 1e3 for sample in samples),
        "max ms": spread(sample.max_us / 1e3 for sample in samples),
    }


def _background(server: Server, work: Work) -> None:
    run(work, server, niceness=BACKGROUND)


def _count(server: Server, seconds: float) -> None:
    with LineClient(server) as client:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            client.ask("COUNT key:", "COUNT", "COUNT key:0000001")


def _list_all(server: Server) -> None:
    """Walk through all keys, page by page."""
    with LineClient(server) as client:
        after = ""
        while True:
            (page,) = client.ask(f"KEYS key:{after}")
            if not isinstance(page, list) or not page:
                return
            after = f" {page[-1]}"


def _list_beside(server: Server, work: Work) -> None:
    """List, again and again, while keys appear or go: the key order may not be made anew each time."""
    with started(work, server, niceness=BACKGROUND) as changes, LineClient(server) as client:
        for number in range(200):
            client.ask(f"KEYS key: key:{number * 5000:012d}")
        changes.sample()
        client.ask("KEYS key:")


def _snapshots(server: Server, overwrite: Work) -> None:
    with ExitStack() as stack:
        writes = stack.enter_context(started(overwrite, server, niceness=BACKGROUND))
        sessions = [stack.enter_context(LineClient(server)) for _ in range(SNAPSHOTS)]
        for session in sessions:
            session.ask("START")
            time.sleep(overwrite.seconds / SNAPSHOTS)
        writes.sample()
        for session in sessions:
            session.ask("ROLLBACK")

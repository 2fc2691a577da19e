"""What the loop of a server waits for while batches are in flight: see ``clocked.py``. The memory engine has none."""

import json
import os
import signal
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from bench.errors import BenchError
from bench.generator import Work, load, run
from bench.members import members
from bench.servers import WAITS_DIRECTORY, Server, running, wait_for
from bench.spread import Row, Sections, spread

CLIENTS: Final = 64
SHARES: Final = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
SETTLE_S: Final = 2.0
TOLD_S: Final = 30


def measure(python: str, keys: int, seconds: float, rounds: int) -> Sections:
    """Measure commits of many clients at depth 1 with each engine, by turns."""
    work = Work("put", CLIENTS, keys=keys, seconds=seconds)
    samples: dict[str, list[tuple[list[float], float]]] = {}
    with (
        members() as etcd,
        tempfile.TemporaryDirectory(prefix="bench-waits-") as directory,
        ExitStack() as stack,
    ):
        os.environ[WAITS_DIRECTORY] = directory  # of the servers
        engines = {
            "memory": (),
            "sqlite": ("--storage", "sqlite", "--data-dir", str(Path(directory, "data"))),
            "etcd": ("--storage", "etcd", "--storage-option", f"endpoints={etcd.endpoints}"),
        }
        servers = {
            engine: stack.enter_context(running("kvs-clocked", python, *flags)) for engine, flags in engines.items()
        }
        wait_for(servers["etcd"], "leading")
        for server in servers.values():
            load(server, keys)
        time.sleep(SETTLE_S)
        for _ in range(rounds):
            for engine, server in servers.items():
                _told(server, directory)
                rate = run(work, server).requests_per_s
                samples.setdefault(engine, []).append((_told(server, directory), rate))
    return {f"Waits of the loop, {CLIENTS} clients at depth 1": [_row(*each) for each in samples.items()]}


def _row(engine: str, samples: list[tuple[list[float], float]]) -> Row:
    waits = sorted(wait for each, _ in samples for wait in each)
    return {
        "engine": engine,
        "commits/s": spread(rate for _, rate in samples),
        "callbacks": len(waits),
        **{f"{name} us": waits[int(len(waits) * share)] for name, share in SHARES.items()},
        "longest us": waits[-1],
    }


def _told(server: Server, directory: str) -> list[float]:
    file = Path(directory, str(server.pid))
    file.unlink(missing_ok=True)
    os.kill(server.pid, signal.SIGUSR1)
    deadline_s = time.monotonic() + TOLD_S
    while not file.exists():
        if time.monotonic() > deadline_s:
            raise BenchError(f"{server.name} does not tell of its waits")
        time.sleep(0.01)
    waits: list[float] = json.loads(file.read_text())
    return waits

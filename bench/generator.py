"""The load generator as Python sees it: what work it can do, and what it reports."""

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from bench import build, machine
from bench.errors import BenchError
from bench.servers import Server, end

TRANSACTIONS: Final = frozenset({"txn", "txn-split"})


@dataclass(frozen=True, slots=True)
class Work:
    """What the generator is to do.

    Attributes:
        workload: load (PUT each key once), unload (DEL each once), put, get, mixed (half and half),
            nest (START, ROLLBACK), txn (START, GET, PUT, COMMIT sent together) or
            txn-split (START, GET; then PUT, COMMIT).
        connections: How many clients.
        depth: Operations per batch; a client sends a batch and waits for all its replies.
        keys: How many keys, drawn evenly, from `first_key` on.
        hot_keys: If not 0, transactions of all clients share so many keys; else each client has its own.
        interval_us: If not 0, the one client sends at this pace; a long wait counts for all requests due in it.
        setup: A line that each connection sends `setup_count` times before the run.
    """

    workload: str
    connections: int = 50
    depth: int = 1
    value_bytes: int = 32
    keys: int = 100_000
    first_key: int = 0
    hot_keys: int = 0
    seconds: float = 1.0
    warmup_s: float = 0.2
    interval_us: int = 0
    setup: str = ""
    setup_count: int = 1
    seed: int = 1

    @property
    def is_transaction(self) -> bool:
        """Tell whether its operations are transactions."""
        return self.workload in TRANSACTIONS

    def suits(self, server: Server) -> bool:
        """Tell whether that server can do it."""
        return not self.is_transaction or server.protocol != "memcached"

    def arguments(self, server: Server) -> list[str]:
        """Return the generator's command-line arguments for this work on that server."""
        by_count = self.workload in {"load", "unload"}
        flags: dict[str, object] = {
            "port": server.port,
            "protocol": server.protocol,
            "server-pid": server.pid,
            "workload": self.workload,
            "connections": self.connections,
            "depth": self.depth,
            "value-bytes": self.value_bytes,
            "keys": self.keys,
            "first-key": self.first_key,
            "hot-keys": self.hot_keys,
            "seconds": self.seconds,
            "warmup-s": 0 if by_count else self.warmup_s,
            "interval-us": self.interval_us,
            "seed": self.seed,
        }
        arguments = [f"--{name}={value}" for name, value in flags.items()]
        if self.setup:
            arguments += [f"--setup={self.setup}", f"--setup-count={self.setup_count}"]
        return arguments


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run showed. Latencies are of whole batches, from sending to the last reply."""

    requests: int
    seconds: float
    requests_per_s: float
    errors: int
    committed: int
    conflicts: int
    p50_us: float
    p99_us: float
    p999_us: float
    max_us: float
    generator_cpu_s: float
    server_cpu_s: float

    @property
    def server_cpu_us(self) -> float:
        """Return the server's CPU time per operation."""
        return self.server_cpu_s / max(self.requests, 1) * 1e6

    @property
    def generator_utilisation(self) -> float:
        """Return the share of the time in which the generator was busy."""
        return self.generator_cpu_s / self.seconds

    @property
    def committed_per_s(self) -> float:
        """Return the committed transactions per second."""
        return self.committed / self.seconds

    @property
    def conflict_rate(self) -> float:
        """Return the share of transactions that ended in a conflict."""
        return self.conflicts / max(self.committed + self.conflicts, 1)


class Run:
    """A generator at work."""

    def __init__(self, process: subprocess.Popen[bytes], what: str) -> None:
        self._process = process
        self._what = what

    def wait_until_connected(self) -> None:
        """Wait until all connections stand and their setup is done (for a run that is held)."""
        if self._process.stdout is None or self._process.stdout.readline() != b"ready\n":
            self.sample()

    def stop(self) -> None:
        """End the measurement now instead of when the time is up."""
        self._process.send_signal(signal.SIGTERM)

    def sample(self) -> Sample:
        """Release the run if it is held, wait for its end and return what it showed."""
        out, err = self._process.communicate()
        complaint = err.decode(errors="replace").strip()
        if self._process.returncode != 0 or not out:
            raise BenchError(f"{self._what} failed: {complaint or f'exit {self._process.returncode}'}")
        return Sample(**json.loads(out))


@contextmanager
def started(work: Work, server: Server, *, hold: bool = False, niceness: int = 0) -> Iterator[Run]:
    """Start the generator on its core.

    Args:
        work: What to do.
        server: Whom to do it to.
        hold: Connect and set up, then wait for `sample()` before sending anything.
        niceness: How far to stand back behind another generator on the same core.
    """
    command = [str(build.program("loadgen")), *work.arguments(server), *(["--hold"] if hold else [])]
    if niceness:
        command = ["nice", "-n", str(niceness), *command]
    with machine.pinned(machine.GENERATOR_CORE):
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        yield Run(process, f"{work.workload} on {server.name}")
    finally:
        end(process)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None and not pipe.closed:
                pipe.close()


def run(work: Work, server: Server, *, niceness: int = 0) -> Sample:
    """Do the work and return what it showed."""
    with started(work, server, niceness=niceness) as generator:
        return generator.sample()


def load(server: Server, keys: int, *, first_key: int = 0, value_bytes: int = 32) -> Sample:
    """Put each key once."""
    work = Work("load", depth=16, keys=keys, first_key=first_key, value_bytes=value_bytes)
    return run(work, server)

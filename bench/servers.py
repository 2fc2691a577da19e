"""The servers that are compared: how each is started, found ready, and ended.

A server runs on the server core, on loopback, in a directory of its own that goes with it, and with its log
in a file, since a pipe that nobody reads would stop it.
"""

import ctypes
import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench import build, machine
from bench.errors import BenchError

START_TIMEOUT_S: Final = 15
STOP_TIMEOUT_S: Final = 15
EVENT_TIMEOUT_S: Final = 60
READY: Final = frozenset({"listening", "standing_by"})
_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None)


@dataclass(frozen=True, slots=True)
class Variant:
    """A server as it can be started.

    Attributes:
        protocol: What the load generator speaks to it.
        command: With the placeholders {python}, {pure}, {echo}, {port} and {user}. A command without {port} picks its
            own port and logs it.
        environment: Added to the environment of the benchmark.
    """

    protocol: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)


_REDIS: Final = (
    *("redis-server", "--port", "{port}", "--bind", "127.0.0.1", "--maxclients", "11000"),
    *("--save", "", "--appendonly", "no"),
)
# Its log is not rewritten during the runs, which is to its advantage.
_REDIS_DURABLE: Final = (
    *(*_REDIS[:-1], "yes", "--appendfsync", "always"),
    *("--auto-aof-rewrite-percentage", "0"),
)
# One thread, as the others have; -u is needed where root runs it and ignored elsewhere.
_MEMCACHED: Final = (
    *("memcached", "-l", "127.0.0.1", "-p", "{port}", "-U", "0", "-c", "11000"),
    *("-t", "1", "-m", "4096", "-u", "{user}"),
)
PURE_PYTHON: Final = ".venv/bin/python"
"""The interpreter of the editable install, which is never compiled; from the root of the repository."""

WAITS_DIRECTORY: Final = "BENCH_WAITS"
"""The variable with the directory where ``clocked.py`` tells, in a file with the number of its process."""

_KVS: Final = ("{python}", "-m", "kvs", "--port", "0", "--log-format", "json")

VARIANTS: Final[dict[str, Variant]] = {
    "echo": Variant("echo", ("{echo}", "{port}")),
    "redis": Variant("resp", _REDIS),
    "redis-durable": Variant("resp", _REDIS_DURABLE),
    "memcached": Variant("memcached", _MEMCACHED),
    "kvs": Variant("line", _KVS),
    "kvs-resp": Variant("resp", _KVS),
    "kvs-clocked": Variant("line", ("{python}", "-m", "bench.clocked", *_KVS[3:])),
    "kvs-pure": Variant("line", ("{pure}", *_KVS[1:])),
    "kvs-pure-asyncio": Variant("line", ("{pure}", *_KVS[1:], "--transport", "asyncio")),
}


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs and answers."""

    name: str
    protocol: str
    pid: int
    port: int
    log: Path


@contextmanager
def running(name: str, python: str, *extra: str) -> Iterator[Server]:
    """Start a variant with extra arguments, wait until it serves, and end it on every way out."""
    variant = find(name)
    port = free_port() if "{port}" in variant.command else 0
    words = {"python": python, "pure": PURE_PYTHON, "port": str(port), "user": getpass.getuser()}
    if name == "echo":
        words["echo"] = str(build.program("echo"))
    command = [*(word.format(**words) for word in variant.command), *extra]
    check_installed(command[0])
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"bench-{name}-")))
        log = directory / "log"
        with log.open("wb") as stream, machine.pinned(machine.SERVER_CORE):
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                cwd=None if port == 0 else directory,
                env=_environment(variant),
                preexec_fn=die_with_parent,  # noqa: PLW1509  unsafe with threads, and there are none
            )
        stack.callback(end, process)
        server_port = _wait_until_ready(name, process, port, log)
        yield Server(name, variant.protocol, process.pid, server_port, log)


def find(name: str) -> Variant:
    """Return the variant of that name."""
    try:
        return VARIANTS[name]
    except KeyError:
        raise BenchError(f"no server is called {name!r}; there are {', '.join(VARIANTS)}") from None


def die_with_parent() -> None:
    """Let the kernel end this process with its parent, in case the benchmark itself is killed."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process of ours, gently at first."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def wait_for(server: Server, event: str) -> None:
    """Wait until the log of a server has an event."""
    deadline_s = time.monotonic() + EVENT_TIMEOUT_S
    while not any(json.loads(line)["event"] == event for line in server.log.read_text().splitlines()):
        if time.monotonic() > deadline_s:
            raise BenchError(f"{server.name} does not tell of {event}")
        time.sleep(0.05)


def admin_port(server: Server) -> int:
    """Return the port of ``--admin-port 0``."""
    for line in server.log.read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "admin_listening":
            return int(event["port"])
    raise BenchError(f"{server.name} has no admin port")


def _environment(variant: Variant) -> dict[str, str]:
    return {**os.environ, **variant.environment}


def check_installed(program: str) -> None:
    """Raise if there is no such program."""
    if shutil.which(program) is None:
        raise BenchError(f"{program} is missing: install it or leave it out with --servers")


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(name: str, process: subprocess.Popen[bytes], port: int, log: Path) -> int:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        found = (port if _accepts(port) else 0) if port else listening_port(log.read_text(errors="replace"))
        if found:
            return found
        time.sleep(0.001)
    last = log.read_text(errors="replace").strip().rpartition("\n")[2]
    raise BenchError(f"{name} did not start: {last or 'no log'}")


def wait_until_accepting(name: str, port: int) -> None:
    """Wait until something listens at a port."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not _accepts(port):
        if time.monotonic() > deadline:
            raise BenchError(f"{name} did not start")
        time.sleep(0.01)


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def listening_port(log: str) -> int:
    """Return the port at which a log of JSON lines says that the server listens; 0 if there is none yet."""
    for line in log.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if not isinstance(event, dict) or event.get("event") not in READY:
            continue
        if isinstance(event.get("port"), int):
            return int(event["port"])
        address = str(event.get("address", ""))
        return int(address.rpartition(":")[2].strip(" ]"))
    return 0

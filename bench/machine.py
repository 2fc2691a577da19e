"""What the machine is and what it is doing: cores, CPU time, memory, names and versions."""

import os
import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

_CORES: Final = sorted(os.sched_getaffinity(0))
SERVER_CORE: Final = _CORES[0]
GENERATOR_CORE: Final = _CORES[-1]
SEPARATE_CORES: Final = len(_CORES) > 1
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Run the block on one core, so that every process started in it inherits the core, threads and all."""
    before = os.sched_getaffinity(0)
    if SEPARATE_CORES:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_s(pid: int) -> float:
    """Return the user and system CPU seconds of all threads of a process.

    /proc/<pid>/stat has the same sum in ticks of 10 ms; the process's CPU clock has it in nanoseconds. Its id
    is computed as clock_getcpuclockid(3) does it, which Python does not offer for other processes.
    """
    return time.clock_gettime((~pid << 3) | 2)


def resident_bytes(pid: int) -> int:
    """Return the resident set of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def busy_s() -> float:
    """Return the seconds the two cores have been busy since boot, time stolen by other guests included."""
    total = 0.0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name in {f"cpu{SERVER_CORE}", f"cpu{GENERATOR_CORE}"}:
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
            total += (user + nice + system + irq + softirq + steal) / _TICKS_PER_S
    return total


def describe(python: str) -> dict[str, object]:
    """Return what a reader needs to judge a figure: machine, kernel, versions, date and load."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "separate_cores": SEPARATE_CORES,
        "load_before": round(os.getloadavg()[0], 2),
        "kernel": platform.release(),
        "versions": {
            "kvs": _first_line(python, "-m", "kvs", "--version"),
            "python": _first_line(python, "--version"),
            "redis": _first_line("redis-server", "--version"),
            "memcached": _first_line("memcached", "--version"),
            "compiler": _first_line("cc", "--version"),
        },
        "revision": _first_line("git", "describe", "--always", "--dirty"),
    }


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _first_line(*command: str) -> str:
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return "not installed"
    lines = result.stdout.splitlines()
    return lines[0] if result.returncode == 0 and lines else "unknown"

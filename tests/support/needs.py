"""Programs of others that tests run, and what is left out where there is none."""

import os
import re
import shutil
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from typing import Final, NamedTuple


class Need(NamedTuple):
    """A program, and what it is for.

    Attributes:
        program: Its command.
        package: The package of Debian and Ubuntu that has it.
        tests: How many tests need it, and which.
    """

    program: str
    package: str
    tests: str


NEEDS: Final = (
    Need("nc", "netcat-openbsd", "11 tests that talk to the server through it"),
    Need("redis-server", "redis-server", "about 500 tests that compare each reply with that of a real Redis"),
    Need("redis-cli", "redis-tools", "33 tests with redis-cli and redis-benchmark"),
    Need("prometheus-redis-exporter", "prometheus-redis-exporter", "1 test with Prometheus's exporter for Redis"),
    Need("ss", "iproute2", "the same, which asks for its port"),
    Need("strace", "strace", "12 tests that have system calls fail, or processes die at them"),
    Need("etcd", "etcd-server", "68 tests with real clusters of etcd"),
    Need("etcdctl", "etcd-client", "2 of these, which restore a snapshot"),
    Need("openssl", "openssl", "the same, some of which need certificates"),
    Need("curl", "curl", "3 tests with an HTTP client, and one of the documents"),
    Need("chromium", "chromium", "4 tests of the status page"),
    Need("jq", "jq", "1 test of the documents"),
    Need("sqlite3", "sqlite3", "1 test of the documents"),
    Need("systemd-analyze", "systemd", "3 tests of the unit of systemd"),
    Need("bwrap", "bubblewrap", "1 test of a server as in a container"),
)
REDIS: Final = "7.0"
"""The version of Redis that kvs is compared with: others differ from it in some replies."""

NODE: Final = Need("npm", "nodejs npm", "10 tests with clients of Node.js, and with programs that use it")

PROGRAMS: Final = ("cachelib", "django", "fastapi_cache", "flask_caching", "flask_session", "httpx", "starsessions")
"""Packages of the group ``programs``."""

CPU_S: Final = 500
ONE_BY_ONE_S: Final = 1200
"""What all tests take on a machine of 2024, in pure Python: of a processor, and if each waits for the one before."""


def left_out() -> list[str]:
    """Return a line for everything that is missing here: which tests are skipped, and how to have them."""
    lines = [
        f"{need.tests}, for want of {need.program} (Debian, Ubuntu: apt install {need.package})"
        for need in NEEDS
        if shutil.which(need.program) is None
    ]
    if redis_version() not in ("", REDIS):
        lines.append(f"the tests that compare each reply with that of Redis {REDIS}; here is {redis_version()}")
    if os.environ.get("TEST_CLIENTS") != "required":
        lines.append(
            f"{NODE.tests}, whose packages npm would fetch (apt install {NODE.package}, then TEST_CLIENTS=required)"
        )
    if not all(map(find_spec, PROGRAMS)):
        lines.append("12 tests with Django, Flask, FastAPI and Starlette (make programs)")
    if find_spec("litellm") is None:
        lines.append("4 tests with the cache of litellm (make litellm; 400 MB)")
    if sys.platform == "linux" and os.geteuid():
        lines.append("3 tests of a full disk, which only root may mount")
    return lines


@cache
def redis_version() -> str:
    """Return which Redis there is, by the first two numbers of its version; nothing if there is none."""
    path = shutil.which("redis-server")
    if path is None:
        return ""
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"\bv=(\d+\.\d+)", said)
    return found[1] if found else "one of no version"


def mounts() -> str:
    """Return what is mounted meanwhile."""
    if sys.platform != "linux" or os.geteuid():
        return "nothing is mounted"
    return "small file systems in memory (tmpfs) are mounted below the temporary directory, and unmounted"


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def minutes(workers: int) -> str:
    """Return how long all tests take, roughly."""
    estimate_s = max(CPU_S / min(processors(), workers), ONE_BY_ONE_S / workers)
    return f"about {max(1, round(estimate_s / 60))} minutes on {processors()} processors"

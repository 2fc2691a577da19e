"""Fixtures: servers of both kinds, and the programs that are needed."""

import fcntl
import importlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NoReturn

import pytest

from tests.support import needs
from tests.support.harness import Server, polling
from tests.support.resp_wire import OK, PONG, Wire
from tests.system.conftest import Reused

NODE_PACKAGES: Final = (
    "redis@5.8.2",
    "ioredis@5.11.1",
    "express-session@1.19.0",
    "connect-redis@9.0.0",
    "keyv@5.6.0",
    "@keyv/redis@5.1.6",
    "cache-manager@7.2.9",
)
"""Those that the conversations were written for; they run with Node.js 18.19 and newer."""


def program(name: str) -> str:
    """Return where a program is; skip where there is none, or fail if ``TEST_CLIENTS`` is ``required``."""
    path = shutil.which(name)
    if path is None:
        missing(f"there is no {name} here")
    return path


def missing(reason: str) -> NoReturn:
    """Skip the test, or fail if ``TEST_CLIENTS`` is ``required``."""
    if os.environ.get("TEST_CLIENTS") == "required":
        pytest.fail(reason)
    pytest.skip(reason)


def package(name: str) -> Any:
    """Return a module of the group ``programs``; skip where there is none, or fail if ``TEST_CLIENTS`` is ``required``.

    Imported only when a test runs, as a program takes long to import, and not typed, as it need not be there.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing(f"there is no {error.name} here: make programs installs it")


def redis_server() -> str:
    """Return where redis-server is; skip where there is none, or another version than replies are compared with."""
    command = program("redis-server")
    if needs.redis_version() != needs.REDIS and os.environ.get("TEST_CLIENTS") != "required":
        pytest.skip(f"this is Redis {needs.redis_version()}; replies are compared with those of {needs.REDIS}")
    return command


@contextmanager
def redis_process(env: Mapping[str, str] | None = None) -> Iterator[Path]:
    """Run a real redis-server that keeps nothing; yield its socket in the file system, which nobody else can have."""
    command = redis_server()
    with tempfile.TemporaryDirectory(prefix="kvs-test-") as directory:
        path = Path(directory, "redis.sock")
        arguments = [
            "--port",
            "0",
            "--databases",
            "1",
            "--unixsocket",
            str(path),
            "--save",
            "",
            "--appendonly",
            "no",
            "--dir",
            directory,
        ]
        with subprocess.Popen([command, *arguments], stdout=subprocess.DEVNULL, env=env) as process:
            try:
                for _ in polling("redis-server listens"):
                    assert process.poll() is None, "redis-server has ended"
                    with suppress(OSError), Wire(path) as wire:
                        assert wire.ask("PING") == PONG
                        break
                yield path
            finally:
                process.terminate()


@pytest.fixture(scope="session")
def node_packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where npm has installed ``NODE_PACKAGES``, once for all workers and only if it is asked for."""
    if os.environ.get("TEST_CLIENTS") != "required":
        pytest.skip("packages of Node.js are installed with TEST_CLIENTS=required only")
    program("node")
    base = tmp_path_factory.getbasetemp()
    directory = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "node-packages"
    directory.mkdir(exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (directory / "installed").exists():
            options = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(directory)]
            command = [program("npm"), "install", *options, *NODE_PACKAGES]
            done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=100, check=False)
            if done.returncode:
                missing(f"{', '.join(NODE_PACKAGES)} cannot be installed: {done.stderr}")
            (directory / "installed").touch()
    return directory


@pytest.fixture(scope="session")
def redis_path() -> Iterator[Path]:
    """Return the socket of a redis-server."""
    with redis_process() as path:
        yield path


@pytest.fixture(scope="session")
def reused_server() -> Iterator[Reused]:
    """Return what lends a server with default settings."""
    reused = Reused(Server)
    yield reused
    reused.end()


@pytest.fixture
def server(reused_server: Reused) -> Iterator[Server]:
    """Return a server. It is empty, but not always new; a test must leave nobody connected."""
    with reused_server.lent() as server:
        yield server
        if server.exit_code is None:
            with Wire((server.host, server.port)) as wire:  # keys may be any bytes, and not only lines
                assert wire.ask("FLUSHALL") == OK


@pytest.fixture
def address(server: Server) -> tuple[str, int]:
    """Return where that server is."""
    return server.host, server.port

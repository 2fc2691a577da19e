"""Fixtures: servers of both kinds, and the programs that are needed."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import pytest

from tests.support import needs
from tests.support.harness import Server, polling
from tests.support.resp_wire import OK, PONG, Wire
from tests.system.conftest import Reused


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


@contextmanager
def redis_process() -> Iterator[Path]:
    """Run a real redis-server that keeps nothing; yield its socket in the file system, which nobody else can have."""
    command = program("redis-server")
    if needs.redis_version() != needs.REDIS and os.environ.get("TEST_CLIENTS") != "required":
        pytest.skip(f"this is Redis {needs.redis_version()}; replies are compared with those of {needs.REDIS}")
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
        with subprocess.Popen([command, *arguments], stdout=subprocess.DEVNULL) as process:
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

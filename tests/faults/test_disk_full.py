"""A disk that is really full: a small file system of its own, filled under load, then made larger."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest

from tests.faults.ledger import Progress
from tests.faults.points import HISTORY, SCRIPT
from tests.faults.recovery import recover
from tests.faults.server import OUTCOME_UNKNOWN, TIMEOUT_S, Players, ServerProcess
from tests.support.harness import polling

FULL: Final = "database or disk is full"
SIZES: Final = ("512k", "1m", "1200k")
"""On the smallest the first commits do not fit, on the largest the database, its WAL and some compacted rows do. The
whole script needs 1,400 to 2,400 KiB: the more the WAL is copied and begun again meanwhile, the less."""

BLOCK_BYTES: Final = 4096


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """Return where a file system of the given size is mounted."""
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={request.param}", "kvs-test", str(path)]
    try:
        outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if outcome.returncode:
        pytest.skip(f"nothing can be mounted here: {outcome.stderr.strip()}")
    yield path
    subprocess.run(["umount", str(path)], check=True)


@pytest.mark.parametrize("small_disk", SIZES, indirect=True)
def test_filled_under_load(small_disk: Path) -> None:
    """The server says which file could not be written and why, and stops; with more room everything goes on."""
    directory = small_disk / "data"
    progress = Progress(HISTORY)
    with ServerProcess(directory) as server:
        assert server.listens()
        with Players(server, progress) as players:
            assert not players.play(SCRIPT), "the disk is not small enough"
        assert server.wait_exit() == 1
        (failure,) = server.events("sync_failed")
        assert str(directory / "kvs.db") in failure["reason"]
        assert FULL in failure["reason"]
        assert not server.other_lines
    with ServerProcess(directory) as server:
        if not server.listens():  # it may start on a full disk, or refuse to
            assert server.wait_exit() == 1
            (line,) = server.other_lines
            assert str(directory) in line
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    with ServerProcess(directory) as server:
        assert server.listens(), server.other_lines
        assert server.stop() == 0
    assert HISTORY.violation(recover(directory, use=True), progress.acknowledged) is None


@pytest.mark.parametrize("small_disk", ["2m"], indirect=True)
def test_data_and_log_on_one_full_disk(small_disk: Path) -> None:
    """With no byte left for the log either, the reason is logged, and the exit code is 1."""
    directory, log = small_disk / "data", small_disk / "log"
    command = [sys.executable, "-m", "kvs", "--port", "0", "--log-format", "json", "--storage", "sqlite"]
    with log.open("ab") as output:
        server = subprocess.Popen([*command, "--data-dir", str(directory)], stdin=subprocess.DEVNULL, stderr=output)
    try:
        for _ in polling("the server listens"):
            listening = [event for event in events_of(log) if event["event"] == "listening"]
            if listening:
                break
        with (
            socket.create_connection(("127.0.0.1", listening[0]["port"]), TIMEOUT_S) as sock,
            sock.makefile("rb") as replies,
        ):
            sock.sendall(b"PUT before value\n")
            assert replies.readline() == b'{"status": "Ok"}\n'
            fill(small_disk, log)
            sock.sendall(b"PUT after %b\n" % (b"value" * 20_000))
            assert [OUTCOME_UNKNOWN in line for line in replies] == [True]
        assert server.wait(TIMEOUT_S) == 1
    finally:
        server.kill()
        server.wait()
    (failure,) = [event for event in events_of(log) if event["event"] == "sync_failed"]
    assert str(directory / "kvs.db") in failure["reason"]
    assert FULL in failure["reason"]
    (small_disk / "filler").unlink()
    assert recover(directory) == {b"before": b"value"}


@pytest.mark.parametrize("small_disk", ["2m"], indirect=True)
def test_a_start_on_a_full_disk_has_the_reserve(small_disk: Path) -> None:
    """Of a server that was killed; so what was acknowledged can be read before anybody makes room."""
    directory, value = small_disk / "data", b"value" * 8_000
    with ServerProcess(directory) as server:
        assert server.listens()
        ask(server, b"PUT key %b" % value)  # more than the log held before, so that no room is left in it
    fill(small_disk, small_disk / "log")
    with ServerProcess(directory) as server:
        assert server.listens(), server.other_lines
        assert value in ask(server, b"GET key")
    (small_disk / "filler").unlink()
    assert recover(directory) == {b"key": value}


def ask(server: ServerProcess, line: bytes) -> bytes:
    """Return the reply to a line."""
    with socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S) as sock, sock.makefile("rb") as replies:
        sock.sendall(line + b"\n")
        reply = replies.readline()
        assert b'"Ok"' in reply
        return reply


def events_of(log: Path) -> list[dict[str, Any]]:
    """Return the events in a file so far."""
    lines = log.read_text().split("\n")[:-1]
    return [json.loads(line) for line in lines if line.strip()]


def fill(disk: Path, log: Path) -> None:
    """Leave no room on a disk, and none in the last block of a log."""
    with log.open("ab") as file:
        file.write(b"\n" * (-log.stat().st_size % BLOCK_BYTES))
    with (disk / "filler").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(BLOCK_BYTES))

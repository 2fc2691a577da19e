"""The files of a running server are deleted, moved, replaced or overwritten: it stops and says so."""

import os
import shutil
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import pytest

from kvs.adapters.storage.sqlite.file import NAME
from tests.faults.damages import contents_of
from tests.faults.recovery import recover
from tests.faults.server import TIMEOUT_S, ServerProcess

FILES: Final = (NAME, f"{NAME}-wal", f"{NAME}-shm", f"{NAME}-mark", "lock")
WRITTEN_TO: Final = FILES[:2]
"""Those that hold the data."""

DATA: Final = {b"key/%d" % number: b"value" * 20 for number in range(50)}


def store(server: ServerProcess, data: Mapping[bytes, bytes]) -> None:
    """Have data stored in one commit, which is too little for the log to be copied into the database."""
    lines = [b"START", *(b"PUT %b %b" % item for item in data.items()), b"COMMIT"]
    with socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S) as sock, sock.makefile("rb") as replies:
        sock.sendall(b"".join(line + b"\n" for line in lines))
        for line in lines:
            assert b'"Ok"' in replies.readline(), line


def delete(path: Path, _: Path) -> None:
    """Delete it."""
    path.unlink()


def move(path: Path, _: Path) -> None:
    """Give it another name."""
    path.rename(path.with_name("moved"))


def replace(path: Path, older: Path) -> None:
    """Put an older copy in its place."""
    copy = path.with_name("copy")
    shutil.copy(older, copy)
    copy.replace(path)


def overwrite(path: Path, older: Path) -> None:
    """Write an older copy over it."""
    shutil.copyfile(older, path)


def empty(path: Path, _: Path) -> None:
    """Leave nothing in it."""
    os.truncate(path, 0)


def zero(path: Path, _: Path) -> None:
    """Leave nothing but zeros in it."""
    path.write_bytes(bytes(path.stat().st_size))


CASES: Final = [
    *((name, loss) for name in FILES for loss in (delete, move, replace)),
    *((name, loss) for name in WRITTEN_TO for loss in (overwrite, empty, zero)),
]


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what a killed server has left."""
    directory = tmp_path_factory.mktemp("older")
    with ServerProcess(directory) as server:
        assert server.listens()
        store(server, dict.fromkeys(DATA, b"older"))
        server.kill()
        server.wait_exit()
    return directory


@pytest.mark.parametrize(("name", "lose"), CASES, ids=[f"{loss.__name__}-{name}" for name, loss in CASES])
def test_a_file_is_lost(tmp_path: Path, older: Path, name: str, lose: Callable[[Path, Path], None]) -> None:
    """Nobody writes, and the server stops nevertheless; it leaves alone what is in the directory now."""
    data = tmp_path / "data"
    shutil.copytree(older, data)
    with ServerProcess(data) as server:
        assert server.listens()
        store(server, DATA)
        lose(data / name, older / name)
        left = contents_of(data)
        assert server.wait_exit() == 1
        (failure,) = server.events("sync_failed")
        assert f"{data / name}: was " in failure["reason"]
        assert not server.other_lines
    assert contents_of(data) == left


def test_the_directory_is_moved(tmp_path: Path) -> None:
    """What was acknowledged is where the directory is now; what is in its place is left alone."""
    data, moved = tmp_path / "data", tmp_path / "moved"
    with ServerProcess(data) as server:
        assert server.listens()
        store(server, DATA)
        data.rename(moved)
        data.mkdir()
        for name in FILES:
            (data / name).write_text("of somebody else")
        left = contents_of(data)
        assert server.wait_exit() == 1
        (failure,) = server.events("sync_failed")
        assert f"{data}: was replaced" in failure["reason"]
    assert contents_of(data) == left
    assert recover(moved) == DATA


def test_the_directory_is_deleted(tmp_path: Path) -> None:
    """While clients write: no later than at the next look at it."""
    data = tmp_path / "data"
    with ServerProcess(data) as server:
        assert server.listens()
        store(server, DATA)
        shutil.rmtree(data)
        with socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S) as sock, sock.makefile("rb") as replies:
            while replies:
                try:
                    sock.sendall(b"PUT key value\n")
                    if not replies.readline():
                        break
                except ConnectionError:
                    break
        assert server.wait_exit() == 1
        (failure,) = server.events("sync_failed")
        assert f"{data}: was deleted" in failure["reason"]
    assert not data.exists()


def test_a_file_is_deleted_just_before_the_end(tmp_path: Path) -> None:
    """What the last half second has hidden is found by the end, which so is none in good order."""
    with ServerProcess(tmp_path) as server:
        assert server.listens()
        store(server, DATA)
        log = tmp_path / f"{NAME}-wal"
        log.unlink()
        assert server.stop() == 1
        told = [*server.other_lines, *(event["reason"] for event in server.events("sync_failed"))]
        assert any(f"{log}: was deleted" in line for line in told)
    assert not log.exists()

"""A data directory on a file system that cannot be written to: it is verified and copied, and a start is refused."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvs.adapters.storage.sqlite.backup import back_up, verify
from kvs.adapters.storage.sqlite.file import NAME
from kvs.config import Settings
from kvs.engine import StorageOpenError
from kvs.engines import open_storage
from tests.faults.damages import contents_of
from tests.faults.recovery import FORKING, LOG, recover

DATA = {b"key": b"value"}


@pytest.fixture
def directories(tmp_path: Path) -> Iterator[list[Path]]:
    """Return directories that cannot be written to: one was closed, one was left by a kill, one never had a lock."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = _mount("-t", "tmpfs", "kvs-test", str(disk))
    if not mounted and os.geteuid() == 0:
        pytest.skip("nothing can be mounted here, and permissions do not keep this user from writing")
    closed, left, copy = disk / "closed", disk / "left", disk / "copy"
    with FORKING, open_storage(Settings(storage="sqlite", data_dir=str(closed)), {}, LOG) as storage:
        for key, value in DATA.items():
            storage.put(key, value)
        storage.sync()
        shutil.copytree(closed, left)
    (left / f"{NAME}-shm").unlink()
    back_up(closed, copy, lambda *_: None)
    directories = [closed, left, copy]
    if mounted:
        assert _mount("-o", "remount,ro", str(disk))
    else:
        for directory in directories:
            directory.chmod(0o500)
    yield directories
    if mounted:
        subprocess.run(["umount", str(disk)], check=True)
    else:
        for directory in directories:
            directory.chmod(0o700)


def _mount(*arguments: str) -> bool:
    try:
        return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def test_it_can_be_verified_and_copied(directories: list[Path], tmp_path: Path) -> None:
    """Nothing has to be written for that; the copy elsewhere is a data directory like any other."""
    for directory in directories:
        assert verify(directory).keys == len(DATA)
        copy = tmp_path / f"copy of {directory.name}"
        back_up(directory, copy, lambda *_: None)
        assert recover(copy, use=True) == DATA


def test_a_start_is_refused(directories: list[Path]) -> None:
    """In one line that names the directory; nothing is changed."""
    for directory in directories:
        before = contents_of(directory)
        with pytest.raises(StorageOpenError, match=f"{directory}") as refused:
            recover(directory)
        assert str(refused.value).isprintable()
        assert contents_of(directory) == before

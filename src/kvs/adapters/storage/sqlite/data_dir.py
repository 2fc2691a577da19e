"""The data directory, and the lock that keeps a second server out of it.

The lock is a file of its own, so that a backup and the sqlite3 tool can read the database while a server runs.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from kvs.engine import StorageOpenError

LOCK_NAME: Final = "lock"


@contextmanager
def locked_data_dir(name: str) -> Iterator[Path]:
    """Hold the directory, made if there is none, for one process alone.

    The lock ends with the process, however that ends; the file stays.

    Raises:
        StorageOpenError: It cannot be made or written to, or another process holds it.
    """
    directory = Path(name).absolute()
    try:
        make_directory(directory)
        descriptor = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageOpenError(f"data_dir: cannot use {directory}: {error.strerror or error}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "another process"
            raise StorageOpenError(f"data_dir: {directory} is in use by {holder}; one at a time") from None
        with suppress(OSError):  # a full disk is no reason: who holds it is told for convenience
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, b"process %d" % os.getpid(), 0)
        yield directory
    finally:
        os.close(descriptor)


def make_directory(directory: Path) -> None:
    """Make a directory, with those it is in, if it is not there; their names outlast a power cut.

    Args:
        directory: An absolute path. What is made is for this user alone, as the data are.

    Raises:
        OSError: It cannot be made, or is no directory.
    """
    made = [each for each in (directory, *directory.parents) if not each.exists()]
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for each in made:
        sync_path(each.parent)


def sync_path(path: Path) -> None:
    """Make what is in a file, or the names in a directory, outlast a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

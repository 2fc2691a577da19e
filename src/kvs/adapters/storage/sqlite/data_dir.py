"""The data directory, and the lock that keeps a second server out of it.

The lock is a separate file, so that a backup and the sqlite3 tool can read the database while a server runs.
"""

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, final

from kvs.engine import StorageOpenError

LOCK_NAME: Final = "lock"
FILE_MODE: Final = 0o600
"""Who may read and write the files: this user alone."""


@final
class DirectoryLock:
    """The directory, locked by this process.

    Attributes:
        path: The directory.
    """

    def __init__(self, path: Path, descriptor: int, *, made: bool) -> None:
        self.path: Final = path
        self._descriptor = descriptor
        self._made = made

    def accept(self) -> None:
        """Say who holds the directory, now that it is to be used. Until then nothing in it has changed for good."""
        self._made = False
        with suppress(OSError):  # a full disk is no reason: who holds it is told for convenience
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, b"process %d" % os.getpid(), 0)

    def release(self) -> None:
        """Let others have it. If it was not accepted, nothing is left of the lock."""
        if self._made:
            with suppress(OSError):
                (self.path / LOCK_NAME).unlink()
        os.close(self._descriptor)


@contextmanager
def locked_data_dir(name: str) -> Iterator[DirectoryLock]:
    """Hold the directory, made if there is none, for one process alone.

    The lock ends with the process, however that ends; the file stays, unless the directory was not accepted.

    Raises:
        StorageOpenError: It cannot be made or written to, or another process holds it.
    """
    directory = Path(name)
    try:
        directory = directory.absolute()  # which fails where the working directory has been deleted
        make_directory(directory)
        lock = _lock(directory)
    except OSError as error:
        raise StorageOpenError(f"data_dir: cannot use {directory}: {error.strerror or error}") from None
    try:
        yield lock
    finally:
        lock.release()


def _lock(directory: Path) -> DirectoryLock:
    path = directory / LOCK_NAME
    while True:
        made = True
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        except FileExistsError:
            made = False
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            _hold(descriptor, directory)
            if _is_named(descriptor, path):
                return DirectoryLock(directory, descriptor, made=made)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # another process has removed it, and somebody may have made a new one


def _hold(descriptor: int, directory: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            raise StorageOpenError(
                f"data_dir: {directory} is being read by kvs verify or kvs backup; start again when that has ended"
            ) from None
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "another process"
        raise StorageOpenError(f"data_dir: {directory} is in use by {holder}; one at a time") from None


def _is_named(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def reading_data_dir(directory: Path) -> Iterator[bool]:
    """Yield whether a server uses a directory; keep servers from starting there if none does. Changes nothing."""
    try:
        descriptor = os.open(directory / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield False  # no server has ever been there, or nobody may ask
        return
    try:
        in_use = False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            in_use = True
        yield in_use
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


def require_writable(*paths: Path) -> None:
    """Refuse what is there and cannot be written to, before anything is.

    Raises:
        StorageOpenError: It is such.
    """
    for path in paths:
        if path.exists() and not os.access(path, os.W_OK):
            raise StorageOpenError(f"{path}: cannot be written to by this user; nothing was changed")


def tighten(paths: Iterable[Path]) -> None:
    """Take the permissions of group and others from files, as far as they are there and ours."""
    for path in paths:
        with suppress(OSError):
            if path.stat().st_mode & 0o077:
                path.chmod(FILE_MODE)


def sync_path(path: Path) -> None:
    """Make what is in a file, or the names in a directory, outlast a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

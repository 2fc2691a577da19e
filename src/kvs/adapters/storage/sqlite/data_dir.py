"""The data directory, and the lock that admits one server at a time.

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
"""The files are readable and writable by this user only."""


@final
class DirectoryLock:
    """The lock of the directory ``path``, held by this process."""

    def __init__(self, path: Path, descriptor: int, *, made: bool) -> None:
        self.path: Final = path
        self._descriptor = descriptor
        self._made = made

    def accept(self) -> None:
        """Write this process into the lock file, and keep the file: the directory will be used."""
        self._made = False
        with suppress(OSError):  # a full disk is no reason to fail: the text only helps people
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, b"process %d" % os.getpid(), 0)

    def release(self) -> None:
        """Release the lock. If the directory was not accepted, delete a lock file that this process created."""
        if self._made:
            with suppress(OSError):
                (self.path / LOCK_NAME).unlink()
        os.close(self._descriptor)


@contextmanager
def locked_data_dir(name: str) -> Iterator[DirectoryLock]:
    """Lock a directory for this process; create the directory if necessary.

    The lock ends with the process, even if it is killed; the lock file stays, unless the directory was not accepted.

    Raises:
        StorageOpenError: The directory cannot be created or written to, or another process has locked it.
    """
    directory = Path(name)
    try:
        directory = directory.absolute()  # fails if the working directory has been deleted
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
            _acquire(descriptor, directory)
            if _is_named(descriptor, path):
                return DirectoryLock(directory, descriptor, made=made)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # another process deleted the file; there may be a new one


def _acquire(descriptor: int, directory: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            raise StorageOpenError(
                f"data_dir: {directory} is being read by kvs verify, backup or dump; start again when that has ended"
            ) from None
        raise StorageOpenError(f"data_dir: {directory} is in use by {_holder(descriptor)}; one at a time") from None


def _holder(descriptor: int) -> str:
    return os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "another process"


def _is_named(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def reading_data_dir(directory: Path) -> Iterator[bool]:
    """Yield whether a server uses a directory; if not, lock servers out meanwhile. Changes no files."""
    try:
        descriptor = os.open(directory / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield False  # no server has used it yet, or this user may not read the lock file
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


def holder_of(directory: Path) -> str:
    """Return who uses a directory that another process has locked."""
    with (directory / LOCK_NAME).open("rb") as file:
        return _holder(file.fileno())


def make_directory(directory: Path) -> None:
    """Create a directory and its parents, as far as they do not exist, so that they survive a power cut.

    The path must be absolute. New directories are accessible to this user only, as the data are.
    """
    made = [each for each in (directory, *directory.parents) if not each.exists()]
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for each in made:
        sync_path(each.parent)


def require_writable(*paths: Path) -> None:
    """Check that existing files can be written to, before any of them is."""
    for path in paths:
        if path.exists() and not os.access(path, os.W_OK):
            raise StorageOpenError(f"{path}: cannot be written to by this user; nothing was changed")


def restrict_access(paths: Iterable[Path]) -> None:
    """Remove the permissions of group and others from the files that exist and belong to this user."""
    for path in paths:
        with suppress(OSError):
            if path.stat().st_mode & 0o077:
                path.chmod(FILE_MODE)


def sync_path(path: Path) -> None:
    """Sync a file, or the names in a directory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

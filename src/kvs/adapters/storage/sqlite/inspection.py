"""Opens a database for verification without changing any file.

If its WAL has no commits, the file is opened as immutable: SQLite then takes no lock, creates no file, and rolls back
no journal. With commits, it is opened read-only, through SQLite's VFS without locks, and in exclusive mode, which keeps
the index of the WAL in memory instead of a file. Both work on a read-only file system. Neither keeps other programs
out; the lock of the data directory does.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, final

from kvs.adapters.storage.sqlite.file import closed_on_error
from kvs.adapters.storage.sqlite.instance import Instance, read_instance
from kvs.adapters.storage.sqlite.mark import Mark, mark_path, read_mark
from kvs.adapters.storage.sqlite.schema import format_of
from kvs.adapters.storage.sqlite.wal import verify_wal, wal_path
from kvs.adapters.storage.sqlite.wal_scan import HEADER_BYTES
from kvs.engine import StorageOpenError

_DATABASE_MAGIC: Final = b"SQLite format 3\0"
_JOURNAL_MAGIC: Final = bytes.fromhex("d9d505f920a163d7")
_JOURNAL_PAGES_AT: Final = 16
_HEAD_BYTES: Final = 20
_WRITE_VERSION_AT: Final = 18
_WAL_MODE: Final = 2

_REFUSAL: Final = (
    "nothing was changed. Restore a backup; or copy what can be read into a new directory: "
    "kvs backup --incomplete DIR NEW"
)
_LOST: Final = "nothing was changed. Put it back, or restore a backup"
"""Advice for a directory without a database. A backup of it would be empty, so it is not suggested."""


@final
class Inspection:
    """A database that no server uses, opened without changing any file.

    Attributes:
        path: Path of the database.
        connection: A read-only connection.
        wal_end: Offset at which the last commit in its WAL ends.
        name: The files that are read, for messages.
    """

    def __init__(self, path: Path, mark: Mark | None, wal_end: int) -> None:
        self.path: Final = path
        self._mark = mark
        self.wal_end: Final = wal_end
        self.name: Final = f"{path} (with {wal_path(path).name})" if self._has_commits_in_wal else f"{path}"
        self.connection: Final = self.connect()

    @property
    def _has_commits_in_wal(self) -> bool:
        return self.wal_end > HEADER_BYTES

    def connect(self) -> sqlite3.Connection:
        """Return a read-only connection, which any thread may use."""
        how = "mode=ro&vfs=unix-none" if self._has_commits_in_wal else "immutable=1"
        opened = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?{how}", uri=True, isolation_level=None, check_same_thread=False
        )
        with closed_on_error(opened) as connection:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE").fetchone()
            connection.execute("PRAGMA cell_size_check = ON")
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA temp_store = MEMORY")
        return connection

    def require_all(self, last_seq: int) -> None:
        """See :func:`require_all`."""
        require_all(self.path, self._mark, last_seq)


@contextmanager
def inspected(path: Path, *, synced: bool | None = None, incomplete: bool = False) -> Iterator[Inspection | None]:
    """Inspect a database that no server uses; None if there is none yet, as before the first start.

    Args:
        path: Path of the database.
        synced: Whether every commit was synced, so that a power cut can damage only the last one in the WAL; None: the
            mark decides.
        incomplete: Whether commits may be missing.

    Raises:
        StorageOpenError: It has another format, or acknowledged commits are missing.
        sqlite3.Error: It is damaged, not a database of kvs, or cannot be read.
    """
    mark = None if incomplete else read_mark(path)
    damage, end = verify_wal(path)
    if not _exists(path, expected=mark is not None or end > HEADER_BYTES or damage is not None):
        yield None
        return
    if damage is not None and not incomplete:
        if synced is None:
            synced = mark is None or mark.of_this_boot or mark.all_synced
        if synced:
            raise StorageOpenError(
                f"{wal_path(path)}: is damaged at byte {damage}, before commits that had been acknowledged; {_REFUSAL}"
                ". If the machine lost power while durability was not full, start with that durability"
            )
    if not _head_of(path).startswith(_DATABASE_MAGIC):  # to SQLite, zeros are an empty database
        raise sqlite3.DatabaseError("file is not a database")
    inspection = Inspection(path, mark, end)
    with closing(inspection.connection) as connection:
        has_data = format_of(connection, path) is not None
        if has_data and not incomplete:
            require_same(path, mark, read_instance(connection), copied=not _uses_wal(path))
        elif not has_data and mark is not None:
            raise StorageOpenError(f"{path}: is empty, and {mark_path(path)} says that it was not; {_LOST}")
        yield inspection if has_data else None


def require_same(path: Path, mark: Mark | None, instance: Instance | None, *, copied: bool) -> None:
    """Check that a database and its mark belong together, or that it needs no mark.

    A database that SQLite made as a copy (``copied``) is complete even if the original was in use.
    """
    if mark is not None and (instance is None or instance.id != mark.instance):
        raise StorageOpenError(
            f"{path}: is not the database that {mark_path(path)} belongs to; nothing was changed. If it was put here "
            f"on purpose, move away {mark_path(path).name} and {wal_path(path).name}"
        )
    if mark is None and instance is not None and instance.session is not None and not copied:
        raise StorageOpenError(
            f"{path}: was in use and not closed in an orderly way, and {mark_path(path)}, which tells what was "
            f"acknowledged, is missing; {_REFUSAL}"
        )


def require_all(path: Path, mark: Mark | None, last_seq: int) -> None:
    """Check that a journal is as long as the mark requires."""
    if mark is None or last_seq >= mark.required_seq:
        return
    wal = wal_path(path)
    problem = "was cut off or damaged" if wal.exists() else "is missing"
    raise StorageOpenError(
        f"{path}: acknowledged commits are missing: its journal ends at row {last_seq}, and had come to row "
        f"{mark.required_seq}, says {mark_path(path)}; {wal} {problem}, or {path.name} is an older copy; {_REFUSAL}"
    )


def _exists(path: Path, *, expected: bool) -> bool:
    """Return whether there is a database; one whose creation was interrupted does not count.

    One that is ``expected``, because there is a WAL or a mark, must not be missing.
    """
    try:
        if not path.exists() and not path.is_symlink():  # a link that does not resolve leads to itself
            state = "is missing"
        elif not path.is_file():
            raise StorageOpenError(f"{path}: cannot be opened: unable to open what is no file")
        elif path.stat().st_size == 0:
            state = "is empty"
        else:
            return expected or not _is_being_created(path)
    except OSError as error:
        raise StorageOpenError(f"{path}: cannot be opened: {error.strerror or error}") from None
    if expected:
        raise StorageOpenError(f"{path}: {state}, and {_evidence(path)} says that there was a database; {_LOST}")
    return False


def _evidence(path: Path) -> str:
    return " or ".join(str(each) for each in (mark_path(path), wal_path(path)) if each.exists())


def _is_being_created(path: Path) -> bool:
    """Return whether SQLite was interrupted before its first commit, which it will roll back."""
    head = _head_of(path.with_name(path.name + "-journal"))
    return head[:8] == _JOURNAL_MAGIC and head[_JOURNAL_PAGES_AT : _JOURNAL_PAGES_AT + 4] == bytes(4)


def _uses_wal(path: Path) -> bool:
    """Return whether the database is in WAL mode, as it is after use by a server."""
    return _head_of(path)[_WRITE_VERSION_AT] == _WAL_MODE


def _head_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except FileNotFoundError:
        return b""

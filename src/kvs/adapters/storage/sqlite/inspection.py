"""Looks at a database before anything is touched: what has not been accepted is opened in ways that cannot change it.

Without commits in its log, the file is opened as one that is immutable: SQLite then takes no lock, makes no file, and
plays no journal back. With commits, it is opened for reading only, through SQLite's VFS that takes no locks, and in
exclusive mode, which keeps the index of the log in memory and not in a file. Both work on a read-only file system.
Neither keeps others out: the lock of the data directory does.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, final

from kvs.adapters.storage.sqlite.file import check_format
from kvs.adapters.storage.sqlite.instance import Instance, read_instance
from kvs.adapters.storage.sqlite.mark import Mark, mark_path, read_mark
from kvs.adapters.storage.sqlite.wal import ADVICE, refuse_wal, verify_wal, wal_path
from kvs.adapters.storage.sqlite.wal_scan import HEADER_BYTES
from kvs.engine import StorageOpenError

_DATABASE_MAGIC: Final = b"SQLite format 3\0"
_JOURNAL_MAGIC: Final = bytes.fromhex("d9d505f920a163d7")
_JOURNAL_PAGES_AT: Final = 16
_HEAD_BYTES: Final = 20
_WRITE_VERSION_AT: Final = 18
_WITH_LOG: Final = 2

_LOST: Final = "nothing was changed. Put it back, or restore a backup"
"""What becomes of a directory without a database: nothing is left there that could be copied."""


@final
class Inspection:
    """A database that nobody else uses, opened without changing anything.

    Args:
        path: Of the database.
        mark: Its mark.
        log_end: Where the last commit in its log ends.

    Attributes:
        connection: To read with.
        log_end: Where the last commit in its log ends.
        name: What is read, for messages.
    """

    def __init__(self, path: Path, mark: Mark | None, log_end: int) -> None:
        self._path = path
        self._mark = mark
        self.log_end: Final = log_end
        self.name: Final = f"{path} (with {wal_path(path).name})" if self._logged else f"{path}"
        self.connection: Final = self.connect()

    @property
    def _logged(self) -> bool:
        return self.log_end > HEADER_BYTES

    def connect(self) -> sqlite3.Connection:
        """Return a connection to read with, which any thread may use.

        Raises:
            sqlite3.Error: It cannot be opened.
        """
        how = "mode=ro&vfs=unix-none" if self._logged else "immutable=1"
        connection = sqlite3.connect(
            f"{self._path.absolute().as_uri()}?{how}", uri=True, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE").fetchone()
            connection.execute("PRAGMA cell_size_check = ON")
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA temp_store = MEMORY")
        except BaseException:
            connection.close()
            raise
        return connection

    def require_all(self, last_seq: int) -> None:
        """Refuse a database whose journal does not come as far as it had come.

        Args:
            last_seq: Number of the journal's last row.

        Raises:
            StorageOpenError: Acknowledged commits are missing.
        """
        require_all(self._path, self._mark, last_seq)


@contextmanager
def inspected(path: Path, *, synced: bool | None = None, incomplete: bool = False) -> Iterator[Inspection | None]:
    """Look at a database that nobody uses; None if there is nothing yet, as before the first start.

    Args:
        path: Of the database.
        synced: Whether every commit was synced, so that no power cut can have damaged what the log has before its last
            commit; None: as the mark says.
        incomplete: Whether commits may be missing.

    Raises:
        StorageOpenError: It has another format, or acknowledged commits are missing.
        sqlite3.Error: It is damaged, not ours, or cannot be read.
    """
    mark = None if incomplete else read_mark(path)
    damage, end = verify_wal(path)
    if not _is_there(path, touched=mark is not None or end > HEADER_BYTES or damage is not None):
        yield None
        return
    if damage is not None and not incomplete:
        if synced is None:
            synced = mark is None or mark.of_this_boot or mark.all_synced
        if synced:
            refuse_wal(path, damage)
    if not _head_of(path).startswith(_DATABASE_MAGIC):  # SQLite takes zeros for an empty database
        raise sqlite3.DatabaseError("file is not a database")
    inspection = Inspection(path, mark, end)
    with closing(inspection.connection) as connection:
        there = check_format(connection, path)
        if there and not incomplete:
            require_same(path, mark, read_instance(connection), copied=not _has_log(path))
        elif not there and mark is not None:
            raise StorageOpenError(f"{path}: is empty, and {mark_path(path)} says that it was not; {_LOST}")
        yield inspection if there else None


def require_same(path: Path, mark: Mark | None, instance: Instance | None, *, copied: bool) -> None:
    """Refuse a database that is not the one its mark is of, or that needs a mark and has none.

    Args:
        path: Of the database.
        mark: The mark beside it.
        instance: What it says of itself.
        copied: Whether it is a copy of SQLite's making, which is whole though the original was in use.

    Raises:
        StorageOpenError: It is such a one.
    """
    if mark is not None and (instance is None or instance.id != mark.instance):
        raise StorageOpenError(
            f"{path}: is not the database that {mark_path(path)} belongs to; nothing was changed. If it was put here "
            f"on purpose, move away {mark_path(path).name} and {wal_path(path).name}"
        )
    if mark is None and instance is not None and instance.session is not None and not copied:
        raise StorageOpenError(
            f"{path}: was in use and not closed in an orderly way, and {mark_path(path)}, which tells what was "
            f"acknowledged, is missing; {_refusal()}"
        )


def require_all(path: Path, mark: Mark | None, last_seq: int) -> None:
    """Refuse a database whose journal does not come as far as its mark says.

    Raises:
        StorageOpenError: Acknowledged commits are missing.
    """
    if mark is None or last_seq >= mark.required_seq:
        return
    log = wal_path(path)
    became = "was cut off or damaged" if log.exists() else "is missing"
    raise StorageOpenError(
        f"{path}: acknowledged commits are missing: its journal ends at row {last_seq}, and had come to row "
        f"{mark.required_seq}, says {mark_path(path)}; {log} {became}, or {path.name} is an older copy; {_refusal()}"
    )


def _refusal() -> str:
    return f"nothing was changed. {ADVICE}"


def _is_there(path: Path, *, touched: bool) -> bool:
    """Return whether there is a database, not counting one whose creation was cut off.

    Args:
        path: Of the database.
        touched: Whether its log or its mark tell that there was one.

    Raises:
        StorageOpenError: There was one, or there is something else.
    """
    try:
        if not path.exists() and not path.is_symlink():  # else a link that leads to itself
            told = "is missing"
        elif not path.is_file():
            raise StorageOpenError(f"{path}: cannot be opened: unable to open what is no file")
        elif path.stat().st_size == 0:
            told = "is empty"
        else:
            return touched or not _is_being_made(path)
    except OSError as error:
        raise StorageOpenError(f"{path}: cannot be opened: {error.strerror or error}") from None
    if touched:
        raise StorageOpenError(f"{path}: {told}, and {_witnesses(path)} says that there was a database; {_LOST}")
    return False


def _witnesses(path: Path) -> str:
    return " or ".join(str(each) for each in (mark_path(path), wal_path(path)) if each.exists())


def _is_being_made(path: Path) -> bool:
    """Return whether SQLite was about to write the first page, and will take it back."""
    head = _head_of(path.with_name(path.name + "-journal"))
    return head[:8] == _JOURNAL_MAGIC and head[_JOURNAL_PAGES_AT : _JOURNAL_PAGES_AT + 4] == bytes(4)


def _has_log(path: Path) -> bool:
    """Return whether the database is written to by way of a log, as by a server."""
    return _head_of(path)[_WRITE_VERSION_AT] == _WITH_LOG


def _head_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except FileNotFoundError:
        return b""

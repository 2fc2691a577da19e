"""Verify and back up a data directory, also while a server uses it."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import msgspec

from kvs.adapters.storage.sqlite.data_dir import FILE_MODE, make_directory, reading_data_dir, sync_path
from kvs.adapters.storage.sqlite.file import (
    DATABASE_ERRORS,
    FILE_ENDS,
    NAME,
    connect_to_read,
    database_in,
    describe,
)
from kvs.adapters.storage.sqlite.inspection import inspected, require_all, require_same
from kvs.adapters.storage.sqlite.instance import become_another, read_instance
from kvs.adapters.storage.sqlite.loader import CorruptionError, Loader, check_structure
from kvs.adapters.storage.sqlite.mark import read_mark
from kvs.engine import StorageOpenError

STEP_PAGES: Final = 2048
"""Pages copied between two reports of progress."""

CHECKED_ROWS: Final = 4096
"""Rows checked between two reports of progress."""

STRUCTURE_PART: Final = 8
"""The check of the file's structure takes about an eighth of the time that the rows take."""

REPLACED: Final = (
    "SELECT count(*), coalesce(sum(length(key) + length(value)), 0) FROM entries WHERE key IN (SELECT key FROM journal)"
)
LATEST: Final = (
    "SELECT count(*), coalesce(sum(length(key) + length(value)), 0) FROM journal "
    "WHERE seq IN (SELECT max(seq) FROM journal GROUP BY key) AND value IS NOT NULL"
)
"""What is counted by the entries that the journal replaces, and by its latest rows, costs as much as the journal has
rows; to count all the data would take twice as long as checking it."""

Progress = Callable[[str, str, int, int], None]
"""Called with what is done, in what unit, how much of it, and of how much."""


def no_progress(_label: str, _unit: str, _count: int, _total: int) -> None:
    """Report nothing."""


class VerifyReport(msgspec.Struct, frozen=True):
    """The content of an undamaged data directory."""

    keys: int
    bytes: int
    journal_rows: int


def verify(directory: Path, progress: Progress = no_progress) -> VerifyReport:
    """Read and check all data; a server may be using it. Changes nothing.

    Raises:
        StorageOpenError: It is damaged, incomplete or unreadable, or not a data directory of this engine.
    """
    with _source(directory, incomplete=False) as source:
        report, last_seq = _check(source.name, source.connection, progress)
        source.require_all(last_seq)
    return report


def back_up(
    directory: Path, destination: Path, progress: Progress = no_progress, *, incomplete: bool = False
) -> VerifyReport:
    """Copy a data directory as of one moment, and verify the copy; a server may be using it.

    The database gets its final name when the copy is complete; an incomplete one is replaced by the next attempt.

    Args:
        directory: The data directory.
        destination: The new one: an empty or nonexistent directory.
        progress: Called periodically.
        incomplete: Whether acknowledged commits may be missing.

    Raises:
        StorageOpenError: The source is damaged or unreadable, or the destination is not empty or not writable.
    """
    _require_apart(directory, destination)
    part = destination / (NAME + ".part")
    _require_empty(destination, part)
    with _source(directory, incomplete=incomplete) as source:
        try:
            make_directory(destination.absolute())
            _require_empty(destination, part)  # still: to look at the source may have taken long
            _copy(source.connection, part, progress)
            try:
                with _opened_alone(part) as copy:
                    report, last_seq = _check(f"{source.name}, copied to {part}", copy, progress)
                source.require_all(last_seq)
            except StorageOpenError:
                part.unlink()
                raise
            part.rename(destination / NAME)
            sync_path(destination)
        except (OSError, *DATABASE_ERRORS) as error:
            raise StorageOpenError(f"{destination}: the backup failed: {describe(error)}") from None
    return report


class _Source(msgspec.Struct):
    """A data directory to be read.

    Attributes:
        name: What is read, for messages.
        connection: To read one state of it.
        require_all: Refuses it, told the number of the journal's last row, if acknowledged commits are missing.
    """

    name: str
    connection: sqlite3.Connection
    require_all: Callable[[int], None]


@contextmanager
def _source(directory: Path, *, incomplete: bool) -> Iterator[_Source]:
    path = database_in(directory)
    with reading_data_dir(directory) as in_use:
        if in_use:
            with _shared_source(path, incomplete=incomplete) as source:
                yield source
            return
        try:
            with inspected(path, incomplete=incomplete) as inspection:
                if inspection is None:
                    raise StorageOpenError(
                        f"{path}: there is no such file, so this is no data directory of the sqlite engine"
                    )
                yield _Source(inspection.name, inspection.connection, inspection.require_all)
        except (OSError, *DATABASE_ERRORS) as error:
            raise StorageOpenError(f"{path}: cannot be read: {describe(error)}") from None


@contextmanager
def _shared_source(path: Path, *, incomplete: bool) -> Iterator[_Source]:
    """Read from a database that a server uses; what is committed meanwhile goes into the write-ahead log."""
    mark = None if incomplete else read_mark(path)  # before the state that is read, which so comes as far at least
    with closing(connect_to_read(path)) as connection:
        try:
            connection.execute("BEGIN")
            instance = read_instance(connection)  # it is the first read that fixes the state
        except DATABASE_ERRORS as error:
            raise StorageOpenError(f"{path}: cannot be read: {describe(error)}") from None
        if mark is not None:
            require_same(path, mark, instance, copied=False)
        yield _Source(f"{path}", connection, lambda last_seq: require_all(path, mark, last_seq))


@contextmanager
def _opened_alone(path: Path) -> Iterator[sqlite3.Connection]:
    with inspected(path) as inspection:
        if inspection is None:
            raise StorageOpenError(f"{path}: is empty")
        yield inspection.connection


def _copy(source: sqlite3.Connection, part: Path, progress: Progress) -> None:
    for left in _parts(part):
        left.unlink(missing_ok=True)
    os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))
    with closing(sqlite3.connect(part, isolation_level=None)) as target:
        target.execute("PRAGMA synchronous = OFF")  # all of it is synced at the end
        source.backup(
            target,
            pages=STEP_PAGES,
            progress=lambda _, remaining, total: progress("Copying", "pages", total - remaining, total),
            sleep=0,
        )
        become_another(target)
        target.execute("PRAGMA journal_mode = DELETE")  # a single file, until a server opens it
    sync_path(part)


def _parts(part: Path) -> list[Path]:
    """Return the files that a killed attempt may have left: the copy, and SQLite's files beside it."""
    return [part.with_name(part.name + end) for end in FILE_ENDS]


def _check(name: str, connection: sqlite3.Connection, progress: Progress) -> tuple[VerifyReport, int]:
    """Check everything; return the report, and the number of the journal's last row."""
    reader = Loader(connection)
    rows = count = 0
    try:
        for _ in reader.rows():
            count += 1
            if count % CHECKED_ROWS == 0:
                rows = max(count, rows or _expected_rows(connection))
                progress("Verifying", "rows", count, _with_structure(rows))
        progress("Verifying", "rows", count, _with_structure(count))
        check_structure(connection)
        replaced, replaced_bytes = connection.execute(REPLACED).fetchone()
        latest, latest_bytes = connection.execute(LATEST).fetchone()
    except (CorruptionError, *DATABASE_ERRORS) as error:
        raise StorageOpenError(f"{name}: is damaged: {describe(error)}") from None
    progress("Verifying", "rows", _with_structure(count), _with_structure(count))
    report = VerifyReport(
        keys=reader.entries - replaced + latest,
        bytes=reader.read_bytes - reader.journal_bytes - replaced_bytes + latest_bytes,
        journal_rows=reader.journal_rows,
    )
    return report, reader.last_seq


def _expected_rows(connection: sqlite3.Connection) -> int:
    """Return the number of rows, which may be wrong if the database is damaged."""
    (entries,) = connection.execute("SELECT entries FROM folded").fetchone()
    (journal,) = connection.execute("SELECT coalesce(max(seq) - min(seq) + 1, 0) FROM journal").fetchone()
    return int(entries + journal)


def _with_structure(rows: int) -> int:
    return rows + rows // STRUCTURE_PART


def _require_empty(destination: Path, part: Path) -> None:
    """Refuse a destination that holds anything but the files of a killed attempt."""
    try:
        names = {entry.name for entry in destination.iterdir()}
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageOpenError(f"{destination}: the backup failed: {describe(error)}") from None
    if not names <= {each.name for each in _parts(part)}:
        raise StorageOpenError(f"{destination}: is not empty; a backup goes into a directory of its own")


def _require_apart(directory: Path, destination: Path) -> None:
    """Refuse a destination that is the source or lies in it, whatever the way there is called."""
    try:
        resolved = destination.resolve()
        inside = any(each.exists() and each.samefile(directory) for each in (resolved, *resolved.parents))
    except (OSError, RuntimeError) as error:
        raise StorageOpenError(f"{destination}: the backup failed: {error}") from None
    if inside:
        raise StorageOpenError(
            f"{destination}: lies in {directory}, which is to be copied; a backup goes into a directory of its own"
        )

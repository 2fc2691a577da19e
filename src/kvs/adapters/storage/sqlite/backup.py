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
    FILE_SUFFIXES,
    NAME,
    connect_to_read,
    database_path,
    describe,
)
from kvs.adapters.storage.sqlite.inspection import inspected, require_all, require_same
from kvs.adapters.storage.sqlite.instance import assign_new_identity, read_instance
from kvs.adapters.storage.sqlite.loader import Loader, check_structure
from kvs.adapters.storage.sqlite.mark import read_mark
from kvs.adapters.storage.sqlite.rows import COMMIT_END
from kvs.adapters.storage.sqlite.schema import FORMAT, CorruptionError, format_of
from kvs.engine import StorageOpenError
from kvs.progress import Progress, no_progress

STEP_PAGES: Final = 2048
"""Pages copied between two reports of progress."""

CHECKED_ROWS: Final = 4096
"""Rows verified between two reports of progress."""

STRUCTURE_PART: Final = 8
"""Checking the structure of the file takes about an eighth of the time of verifying the rows."""

REPLACED: Final = (
    "SELECT count(*), coalesce(sum(length(key) + length(value)), 0) FROM entries WHERE key IN (SELECT key FROM journal)"
)
NEWEST: Final = (
    "SELECT count(*), coalesce(sum(length(key) + length(value)), 0) FROM journal "
    "WHERE seq IN (SELECT max(seq) FROM journal GROUP BY key) AND value IS NOT NULL"
)
"""These count the entries that the journal replaces and the newest rows of its keys. They cost O(rows of the journal);
counting all data would take twice as long as verifying them."""


DROP_PART: Final = f"""
DELETE FROM journal WHERE seq > (SELECT coalesce(max(seq), 0) FROM journal WHERE checksum >= {COMMIT_END})
"""  # noqa: S608  # made of constants
"""Deletes the last commit if only a part of it is there."""


class VerifyReport(msgspec.Struct, frozen=True):
    """The content of an undamaged data directory."""

    keys: int
    bytes: int
    journal_rows: int
    format: int


def verify(directory: Path, progress: Progress = no_progress) -> VerifyReport:
    """Read and verify a data directory, which a server may be using. Changes no files.

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
    """Copy a data directory as of one moment, and verify the copy; a server may be using the source.

    The copy gets its final name when it is complete; the next attempt replaces an incomplete one.

    Args:
        directory: The data directory.
        destination: The new data directory; it must be empty or not exist.
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
            _require_empty(destination, part)  # again: opening the source may have taken long
            _copy(source.connection, part, progress, incomplete=incomplete)
            try:
                with inspected(part) as copy:
                    if copy is None:
                        raise StorageOpenError(f"{part}: is empty")
                    report, last_seq = _check(f"{source.name}, copied to {part}", copy.connection, progress)
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
    """A data directory that is read.

    Attributes:
        name: The files that are read, for messages.
        connection: Reads one state of it.
        require_all: Checks, given the number of the journal's last row, that no acknowledged commit is missing.
    """

    name: str
    connection: sqlite3.Connection
    require_all: Callable[[int], None]


@contextmanager
def _source(directory: Path, *, incomplete: bool) -> Iterator[_Source]:
    path = database_path(directory)
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
    """Read one state of a database that a server uses; its commits go into the WAL meanwhile."""
    mark = None if incomplete else read_mark(path)  # read before the state, which is therefore at least as new
    with closing(connect_to_read(path)) as connection:
        try:
            connection.execute("BEGIN")
            instance = read_instance(connection)  # the first read fixes the state
        except DATABASE_ERRORS as error:
            raise StorageOpenError(f"{path}: cannot be read: {describe(error)}") from None
        if mark is not None:
            require_same(path, mark, instance, copied=False)
        yield _Source(f"{path}", connection, lambda last_seq: require_all(path, mark, last_seq))


def _copy(source: sqlite3.Connection, part: Path, progress: Progress, *, incomplete: bool) -> None:
    for file in _parts(part):
        file.unlink(missing_ok=True)
    os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))
    with closing(sqlite3.connect(part, isolation_level=None)) as target:
        target.execute("PRAGMA synchronous = OFF")  # everything is synced at the end
        source.backup(
            target,
            pages=STEP_PAGES,
            progress=lambda _, remaining, total: progress("Copying", "pages", total - remaining, total),
            sleep=0,
        )
        assign_new_identity(target)
        if incomplete and format_of(target, part) == FORMAT:
            target.execute(DROP_PART)
        target.execute("PRAGMA journal_mode = DELETE")  # a single file, until a server opens it
    sync_path(part)


def _parts(part: Path) -> list[Path]:
    """Return the files of an incomplete copy: the copy itself, and SQLite's files beside it."""
    return [part.with_name(part.name + end) for end in FILE_SUFFIXES]


def _check(name: str, connection: sqlite3.Connection, progress: Progress) -> tuple[VerifyReport, int]:
    """Verify a database; return the report, and the number of the journal's last row."""
    loader = Loader()
    rows = count = 0
    try:
        for _ in loader.rows(connection):
            count += 1
            if count % CHECKED_ROWS == 0:
                rows = max(count, rows or _expected_rows(connection))
                progress("Verifying", "rows", count, _with_structure(rows))
        progress("Verifying", "rows", count, _with_structure(count))
        check_structure(connection)
        replaced, replaced_bytes = connection.execute(REPLACED).fetchone()
        newest, newest_bytes = connection.execute(NEWEST).fetchone()
    except (CorruptionError, *DATABASE_ERRORS) as error:
        raise StorageOpenError(f"{name}: is damaged: {describe(error)}") from None
    progress("Verifying", "rows", _with_structure(count), _with_structure(count))
    report = VerifyReport(
        keys=loader.entries - replaced + newest,
        bytes=loader.read_bytes - loader.journal_bytes - replaced_bytes + newest_bytes,
        journal_rows=loader.journal_rows,
        format=loader.format,
    )
    return report, loader.last_seq


def _expected_rows(connection: sqlite3.Connection) -> int:
    """Return the number of rows; it may be wrong if the database is damaged."""
    (entries,) = connection.execute("SELECT entries FROM folded").fetchone()
    (journal,) = connection.execute("SELECT coalesce(max(seq) - min(seq) + 1, 0) FROM journal").fetchone()
    return int(entries + journal)


def _with_structure(rows: int) -> int:
    return rows + rows // STRUCTURE_PART


def _require_empty(destination: Path, part: Path) -> None:
    """Check that a destination is empty, except for the files of an incomplete copy."""
    try:
        names = {entry.name for entry in destination.iterdir()}
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageOpenError(f"{destination}: the backup failed: {describe(error)}") from None
    if not names <= {each.name for each in _parts(part)}:
        raise StorageOpenError(f"{destination}: is not empty; a backup goes into a directory of its own")


def _require_apart(directory: Path, destination: Path) -> None:
    """Check that the destination is not the source or in it, also by way of links."""
    if not directory.is_dir():
        raise StorageOpenError(f"{directory}: there is no such directory")
    try:
        resolved = destination.resolve()
        inside = any(each.exists() and each.samefile(directory) for each in (resolved, *resolved.parents))
    except (OSError, RuntimeError) as error:
        raise StorageOpenError(f"{destination}: the backup failed: {error}") from None
    if inside:
        raise StorageOpenError(
            f"{destination}: lies in {directory}, which is to be copied; a backup goes into a directory of its own"
        )

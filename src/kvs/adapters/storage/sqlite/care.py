"""Care of a data directory from outside the server: is it sound, and a copy of it while it is in use."""

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import msgspec

from kvs.adapters.storage.sqlite.data_dir import LOCK_NAME, make_directory, sync_path
from kvs.adapters.storage.sqlite.file import DATABASE_ERRORS, NAME, connect_to_read, described
from kvs.adapters.storage.sqlite.reading import CorruptionError, Reader, check_structure
from kvs.adapters.storage.sqlite.wal import check_log
from kvs.engine import StorageOpenError

STEP_PAGES: Final = 2048
"""Pages copied between two reports of progress."""

Progress = Callable[[int, int], None]
"""Told how much is done, and of how much."""


class Soundness(msgspec.Struct, frozen=True):
    """What was found in a sound data directory."""

    keys: int
    bytes: int
    journal_rows: int


def verify(directory: Path) -> Soundness:
    """Read everything and check it, as it is now; a server may be using it meanwhile.

    Raises:
        StorageOpenError: It is damaged, or no data directory of this engine, or cannot be read.
    """
    path = directory / NAME
    if not _in_use(directory):  # else the log is being written to, and cannot be told from a damaged one
        check_log(path)
    return _check(path)


def back_up(directory: Path, destination: Path, progress: Progress) -> Soundness:
    """Copy a data directory as it is at one moment, and verify the copy; a server may be using it meanwhile.

    The copy is complete once the database has its name; before that it has another, and a new attempt replaces it.

    Args:
        directory: The data directory.
        destination: The new one: a directory that is empty, or is not there yet.
        progress: Told how far it has come, in pages.

    Raises:
        StorageOpenError: The one is damaged or cannot be read, the other is not empty or cannot be written to.
    """
    part = destination / (NAME + ".part")
    try:
        make_directory(destination.absolute())
        if any(entry.name != part.name for entry in destination.iterdir()):
            raise StorageOpenError(f"{destination}: is not empty; a backup goes into a directory of its own")
        part.unlink(missing_ok=True)
        with _reading(directory / NAME) as source:
            _copy(source, part, progress)
        sound = _check(part)
        part.rename(destination / NAME)
        sync_path(destination)
    except (OSError, *DATABASE_ERRORS) as error:
        raise StorageOpenError(f"{destination}: the backup failed: {described(error)}") from None
    return sound


def _copy(source: sqlite3.Connection, part: Path, progress: Progress) -> None:
    with closing(sqlite3.connect(part, isolation_level=None)) as target:
        target.execute("PRAGMA synchronous = OFF")  # all of it is synced at the end
        source.backup(
            target, pages=STEP_PAGES, progress=lambda _, remaining, total: progress(total - remaining, total), sleep=0
        )
        target.execute("PRAGMA journal_mode = DELETE")  # a single file, until a server opens it
    sync_path(part)


def _check(path: Path) -> Soundness:
    with _reading(path) as connection:
        reader = Reader(connection)
        try:
            for _ in reader.rows():
                pass
            check_structure(connection)
            (keys,) = connection.execute("SELECT count(*) FROM data").fetchone()
            (size,) = connection.execute("SELECT coalesce(sum(length(key) + length(value)), 0) FROM data").fetchone()
        except (CorruptionError, *DATABASE_ERRORS) as error:
            raise StorageOpenError(f"{path}: is damaged: {described(error)}") from None
    return Soundness(keys=keys, bytes=size, journal_rows=reader.journal_rows)


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Read from one state of the database; what is committed meanwhile goes into the write-ahead log."""
    with closing(connect_to_read(path)) as connection:
        try:
            connection.execute("BEGIN")
            connection.execute("SELECT * FROM folded").fetchone()  # it is the first read that fixes the state
        except DATABASE_ERRORS as error:
            raise StorageOpenError(f"{path}: cannot be read: {described(error)}") from None
        yield connection


def _in_use(directory: Path) -> bool:
    """Return whether a server holds the directory."""
    try:
        descriptor = os.open(directory / LOCK_NAME, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False

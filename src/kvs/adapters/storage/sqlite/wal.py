"""Checks the write-ahead log (WAL) before SQLite opens it, and truncates a torn tail."""

import os
from pathlib import Path

from kvs.adapters.storage.sqlite.wal_scan import scan_wal
from kvs.engine import StorageOpenError


def wal_path(path: Path) -> Path:
    """Return the path of the WAL of a database."""
    return path.with_name(path.name + "-wal")


def verify_wal(path: Path) -> tuple[int | None, int]:
    """Return the offset of damage in the WAL, if any, and the end of its last commit.

    No connection may have the database open.
    """
    try:
        return scan_wal(wal_path(path))
    except OSError as error:
        raise StorageOpenError(f"{wal_path(path)}: cannot be read: {error.strerror or error}") from None


def truncate_torn_tail(path: Path, end: int) -> None:
    """Cut off the bytes after the last commit of the WAL, which are part of an unfinished commit.

    Later commits would overwrite only part of them. If one of those were unfinished as well, the remaining bytes would
    look as if they followed a finished commit.
    """
    try:
        with wal_path(path).open("r+b") as file:
            if file.seek(0, os.SEEK_END) > end:
                file.truncate(end)
                os.fsync(file.fileno())
    except FileNotFoundError:
        pass
    except OSError as error:
        raise StorageOpenError(f"{wal_path(path)}: cannot be written to: {error.strerror or error}") from None

"""Checks the write-ahead log before SQLite opens it, and truncates a torn tail."""

import os
from pathlib import Path
from typing import Final, NoReturn

from kvs.adapters.storage.sqlite.wal_scan import scan_wal
from kvs.engine import StorageOpenError

ADVICE: Final = "Restore a backup; or copy what can be read into a new directory: kvs backup --incomplete DIR NEW"


def wal_path(path: Path) -> Path:
    """Return where the write-ahead log of a database is."""
    return path.with_name(path.name + "-wal")


def verify_wal(path: Path) -> tuple[int | None, int]:
    """Return the offset of damage in the log, if any, and the end of its last commit.

    No connection may have the database open.

    Raises:
        StorageOpenError: It cannot be read.
    """
    try:
        return scan_wal(wal_path(path))
    except OSError as error:
        raise StorageOpenError(f"{wal_path(path)}: cannot be read: {error.strerror or error}") from None


def refuse_wal(path: Path, damage: int) -> NoReturn:
    """Refuse a log whose every commit was synced.

    Raises:
        StorageOpenError: It is damaged at that byte.
    """
    raise StorageOpenError(
        f"{wal_path(path)}: is damaged at byte {damage}, before commits that had been acknowledged; nothing was "
        f"changed. {ADVICE}. If the machine lost power while durability was not full, start with that durability"
    )


def truncate_torn_tail(path: Path, end: int) -> None:
    """Cut off the bytes after the last commit of a log, which are part of a commit that did not finish.

    The next commits would be written over it. If one of them did not finish either, the rest of the first would seem to
    follow it, as if it had.

    Args:
        path: Of the database.
        end: Where the last commit ends.

    Raises:
        StorageOpenError: It cannot be written to.
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

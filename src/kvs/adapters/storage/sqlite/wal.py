"""The write-ahead log before SQLite gets it: whether it is damaged, and what is to be cut off."""

import os
from pathlib import Path

from kvs.adapters.storage.sqlite.wal_scan import scan_log
from kvs.engine import StorageOpenError


def check_log(path: Path) -> int:
    """Check the write-ahead log of a database that no connection has open, and whose every commit was synced.

    Returns:
        Where its last commit ends, in bytes from its beginning.

    Raises:
        StorageOpenError: It is damaged, or cannot be read.
    """
    log_path = _log_of(path)
    try:
        damage, end = scan_log(log_path)
    except OSError as error:
        raise StorageOpenError(f"{log_path}: cannot be read: {error.strerror or error}") from None
    if damage is not None:
        raise StorageOpenError(
            f"{log_path}: is damaged at byte {damage}, before commits that had been acknowledged; nothing was changed. "
            "Restore a backup; or, if the machine lost power while durability was not full, start with that durability"
        )
    return end


def cut_log(path: Path) -> None:
    """Check a log likewise, and cut off what is behind its last commit: what there is of one that never finished.

    The next commits would be written over it. If one of them did not finish either, the rest of the first would seem to
    follow it, as if it had.

    Raises:
        StorageOpenError: It is damaged, or cannot be read or written to.
    """
    end = check_log(path)
    log_path = _log_of(path)
    try:
        with log_path.open("r+b") as file:
            if file.seek(0, os.SEEK_END) > end:
                file.truncate(end)
                os.fsync(file.fileno())
    except FileNotFoundError:
        pass
    except OSError as error:
        raise StorageOpenError(f"{log_path}: cannot be written to: {error.strerror or error}") from None


def _log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")

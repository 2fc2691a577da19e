"""Detects that the files of a database were deleted, replaced or overwritten while a server uses them.

SQLite writes to the files that it has open, even if their names are gone, so commits would go where the next start does
not find them. Each name must still lead to the same file as when the watch began; the database must contain the session
of this server; and the WAL must contain the last commit that its index in shared memory records.

Source: the format of the index, https://www.sqlite.org/walformat.html#the_wal_index_file_format.
"""

import os
import sqlite3
import struct
from pathlib import Path
from typing import Final, final

from kvs.adapters.storage.sqlite.data_dir import LOCK_NAME
from kvs.adapters.storage.sqlite.journal import JournalError
from kvs.adapters.storage.sqlite.mark import mark_path
from kvs.adapters.storage.sqlite.wal import wal_path
from kvs.adapters.storage.sqlite.wal_scan import HEADER_BYTES

_INDEX: Final = struct.Struct("=IIIBBHII2I8s")  # up to the salts, in the machine's byte order
_INDEX_VERSION: Final = 3007000
_FRAME: Final = struct.Struct(">2I8s2I")


@final
class FileWatch:
    """Watches the files of one database. Not thread-safe.

    Close it after every connection: a process that closes a file loses its locks on it.
    """

    def __init__(self, path: Path, directory: Path) -> None:
        self._wal = wal_path(path)
        self._index = path.with_name(path.name + "-shm")
        self._database = path
        self._names = (directory, path, self._wal, self._index, mark_path(path), directory / LOCK_NAME)
        self._files: dict[Path, tuple[int, int]] = {}
        self._descriptors: dict[Path, int] = {}
        self._session = b""
        self._session_at = 0

    def begin(self, connection: sqlite3.Connection) -> None:
        """Remember the files as they are, once the session has begun."""
        for path in (self._database, self._wal, self._index):
            self._descriptors[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._files = {path: _identity(path) for path in self._names if path.exists()}
        ((session,),) = connection.execute("SELECT session FROM instance").fetchall()
        ((root,),) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'instance'").fetchall()
        ((page_bytes,),) = connection.execute("PRAGMA page_size").fetchall()
        page = os.pread(self._descriptors[self._database], page_bytes, (root - 1) * page_bytes)
        at = page.find(session)
        if at >= 0:  # else a reader of an older state kept it from being copied into the file
            self._session = session
            self._session_at = (root - 1) * page_bytes + at

    def check(self) -> None:
        """Check the files. No thread of this process may write to the database meanwhile.

        Raises:
            JournalError: They were deleted, replaced or overwritten.
        """
        for path, file in self._files.items():
            try:
                found = _identity(path)
            except (FileNotFoundError, NotADirectoryError):
                raise _lost(path, "deleted or moved") from None
            except OSError:
                continue  # writes report a failing disk
            if found != file:
                raise _lost(path, "replaced")
        found_session = os.pread(self._descriptors[self._database], len(self._session), self._session_at)
        if found_session != self._session:
            raise _lost(self._database, "overwritten")
        self._check_wal()

    def close(self) -> None:
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()

    def _check_wal(self) -> None:
        head = os.pread(self._descriptors[self._index], _INDEX.size, 0)
        if len(head) < _INDEX.size:
            raise _lost(self._index, "cut off")
        version, _, _, initialized, _, page_bytes, frames, _, checksum1, checksum2, salts = _INDEX.unpack(head)
        if version != _INDEX_VERSION or not initialized or frames == 0:
            return  # the WAL has no commit
        page_bytes = 65536 if page_bytes == 1 else page_bytes
        at = HEADER_BYTES + (frames - 1) * (_FRAME.size + page_bytes)
        frame = os.pread(self._descriptors[self._wal], _FRAME.size, at)
        if len(frame) < _FRAME.size or _FRAME.unpack(frame)[2:] != (salts, checksum1, checksum2):
            raise _lost(self._wal, "overwritten or cut off")


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _lost(path: Path, how: str) -> JournalError:
    return JournalError(
        f"{path}: was {how} while the server was using it; what it commits would not be found by the next start"
    )

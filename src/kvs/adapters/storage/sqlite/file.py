"""The database file: where it is, what it looks like, and how it is opened."""

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal, TypeAlias
from zlib import crc32

from kvs.adapters.storage.sqlite import instance
from kvs.adapters.storage.sqlite.data_dir import FILE_MODE, sync_path
from kvs.domain.values import Key, Value
from kvs.engine import StorageOpenError

Durability: TypeAlias = Literal["full", "normal", "off"]

NAME: Final = "kvs.db"
FILE_ENDS: Final = ("", "-wal", "-shm", "-journal", "-mark")
"""Behind the name of the database, these make the names of all its files."""

APPLICATION_ID: Final = 0x6B767321  # "kvs!", which file(1) can show
FORMAT: Final = 1

BUSY_TIMEOUT_S: Final = 5.0
"""Longest wait for another program that has locked the file, such as the sqlite3 tool in the middle of a write."""

DATABASE_ERRORS: Final = (sqlite3.Error, UnicodeDecodeError)
"""What a call of SQLite may raise: the message of an error may quote what is damaged, and then be no text."""

WAL_KEPT_BYTES: Final = 64 << 20
"""What the write-ahead log's file is cut down to when it has grown beyond, as it does while a backup reads."""

SCHEMA: Final = f"""
BEGIN IMMEDIATE;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT};
CREATE TABLE entries (key BLOB PRIMARY KEY, value BLOB NOT NULL, checksum INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE journal (seq INTEGER PRIMARY KEY, key BLOB NOT NULL, value BLOB, checksum INTEGER NOT NULL);
CREATE TABLE folded (through_seq INTEGER NOT NULL, entries INTEGER NOT NULL, checksums INTEGER NOT NULL);
INSERT INTO folded VALUES (0, 0, 0);
CREATE VIEW data AS
  SELECT key, value FROM entries WHERE key NOT IN (SELECT key FROM journal)
  UNION ALL
  SELECT key, value FROM journal WHERE seq IN (SELECT max(seq) FROM journal GROUP BY key) AND value IS NOT NULL;
{instance.SCHEMA}
COMMIT;
"""  # noqa: S608  # made of constants
"""``folded``: up to which row of the journal all is in ``entries``, how many those are, and the sum of their checksums.
The journal may still hold rows up to that one. ``data`` is for people."""


def checksum_of(key: Key, value: Value | None) -> int:
    """Return the checksum of a row: CRC-32 of key and value, inverted for a delete."""
    checksum = crc32(key)
    return checksum ^ 0xFFFFFFFF if value is None else crc32(value, checksum)


def database_in(directory: Path) -> Path:
    """Return where the database of a data directory is: all its files are beside it, also if the name is a link."""
    path = directory / NAME
    return Path(os.path.realpath(path)) if path.is_symlink() else path  # no error of a loop: opening has one


def describe(error: Exception) -> str:
    """Return what went wrong, with SQLite's own name for it where it has one; what it quotes of a file is escaped."""
    text = str(error)
    if isinstance(error, sqlite3.Error):
        name = getattr(error, "sqlite_errorname", "")
        text = f"{error} ({name})" if name else text
    elif isinstance(error, UnicodeDecodeError):
        text = error.object.decode(errors="backslashreplace")
    elif isinstance(error, OSError):
        text = error.strerror or text
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def open_database(path: Path, durability: Durability) -> sqlite3.Connection:
    """Return a connection for reading and writing; create the database if there is none.

    Raises:
        StorageOpenError: It cannot be opened, or is not ours.
    """
    with suppress(OSError):  # SQLite will say what is wrong; it would let others read what it makes
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))
    connection = connect(path, durability)
    try:
        if not check_format(connection, path):
            connection.execute("PRAGMA synchronous = FULL")
            connection.executescript(SCHEMA)
            connection.execute(f"PRAGMA synchronous = {durability.upper()}")
            sync_path(path.parent)  # or the file's name might not outlast a power cut
    except (*DATABASE_ERRORS, OSError) as error:
        connection.close()
        raise StorageOpenError(f"{path}: cannot be opened: {describe(error)}") from None
    except BaseException:
        connection.close()
        raise
    return connection


def connect(path: Path, durability: Durability) -> sqlite3.Connection:
    """Return a connection for reading and writing that never checkpoints by itself.

    Raises:
        StorageOpenError: It cannot be opened, or not for writing.
    """
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_S)
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            if mode != "wal":  # which SQLite does not call an error
                raise sqlite3.OperationalError(f"its journal mode is {mode!r} and cannot be made WAL")
            for pragma in (
                f"synchronous = {durability.upper()}",
                "wal_autocheckpoint = 0",  # it would stop a tick for milliseconds; see compaction.py
                f"journal_size_limit = {WAL_KEPT_BYTES}",
                "fullfsync = ON",  # of meaning on macOS only, where fsync alone does not reach the disk
                "checkpoint_fullfsync = ON",
                "secure_delete = OFF",  # some builds overwrite what is deleted, which doubles the work of compaction
                "cell_size_check = ON",
                "trusted_schema = OFF",
                "temp_store = MEMORY",
            ):
                connection.execute(f"PRAGMA {pragma}")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("CREATE TABLE probe (x)")  # what cannot be opened for writing SQLite opens for reading
            connection.execute("ROLLBACK")
        except BaseException:
            connection.close()
            raise
    except DATABASE_ERRORS as error:
        raise StorageOpenError(f"{path}: cannot be opened: {describe(error)}") from None
    return connection


def connect_to_read(path: Path) -> sqlite3.Connection:
    """Return a connection that cannot write, to a database that a server may have open.

    Raises:
        StorageOpenError: It cannot be opened, or is not ours.
    """
    if not path.is_file():
        raise StorageOpenError(f"{path}: there is no such file, so this is no data directory of the sqlite engine")
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S)
        try:
            if not check_format(connection, path):
                raise StorageOpenError(f"{path}: is empty")
        except BaseException:
            connection.close()
            raise
    except DATABASE_ERRORS as error:
        raise StorageOpenError(f"{path}: cannot be read: {describe(error)}") from None
    return connection


def check_format(connection: sqlite3.Connection, path: Path) -> bool:
    """Return whether a database is one of ours; false if it is empty.

    Raises:
        StorageOpenError: It has another format.
        sqlite3.DatabaseError: It is the database of another program.
    """
    version = _version(connection)
    if version not in (None, FORMAT):
        raise StorageOpenError(f"{path}: has format {version}; this version of kvs knows format {FORMAT}")
    return version is not None


def _version(connection: sqlite3.Connection) -> int | None:
    """Return the format of a database, or None for one that is empty.

    Raises:
        sqlite3.DatabaseError: It is the database of another program.
    """
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application_id != APPLICATION_ID:
        if tables == 0 and application_id == 0:
            return None
        raise sqlite3.DatabaseError("it is not a database of kvs")
    return int(version)

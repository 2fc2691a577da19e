"""The database file: its path, and connections to it."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Final, Literal, TypeAlias

from kvs.adapters.storage.sqlite.data_dir import FILE_MODE, sync_path
from kvs.adapters.storage.sqlite.schema import FORMAT, SCHEMAS, format_of
from kvs.engine import StorageOpenError
from kvs.errors import escaped

Durability: TypeAlias = Literal["full", "normal", "off"]

NAME: Final = "kvs.db"
FILE_SUFFIXES: Final = ("", "-wal", "-shm", "-journal", "-mark")
"""The name of the database with each of these suffixes gives the names of all its files."""

BUSY_TIMEOUT_S: Final = 5.0
"""Maximum wait for another program that has locked the file, such as the sqlite3 tool while it writes."""

DATABASE_ERRORS: Final = (sqlite3.Error, UnicodeDecodeError)
"""Exceptions of a call of SQLite. An error message may quote damaged data, which are not always UTF-8."""

WAL_KEPT_BYTES: Final = 64 << 20
"""Size to which the file of the write-ahead log (WAL) is truncated after it has grown larger, as during a backup."""


def database_path(directory: Path) -> Path:
    """Return the path of the database in a data directory. A link is resolved: all files are beside its target."""
    path = directory / NAME
    return Path(os.path.realpath(path)) if path.is_symlink() else path  # resolve() would raise for a loop of links


def describe(error: Exception) -> str:
    """Return the message of an error, with SQLite's name for it, if any; unprintable text in it is escaped."""
    text = str(error)
    if isinstance(error, sqlite3.Error):
        name = getattr(error, "sqlite_errorname", "")
        text = f"{error} ({name})" if name else text
    elif isinstance(error, UnicodeDecodeError):
        text = error.object.decode(errors="backslashreplace")
    elif isinstance(error, OSError):
        text = error.strerror or text
    return escaped(text)


@contextmanager
def closed_on_error(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Close a connection unless the block ends without an error."""
    with ExitStack() as stack:
        yield stack.enter_context(closing(connection))
        stack.pop_all()


def open_database(path: Path, durability: Durability) -> sqlite3.Connection:
    """Return a connection for reading and writing; create the database if there is none."""
    with suppress(OSError):  # SQLite would create a file that others can read; it also reports errors
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))
    try:
        with closed_on_error(connect(path, durability)) as connection:
            if format_of(connection, path) is None:
                connection.execute("PRAGMA synchronous = FULL")
                connection.executescript(SCHEMAS[FORMAT])
                connection.execute(f"PRAGMA synchronous = {durability.upper()}")
                sync_path(path.parent)  # or the file's name might not survive a power cut
    except (*DATABASE_ERRORS, OSError) as error:
        raise StorageOpenError(f"{path}: cannot be opened: {describe(error)}") from None
    return connection


def connect(path: Path, durability: Durability) -> sqlite3.Connection:
    """Return a connection for reading and writing that never checkpoints by itself."""
    try:
        opened = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_S)
        with closed_on_error(opened) as connection:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            if mode != "wal":  # for SQLite, this is not an error
                raise sqlite3.OperationalError(f"its journal mode is {mode!r} and cannot be made WAL")
            for pragma in (
                f"synchronous = {durability.upper()}",
                "wal_autocheckpoint = 0",  # it would delay a tick by milliseconds; see compaction.py
                f"journal_size_limit = {WAL_KEPT_BYTES}",
                "fullfsync = ON",  # for macOS, where fsync alone does not reach the disk
                "checkpoint_fullfsync = ON",
                "secure_delete = OFF",  # some builds overwrite deleted data, which doubles the work of compaction
                "cell_size_check = ON",
                "trusted_schema = OFF",
                "temp_store = MEMORY",
            ):
                connection.execute(f"PRAGMA {pragma}")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("CREATE TABLE probe (x)")  # SQLite opens a file read-only if it cannot be written
            connection.execute("ROLLBACK")
    except DATABASE_ERRORS as error:
        raise StorageOpenError(f"{path}: cannot be opened: {describe(error)}") from None
    return connection


def connect_to_read(path: Path) -> sqlite3.Connection:
    """Return a read-only connection to a database that a server may have open."""
    if not path.is_file():
        raise StorageOpenError(f"{path}: there is no such file, so this is no data directory of the sqlite engine")
    try:
        opened = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S)
        with closed_on_error(opened) as connection:
            if format_of(connection, path) is None:
                raise StorageOpenError(f"{path}: is empty")
    except DATABASE_ERRORS as error:
        raise StorageOpenError(f"{path}: cannot be read: {describe(error)}") from None
    return connection

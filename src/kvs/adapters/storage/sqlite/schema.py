"""The schema of the database, in the format of now and in the former ones, and the checksums in it.

Table ``entries`` holds the data as of a row of the ``journal``, in key order; ``kind`` and ``deadline_ms`` are the
fields of a value beside its payload (:mod:`kvs.domain.codec`). ``folded`` has the number of the last compacted row of
the journal, the number of entries, and the sum of their checksums; the journal may still contain compacted rows. It
also has ``required_seq``, the journal's last row when anything but the journal last changed. A bit of the checksum
marks the last row of each commit in the journal. ``clock`` has the server's time when it last made something durable.
The view ``data`` is for people.

Format 2, which no released version wrote, does not mark where commits end in the journal, and has no ``required_seq``.
Format 1, of version 0.1.0, has neither ``kind`` nor ``deadline_ms``, no ``clock`` and perhaps no ``instance``, either;
and the keys that begin with a byte 0xFF were as clients have them.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from struct import Struct
from typing import Final
from zlib import crc32

from kvs.adapters.storage.sqlite import instance
from kvs.domain.values import MAX_DEADLINE_MS
from kvs.engine import StorageOpenError

APPLICATION_ID: Final = 0x6B767321  # "kvs!"; file(1) can show it
FORMAT: Final = 3
FIRST_FORMAT: Final = 1
SECOND_FORMAT: Final = 2

# The columns that later formats have added are last, as ALTER TABLE leaves them, so that all ways lead to one schema.
ADDED_COLUMNS: Final = ("kind INTEGER NOT NULL DEFAULT 0", "deadline_ms INTEGER NOT NULL DEFAULT 0")
_ADDED: Final = "".join(f", {column}" for column in ADDED_COLUMNS)
REQUIRED: Final = "required_seq INTEGER NOT NULL DEFAULT 0"

CLOCK: Final = "CREATE TABLE clock (horizon_ms INTEGER NOT NULL, checksum INTEGER NOT NULL)"
VIEW: Final = """CREATE VIEW data AS
  SELECT key, value, kind, deadline_ms FROM entries WHERE key NOT IN (SELECT key FROM journal)
  UNION ALL
  SELECT key, value, kind, deadline_ms FROM journal
    WHERE seq IN (SELECT max(seq) FROM journal GROUP BY key) AND value IS NOT NULL"""
_FORMER_VIEW: Final = """CREATE VIEW data AS
  SELECT key, value FROM entries WHERE key NOT IN (SELECT key FROM journal)
  UNION ALL
  SELECT key, value FROM journal WHERE seq IN (SELECT max(seq) FROM journal GROUP BY key) AND value IS NOT NULL"""

_HORIZON: Final = Struct(">Q")


def horizon_checksum(horizon_ms: int) -> int:
    """Return the checksum of the row of the clock: a wrong time would expire records, or bring some back."""
    return crc32(_HORIZON.pack(horizon_ms))


def _script(format_: int, added: str, counted: str, *statements: str) -> str:
    more = ";\n".join((*statements, *instance.SCHEMA))
    return f"""
BEGIN IMMEDIATE;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {format_};
CREATE TABLE entries (key BLOB PRIMARY KEY, value BLOB NOT NULL, checksum INTEGER NOT NULL{added}) WITHOUT ROWID;
CREATE TABLE journal (seq INTEGER PRIMARY KEY, key BLOB NOT NULL, value BLOB, checksum INTEGER NOT NULL{added});
CREATE TABLE folded (through_seq INTEGER NOT NULL, entries INTEGER NOT NULL, checksums INTEGER NOT NULL{counted});
INSERT INTO folded (through_seq, entries, checksums) VALUES (0, 0, 0);
{more};
COMMIT;
"""  # noqa: S608  # made of constants


FILL_CLOCK: Final = f"INSERT INTO clock VALUES (0, {horizon_checksum(0)})"  # noqa: S608  # as above
SCHEMAS: Final = {
    FIRST_FORMAT: _script(FIRST_FORMAT, "", "", _FORMER_VIEW),
    SECOND_FORMAT: _script(SECOND_FORMAT, _ADDED, "", CLOCK, FILL_CLOCK, VIEW),
    FORMAT: _script(FORMAT, _ADDED, f", {REQUIRED}", CLOCK, FILL_CLOCK, VIEW),
}


class CorruptionError(Exception):
    """Raised when the file is damaged; the message says what and where."""


def format_of(connection: sqlite3.Connection, path: Path) -> int | None:
    """Return the format of a database of kvs; None if it is empty.

    Raises:
        StorageOpenError: It has a format that this version does not know.
        sqlite3.DatabaseError: It is the database of another program.
    """
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application_id != APPLICATION_ID:
        if tables == 0 and application_id == 0:
            return None
        raise sqlite3.DatabaseError("it is not a database of kvs")
    if version not in SCHEMAS:
        raise StorageOpenError(
            f"{path}: has format {version}; this version of kvs knows formats {FIRST_FORMAT} to {FORMAT}"
        )
    return int(version)


def check_schema(connection: sqlite3.Connection, format_: int) -> None:
    """Check that the tables and views of kvs exist unchanged; there may be others.

    Raises:
        CorruptionError: One is missing or different.
    """
    query = "SELECT name, type, sql FROM sqlite_schema"
    with closing(sqlite3.connect(":memory:")) as new:
        new.executescript(SCHEMAS[format_])
        expected = new.execute(query).fetchall()
    found = {name: rest for name, *rest in connection.execute(query)}
    for name, *rest in expected:
        if name == instance.TABLE and name not in found and format_ == FIRST_FORMAT:
            continue  # version 0.1.0 does not create it
        if found.get(name) != rest:
            raise CorruptionError(f"{rest[0]} {name} is missing or damaged")


def read_horizon(connection: sqlite3.Connection) -> int:
    """Return the time of the clock, in milliseconds since 1970.

    Raises:
        CorruptionError: It is damaged.
    """
    rows = connection.execute("SELECT horizon_ms, checksum FROM clock").fetchall()
    if len(rows) == 1:
        horizon_ms, checksum = rows[0]
        if type(horizon_ms) is int and 0 <= horizon_ms <= MAX_DEADLINE_MS and checksum == horizon_checksum(horizon_ms):
            return horizon_ms
    raise CorruptionError("table clock does not have its one row, or it is damaged")


def store_horizon(connection: sqlite3.Connection, horizon_ms: int) -> None:
    """Set the time of the clock."""
    connection.execute("UPDATE clock SET horizon_ms = ?, checksum = ?", (horizon_ms, horizon_checksum(horizon_ms)))

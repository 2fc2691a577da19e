"""The identity of a database, and whether a server uses it.

Table ``instance`` has one row. ``id`` is chosen at random when the database is created, and again for a backup, so that
the mark of another database is recognized. ``session`` is chosen at random by each server that opens the database, and
removed by an orderly stop: while it is set, the database file alone may be incomplete. Version 0.1.0 neither creates
nor needs the table; an upgrade creates it.
"""

import sqlite3
from pathlib import Path
from typing import Final

import msgspec

from kvs.adapters.storage.sqlite.data_dir import sync_path
from kvs.adapters.storage.sqlite.mark import MarkFile, read_mark

TABLE: Final = "instance"
SCHEMA: Final = (
    "CREATE TABLE instance (id BLOB NOT NULL, session BLOB)",
    "INSERT INTO instance VALUES (randomblob(16), NULL)",
)
ID_BYTES: Final = 16


class Instance(msgspec.Struct, frozen=True):
    """The row of the table.

    Attributes:
        id: Identity of the database.
        session: Of the server that uses the database, or ended without closing it; None: it was closed properly.
    """

    id: bytes
    session: bytes | None


def read_instance(connection: sqlite3.Connection) -> Instance | None:
    """Return the row, or None if version 0.1.0 created the database.

    Raises:
        sqlite3.Error: It is damaged, or cannot be read.
    """
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'instance'").fetchone()
    if not tables:
        return None
    rows = connection.execute("SELECT id, session FROM instance").fetchall()
    if len(rows) == 1:
        instance, session = rows[0]
        if type(instance) is bytes and len(instance) == ID_BYTES and (session is None or type(session) is bytes):
            return Instance(instance, session)
    raise sqlite3.DatabaseError("table instance does not have its one row")


def begin_session(connection: sqlite3.Connection, path: Path, last_seq: int, *, syncs: bool) -> MarkFile:
    """Begin to use a database that was found complete; return its mark.

    Each step is on the disk before the next begins: the identity, the mark with it, and the session, which requires a
    mark. Then the WAL is copied into the file, so that the file itself shows that it is in use.

    Args:
        connection: For writing; from then on it syncs every commit.
        path: Path of the database.
        last_seq: Number of the journal's last row.
        syncs: Whether each commit will be synced before the next one.
    """
    connection.execute("PRAGMA synchronous = FULL")
    ((identity,),) = connection.execute("SELECT id FROM instance").fetchall()
    before = read_mark(path)
    mark = MarkFile(path, identity)
    try:
        mark.release_reserve()  # on a full disk, this start needs the space, or the log does, to report its failure
        mark.all_synced = syncs and (before is None or before.all_synced)
        mark.write(last_seq, before.synced_seq if before else 0)
        mark.sync()
        sync_path(path.parent)
        connection.execute("UPDATE instance SET session = randomblob(16)")
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        mark.all_synced = syncs  # the commit of the session was synced, and with it the whole WAL
        mark.write(last_seq, last_seq)
        mark.allocate_reserve()
    except BaseException:
        mark.close()
        raise
    return mark


def end_session(connection: sqlite3.Connection) -> None:
    """Record that the database is complete and not in use."""
    connection.execute("UPDATE instance SET session = NULL")


def assign_new_identity(connection: sqlite3.Connection) -> None:
    """Give a copy its own identity, and record that it is not in use."""
    if read_instance(connection) is not None:
        connection.execute("UPDATE instance SET id = randomblob(16), session = NULL")

"""What a database says of itself: which one it is, and whether a server has it in use.

Table ``instance`` has one row. ``id`` is chosen at random when the database is made, and anew for a backup, so that no
mark is taken for that of another one. ``session`` is chosen at random by each server that takes the database into use,
and removed at the orderly end: where it is set, the file alone may not be all there is. Version 0.1.0 neither makes the
table nor minds it.
"""

import sqlite3
from pathlib import Path
from typing import Final

import msgspec

from kvs.adapters.storage.sqlite.data_dir import sync_path
from kvs.adapters.storage.sqlite.mark import MarkFile, read_mark

TABLE: Final = "instance"
SCHEMA: Final = """
CREATE TABLE instance (id BLOB NOT NULL, session BLOB);
INSERT INTO instance VALUES (randomblob(16), NULL);
"""
ID_BYTES: Final = 16


class Instance(msgspec.Struct, frozen=True):
    """The row.

    Attributes:
        id: Which database it is.
        session: Of the server that is using it, or did not close it; None: it was closed in an orderly way.
    """

    id: bytes
    session: bytes | None


def read_instance(connection: sqlite3.Connection) -> Instance | None:
    """Return the row, or None if version 0.1.0 has made the database.

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
    """Take a database into use that has been found complete; return its mark.

    Each step is on the disk before the next begins: the identity, the mark that has it, the session that wants a mark.
    The log is copied into the file then, so that the file itself tells that it is in use.

    Args:
        connection: To write with; afterwards it waits for the disk at every commit.
        path: Of the database.
        last_seq: Number of the journal's last row.
        syncs: Whether each commit will be synced before the next one.

    Raises:
        sqlite3.Error: The database cannot be written.
        OSError: The mark cannot be.
    """
    connection.execute("PRAGMA synchronous = FULL")
    if read_instance(connection) is None:
        connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT;")
    ((identity,),) = connection.execute("SELECT id FROM instance").fetchall()
    before = read_mark(path)
    mark = MarkFile(path, identity)
    try:
        mark.give_back()  # on a full disk, this start and the log of its failure come before the next one's
        mark.all_synced = syncs and (before is None or before.all_synced)
        mark.write(last_seq, before.synced_seq if before else 0)
        mark.sync()
        sync_path(path.parent)
        connection.execute("UPDATE instance SET session = randomblob(16)")
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        mark.all_synced = syncs  # the commit of the session was, and with it all that the log had
        mark.write(last_seq, last_seq)
        mark.reserve()
    except BaseException:
        mark.close()
        raise
    return mark


def end_session(connection: sqlite3.Connection) -> None:
    """Say that everything is in the database.

    Raises:
        sqlite3.Error: It cannot be written.
    """
    connection.execute("UPDATE instance SET session = NULL")


def become_another(connection: sqlite3.Connection) -> None:
    """Make a copy a database of its own, which nobody has in use.

    Raises:
        sqlite3.Error: It cannot be written.
    """
    if read_instance(connection) is not None:
        connection.execute("UPDATE instance SET id = randomblob(16), session = NULL")

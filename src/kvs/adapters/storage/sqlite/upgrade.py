"""Upgrades a database of format 1, which version 0.1.0 wrote, to format 2.

All of it is one transaction, which a kill leaves done or not begun. The rows stay as they are, except those of keys
that begin with a byte 0xFF: from format 2 on, such keys are reserved, and a client's are stored with another 0xFF in
front. Neither renaming nor the new columns change the order of keys.
"""

import sqlite3
from typing import Final

from kvs.adapters.storage.sqlite import instance
from kvs.adapters.storage.sqlite.rows import checksum_of
from kvs.adapters.storage.sqlite.schema import ADDED_COLUMNS, CLOCK, FILL_CLOCK, FORMAT, VIEW
from kvs.domain.keyspace import RESERVED, stored_key

_RENAMED: Final = "SELECT stored_key(key), value, checksum_of(stored_key(key), value)"
_RENAME: Final = (
    "UPDATE journal SET key = stored_key(key), checksum = checksum_of(stored_key(key), value) WHERE key >= :reserved",
    # Aside and back, because a new key may be the old one of another row.
    f"CREATE TEMP TABLE renamed AS {_RENAMED} AS checksum FROM entries WHERE key >= :reserved",
    """UPDATE folded SET checksums = checksums
      - (SELECT coalesce(sum(checksum), 0) FROM entries WHERE key >= :reserved)
      + (SELECT coalesce(sum(checksum), 0) FROM temp.renamed)""",
    "DELETE FROM entries WHERE key >= :reserved",
    "INSERT INTO entries (key, value, checksum) SELECT * FROM temp.renamed ORDER BY 1",
    "DROP TABLE temp.renamed",
)
_CHANGE_SCHEMA: Final = (
    "DROP VIEW data",
    *(f"ALTER TABLE {table} ADD COLUMN {column}" for table in ("entries", "journal") for column in ADDED_COLUMNS),
    VIEW,
    CLOCK,
    FILL_CLOCK,
)


def upgrade(connection: sqlite3.Connection) -> None:
    """Upgrade a database of format 1, whose rows have been found undamaged.

    Raises:
        sqlite3.Error: It could not be written to. Nothing has changed when the connection is closed.
    """
    connection.create_function("stored_key", 1, stored_key, deterministic=True)
    connection.create_function("checksum_of", 2, checksum_of, deterministic=True)
    connection.execute("BEGIN IMMEDIATE")
    for statement in _RENAME:
        connection.execute(statement, {"reserved": RESERVED} if ":reserved" in statement else {})
    for statement in _CHANGE_SCHEMA:
        connection.execute(statement)
    if instance.read_instance(connection) is None:
        for statement in instance.SCHEMA:
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {FORMAT}")
    connection.execute("COMMIT")

"""Upgrades a database of format 1, which version 0.1.0 wrote, or of format 2, to format 3.

All of it is one transaction, which a kill leaves done or not begun. The rows stay as they are, except the journal's
last, which ends a commit, and those of keys that begin with a byte 0xFF: from format 2 on, such keys are reserved, and
a client's are stored with another 0xFF in front. Neither renaming nor the new columns change the order of keys.
"""

import sqlite3
from typing import Final

from kvs.adapters.storage.sqlite import instance
from kvs.adapters.storage.sqlite.rows import COMMIT_END, checksum_of
from kvs.adapters.storage.sqlite.schema import (
    ADDED_COLUMNS,
    CLOCK,
    FILL_CLOCK,
    FIRST_FORMAT,
    FORMAT,
    REQUIRED,
    VIEW,
)
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


_MARK_END: Final = (
    f"ALTER TABLE folded ADD COLUMN {REQUIRED}",
    "UPDATE folded SET required_seq = max(through_seq, (SELECT coalesce(max(seq), 0) FROM journal))",
    f"UPDATE journal SET checksum = checksum | {COMMIT_END} WHERE seq = (SELECT max(seq) FROM journal)",  # noqa: S608
)


def upgrade(connection: sqlite3.Connection) -> None:
    """Upgrade a database of a former format, whose rows have been found undamaged.

    Raises:
        sqlite3.Error: It could not be written to. Nothing has changed when the connection is closed.
    """
    (format_,) = connection.execute("PRAGMA user_version").fetchone()
    connection.execute("BEGIN IMMEDIATE")
    if format_ == FIRST_FORMAT:
        _upgrade_to_second(connection)
    for statement in _MARK_END:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {FORMAT}")
    connection.execute("COMMIT")


def _upgrade_to_second(connection: sqlite3.Connection) -> None:
    connection.create_function("stored_key", 1, stored_key, deterministic=True)
    connection.create_function("checksum_of", 2, checksum_of, deterministic=True)
    for statement in _RENAME:
        connection.execute(statement, {"reserved": RESERVED} if ":reserved" in statement else {})
    for statement in _CHANGE_SCHEMA:
        connection.execute(statement)
    if instance.read_instance(connection) is None:
        for statement in instance.SCHEMA:
            connection.execute(statement)

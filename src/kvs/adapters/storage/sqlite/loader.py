"""Reads a whole database and verifies it: every row is checked, and missing rows are detected.

SQLite has no checksums for its pages. So each row has one, the number of entries and the sum of their checksums are
stored, and the rows of the journal are numbered without gaps. SQLite's ``quick_check`` checks the file's structure.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import final
from zlib import crc32

from kvs.adapters.storage.journaled import Row
from kvs.adapters.storage.sqlite.file import SCHEMA, checksum_of
from kvs.adapters.storage.sqlite.instance import TABLE as INSTANCE


class CorruptionError(Exception):
    """Raised when the file is damaged; the message says what and where."""


@final
class Loader:
    """Reads the rows of a database. Needs an unchanging state: a transaction, or no writers.

    Attributes:
        entries: Number of entries read so far.
        journal_rows: Number of the journal's rows read so far.
        journal_bytes: Size of the keys and values of these.
        read_bytes: Size of all keys and values read so far.
        last_seq: Number of the journal's last row, set after reading all.
    """

    def __init__(self) -> None:
        self.entries = 0
        self.journal_rows = 0
        self.journal_bytes = 0
        self.read_bytes = 0
        self.last_seq = 0

    def rows(self, connection: sqlite3.Connection) -> Iterator[Row]:
        """Yield the entries in key order, then the rows of the journal by number.

        Raises:
            CorruptionError: A row is damaged or missing.
            sqlite3.Error: The file is damaged otherwise, or cannot be read.
        """
        check_schema(connection)
        rows = connection.execute("SELECT through_seq, entries, checksums FROM folded").fetchall()
        if len(rows) != 1 or not all(type(figure) is int for figure in rows[0]):
            raise CorruptionError("table folded does not have its one row")
        through_seq, entries, checksums = rows[0]
        yield from self._entries(connection, entries, checksums)
        yield from self._journal(connection, through_seq)

    def _entries(self, connection: sqlite3.Connection, expected: int, expected_checksums: int) -> Iterator[Row]:
        count = checksums = size = 0
        last = b""
        for key, value, checksum in connection.execute("SELECT key, value, checksum FROM entries"):
            if type(key) is not bytes or type(value) is not bytes or crc32(value, crc32(key)) != checksum:
                raise CorruptionError(f"entry {count + 1} in the order of keys is damaged")
            if key <= last:
                raise CorruptionError(f"entry {count + 1} is not in the order of keys")
            last = key
            checksums += checksum
            size += len(key) + len(value)
            count += 1
            if not count & 0x3FF:
                self.entries, self.read_bytes = count, size
            yield key, value
        self.entries, self.read_bytes = count, size
        if count != expected or checksums != expected_checksums:
            raise CorruptionError(f"entries are missing or old: there are {count}, and should be {expected}")

    def _journal(self, connection: sqlite3.Connection, through_seq: int) -> Iterator[Row]:
        expected: int | None = None
        for seq, key, value, checksum in connection.execute(
            "SELECT seq, key, value, checksum FROM journal ORDER BY seq"
        ):
            if type(seq) is not int:
                raise CorruptionError("a row of the journal has no number")
            if expected is None and seq > through_seq + 1:
                raise CorruptionError(f"the journal begins at row {seq} and should at {through_seq + 1}")
            if expected is not None and seq != expected:
                raise CorruptionError(f"rows of the journal are missing: {seq} follows {expected - 1}")
            expected = seq + 1
            if not _is_row(key, value) or checksum_of(key, value) != checksum:
                raise CorruptionError(f"row {seq} of the journal is damaged")
            size = len(key) + len(value or b"")
            self.journal_rows += 1
            self.journal_bytes += size
            self.read_bytes += size
            yield key, value
        self.last_seq = through_seq if expected is None else max(expected - 1, through_seq)


def check_schema(connection: sqlite3.Connection) -> None:
    """Check that the tables and views of kvs exist unchanged; there may be others."""
    query = "SELECT name, type, sql FROM sqlite_schema"
    with closing(sqlite3.connect(":memory:")) as new:
        new.executescript(SCHEMA)
        expected = new.execute(query).fetchall()
    found = {name: rest for name, *rest in connection.execute(query)}
    for name, *rest in expected:
        if found.get(name) != rest and not (name == INSTANCE and name not in found):  # version 0.1.0 does not create it
            raise CorruptionError(f"{rest[0]} {name} is missing or damaged")


def check_structure(connection: sqlite3.Connection) -> None:
    """Check the structure of the file. Reads all of it."""
    (result,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if result != "ok":
        raise CorruptionError(" ".join(result.split()))


def _is_row(key: object, value: object) -> bool:
    return type(key) is bytes and key != b"" and (value is None or type(value) is bytes)

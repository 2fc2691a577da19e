"""Reads a whole database and verifies it: every row is checked, and missing rows are detected.

SQLite has no checksums for its pages. So each row has one, the number of entries and the sum of their checksums are
stored, and the rows of the journal are numbered without gaps. SQLite's ``quick_check`` checks the file's structure.

If nothing is synced, a power cut may leave some pages newer than others. That shows, too: the journal ends where a
commit does, and not before ``required_seq``, so all that the entries have of later commits is in the journal as well.
A clear has a number, but no row.
"""

import sqlite3
from collections.abc import Iterator
from typing import Final, final
from zlib import crc32

from kvs.adapters.storage.journal_writer import Row
from kvs.adapters.storage.sqlite.rows import COMMIT_END, checksum_of
from kvs.adapters.storage.sqlite.schema import FIRST_FORMAT, FORMAT, CorruptionError, check_schema, read_horizon
from kvs.domain.codec import DamagedValueError, value_of
from kvs.domain.keyspace import stored_key
from kvs.domain.values import Value

_FIELDS: Final = "kind, deadline_ms"
_FORMER_FIELDS: Final = "0, 0"


@final
class Loader:
    """Reads the rows of a database. Needs an unchanging state: a transaction, or no writers.

    Attributes:
        format: Format of the database, set with the first row.
        entries: Number of entries read so far.
        journal_rows: Number of the journal's rows read so far.
        journal_bytes: Size of the keys and values of these.
        read_bytes: Size of all keys and values read so far.
        last_seq: Number of the journal's last row, set after reading all.
        horizon_ms: Time of the clock, set with the first row.
    """

    def __init__(self) -> None:
        self.format = FORMAT
        self.entries = 0
        self.journal_rows = 0
        self.journal_bytes = 0
        self.read_bytes = 0
        self.last_seq = 0
        self.horizon_ms = 0

    def rows(self, connection: sqlite3.Connection) -> Iterator[Row]:
        """Yield the entries in key order, then the rows of the journal by number.

        Those of the first format are yielded as the upgrade makes them.

        Raises:
            CorruptionError: A row is damaged or missing.
        """
        (self.format,) = connection.execute("PRAGMA user_version").fetchone()
        check_schema(connection, self.format)
        if self.format != FIRST_FORMAT:
            self.horizon_ms = read_horizon(connection)
            yield from self._rows(connection, _FIELDS)
            return
        for key, value in self._rows(connection, _FORMER_FIELDS):
            stored = stored_key(key)
            if self.journal_rows:  # else it is an entry; those of the journal are what will be compacted
                self.journal_bytes += len(stored) - len(key)
                self.read_bytes += len(stored) - len(key)
            yield stored, value

    def _rows(self, connection: sqlite3.Connection, fields: str) -> Iterator[Row]:
        required = "required_seq" if self.format == FORMAT else "0"
        query = f"SELECT through_seq, entries, checksums, {required} FROM folded"  # noqa: S608  # made of constants
        rows = connection.execute(query).fetchall()
        if len(rows) != 1 or any(type(figure) is not int for figure in rows[0]):
            raise CorruptionError("table folded does not have its one row")
        through_seq, entries, checksums, required_seq = rows[0]
        yield from self._entries(connection, fields, entries, checksums)
        yield from self._journal(connection, fields, through_seq, required_seq)

    def _entries(
        self, connection: sqlite3.Connection, fields: str, expected: int, expected_checksums: int
    ) -> Iterator[Row]:
        count = checksums = size = 0
        last = b""
        query = f"SELECT key, value, checksum, {fields} FROM entries"  # noqa: S608  # made of constants
        for key, payload, checksum, kind, deadline_ms in connection.execute(query):
            if type(key) is not bytes or type(payload) is not bytes:
                raise CorruptionError(f"entry {count + 1} in the order of keys is damaged")
            value = payload if kind == 0 == deadline_ms else _value_of(kind, deadline_ms, payload)
            if (crc32(payload, crc32(key)) if value is payload else checksum_of(key, value)) != checksum:
                raise CorruptionError(f"entry {count + 1} in the order of keys is damaged")
            if key <= last:
                raise CorruptionError(f"entry {count + 1} is not in the order of keys")
            last = key
            checksums += checksum
            size += len(key) + len(payload)
            count += 1
            if not count & 0x3FF:
                self.entries, self.read_bytes = count, size
            yield key, value
        self.entries, self.read_bytes = count, size
        if count != expected or checksums != expected_checksums:
            raise CorruptionError(f"entries are missing or old: there are {count}, and should be {expected}")

    def _journal(
        self, connection: sqlite3.Connection, fields: str, through_seq: int, required_seq: int
    ) -> Iterator[Row]:
        expected: int | None = None
        ends = True
        query = f"SELECT seq, key, value, checksum, {fields} FROM journal ORDER BY seq"  # noqa: S608  # as above
        for seq, key, payload, checksum, kind, deadline_ms in connection.execute(query):
            if type(seq) is not int:
                raise CorruptionError("a row of the journal has no number")
            if expected is None and seq > through_seq + 1:
                raise CorruptionError(f"the journal begins at row {seq} and should at {through_seq + 1}")
            if expected is not None and seq != expected:
                raise CorruptionError(f"rows of the journal are missing: {seq} follows {expected - 1}")
            expected = seq + 1
            value = payload if kind == 0 == deadline_ms else _value_of(kind, deadline_ms, payload)
            if not _is_row(key, payload, checksum) or checksum_of(key, value) != checksum & ~COMMIT_END:
                raise CorruptionError(f"row {seq} of the journal is damaged")
            ends = checksum >= COMMIT_END
            size = len(key) + len(payload or b"")
            self.journal_rows += 1
            self.journal_bytes += size
            self.read_bytes += size
            yield key, value
        end_seq = through_seq if expected is None else expected - 1
        if end_seq < required_seq:
            raise CorruptionError(
                f"commits are missing: the journal ends at row {end_seq}, and had come to row {required_seq}"
            )
        if not ends and self.format == FORMAT:
            raise CorruptionError(
                f"a commit is there in part: the journal ends at row {end_seq}, in the midst of it; "
                "kvs backup --incomplete leaves it out"
            )
        self.last_seq = max(end_seq, through_seq)


def check_structure(connection: sqlite3.Connection) -> None:
    """Check the structure of the file. Reads all of it."""
    (result,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if result != "ok":
        raise CorruptionError(" ".join(result.split()))


def _is_row(key: object, payload: object, checksum: object) -> bool:
    return type(key) is bytes and key != b"" and type(checksum) is int and (payload is None or type(payload) is bytes)


def _value_of(kind: object, deadline_ms: object, payload: object) -> Value:
    try:
        return value_of(kind, deadline_ms, payload)
    except DamagedValueError as error:
        raise CorruptionError(f"a row is damaged: {error}") from None

"""Rows of the journal: their checksums, and batches of them as parameters of statements.

A statement inserts many rows: each call of SQLite takes Python's lock anew, and a loop that computes may keep it for
long. There are statements for 1, 2, 4, ... rows; what a batch does not fill is left out.
"""

import sqlite3
from itertools import pairwise
from struct import Struct
from typing import Final, TypeAlias, final
from zlib import crc32

from kvs.adapters.storage.journal_writer import Batch, Row
from kvs.domain.codec import fields_of
from kvs.domain.values import Key, Value
from kvs.override import override

COLUMNS: Final = 6
MAX_ROWS: Final = 512
"""Rows of one statement, at most: to bind them takes 0.2 ms, in which the loop does not get Python's lock."""

MAX_BYTES: Final = 1 << 20
"""Size of keys and payloads from which a statement takes no more rows: they are copied as they are bound."""

COMMIT_END: Final = 1 << 32
"""Added to the checksum of the last row of each commit, as a bit above those of CRC-32."""

ROW_HELD_BYTES: Final = 200
"""Memory of a row's fields in a batch beyond key and payload, roughly."""

Parameter: TypeAlias = bytes | int | None

_FIELDS: Final = Struct(">BQ")

_LEFT_OUT: Final[list[Parameter]] = [None, *[0] * (COLUMNS - 1)]
"""A row that is left out: a null takes three times as long to bind as a number."""

# A way for sqlite3 to adapt bytes, which are what SQLite takes. Without one it looks for several, in each parameter
# anew, and formats an error for each that there is not: 0.15 us.
sqlite3.register_adapter(bytes, bytes)

_VALUES: Final = f"({', '.join('?' * COLUMNS)})"
_STATEMENTS: Final[dict[int, str]] = {}


def checksum_of(key: Key, value: Value | None) -> int:
    """Return the checksum of a row: CRC-32 of key and payload, inverted for a delete.

    Kind and deadline count if there are any, so that the rows of bare strings are those of format 1.
    """
    checksum = crc32(key)
    if isinstance(value, bytes):
        return crc32(value, checksum)
    if value is None:
        return checksum ^ 0xFFFFFFFF
    return crc32(_FIELDS.pack(value.kind, value.deadline_ms), crc32(value.payload, checksum))


def insert_of(rows: int) -> str:
    """Return the statement that inserts so many rows, or fewer.

    Its first parameter is the number of the last row that there is. The others are those of the rows: the number of
    each in its batch, and its fields; null as the number of a row that is left out.
    """
    statement = _STATEMENTS.get(rows)
    if statement is None:
        values = ", ".join([_VALUES] * rows)
        statement = _STATEMENTS[rows] = (
            "INSERT INTO journal (seq, key, value, checksum, kind, deadline_ms)"  # noqa: S608  # made of constants
            f" SELECT ? + column1, column2, column3, column4, column5, column6 FROM (VALUES {values})"
            " WHERE column1 IS NOT NULL"
        )
    return statement


@final
class SqliteBatch(Batch):
    """A batch as parameters of statements.

    Attributes:
        row_bytes: Size of the keys and payloads.
        horizon_ms: The server's time.
    """

    __slots__ = ("_parameters", "_starts", "_statement_bytes", "horizon_ms", "row_bytes")

    def __init__(self) -> None:
        super().__init__()
        self.row_bytes = 0
        self.horizon_ms = 0
        self._parameters: list[Parameter] = []
        self._starts = [0]  # of each statement: the number of rows before it
        self._statement_bytes = 0  # of the last

    @override
    def add(self, rows: list[Row], *, clears: bool, horizon_ms: int) -> None:
        if clears:
            self.rows = self.row_bytes = self.held_bytes = 0
            self._starts = [0]
            self._statement_bytes = 0
            self._parameters = []
            self.clears = True
        self.horizon_ms = horizon_ms
        parameters = self._parameters
        for key, value in rows:
            if self.rows - self._starts[-1] == MAX_ROWS or self._statement_bytes > MAX_BYTES:
                self._starts.append(self.rows)
                self._statement_bytes = 0
            self.rows += 1
            kind, deadline_ms, payload = (0, 0, None) if value is None else fields_of(value)
            size = len(key) if payload is None else len(key) + len(payload)
            self.row_bytes += size
            self._statement_bytes += size
            self.held_bytes += ROW_HELD_BYTES + size
            checksum = checksum_of(key, value)
            parameters += (self.rows, key, payload, checksum, kind, deadline_ms)
        if rows:
            parameters[-3] = checksum | COMMIT_END  # in place of the last row's checksum

    def inserts(self, last_seq: int) -> list[tuple[str, list[Parameter]]]:
        """Return statements that insert the rows behind that one, with their parameters."""
        inserts: list[tuple[str, list[Parameter]]] = []
        for first, end in pairwise((*self._starts, self.rows)):
            count = end - first
            if count:
                size = 1 << (count - 1).bit_length()
                rows = self._parameters[first * COLUMNS : end * COLUMNS]
                inserts.append((insert_of(size), [last_seq, *rows, *_LEFT_OUT * (size - count)]))
        return inserts

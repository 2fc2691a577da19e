"""Rows of the journal: their checksums, and batches of them as parameters of statements.

The small rows of a batch are two parameters of one statement: all their bytes, and the fields of each row as JSON that
SQLite takes apart. A row's fields are its number in the batch, where in the bytes its key begins and how long it is,
the same of its payload (a null length: the key is deleted), checksum, kind and deadline.
"""

from struct import Struct
from typing import Final, final
from zlib import crc32

import msgspec

from kvs.adapters.storage.journal_writer import Batch, Row
from kvs.domain.codec import fields_of
from kvs.domain.values import Key, Value
from kvs.override import override

LARGE_BYTES: Final = 32 << 10
"""Size from which a payload is a parameter of its own, so that it is not copied once more."""

ROW_HELD_BYTES: Final = 250
"""Memory of a row's fields in a batch, roughly."""

_FIELDS: Final = Struct(">BQ")

_encode_json: Final = msgspec.json.Encoder().encode


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


@final
class SqliteBatch(Batch):
    """A batch as parameters of statements.

    Attributes:
        row_bytes: Size of the keys and payloads.
        large: The rows with large payloads: number in the batch, and fields.
        clears: Whether everything before it is deleted.
        horizon_ms: The server's time.
    """

    __slots__ = ("_at", "_fields", "_parts", "clears", "horizon_ms", "large", "row_bytes")

    def __init__(self) -> None:
        super().__init__()
        self.row_bytes = 0
        self.large: list[tuple[int, Key, bytes | None, int, int, int]] = []
        self.clears = False
        self.horizon_ms = 0
        self._parts: list[bytes] = []
        self._fields: list[tuple[int, int, int, int, int | None, int, int, int]] = []
        self._at = 1  # where the next part begins; SQL counts from 1

    @override
    def add(self, rows: list[Row], *, clears: bool, horizon_ms: int) -> None:
        if clears:
            self.rows = self.row_bytes = 0
            self.large, self._parts, self._fields, self._at = [], [], [], 1
            self.clears = True
        self.horizon_ms = horizon_ms
        for key, value in rows:
            self.rows += 1
            checksum = checksum_of(key, value)
            kind, deadline_ms, payload = (0, 0, None) if value is None else fields_of(value)
            key_bytes = len(key)
            payload_bytes = 0 if payload is None else len(payload)
            self.row_bytes += key_bytes + payload_bytes
            self.held_bytes += ROW_HELD_BYTES + key_bytes + payload_bytes
            if payload_bytes >= LARGE_BYTES:
                self.large.append((self.rows, key, payload, checksum, kind, deadline_ms))
                continue
            at = self._at
            payload_at = at + key_bytes
            self._parts.append(key)
            if payload is None:
                self._fields.append((self.rows, at, key_bytes, payload_at, None, checksum, kind, deadline_ms))
            else:
                self._parts.append(payload)
                self._fields.append((self.rows, at, key_bytes, payload_at, payload_bytes, checksum, kind, deadline_ms))
            self._at = payload_at + payload_bytes

    def small(self) -> tuple[bytes, str] | None:
        """Return the parameters of the small rows: their bytes, and their fields; None if there are none."""
        return (b"".join(self._parts), _encode_json(self._fields).decode()) if self._fields else None

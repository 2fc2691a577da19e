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

LARGE_BYTES: Final = 32 << 10
"""Size from which a value is a parameter of its own, and so is not copied while its batch waits."""

LARGE_ROW_BYTES: Final = 200
"""Memory of the references to such a value, roughly."""

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
        count: Number of rows.
        row_bytes: Size of their keys and payloads.
        small: Keys and payloads of the small rows.
        fields: The fields of the small rows, as JSON.
        large: The other rows: number in the batch, and fields.
        clears: Whether everything before it is deleted.
        horizon_ms: The server's time.
    """

    __slots__ = ("clears", "count", "fields", "horizon_ms", "large", "row_bytes", "small")

    def __init__(self, rows: list[Row], clears: bool, horizon_ms: int) -> None:  # noqa: FBT001  # as the caller has it
        parts: list[bytes] = []
        fields: list[tuple[int, int, int, int, int | None, int, int, int]] = []
        self.large: Final[list[tuple[int, bytes, bytes | None, int, int, int]]] = []
        at, row_bytes = 1, 0
        for number, (key, value) in enumerate(rows, 1):
            checksum = checksum_of(key, value)
            kind, deadline_ms, payload = (0, 0, None) if value is None else fields_of(value)
            key_bytes = len(key)
            payload_bytes = 0 if payload is None else len(payload)
            row_bytes += key_bytes + payload_bytes
            if payload_bytes >= LARGE_BYTES:
                self.large.append((number, key, payload, checksum, kind, deadline_ms))
                continue
            parts.append(key)
            payload_at = at + key_bytes
            if payload is None:
                fields.append((number, at, key_bytes, payload_at, None, checksum, kind, deadline_ms))
            else:
                parts.append(payload)
                fields.append((number, at, key_bytes, payload_at, payload_bytes, checksum, kind, deadline_ms))
            at = payload_at + payload_bytes
        self.count: Final = len(rows)
        self.row_bytes: Final = row_bytes
        self.small: Final = b"".join(parts)
        self.fields: Final = _encode_json(fields).decode()
        self.clears: Final = clears
        self.horizon_ms: Final = horizon_ms
        super().__init__(len(self.small) + len(self.fields) + len(self.large) * LARGE_ROW_BYTES)

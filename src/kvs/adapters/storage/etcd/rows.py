"""Rows between memory and what etcd has: compiled, as each one that is written or read passes here."""

from typing import Final, final

from kvs.adapters.storage.etcd.stored import StoredRow, StoredValue
from kvs.adapters.storage.journal_writer import Batch, Row
from kvs.domain.codec import fields_of, value_of
from kvs.domain.values import Value
from kvs.override import override

ROW_HELD_BYTES: Final = 150
"""Memory of a row in a batch beyond its key and payload, roughly."""


@final
class EtcdBatch(Batch):
    """A batch.

    Attributes:
        horizon_ms: The server's time.
        written: Its rows.
    """

    __slots__ = ("horizon_ms", "written")

    def __init__(self) -> None:
        super().__init__()
        self.horizon_ms = 0
        self.written: list[Row] = []

    @override
    def add(self, rows: list[Row], *, clears: bool, horizon_ms: int) -> None:
        if clears:
            self.written.clear()
            self.rows = 0
            self.clears = True
        self.horizon_ms = horizon_ms
        self.written += rows
        self.rows += len(rows)
        for key, value in rows:
            payload_bytes = 0 if value is None else len(fields_of(value)[2])
            self.held_bytes += ROW_HELD_BYTES + len(key) + payload_bytes


def stored_of(value: Value | None) -> StoredValue:
    """Return a value as rows have it."""
    if value is None or isinstance(value, bytes):
        return value
    kind, deadline_ms, payload = fields_of(value)
    return payload, kind, deadline_ms


def rows_of(stored: list[StoredRow]) -> list[Row]:
    """Return rows as memory has them.

    Raises:
        DamagedValueError: One of them has no value.
    """
    rows: list[Row] = []
    for key, value in stored:
        if value is None or isinstance(value, bytes):
            rows.append((key, value))
        else:
            payload, kind, deadline_ms = value
            rows.append((key, value_of(kind, deadline_ms, payload)))
    return rows

"""Rows as memory has them, and as etcd does."""

import pytest

from kvs.adapters.storage.etcd.entry import decode_rows, encode_rows
from kvs.adapters.storage.etcd.layout import LayoutError
from kvs.adapters.storage.etcd.rows import ROW_HELD_BYTES, EtcdBatch, rows_of, stored_of
from kvs.adapters.storage.journal_writer import Row
from kvs.domain.values import Record

DUE_MS = 1_700_000_000_000
ROWS: list[Row] = [
    (b"plain", b"value"),
    (b"gone", None),
    (b"due", Record(b"later", DUE_MS)),
    (b"kind", Record(b"", 0, 7)),
]


@pytest.mark.parametrize("rows", [[], ROWS[:2], ROWS], ids=["none", "plain", "records"])
def test_what_is_written_is_read(rows: list[Row]) -> None:
    """Also what is more than bytes."""
    assert decode_rows(encode_rows(rows), "here") == rows
    assert rows_of([(key, stored_of(value)) for key, value in rows]) == rows


@pytest.mark.parametrize("value", [(b"", -1, 0), (b"", 128, 0), (b"", 0, -1)], ids=["kind", "large kind", "deadline"])
def test_a_value_that_is_none_is_refused(value: tuple[bytes, int, int]) -> None:
    """Anybody who reaches etcd may have written it."""
    payload, kind, deadline_ms = value
    damaged = encode_rows([(b"key", Record(payload, deadline_ms, kind))])
    with pytest.raises(LayoutError, match="here: is damaged"):
        decode_rows(damaged, "here")


def test_a_batch_has_what_ticks_add_and_forgets_what_is_cleared() -> None:
    """But not the memory that it took, which is freed with the batch."""
    batch = EtcdBatch()
    batch.add(ROWS[:2], clears=False, horizon_ms=1)
    assert (batch.written, batch.rows, batch.clears, batch.horizon_ms) == (ROWS[:2], 2, False, 1)
    assert batch.held_bytes == 2 * ROW_HELD_BYTES + len(b"plainvaluegone")
    batch.add(ROWS[2:], clears=True, horizon_ms=2)
    assert (batch.written, batch.rows, batch.clears, batch.horizon_ms) == (ROWS[2:], 2, True, 2)
    assert batch.held_bytes > 4 * ROW_HELD_BYTES

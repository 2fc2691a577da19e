"""Writes to a journal."""

from kvs.adapters.storage.journal_writer import Journal, Row


def append(journal: Journal, rows: list[Row], *, clears: bool = False, horizon_ms: int = 0) -> None:
    """Append one batch, and wait until it is durable."""
    batch = journal.begin()
    batch.add(rows, clears=clears, horizon_ms=horizon_ms)
    journal.append(batch)

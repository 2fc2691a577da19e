"""Appends batches to the database, and counts the uncompacted rows.

SQLite's calls release Python's lock and take it again, which may take as long as the loop computes. So one statement
inserts up to 512 rows.
"""

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from threading import Condition
from typing import Final, final

from kvs.adapters.storage.journal_writer import Batch, Journal
from kvs.adapters.storage.sqlite.file import Durability, describe
from kvs.adapters.storage.sqlite.mark import MarkFile
from kvs.adapters.storage.sqlite.rows import SqliteBatch
from kvs.adapters.storage.sqlite.schema import store_horizon
from kvs.override import override

ROW_OVERHEAD_BYTES: Final = 32
COMMIT_OVERHEAD_BYTES: Final = 8192
"""Bytes of a commit in the WAL beyond its rows: it consists of whole pages, two of them partly used on average."""

HORIZON_STEP_MS: Final = 1000
"""By how much the horizon must have moved to be stored again, which writes another page."""


class JournalError(Exception):
    """Raised when the database cannot be written to; the message names the file and the reason."""


@final
class SqliteJournal(Journal):
    """The journal; thread-safe but for ``append``, which one thread at a time calls.

    Args:
        connection: For writing.
        path: Path of the database.
        last_seq: Number of the last row.
        rows: Number of rows.
        row_bytes: Size of the rows.
        max_bytes: Size of uncompacted rows at which commits wait for compaction.
        durability: Durability of the database.
        mark: Records the last row.
        horizon_ms: The time that is stored.

    Attributes:
        write_lock: Held while writing to the database. Commits wait on it until compaction has made room.
        last_seq: Number of the last row that was committed.
        synced_seq: Number of the last row that was synced.
        waiting_rows: Number of uncompacted rows.
        waiting_bytes: Size of these rows.
        clears: Number of clears; a clear aborts the current compaction.
        wal_bytes: Approximate growth of the WAL since its last checkpoint.
        checkpointing: Whether a checkpoint is under way: it syncs megabytes, for which commits wait, too.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        last_seq: int,
        rows: int,
        row_bytes: int,
        max_bytes: int,
        durability: Durability = "full",
        mark: MarkFile | None = None,
        horizon_ms: int = 0,
    ) -> None:
        self.write_lock = Condition()
        self.last_seq = last_seq
        self.synced_seq = last_seq
        self.waiting_rows = rows
        self.waiting_bytes = row_bytes + rows * ROW_OVERHEAD_BYTES
        self.clears = 0
        self.wal_bytes = 0
        self.checkpointing = False
        self.path: Final = path
        self.max_bytes: Final = max_bytes
        self.durability: Final = durability
        self._connection = connection
        self._mark = mark
        self._horizon_ms = horizon_ms
        self._failure: str = ""

    @override
    def begin(self) -> SqliteBatch:
        return SqliteBatch()

    @override
    def append(self, batch: Batch) -> None:
        """Make a batch durable in one transaction. O(rows), and one wait for the disk.

        A clear empties both tables in the same transaction. SQLite then frees whole pages without reading their rows.
        It takes a number, so that neither the rows before it nor those behind it pass for complete without it.

        Raises:
            JournalError: It may or may not be durable; only a restart can tell.
        """
        assert isinstance(batch, SqliteBatch)  # noqa: S101  # for mypy: it is what begin() has returned
        with self.write_lock:
            while self.waiting_bytes > self.max_bytes and not batch.clears and not self._failure:
                self.write_lock.wait()
            self.check()
            moves = batch.horizon_ms - self._horizon_ms >= HORIZON_STEP_MS
            start_seq = self.last_seq + batch.clears
            inserts = batch.inserts(start_seq)
            try:
                if len(inserts) == 1 and not (batch.clears or moves):
                    self._connection.execute(*inserts[0])  # a statement by itself is a transaction
                else:
                    self._connection.execute("BEGIN IMMEDIATE")
                    if batch.clears:
                        self._empty_tables(start_seq, start_seq + batch.rows)
                    for statement, parameters in inserts:
                        self._connection.execute(statement, parameters)
                    if moves:
                        store_horizon(self._connection, batch.horizon_ms)
                    self._connection.execute("COMMIT")
                self.last_seq = start_seq + batch.rows
                self.note_synced(self.last_seq if self.durability == "full" else self.synced_seq)
            except Exception as error:
                self.fail(error)
                raise JournalError(self._failure) from error
            if moves:
                self._horizon_ms = batch.horizon_ms
            if batch.clears:
                self.clears += 1
                self.waiting_rows = self.waiting_bytes = 0
            size = batch.row_bytes + batch.rows * ROW_OVERHEAD_BYTES
            self.waiting_rows += batch.rows
            self.waiting_bytes += size
            self.wal_bytes += size + COMMIT_OVERHEAD_BYTES

    @override
    def append_at_once(self, batch: Batch) -> bool:
        if self.checkpointing or not self.write_lock.acquire(blocking=False):
            return False  # compaction writes
        try:
            has_room = self.waiting_bytes <= self.max_bytes
            if has_room:
                self.append(batch)
        finally:
            self.write_lock.release()
        return has_room

    def _empty_tables(self, seq: int, last_seq: int) -> None:
        """Delete all rows, as number ``seq``; in the same transaction, rows up to ``last_seq`` will follow."""
        self._connection.execute("DELETE FROM journal")
        self._connection.execute("DELETE FROM entries")
        self._connection.execute(
            "UPDATE folded SET through_seq = ?, entries = 0, checksums = 0, required_seq = ?", (seq, last_seq)
        )

    def note_synced(self, seq: int) -> None:
        """Record the last synced row, and write the mark."""
        self.synced_seq = seq
        if self._mark is not None:
            self._mark.write(self.last_seq, seq)

    @override
    def check(self) -> None:
        if self._failure:
            raise JournalError(self._failure)

    def fail(self, error: Exception) -> None:
        """Refuse further writes; the first failure is the one reported."""
        if isinstance(error, JournalError):  # the files were replaced, so the mark is left alone
            self._failure = self._failure or str(error)
            return
        self._failure = self._failure or f"{self.path}: cannot be written: {describe(error)}"
        if self._mark is not None:
            self._mark.release_reserve()

    @property
    def failed(self) -> bool:
        return self._failure != ""

    @override
    def stats(self) -> Mapping[str, int]:
        return {"journal_rows": self.waiting_rows, "journal_bytes": self.waiting_bytes}

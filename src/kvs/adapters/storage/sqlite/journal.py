"""Appends each tick's commits to the database, in one transaction, and knows how much waits to be compacted."""

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from threading import Condition
from typing import Final, final

from kvs.adapters.storage.journaled import Row
from kvs.adapters.storage.sqlite.file import Durability, checksum_of, describe
from kvs.adapters.storage.sqlite.mark import MarkFile

ROW_OVERHEAD_BYTES: Final = 32
COMMIT_OVERHEAD_BYTES: Final = 8192
"""Bytes of a commit in the write-ahead log beyond its rows: it holds whole pages, two partly used on average."""


class JournalError(Exception):
    """Raised when the database cannot be written to; the message names the file and the reason."""


@final
class SqliteJournal:
    """Implements :class:`kvs.adapters.storage.journaled.Journal`.

    Args:
        connection: To write with.
        path: Path of the database, for messages.
        last_seq: Number of the last row.
        rows: Number of rows.
        row_bytes: Size of the rows.
        max_bytes: Size of uncompacted rows at which commits wait for compaction.
        durability: Durability of the database.
        mark: Records the last row.

    Attributes:
        write_lock: Held while writing to the database. A commit that waits for compaction waits on it.
        last_seq: Number of the last row that was committed.
        synced_seq: Number of the last row that was synced.
        waiting_rows: Number of uncompacted rows.
        waiting_bytes: Their size.
        clears: Number of clears; a clear ends the current compaction.
        wal_bytes: Approximate size of the write-ahead log since its last checkpoint.
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
    ) -> None:
        self.write_lock = Condition()
        self.last_seq = last_seq
        self.synced_seq = last_seq
        self.waiting_rows = rows
        self.waiting_bytes = row_bytes + rows * ROW_OVERHEAD_BYTES
        self.clears = 0
        self.wal_bytes = 0
        self._connection = connection
        self._path = path
        self._max_bytes = max_bytes
        self._syncs = durability == "full"
        self._mark = mark
        self._failure: str = ""

    def append(self, batch: list[Row], *, clears: bool = False) -> None:
        """Make a batch durable. O(rows), and one wait for the disk.

        A clear empties both tables in the same transaction. SQLite then gives whole pages back, without a look at their
        rows, and the file is in a state that every version can read.

        Raises:
            JournalError: The batch may or may not have been written; a restart finds out.
        """
        with self.write_lock:
            while self.waiting_bytes > self._max_bytes and not clears and not self._failure:
                self.write_lock.wait()
            self.check()
            seq = self.last_seq
            rows = [(number, key, value, checksum_of(key, value)) for number, (key, value) in enumerate(batch, seq + 1)]
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                if clears:
                    self._empty_tables(seq)
                self._connection.executemany("INSERT INTO journal VALUES (?, ?, ?, ?)", rows)
                self._connection.execute("COMMIT")
                self.last_seq += len(rows)
                self.note_synced(self.last_seq if self._syncs else self.synced_seq)
            except Exception as error:
                self.fail(error)
                raise JournalError(self._failure) from error
            if clears:
                self.clears += 1
                self.waiting_rows = self.waiting_bytes = 0
            size = 0
            for key, value in batch:
                size += len(key) + ROW_OVERHEAD_BYTES
                if value is not None:
                    size += len(value)
            self.waiting_rows += len(rows)
            self.waiting_bytes += size
            self.wal_bytes += size + COMMIT_OVERHEAD_BYTES

    def _empty_tables(self, seq: int) -> None:
        self._connection.execute("DELETE FROM journal")
        self._connection.execute("DELETE FROM entries")
        self._connection.execute("UPDATE folded SET through_seq = ?, entries = 0, checksums = 0", (seq,))

    def note_synced(self, seq: int) -> None:
        """Note up to which row everything was synced, and tell the mark how far the journal has come.

        Raises:
            OSError: The mark cannot be written.
        """
        self.synced_seq = seq
        if self._mark is not None:
            self._mark.write(self.last_seq, seq)

    def check(self) -> None:
        """Check for failures.

        Raises:
            JournalError: Writing has failed before, here or in the background.
        """
        if self._failure:
            raise JournalError(self._failure)

    def fail(self, error: Exception) -> None:
        """Refuse further writes; the first failure is the one reported."""
        if isinstance(error, JournalError):  # the files are not ours any more
            self._failure = self._failure or str(error)
            return
        self._failure = self._failure or f"{self._path}: cannot be written: {describe(error)}"
        if self._mark is not None:
            self._mark.give_back()

    @property
    def failed(self) -> bool:
        """Whether writing has failed."""
        return self._failure != ""

    def stats(self) -> Mapping[str, int]:
        return {"journal_rows": self.waiting_rows, "journal_bytes": self.waiting_bytes}

    def close(self) -> None:
        """Do nothing: the database outlives its journal."""

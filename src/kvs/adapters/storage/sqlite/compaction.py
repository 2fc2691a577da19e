"""The background thread of the database: compaction, checkpoints, and periodic syncs.

*Compaction* moves rows of the journal into the table of entries. First it finds the newest row of each key and sorts
them by key, concurrently with commits. Then it updates the entries in slices of neighbouring keys, each in a short
transaction, so that a tick never waits long and a page is written once for all of its keys. Finally it deletes the
rows of the journal, also in slices and oldest first, so the remaining rows are always valid. If it is interrupted, it
starts again from the journal.

*Checkpoints* copy the write-ahead log (WAL) into the file. SQLite would do so during a commit; here most of it is
copied concurrently with commits, and the WAL is restarted when almost nothing is left to copy.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Final, final

from kvs.adapters.storage.sqlite.data_dir import sync_path
from kvs.adapters.storage.sqlite.file import BUSY_TIMEOUT_S, describe
from kvs.adapters.storage.sqlite.journal import ROW_OVERHEAD_BYTES, JournalError, SqliteJournal
from kvs.adapters.storage.sqlite.rows import COMMIT_END
from kvs.adapters.storage.sqlite.wal import wal_path
from kvs.adapters.storage.sqlite.watch import FileWatch
from kvs.log_type import FilteringBoundLogger

SLICE_BYTES: Final = 256 << 10
"""Bytes moved in one transaction, which takes about 2 ms."""

ROW_COST_BYTES: Final = 1300
"""Charged for a row on top of its key and value: a slice has about 200 small rows."""

SLICE_DROPPED_ROWS: Final = 2000
"""Maximum rows of the journal deleted in one transaction, which takes about 2 ms."""

BATCHES: Final = 16
"""Number of batches in a full journal. One batch is compacted at a time, and the WAL is restarted when it has the size
of one: larger batches make a start after a crash slower, smaller ones write the same pages more often."""

IDLE_THRESHOLD: Final = 4
"""Batches that may wait while clients commit: compaction uses half a core and delays ticks, so it prefers idle time.
Until there are as many, one that has begun waits for the next idle time."""

PRESSURE_THRESHOLD: Final = 12
"""Batches from which on compaction makes no pauses between slices, because writes would soon have to wait."""

PAGE_BYTES: Final = 4096

CHECKPOINT_PASSES: Final = 4
LAST_PAGES: Final = 64
"""Maximum pages left to copy when the WAL is restarted: a tick may wait for them, about 1 ms."""

WAKE_S: Final = 0.1
"""Interval between checks for work."""

SYNC_S: Final = 0.5
"""Interval of syncs, if commits do not wait for them. A power cut may lose the commits of this time and of the sync
itself: about a second."""

WATCH_S: Final = 0.5
"""Interval of checks that the files are still in place."""

SLICES_BETWEEN_CHECKPOINTS: Final = 32
"""Slices moved between two checkpoints: keys that are far apart dirty a page each, 25 MiB in all."""

# The newest row of each key, in key order: SQLite takes the other columns from the row that has the maximum.
_COLLECT: Final = f"""
CREATE TEMP TABLE newest AS
SELECT key, value, checksum & ~{COMMIT_END} AS checksum, kind, deadline_ms, max(seq)
FROM main.journal WHERE seq <= ? GROUP BY key ORDER BY key
"""  # noqa: S608  # made of constants, as the next ones
_CUT: Final = """
SELECT min(row), max(row) FROM (
  SELECT rowid AS row, sum(:row + length(key) + coalesce(length(value), 0)) OVER (ORDER BY rowid) / :slice AS slice
  FROM temp.newest
) GROUP BY slice
"""
_SLICE: Final = "FROM temp.newest WHERE rowid BETWEEN :first AND :last"
_COUNT_OLD: Final = f"""
SELECT count(*), coalesce(sum(checksum), 0) FROM main.entries WHERE key IN (SELECT key {_SLICE})
"""  # noqa: S608
_COUNT_NEW: Final = f"SELECT count(*), coalesce(sum(checksum), 0) {_SLICE} AND value IS NOT NULL"
_DELETE: Final = f"DELETE FROM main.entries WHERE key IN (SELECT key {_SLICE} AND value IS NULL)"  # noqa: S608
_STORE: Final = f"""
INSERT OR REPLACE INTO main.entries (key, value, checksum, kind, deadline_ms)
SELECT key, value, checksum, kind, deadline_ms {_SLICE} AND value IS NOT NULL ORDER BY rowid
"""
_SIZE: Final = """
SELECT count(*), coalesce(sum(length(key) + coalesce(length(value), 0)), 0) FROM main.journal WHERE seq <= ?
"""


@final
class Compaction:
    """The background thread.

    Args:
        connection: A separate connection to the same database.
        journal: The journal to compact.
        log: The log.
        watch: Detects that files were deleted or replaced.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        journal: SqliteJournal,
        log: FilteringBoundLogger,
        watch: FileWatch | None = None,
    ) -> None:
        self._connection = connection
        self._wal_path = wal_path(journal.path)
        self._journal = journal
        self._syncs = journal.durability == "normal"
        self._batch_bytes = journal.max_bytes // BATCHES
        self._log = log
        self._stopping = Event()
        self._watch = watch
        self._sync_due_s = 0.0
        self._watch_due_s = 0.0
        self._thread = Thread(target=self._run, name="kvs-compact", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop after the current slice, and wait for the thread to end."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        journal = self._journal
        seen = journal.last_seq
        while not self._stopping.wait(WAKE_S) and not journal.failed:
            threshold = 1 if journal.last_seq == seen else IDLE_THRESHOLD
            seen = journal.last_seq
            try:
                while journal.waiting_bytes >= threshold * self._batch_bytes and not self._stopping.is_set():
                    self.compact()
                self._run_periodic_tasks()
            except Exception as error:  # noqa: BLE001  # after any error, no commit may be acknowledged
                with journal.write_lock:
                    journal.fail(error)
                    journal.write_lock.notify_all()
                if not isinstance(error, JournalError):  # else the server logs it when it stops
                    self._log.error("compaction_failed", reason=describe(error), exc_info=error)
                return

    def compact(self) -> None:
        """Move a batch of the oldest rows from the journal to the entries."""
        connection, journal = self._connection, self._journal
        started_s = time.monotonic()
        with journal.write_lock:
            clears = journal.clears
            rows = journal.waiting_rows * self._batch_bytes // max(journal.waiting_bytes, self._batch_bytes)
            rows = min(max(rows, 1), journal.waiting_rows)
            through = journal.last_seq - journal.waiting_rows + rows
        connection.execute("DROP TABLE IF EXISTS temp.newest")
        connection.execute(_COLLECT, (through,))
        slices = connection.execute(_CUT, {"row": ROW_COST_BYTES, "slice": SLICE_BYTES}).fetchall()
        for number, (first, last) in enumerate(slices, 1):
            if self._stopping.is_set():
                return
            with self._locked():
                if journal.clears != clears:
                    return  # the collected rows are deleted
                self._compact_slice(first, last)
            if number % SLICES_BETWEEN_CHECKPOINTS == 0:
                self.checkpoint()
        with self._locked():
            if journal.clears != clears:
                return
            connection.execute("UPDATE main.folded SET through_seq = ?", (through,))
        connection.execute("DROP TABLE temp.newest")
        while not self._stopping.is_set():
            with self._locked():
                if journal.clears != clears:
                    return
                dropped = self._drop_slice(through)
            if not dropped:
                keys = slices[-1][1] if slices else 0
                self._log.info(
                    "journal_compacted", rows=rows, keys=keys, seconds=round(time.monotonic() - started_s, 3)
                )
                return

    def checkpoint(self) -> None:
        """Copy the WAL into the file, and restart it unless it has readers."""
        self._journal.checkpointing = True
        try:
            self._checkpoint()
        finally:
            self._journal.checkpointing = False

    def _checkpoint(self) -> None:
        connection, journal = self._connection, self._journal
        for _ in range(CHECKPOINT_PASSES):
            _, pages, copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if pages - copied <= LAST_PAGES:
                break
        with journal.write_lock:
            if pages * PAGE_BYTES >= self._batch_bytes and pages - copied <= LAST_PAGES:
                connection.execute("PRAGMA busy_timeout = 0")  # no tick waits for a reader
                connection.execute("PRAGMA wal_checkpoint(RESTART)")
                connection.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_S * 1000)}")
            journal.wal_bytes = 0

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Write in a short transaction, then pause as long, unless the journal is nearly full: ticks have priority."""
        with self._journal.write_lock:
            started_s = time.monotonic()
            self._connection.execute("BEGIN IMMEDIATE")
            yield
            self._connection.execute("COMMIT")
            took_s = time.monotonic() - started_s
        self._pause(took_s)

    def _pause(self, pause_s: float) -> None:
        """Leave the processor and the disk to commits, and wait while they come, unless the journal has grown."""
        journal = self._journal
        while journal.waiting_bytes < PRESSURE_THRESHOLD * self._batch_bytes:
            seen = journal.last_seq
            self._stopping.wait(pause_s)
            self._run_periodic_tasks()
            idle = journal.last_seq == seen
            if idle or journal.waiting_bytes >= IDLE_THRESHOLD * self._batch_bytes or self._stopping.is_set():
                return
            pause_s = WAKE_S
        self._run_periodic_tasks()

    def _compact_slice(self, first: int, last: int) -> None:
        """Update the entries of the slice's keys."""
        connection, span = self._connection, {"first": first, "last": last}
        old, old_checksums = connection.execute(_COUNT_OLD, span).fetchone()
        new, new_checksums = connection.execute(_COUNT_NEW, span).fetchone()
        connection.execute(_DELETE, span)
        connection.execute(_STORE, span)
        connection.execute(
            "UPDATE main.folded SET entries = entries + ?, checksums = checksums + ?, required_seq = ?",
            (new - old, new_checksums - old_checksums, self._journal.last_seq),
        )

    def _drop_slice(self, through: int) -> int:
        """Delete the oldest compacted rows of the journal; return how many."""
        connection, journal = self._connection, self._journal
        (first,) = connection.execute("SELECT coalesce(min(seq), 0) FROM main.journal").fetchone()
        row_bytes = journal.waiting_bytes // max(journal.waiting_rows, 1)
        last = min(first + min(SLICE_DROPPED_ROWS, (SLICE_BYTES // max(row_bytes, 1)) + 1) - 1, through)
        rows, size = connection.execute(_SIZE, (last,)).fetchone()
        connection.execute("DELETE FROM main.journal WHERE seq <= ?", (last,))
        journal.waiting_rows -= rows
        journal.waiting_bytes -= size + rows * ROW_OVERHEAD_BYTES
        journal.write_lock.notify_all()
        return int(rows)

    def _run_periodic_tasks(self) -> None:
        """Check the files, checkpoint the WAL and sync the commits, each when it is due."""
        journal, now_s = self._journal, time.monotonic()
        if journal.wal_bytes >= self._batch_bytes:
            self.checkpoint()
        if self._watch is not None and now_s >= self._watch_due_s:
            with journal.write_lock:
                self._watch.check()
            self._watch_due_s = now_s + WATCH_S
        seq = journal.last_seq
        if self._syncs and seq != journal.synced_seq and now_s >= self._sync_due_s:
            sync_path(self._wal_path)
            with journal.write_lock:
                journal.note_synced(seq)
            self._sync_due_s = now_s + SYNC_S

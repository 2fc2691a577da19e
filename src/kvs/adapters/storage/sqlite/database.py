"""The database of a running server: its connections, its mark, and the watch over its files."""

import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final, final

from kvs.adapters.storage.sqlite.file import (
    DATABASE_ERRORS,
    Durability,
    connect,
    connect_to_read,
    describe,
    open_database,
)
from kvs.adapters.storage.sqlite.instance import begin_session, end_session
from kvs.adapters.storage.sqlite.journal import JournalError
from kvs.adapters.storage.sqlite.schema import FORMAT, format_of, store_horizon
from kvs.adapters.storage.sqlite.upgrade import upgrade
from kvs.adapters.storage.sqlite.watch import FileWatch
from kvs.engine import StorageOpenError
from kvs.errors import CommandError


@final
class Database:
    """An open database; it is created if there is none, and upgraded if it has a former format.

    Args:
        path: Path of the database.
        directory: The data directory.
        durability: How commits are synced.
        last_seq: Number of the journal's last row when the database was loaded.

    Attributes:
        connection: For commits.
        background: For compaction and checkpoints.
        mark: Records every commit.
        watch: Detects that files were deleted or replaced.
        former_format: The format that it had, if another one.

    Raises:
        StorageOpenError: It cannot be opened or written to.
    """

    def __init__(self, path: Path, directory: Path, durability: Durability, last_seq: int) -> None:
        with ExitStack() as stack:
            self.watch: Final = stack.enter_context(closing(FileWatch(path, directory)))
            self._keeper = stack.enter_context(ExitStack())
            self.connection: Final = stack.enter_context(closing(open_database(path, durability)))
            # The last connection that is closed copies the WAL into the file and deletes it, unless it is read-only: so
            # this one makes sure that all files stay as they are after a failure.
            self._keeper.enter_context(closing(connect_to_read(path)))
            self.background: Final = stack.enter_context(closing(connect(path, durability)))
            try:
                _require_unchanged(self.connection, path, last_seq)
                found = format_of(self.connection, path)
                self.former_format = found if found != FORMAT else None
                if self.former_format is not None:
                    self.connection.execute("PRAGMA synchronous = FULL")
                    upgrade(self.connection)
                mark = begin_session(self.connection, path, last_seq, syncs=durability == "full")
                self.mark: Final = stack.enter_context(closing(mark))
                self.connection.execute(f"PRAGMA synchronous = {durability.upper()}")
                self.watch.begin(self.connection)
            except (OSError, *DATABASE_ERRORS) as error:
                raise StorageOpenError(f"{path}: cannot be taken into use: {describe(error)}") from None
            self._stack = stack.pop_all()

    def end(self, horizon_ms: int) -> None:
        """Record an orderly stop and its time, and let SQLite delete the WAL. If that fails, the next start recovers.

        Raises:
            CommandError: The files were replaced, so the next start will not find the commits.
        """
        try:
            self.watch.check()
            self.connection.execute("BEGIN IMMEDIATE")
            store_horizon(self.connection, horizon_ms)
            end_session(self.connection)
            self.connection.execute("COMMIT")
            self._keeper.close()
        except JournalError as error:
            raise CommandError(str(error)) from None
        except (OSError, *DATABASE_ERRORS):
            pass

    def close(self) -> None:
        self._stack.close()


def _require_unchanged(connection: sqlite3.Connection, path: Path, last_seq: int) -> None:
    """Check that the database did not change between loading and opening it for writing."""
    query = "SELECT max(through_seq, (SELECT coalesce(max(seq), 0) FROM journal)) FROM folded"
    ((found,),) = connection.execute(query).fetchall()
    if found != last_seq:
        raise StorageOpenError(f"{path}: was changed by another program while it was read; start again")

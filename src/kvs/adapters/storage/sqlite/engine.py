"""Opens the engine: locks the directory, verifies and loads the database, and connects the parts."""

import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from kvs.adapters.storage.journaled import JournaledStorage
from kvs.adapters.storage.memory.storage import MemoryStorage
from kvs.adapters.storage.sqlite.compaction import Compaction
from kvs.adapters.storage.sqlite.data_dir import (
    LOCK_NAME,
    holder_of,
    locked_data_dir,
    reading_data_dir,
    require_writable,
    restrict_access,
)
from kvs.adapters.storage.sqlite.database import Database
from kvs.adapters.storage.sqlite.file import DATABASE_ERRORS, FILE_SUFFIXES, Durability, database_path, describe
from kvs.adapters.storage.sqlite.inspection import Inspection, inspected
from kvs.adapters.storage.sqlite.journal import SqliteJournal
from kvs.adapters.storage.sqlite.loader import Loader, check_structure
from kvs.adapters.storage.sqlite.schema import FORMAT, CorruptionError
from kvs.adapters.storage.sqlite.unkept import Unkept
from kvs.adapters.storage.sqlite.wal import truncate_torn_tail
from kvs.config import MAX_BYTES, ConfigError, Settings
from kvs.engine import EngineSpec, StorageOpenError
from kvs.log_type import FilteringBoundLogger
from kvs.ports.storage import Storage

PROGRESS_S: Final = 1.0
"""Interval of the ``loading`` events."""

ROW_ROOM_BYTES: Final = 1000
"""Bytes of a row, within SQLite's limit on its size, that are kept for everything but key and value."""


class SqliteOptions(msgspec.Struct, frozen=True):
    """The options of this engine."""

    durability: Annotated[
        Durability,
        Meta(
            description="what an acknowledged commit survives. full: it is on the disk, and survives a power cut. "
            "normal: the system has it, and is told to write it every second; it survives a crash of the server, and a "
            "power cut may take the last second. off: the system writes it sometime; a power cut may take anything, "
            "even the whole file"
        ),
    ] = "full"
    max_journal_bytes: Annotated[
        int,
        Meta(
            ge=1 << 20,
            le=MAX_BYTES,
            description="maximum size of the journal, which is compacted a sixteenth at a time; if it is full, batches "
            "wait for that, and so do their replies",
        ),
    ] = 256 << 20


@contextmanager
def _open(settings: Settings, options: SqliteOptions, log: FilteringBoundLogger) -> Iterator[Storage]:
    if not settings.data_dir:
        raise ConfigError("data_dir: the sqlite engine needs a directory for its files; give one: --data-dir DIR")
    _check_sizes(settings)
    with locked_data_dir(settings.data_dir) as lock:
        path = database_path(lock.path)
        memory = MemoryStorage(settings.max_data_bytes, settings.max_history_bytes, settings.transaction_timeout_s)
        loader, wal_end = _load(memory, path, options.durability, log)
        files = [lock.path / LOCK_NAME, *(path.with_name(path.name + end) for end in FILE_SUFFIXES)]
        require_writable(lock.path, *files)
        lock.accept()
        restrict_access(files)
        if options.durability == "full":
            truncate_torn_tail(path, wal_end)
        with closing(Database(path, lock.path, options.durability, loader.last_seq)) as database:
            journal = SqliteJournal(
                database.connection,
                path,
                last_seq=loader.last_seq,
                rows=loader.journal_rows,
                row_bytes=loader.journal_bytes,
                max_bytes=options.max_journal_bytes,
                durability=options.durability,
                mark=database.mark,
                horizon_ms=loader.horizon_ms,
            )
            if database.former_format is not None:
                _log_upgrade(log, database.former_format)
            compaction = Compaction(database.background, journal, log, database.watch)
            storage = JournaledStorage(memory, journal, loader.horizon_ms)
            compaction.start()
            try:
                yield storage
            finally:
                storage.close()  # it may wait for the compaction to make room
                compaction.stop()
                if not journal.failed:
                    database.end(storage.horizon_ms)


@contextmanager
def _open_to_read(settings: Settings, options: SqliteOptions, log: FilteringBoundLogger) -> Iterator[Storage]:
    directory = Path(settings.data_dir)
    with reading_data_dir(directory) as in_use, closing(MemoryStorage(0, settings.max_history_bytes)) as memory:
        if in_use:
            raise StorageOpenError(f"data_dir: {directory} is in use by {holder_of(directory)}; one at a time")
        path = database_path(directory)
        loader, _ = _load(memory, path, options.durability, log)
        if not path.exists():
            raise StorageOpenError(f"{path}: there is no such file, so this is no data directory of the sqlite engine")
        yield JournaledStorage(memory, Unkept(), loader.horizon_ms)


SQLITE: Final = EngineSpec(
    summary="Served from memory, and every commit in an SQLite file before it is acknowledged.",
    open=_open,
    open_to_read=_open_to_read,
    options=SqliteOptions,
    durable=True,
    records=True,
)


def _check_sizes(settings: Settings) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        most = connection.getlimit(sqlite3.SQLITE_LIMIT_LENGTH) - ROW_ROOM_BYTES - settings.max_key_bytes
    if settings.max_value_bytes > most:
        raise ConfigError(f"max_value_bytes: the sqlite engine stores no more than {most} bytes in a value")


def _load(memory: MemoryStorage, path: Path, durability: Durability, log: FilteringBoundLogger) -> tuple[Loader, int]:
    """Fill the memory engine from the files, which no server uses, without changing them.

    Returns:
        The finished loader, and the offset at which the last commit in the WAL ends; all zero if there are no files.

    Raises:
        StorageOpenError: They are damaged, incomplete, or not those of kvs.
    """
    started_s = time.monotonic()
    loader, wal_end = Loader(), 0
    try:
        with inspected(path, synced=None if durability == "full" else False) as inspection:
            if inspection is not None:
                _read(memory, loader, inspection, log, started_s)
                inspection.require_all(loader.last_seq)
                wal_end = inspection.wal_end
    except (OSError, *DATABASE_ERRORS) as error:
        raise StorageOpenError(f"{path}: cannot be opened: {describe(error)}; nothing was changed") from None
    _log_progress(log, "loaded", loader, started_s)
    return loader, wal_end


def _read(
    memory: MemoryStorage, loader: Loader, inspection: Inspection, log: FilteringBoundLogger, started_s: float
) -> None:
    """Fill the memory engine in one thread, while another checks the structure of the file."""
    with closing(inspection.connect()) as other, ThreadPoolExecutor(2, "kvs-load") as threads:
        try:
            reading = threads.submit(memory.restore, loader.rows(inspection.connection), lambda: loader.horizon_ms)
            checking = threads.submit(check_structure, other)
            while wait((reading, checking), PROGRESS_S).not_done:
                _log_progress(log, "loading", loader, started_s)
            reading.result()
            checking.result()
        except (CorruptionError, *DATABASE_ERRORS) as error:
            raise StorageOpenError(
                f"{inspection.name}: is damaged: {describe(error)}; nothing was changed. Restore a backup, or see what "
                f"is left with: kvs verify {inspection.path.parent}"
            ) from None
        finally:  # a signal does not wait for the threads
            inspection.connection.interrupt()
            other.interrupt()


def _log_upgrade(log: FilteringBoundLogger, former_format: int) -> None:
    log.info("database_upgraded", former_format=former_format, format=FORMAT)


def _log_progress(log: FilteringBoundLogger, event: str, loader: Loader, started_s: float) -> None:
    seconds = time.monotonic() - started_s
    rows = loader.entries + loader.journal_rows
    log.info(
        event,
        keys=loader.entries,
        journal_rows=loader.journal_rows,
        bytes=loader.read_bytes,
        seconds=round(seconds, 3),
        rows_per_s=round(rows / max(seconds, 0.001)),
    )

"""Opens the engine: locks the directory, verifies and loads the database, and connects the parts."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from structlog.typing import FilteringBoundLogger

from kvs.adapters.storage.journaled import JournaledStorage
from kvs.adapters.storage.memory.storage import MemoryStorage
from kvs.adapters.storage.sqlite.compaction import Compaction
from kvs.adapters.storage.sqlite.data_dir import LOCK_NAME, locked_data_dir, require_writable, restrict_access
from kvs.adapters.storage.sqlite.database import Database
from kvs.adapters.storage.sqlite.file import DATABASE_ERRORS, FILE_SUFFIXES, Durability, database_path, describe
from kvs.adapters.storage.sqlite.inspection import inspected
from kvs.adapters.storage.sqlite.journal import SqliteJournal
from kvs.adapters.storage.sqlite.loader import CorruptionError, Loader, check_structure
from kvs.adapters.storage.sqlite.wal import truncate_torn_tail
from kvs.config import MAX_BYTES, ConfigError, Settings
from kvs.engine import EngineSpec, StorageOpenError
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
            description="maximum size of the journal, which is compacted a sixteenth at a time; if it is full, writes "
            "wait for that",
        ),
    ] = 256 << 20


@contextmanager
def _open(settings: Settings, options: SqliteOptions, log: FilteringBoundLogger) -> Iterator[Storage]:
    if not settings.data_dir:
        raise ConfigError("data_dir: the sqlite engine needs a directory for its files; give one: --data-dir DIR")
    _check_sizes(settings)
    with locked_data_dir(settings.data_dir) as lock:
        path = database_path(lock.path)
        memory = MemoryStorage(settings.max_data_bytes, settings.max_history_bytes)
        loaded = _load(memory, path, options.durability, log)
        files = [lock.path / LOCK_NAME, *(path.with_name(path.name + end) for end in FILE_SUFFIXES)]
        require_writable(lock.path, *files)
        lock.accept()
        restrict_access(files)
        if options.durability == "full":
            truncate_torn_tail(path, loaded.wal_end)
        with closing(Database(path, lock.path, options.durability, loaded.last_seq)) as database:
            journal = SqliteJournal(
                database.connection,
                path,
                last_seq=loaded.last_seq,
                rows=loaded.journal_rows,
                row_bytes=loaded.journal_bytes,
                max_bytes=options.max_journal_bytes,
                durability=options.durability,
                mark=database.mark,
            )
            compaction = Compaction(
                database.background,
                path,
                journal,
                options.durability,
                options.max_journal_bytes,
                log,
                database.watch,
            )
            storage = JournaledStorage(memory, journal)
            compaction.start()
            try:
                yield storage
            finally:
                compaction.stop()
                storage.close()
                if not journal.failed:
                    database.end()


SQLITE: Final = EngineSpec(
    summary="Served from memory, and every commit in an SQLite file before it is acknowledged.",
    open=_open,
    options=SqliteOptions,
    durable=True,
)


def _check_sizes(settings: Settings) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        most = connection.getlimit(sqlite3.SQLITE_LIMIT_LENGTH) - ROW_ROOM_BYTES - settings.max_key_bytes
    if settings.max_value_bytes > most:
        raise ConfigError(f"max_value_bytes: the sqlite engine stores no more than {most} bytes in a value")


class _Loaded(msgspec.Struct, frozen=True):
    """The figures of a finished :class:`Loader`; all zero if there were no files.

    Attributes:
        wal_end: Offset at which the last commit in the WAL ends.
    """

    entries: int = 0
    journal_rows: int = 0
    journal_bytes: int = 0
    read_bytes: int = 0
    last_seq: int = 0
    wal_end: int = 0


def _load(memory: MemoryStorage, path: Path, durability: Durability, log: FilteringBoundLogger) -> _Loaded:
    """Fill the memory engine from the files, which no server uses, without changing them.

    Raises:
        StorageOpenError: They are damaged, incomplete, or not those of kvs.
    """
    started_s = time.monotonic()
    loaded = _Loaded()
    try:
        with inspected(path, synced=None if durability == "full" else False) as inspection:
            if inspection is not None:
                loader = Loader(inspection.connection)
                with closing(inspection.connect()) as other:
                    _read(memory, loader, other, path, inspection.name, log, started_s)
                inspection.require_all(loader.last_seq)
                loaded = _Loaded(
                    loader.entries,
                    loader.journal_rows,
                    loader.journal_bytes,
                    loader.read_bytes,
                    loader.last_seq,
                    inspection.wal_end,
                )
    except (OSError, *DATABASE_ERRORS) as error:
        raise StorageOpenError(f"{path}: cannot be opened: {describe(error)}; nothing was changed") from None
    _log_progress(log, "loaded", loaded, started_s)
    return loaded


def _read(
    memory: MemoryStorage,
    loader: Loader,
    other: sqlite3.Connection,
    path: Path,
    name: str,
    log: FilteringBoundLogger,
    started_s: float,
) -> None:
    """Fill the memory engine from the database, while another thread checks the structure of the file."""
    failures: list[Exception] = []
    done = Event()

    def check() -> None:
        try:
            check_structure(other)
        except (CorruptionError, *DATABASE_ERRORS) as error:
            failures.append(error)

    def report_progress() -> None:
        while not done.wait(PROGRESS_S):
            _log_progress(log, "loading", loader, started_s)

    threads = [Thread(target=check, name="kvs-check"), Thread(target=report_progress, name="kvs-progress")]
    for thread in threads:
        thread.start()
    try:
        try:
            memory.restore(loader.rows())
        except (CorruptionError, *DATABASE_ERRORS) as error:
            failures.append(error)
        threads[0].join()
    except BaseException:  # a signal
        other.interrupt()
        raise
    finally:
        threads[0].join()
        done.set()
        threads[1].join()
    if failures:
        raise StorageOpenError(
            f"{name}: is damaged: {describe(failures[0])}; nothing was changed. Restore a backup, or see what is left "
            f"with: kvs verify {path.parent}"
        )


def _log_progress(log: FilteringBoundLogger, event: str, read: Loader | _Loaded, started_s: float) -> None:
    seconds = time.monotonic() - started_s
    rows = read.entries + read.journal_rows
    log.info(
        event,
        keys=read.entries,
        journal_rows=read.journal_rows,
        bytes=read.read_bytes,
        seconds=round(seconds, 3),
        rows_per_s=round(rows / max(seconds, 0.001)),
    )

"""Data directories of the sqlite engine in format 1, as version 0.1.0 left them, and in format 2."""

import shutil
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from kvs.adapters.storage.sqlite.file import NAME
from kvs.adapters.storage.sqlite.rows import checksum_of
from kvs.adapters.storage.sqlite.schema import FIRST_FORMAT, SCHEMAS
from kvs.domain.values import Key

FormerRow = tuple[Key, bytes | None]


def write_former(
    directory: Path,
    entries: Iterable[FormerRow],
    journal: Iterable[FormerRow] = (),
    *,
    killed: bool = False,
    instance: bool = False,
    format_: int = FIRST_FORMAT,
) -> dict[Key, bytes]:
    """Write a directory, and return its data.

    Args:
        directory: Where; it does not exist yet.
        entries: What has been moved from the journal.
        journal: What came after.
        killed: Whether all of it is still in the write-ahead log.
        instance: Whether there is table ``instance``, which a later version has added to format 1.
        format_: The format.
    """
    rows = [(key, value, checksum_of(key, value)) for key, value in entries]
    work = directory.with_name(directory.name + ".work")
    work.mkdir(parents=True)
    with closing(sqlite3.connect(work / NAME, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(SCHEMAS[format_])
        if format_ == FIRST_FORMAT and not instance:
            connection.execute("DROP TABLE instance")
        connection.executemany("INSERT INTO entries (key, value, checksum) VALUES (?, ?, ?)", rows)
        connection.execute("UPDATE folded SET entries = ?, checksums = ?", (len(rows), sum(row[2] for row in rows)))
        moved = [(key, value, checksum_of(key, value)) for key, value in journal]
        connection.executemany("INSERT INTO journal (key, value, checksum) VALUES (?, ?, ?)", moved)
        data = dict(connection.execute("SELECT key, value FROM data"))
        if killed:
            shutil.copytree(work, directory)
            (directory / f"{NAME}-shm").unlink()
    if not killed:
        shutil.copytree(work, directory)
    shutil.rmtree(work)
    return data

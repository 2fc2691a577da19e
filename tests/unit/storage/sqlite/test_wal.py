"""The write-ahead log of SQLite: damage is told from a commit that never finished."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from kvs.adapters.storage.sqlite.file import NAME, open_database
from kvs.adapters.storage.sqlite.inspection import inspected
from kvs.adapters.storage.sqlite.journal import SqliteJournal
from kvs.adapters.storage.sqlite.wal_scan import scan_wal
from kvs.engine import StorageOpenError

HEADER_BYTES = 32
FRAME_BYTES = 24 + 4096
COMMITS = 6


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log of some commits, each of one row, as a crash leaves it."""
    path = tmp_path / NAME
    with closing(open_database(path, "full")) as connection:
        journal = SqliteJournal(connection, path, last_seq=0, rows=0, row_bytes=0, max_bytes=1 << 30)
        for number in range(COMMITS):
            journal.append([(b"key", b"%d" % number)])
        copy = tmp_path / "copy"
        copy.write_bytes((tmp_path / (NAME + "-wal")).read_bytes())
    return copy


def find_damage(log: Path) -> int | None:
    """Return where a log is damaged."""
    return scan_wal(log)[0]


def ends_of_commits(log: Path) -> list[int]:
    """Return where each commit in a log ends: behind a frame that tells the size of the database."""
    data = log.read_bytes()
    starts = range(HEADER_BYTES, len(data), FRAME_BYTES)
    return [at + FRAME_BYTES for at in starts if data[at + 4 : at + 8] != bytes(4)]


def flip(log: Path, at: int) -> None:
    """Flip a bit."""
    data = bytearray(log.read_bytes())
    data[at] ^= 0x10
    log.write_bytes(data)


def test_a_log_that_is_whole_has_no_damage(log: Path) -> None:
    """Nor has one that is not there, or of which nothing has reached the disk."""
    assert len(ends_of_commits(log)) > COMMITS
    assert find_damage(log) is None
    assert find_damage(log.with_name("absent")) is None
    log.write_bytes(bytes(len(log.read_bytes())))
    assert find_damage(log) is None
    log.write_bytes(b"")
    assert find_damage(log) is None


def test_a_log_that_was_cut_short_has_no_damage(log: Path) -> None:
    """Wherever it ends."""
    whole = log.read_bytes()
    for size in [*range(HEADER_BYTES, len(whole), 997), *ends_of_commits(log)]:
        log.write_bytes(whole[:size])
        assert find_damage(log) is None, size


def test_damage_before_the_last_commit_is_found(log: Path) -> None:
    """In a page, in the head of a frame, in the salt that tells old frames from new."""
    last = ends_of_commits(log)[-2]
    for at in [*range(HEADER_BYTES, last, 397), *range(HEADER_BYTES + FRAME_BYTES, HEADER_BYTES + FRAME_BYTES + 24)]:
        flip(log, at)
        frame = (at - HEADER_BYTES) // FRAME_BYTES * FRAME_BYTES + HEADER_BYTES
        assert find_damage(log) == frame, at
        flip(log, at)


def test_damage_to_the_head_of_the_log_is_found(log: Path) -> None:
    """Every byte of it, but the two figures that are told by nothing else and checked by the sum over them."""
    for at in range(HEADER_BYTES):
        flip(log, at)
        assert find_damage(log) == 0, at
        flip(log, at)


@pytest.mark.parametrize("size", [HEADER_BYTES, 512, 4096, HEADER_BYTES + 2 * FRAME_BYTES])
def test_a_beginning_of_zeros_before_anything_else_is_damage(log: Path, size: int) -> None:
    """For SQLite syncs the head of a log before it writes what follows."""
    log.write_bytes(bytes(size) + log.read_bytes()[size:])
    assert find_damage(log) == 0


def test_the_last_commit_may_have_been_torn(log: Path) -> None:
    """Nothing tells whether it had been finished."""
    before, end = ends_of_commits(log)[-2:]
    for at in range(before, end, 499):
        flip(log, at)
        assert find_damage(log) is None, at
        flip(log, at)


def test_frames_of_an_older_log_behind_the_end_are_no_damage(log: Path) -> None:
    """A log that is started anew is written over the old one."""
    whole = log.read_bytes()
    older = bytearray(whole)
    for at in range(HEADER_BYTES, len(whole), FRAME_BYTES):
        older[at + 8 : at + 16] = os.urandom(8)
    log.write_bytes(whole + bytes(older[HEADER_BYTES:]))
    assert find_damage(log) is None


def test_a_start_refuses_a_damaged_log_and_changes_nothing(tmp_path: Path, log: Path) -> None:
    """SQLite would take it for the end, and drop what is behind."""
    wal = tmp_path / (NAME + "-wal")
    flip(log, ends_of_commits(log)[2] + 1000)
    log.rename(wal)
    damaged = wal.read_bytes()
    refusal = pytest.raises(StorageOpenError, match=rf"{NAME}-wal: is damaged at byte {ends_of_commits(wal)[2]}")
    with refusal, inspected(tmp_path / NAME):
        pass
    assert wal.read_bytes() == damaged
    with closing(sqlite3.connect(tmp_path / NAME)) as connection:
        (rows,) = connection.execute("SELECT count(*) FROM journal").fetchone()
    assert rows < COMMITS

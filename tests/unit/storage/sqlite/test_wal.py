"""The write-ahead log of SQLite: damage is distinguished from an unfinished commit."""

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
from tests.support.journals import append

HEADER_BYTES = 32
FRAME_BYTES = 24 + 4096
COMMITS = 6


@pytest.fixture
def wal(tmp_path: Path) -> Path:
    """The WAL of some commits, each of one row, after a crash."""
    path = tmp_path / NAME
    with closing(open_database(path, "full")) as connection:
        journal = SqliteJournal(connection, path, last_seq=0, rows=0, row_bytes=0, max_bytes=1 << 30)
        for number in range(COMMITS):
            append(journal, [(b"key", b"%d" % number)])
        copy = tmp_path / "copy"
        copy.write_bytes((tmp_path / (NAME + "-wal")).read_bytes())
    return copy


def find_damage(wal: Path) -> int | None:
    """Return where a WAL is damaged."""
    return scan_wal(wal)[0]


def ends_of_commits(wal: Path) -> list[int]:
    """Return where each commit in a WAL ends: after a frame that has the size of the database."""
    data = wal.read_bytes()
    starts = range(HEADER_BYTES, len(data), FRAME_BYTES)
    return [at + FRAME_BYTES for at in starts if data[at + 4 : at + 8] != bytes(4)]


def flip(wal: Path, at: int) -> None:
    """Flip a bit."""
    data = bytearray(wal.read_bytes())
    data[at] ^= 0x10
    wal.write_bytes(data)


def test_a_wal_that_is_whole_has_no_damage(wal: Path) -> None:
    """Nor has one that is not there, or of which nothing has reached the disk."""
    assert len(ends_of_commits(wal)) > COMMITS
    assert find_damage(wal) is None
    assert find_damage(wal.with_name("absent")) is None
    wal.write_bytes(bytes(len(wal.read_bytes())))
    assert find_damage(wal) is None
    wal.write_bytes(b"")
    assert find_damage(wal) is None


def test_a_wal_that_was_cut_short_has_no_damage(wal: Path) -> None:
    """Wherever it ends."""
    whole = wal.read_bytes()
    for size in [*range(HEADER_BYTES, len(whole), 997), *ends_of_commits(wal)]:
        wal.write_bytes(whole[:size])
        assert find_damage(wal) is None, size


def test_damage_before_the_last_commit_is_found(wal: Path) -> None:
    """In a page, in the head of a frame, in the salt that tells old frames from new."""
    last = ends_of_commits(wal)[-2]
    for at in [*range(HEADER_BYTES, last, 397), *range(HEADER_BYTES + FRAME_BYTES, HEADER_BYTES + FRAME_BYTES + 24)]:
        flip(wal, at)
        frame = (at - HEADER_BYTES) // FRAME_BYTES * FRAME_BYTES + HEADER_BYTES
        assert find_damage(wal) == frame, at
        flip(wal, at)


def test_damage_to_the_head_of_the_wal_is_found(wal: Path) -> None:
    """Every byte of it, but the two figures that are told by nothing else and checked by the sum over them."""
    for at in range(HEADER_BYTES):
        flip(wal, at)
        assert find_damage(wal) == 0, at
        flip(wal, at)


@pytest.mark.parametrize("size", [HEADER_BYTES, 512, 4096, HEADER_BYTES + 2 * FRAME_BYTES])
def test_a_beginning_of_zeros_before_anything_else_is_damage(wal: Path, size: int) -> None:
    """SQLite syncs the header of a WAL before it writes any frame."""
    wal.write_bytes(bytes(size) + wal.read_bytes()[size:])
    assert find_damage(wal) == 0


def test_the_last_commit_may_have_been_torn(wal: Path) -> None:
    """Nothing tells whether it had been finished."""
    before, end = ends_of_commits(wal)[-2:]
    for at in range(before, end, 499):
        flip(wal, at)
        assert find_damage(wal) is None, at
        flip(wal, at)


def test_frames_of_an_older_wal_after_the_end_are_not_damage(wal: Path) -> None:
    """A restarted WAL overwrites the old one."""
    whole = wal.read_bytes()
    older = bytearray(whole)
    for at in range(HEADER_BYTES, len(whole), FRAME_BYTES):
        older[at + 8 : at + 16] = os.urandom(8)
    wal.write_bytes(whole + bytes(older[HEADER_BYTES:]))
    assert find_damage(wal) is None


def test_a_start_refuses_a_damaged_wal_and_changes_nothing(tmp_path: Path, wal: Path) -> None:
    """SQLite would treat it as the end, and drop the rest."""
    path = tmp_path / (NAME + "-wal")
    flip(wal, ends_of_commits(wal)[2] + 1000)
    wal.rename(path)
    damaged = path.read_bytes()
    refusal = pytest.raises(StorageOpenError, match=rf"{NAME}-wal: is damaged at byte {ends_of_commits(path)[2]}")
    with refusal, inspected(tmp_path / NAME):
        pass
    assert path.read_bytes() == damaged
    with closing(sqlite3.connect(tmp_path / NAME)) as connection:
        (rows,) = connection.execute("SELECT count(*) FROM journal").fetchone()
    assert rows < COMMITS

"""A data directory and a dump that version 0.1.0 wrote are read as they were meant; see ``tests/data/README.md``."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from kvs.adapters.storage.sqlite.engine import SQLITE
from kvs.domain.keyspace import stored_key
from kvs.domain.values import Key, Value
from kvs.testing import open_engine
from kvs.testing.cases.base import contents
from tests.support.dumps import run_kvs
from tests.support.harness import run_to_end

pytestmark = pytest.mark.one_build

OLD: Final = Path(__file__).parents[1] / "data" / "version_0_1_0"

WRITTEN: Final[dict[Key, Value]] = {
    b"big": b"x" * 70_000,
    b"user/1": b"Ada",
    b"user/2": b"Grace Hopper",
    "ümlaut".encode(): "grün".encode(),
    b"empty": b"",
    b"old": b"second",
    b"tx/a": b"1",
    b"tx/b": b"2",
    b"\xff\0key": b"\0\x01\xfe",
    **{b"n%03d" % number: b"v" * (number % 7) for number in range(60)},
}

STORED: Final = {stored_key(key): value for key, value in WRITTEN.items()}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a copy of the directory, which a test may write to."""
    copy = tmp_path / "data"
    copy.mkdir()
    shutil.copy(OLD / "kvs.db", copy)
    return copy


def test_the_directory_has_rows_in_both_tables() -> None:
    """Or it would show less."""
    with closing(sqlite3.connect(f"file:{OLD / 'kvs.db'}?immutable=1", uri=True)) as connection:
        for table in ("entries", "journal"):
            ((rows,),) = connection.execute(f"SELECT count(*) FROM {table}").fetchall()  # noqa: S608
            assert rows > 0


def test_a_directory_is_read_and_written_to(directory: Path) -> None:
    """What it held is there, and is there with what comes next after another start."""
    with open_engine(SQLITE, directory) as storage:
        assert contents(storage) == STORED
        storage.put(b"new", b"1")
        storage.delete(b"big")
        storage.sync()
    with open_engine(SQLITE, directory) as storage:
        expected = STORED | {b"new": b"1"}
        del expected[b"big"]
        assert contents(storage) == expected


def test_a_clear_of_a_directory_leaves_one_that_can_be_read(directory: Path) -> None:
    """Entries and journal are emptied; rows are numbered on."""
    with open_engine(SQLITE, directory) as storage:
        storage.clear()
        storage.put(b"new", b"1")
        storage.sync()
    with open_engine(SQLITE, directory) as storage:
        assert contents(storage) == {b"new": b"1"}
    assert run_to_end("verify", str(directory)).returncode == 0


def test_a_directory_is_found_whole_by_verify(directory: Path) -> None:
    """As it is, before any start of this version."""
    run = run_to_end("verify", str(directory))
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.endswith(" journal rows not yet compacted; format 1, which a start upgrades to 3\n")


def test_a_directory_is_dumped_as_it_is(directory: Path) -> None:
    """By a dump of this version, which upgrades nothing; the name of every key is that of its client."""
    before = (directory / "kvs.db").read_bytes()
    run = run_kvs("dump", "--data-dir", str(directory))
    assert (run.returncode, run.stderr) == (0, b"")
    assert run.stdout == (OLD / "dump.jsonl").read_bytes()
    assert [path.name for path in directory.iterdir()] == ["kvs.db"]
    assert (directory / "kvs.db").read_bytes() == before


def test_a_dump_is_loaded(tmp_path: Path) -> None:
    """Into a new directory."""
    run = run_to_end("load", "--data-dir", str(tmp_path / "new"), str(OLD / "dump.jsonl"))
    assert run.returncode == 0, run.stderr
    with open_engine(SQLITE, tmp_path / "new") as storage:
        assert contents(storage) == STORED

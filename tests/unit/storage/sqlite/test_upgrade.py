"""A directory of a former format is upgraded by the first start, by nothing else, and at once or not at all."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import count
from pathlib import Path
from random import Random

import pytest

from kvs.adapters.storage.sqlite.backup import back_up, verify
from kvs.adapters.storage.sqlite.file import NAME
from kvs.adapters.storage.sqlite.schema import ADDED_COLUMNS, FIRST_FORMAT, FORMAT, SCHEMAS, SECOND_FORMAT
from kvs.adapters.storage.sqlite.upgrade import upgrade
from kvs.config import Settings
from kvs.domain.keyspace import stored_key
from kvs.domain.values import Record
from kvs.dump.engine_endpoint import EngineSource
from kvs.engines import open_storage
from kvs.testing.cases.base import EDGE_CASE_KEYS
from tests.faults.points import scratch_directory
from tests.support.former_format import FormerRow, write_former
from tests.support.seeds import seeds

from .test_backup import files_of
from .test_engine import LOG, Contents, database, opened, stored

pytestmark = pytest.mark.one_build


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Return a directory in memory: these tests start engines by the dozen."""
    with scratch_directory() as directory:
        yield directory


RESERVED_KEYS = [b"\xff", b"\xff\0", b"\xff\xfe", b"\xff\xff", b"\xff\xff\0", b"\xff\xff\xff", b"\xff\xff\xff\xff"]


def former_rows(random: Random) -> tuple[list[FormerRow], list[FormerRow]]:
    """Return entries and rows of the journal, many of them of keys that are renamed."""
    keys = sorted({*EDGE_CASE_KEYS, *RESERVED_KEYS, *(b"\xff" * random.randrange(9) + b"%d" % n for n in range(300))})
    entries = [(key, random.randbytes(random.randrange(50))) for key in keys if random.random() < 0.7]
    journal = [(random.choice(keys), random.choice([None, b"", random.randbytes(50)])) for _ in range(300)]
    return [*entries], journal


def renamed(data: dict[bytes, bytes]) -> Contents:
    """Return the data as they are stored from then on."""
    return {stored_key(key): value for key, value in data.items()}


def schema_of(directory: Path) -> list[tuple[str, str]]:
    """Return the names and the text of what there is in a database."""
    with database(directory) as connection:
        return connection.execute("SELECT name, sql FROM sqlite_schema ORDER BY name").fetchall()


@pytest.mark.draws
@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("seed", seeds(2))
def test_everything_is_there_after_the_upgrade(tmp_path: Path, seed: int, killed: bool) -> None:
    """Under the keys as they are stored now; and records can be stored beside it."""
    data = write_former(tmp_path / "data", *former_rows(Random(seed)), killed=killed)
    for _ in range(2):
        assert stored(tmp_path / "data") == renamed(data)
        assert verify(tmp_path / "data").format == FORMAT
    with opened(tmp_path / "data") as storage:
        storage.put(b"new", Record(b"v", 1 << 45))
        storage.sync()
    assert stored(tmp_path / "data") == renamed(data) | {b"new": Record(b"v", 1 << 45)}


@pytest.mark.parametrize("killed", [False, True])
def test_the_second_format_is_upgraded(tmp_path: Path, killed: bool) -> None:
    """No released version wrote it; what is journaled in it counts as whole commits."""
    entries = [(b"%03d" % number, b"v") for number in range(100)]
    journal = [(b"%03d" % (7 * number), b"w" if number % 3 else None) for number in range(20)]
    data: Contents = {**write_former(tmp_path / "data", entries, journal, killed=killed, format_=SECOND_FORMAT)}
    assert verify(tmp_path / "data").format == SECOND_FORMAT
    for _ in range(2):
        assert stored(tmp_path / "data") == data
        assert verify(tmp_path / "data").format == FORMAT


@pytest.mark.parametrize("format_", [FIRST_FORMAT, SECOND_FORMAT])
def test_the_schema_is_that_of_a_new_database(tmp_path: Path, format_: int) -> None:
    """To the letter; and no row is written anew that need not be."""
    entries = [(b"%06d" % number, b"v" * 100) for number in range(20_000)]
    write_former(tmp_path / "data", entries, format_=format_)
    with database(tmp_path / "data") as connection:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        upgrade(connection)
        changed = (tmp_path / "data" / f"{NAME}-wal").stat().st_size // 4096
        assert changed < pages / 20
    stored(tmp_path / "new")
    assert schema_of(tmp_path / "data") == schema_of(tmp_path / "new")
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(SCHEMAS[FORMAT])
        query = "SELECT name, sql FROM sqlite_schema ORDER BY name"
        assert schema_of(tmp_path / "data") == connection.execute(query).fetchall()


def test_a_database_keeps_the_identity_that_it_has(tmp_path: Path) -> None:
    """A later version may have given it one, still in the former format."""
    data = write_former(tmp_path / "data", *former_rows(Random(1)), instance=True)
    with database(tmp_path / "data") as connection:
        before = connection.execute("SELECT id FROM instance").fetchall()
    assert stored(tmp_path / "data") == renamed(data)
    with database(tmp_path / "data") as connection:
        assert connection.execute("SELECT id FROM instance").fetchall() == before


@pytest.mark.parametrize("killed", [False, True])
def test_verify_and_backup_work_and_upgrade_nothing(tmp_path: Path, killed: bool) -> None:
    """They say which format it is; the copy has the same one, and a start upgrades it."""
    data = write_former(tmp_path / "data", *former_rows(Random(1)), killed=killed)
    before = files_of(tmp_path / "data")
    for report in (verify(tmp_path / "data"), back_up(tmp_path / "data", tmp_path / "copy"), verify(tmp_path / "copy")):
        assert (report.format, report.keys) == (FIRST_FORMAT, len(data))
    assert files_of(tmp_path / "data") == before
    assert stored(tmp_path / "copy") == renamed(data)


@pytest.mark.parametrize("killed", [False, True])
def test_a_dump_upgrades_nothing(tmp_path: Path, killed: bool) -> None:
    """It has the data as a server of this version would, and leaves every file as it was."""
    directory = tmp_path / "data"
    data = write_former(directory, *former_rows(Random(1)), killed=killed)
    before = files_of(directory)
    settings = Settings(storage="sqlite", data_dir=str(directory))
    with open_storage(settings, {}, LOG, to_read=True) as storage, closing(EngineSource(storage, 0)) as source:
        assert dict(source.entries()) == data
        assert files_of(directory) == before
    assert files_of(directory) == before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET value = x'00' WHERE key = x'FF'",
        "DELETE FROM entries WHERE key = x'FF'",
        "UPDATE journal SET checksum = checksum + 1 WHERE seq = 2",
        "PRAGMA user_version = 2",
        "PRAGMA user_version = 3",
        "ALTER TABLE entries ADD COLUMN kind INTEGER NOT NULL DEFAULT 0",
    ],
)
def test_a_damaged_directory_is_refused_and_not_upgraded(tmp_path: Path, statement: str) -> None:
    """It stays as it was."""
    write_former(tmp_path / "data", [(b"\xff", b"v"), (b"\xffk", b"v")], [(b"k", b"v"), (b"l", b"v")])
    with database(tmp_path / "data") as connection:
        connection.execute(statement)
    before = files_of(tmp_path / "data")
    for act in (stored, verify):
        with pytest.raises(Exception, match=f"{NAME}: is damaged"):
            act(tmp_path / "data")
    assert files_of(tmp_path / "data") == before


class InterruptedConnection:
    """A connection whose process is killed before one of its statements."""

    def __init__(self, connection: sqlite3.Connection, statements: int) -> None:
        self.create_function = connection.create_function
        self._execute = connection.execute
        self._left = statements

    def execute(self, statement: str, parameters: object = ()) -> sqlite3.Cursor:
        """Execute a statement, or none any more."""
        if not self._left:
            raise KeyboardInterrupt
        self._left -= 1
        return self._execute(statement, parameters)  # type: ignore[arg-type]  # as it was given


@pytest.mark.parametrize("killed", [False, True])
def test_a_kill_between_any_two_statements(tmp_path: Path, killed: bool) -> None:
    """What it leaves is the former format with all data, until all of it is done."""
    data = write_former(tmp_path / "data", *former_rows(Random(1)), killed=killed)
    formats = []
    for statements in count():
        at, left = tmp_path / f"at{statements}", tmp_path / f"left{statements}"
        shutil.copytree(tmp_path / "data", at)
        with database(at) as connection:
            with suppress(KeyboardInterrupt):
                upgrade(InterruptedConnection(connection, statements))  # type: ignore[arg-type]  # all that it uses
            shutil.copytree(at, left)
        report = verify(left)
        formats.append(report.format)
        assert report.keys == len(data)
        assert stored(left) == renamed(data)
        if report.format == FORMAT:
            break
    assert len(formats) > len(ADDED_COLUMNS) * 2
    assert formats[:-1] == [FIRST_FORMAT] * (len(formats) - 1)


def test_a_failed_upgrade_refuses_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the next one does it."""
    data = write_former(tmp_path / "data", [(b"\xff", b"v")])

    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("SELECT x FROM nowhere")

    with monkeypatch.context() as patch:
        patch.setattr("kvs.adapters.storage.sqlite.database.upgrade", fail)
        with pytest.raises(Exception, match=f"{NAME}: cannot be taken into use: no such table"):
            stored(tmp_path / "data")
    assert verify(tmp_path / "data").format == FIRST_FORMAT
    assert stored(tmp_path / "data") == renamed(data)

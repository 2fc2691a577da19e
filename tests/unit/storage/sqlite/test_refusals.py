"""What the sqlite engine refuses it leaves as it is; and which marks and logs it takes for those of a database."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from msgspec import structs

from kvs.adapters.storage.sqlite.backup import verify
from kvs.adapters.storage.sqlite.file import NAME
from kvs.adapters.storage.sqlite.mark import boot_identity, mark_path, read_mark
from kvs.adapters.storage.sqlite.wal import verify_wal
from kvs.config import ConfigError, Given, Settings
from kvs.engine import StorageOpenError
from kvs.engines import open_storage
from tests.support.former_format import write_former

from .test_backup import files_of
from .test_engine import LOG, contents, database, opened, stored

pytestmark = pytest.mark.one_build

WAL_NAME = f"{NAME}-wal"
MARK_NAME = f"{NAME}-mark"


def foreign(path: Path, journal_mode: str) -> None:
    """Make a database of another program."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode = {journal_mode}")
        connection.execute("CREATE TABLE t (x)")


def foreign_in_use(path: Path) -> None:
    """Make one as a kill leaves it: with a WAL."""
    other = path.with_name("other")
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (x)")
        shutil.copy(other, path)
        shutil.copy(f"{other}-wal", f"{path}-wal")
    other.unlink()


@pytest.mark.parametrize(
    "make",
    [
        lambda path: foreign(path, "DELETE"),
        lambda path: foreign(path, "WAL"),
        foreign_in_use,
        lambda path: path.write_bytes(b"no database" * 1000),
        lambda path: path.write_bytes(bytes(4096)),
        lambda path: path.write_bytes(b"x"),
        lambda path: path.mkdir(),
    ],
)
def test_what_is_not_ours_stays_as_it_is(tmp_path: Path, make: Callable[[Path], object]) -> None:
    """Byte for byte, with no file beside it that was not there: not even the lock."""
    make(tmp_path / NAME)
    before = {path.name: path.is_dir() or path.read_bytes() for path in tmp_path.iterdir()}
    for act in (stored, verify):
        with pytest.raises(StorageOpenError, match=NAME):
            act(tmp_path)
        assert {path.name: path.is_dir() or path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_link_that_leads_to_itself(tmp_path: Path) -> None:
    """Is refused as what is no file is; nothing is made."""
    (tmp_path / NAME).symlink_to(NAME)
    for act in (stored, verify):
        with pytest.raises(StorageOpenError, match=NAME):
            act(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_settings_that_are_refused_make_nothing(tmp_path: Path) -> None:
    """No directory, and no file in one."""
    settings = Settings(storage="sqlite", data_dir=str(tmp_path / "data"), max_value_bytes=1 << 30)
    with pytest.raises(ConfigError, match="max_value_bytes"), open_storage(settings, {}, LOG):
        pass
    assert not (tmp_path / "data").exists()


def test_the_lock_of_a_start_that_was_refused_tells_of_the_last_that_was_not(tmp_path: Path) -> None:
    """It stays as it was, and is held by nobody."""
    stored(tmp_path)
    with database(tmp_path) as connection:
        connection.execute("DROP TABLE folded")
    (tmp_path / "lock").write_text("process 1")
    for _ in range(2):
        with pytest.raises(StorageOpenError, match="is damaged: table folded is missing"):
            stored(tmp_path)
        assert (tmp_path / "lock").read_text() == "process 1"


# Which database a mark is of.


def left(directory: Path, to: Path, value: bytes = b"v") -> None:
    """Store a key, and leave a directory as a kill does, and another that is closed."""
    with opened(directory) as storage:
        storage.put(b"k", value)
        storage.sync()
        shutil.copytree(directory, to)


def test_the_mark_tells_how_far_the_journal_came(tmp_path: Path) -> None:
    """After every commit, however many rows it has."""
    with opened(tmp_path) as storage:
        for number in range(1, 5):
            for key in range(number):
                storage.put(b"k%d" % key, b"v")
            storage.sync()
            mark = read_mark(tmp_path / NAME)
            assert mark is not None
            assert (mark.seq, mark.synced_seq) == (number * (number + 1) / 2,) * 2
            assert mark.boot == boot_identity()


def power_cut(directory: Path, durability: str) -> None:
    """Leave a directory as a power cut does that took the second of three commits, and the mark since the first."""
    work = directory.with_name("work")
    with opened(work, {"durability": Given(durability, "test")}) as storage:
        for number in range(1, 4):
            storage.put(b"k%d" % number, b"v")
            storage.sync()
            if number == 1:
                _, first_end = verify_wal(work / NAME)
                mark = read_mark(work / NAME)
        shutil.copytree(work, directory)
    shutil.rmtree(work)
    assert mark is not None
    of_first = structs.replace(mark, seq=1, synced_seq=1, boot=bytes(15) + b"\1")
    mark_path(directory / NAME).write_bytes(of_first.encoded())
    with (directory / WAL_NAME).open("r+b") as log:
        log.seek(first_end + 100)
        log.write(b"damage")


@pytest.mark.parametrize("durability", ["normal", "off"])
def test_a_power_cut_may_take_what_was_not_synced(tmp_path: Path, durability: str) -> None:
    """From the middle of the log, too: verify, and a start with whatever durability, accept what is left."""
    directory = tmp_path / "data"
    power_cut(directory, durability)
    assert verify(directory).keys == 1
    shutil.copytree(directory, tmp_path / "other")
    assert stored(directory) == {b"k1": b"v"}
    with opened(tmp_path / "other", {"durability": Given("normal", "test")}) as storage:
        assert contents(storage) == {b"k1": b"v"}


def test_no_power_cut_takes_what_was_synced(tmp_path: Path) -> None:
    """In the middle of a log whose every commit was synced, it is damage."""
    directory = tmp_path / "data"
    power_cut(directory, "full")
    for act in (verify, stored):
        with pytest.raises(StorageOpenError, match="before commits that had been acknowledged"):
            act(directory)


@pytest.mark.parametrize("killed", [False, True])
def test_an_earlier_version_left_no_mark(tmp_path: Path, killed: bool) -> None:
    """What it left is taken, with a log or without; from then on there is a mark."""
    data = write_former(tmp_path / "data", [(b"k", b"v")], killed=killed)
    assert verify(tmp_path / "data").keys == 1
    for _ in range(2):
        assert stored(tmp_path / "data") == data
        assert mark_path(tmp_path / "data" / NAME).exists()


def test_a_backup_put_in_place_needs_the_old_mark_and_log_moved(tmp_path: Path) -> None:
    """With them it is refused, and told so; without them it is taken."""
    data = tmp_path / "data"
    left(data, tmp_path / "left")
    other = tmp_path / "other"
    left(other, tmp_path / "other left", b"other")
    shutil.copy(other / NAME, data / NAME)
    for act in (stored, verify):
        with pytest.raises(StorageOpenError, match=f"{NAME}: is not the database that .*{MARK_NAME} belongs to"):
            act(data)
    (data / MARK_NAME).unlink()
    assert stored(data) == {b"k": b"other"}


def test_a_copy_that_sqlite_has_made_is_whole(tmp_path: Path) -> None:
    """It says that it is in use, as its original was; but no server has written to it."""
    with opened(tmp_path / "data") as storage:
        storage.put(b"k", b"v")
        storage.sync()
        (tmp_path / "copy").mkdir()
        with database(tmp_path / "data") as connection:
            connection.execute("VACUUM INTO ?", (str(tmp_path / "copy" / NAME),))
    assert verify(tmp_path / "copy").keys == 1
    assert stored(tmp_path / "copy") == {b"k": b"v"}


def test_another_boot_counts_what_was_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut may have taken the rest, if commits did not wait for the disk."""
    with opened(tmp_path / "data", {"durability": Given("off", "test")}) as storage:
        storage.put(b"k", b"v")
        storage.sync()
        shutil.copytree(tmp_path / "data", tmp_path / "left")
    (tmp_path / "left" / WAL_NAME).unlink()
    with pytest.raises(StorageOpenError, match="acknowledged commits are missing"):
        verify(tmp_path / "left")
    monkeypatch.setattr("kvs.adapters.storage.sqlite.mark.boot_identity", lambda: bytes(range(16)))
    assert verify(tmp_path / "left").keys == 0
    assert stored(tmp_path / "left") == {}


def test_a_machine_that_does_not_tell_its_boots_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any start may be another boot: what was synced counts."""
    monkeypatch.setattr("kvs.adapters.storage.sqlite.mark.boot_identity", lambda: bytes(16))
    with opened(tmp_path / "data") as storage:
        storage.put(b"k", b"v")
        storage.sync()
        shutil.copytree(tmp_path / "data", tmp_path / "left")
    assert stored(tmp_path / "data") == {b"k": b"v"}
    (tmp_path / "left" / WAL_NAME).unlink()
    with pytest.raises(StorageOpenError, match="acknowledged commits are missing"):
        stored(tmp_path / "left")
    assert files_of(tmp_path / "left").keys() == {NAME, f"{NAME}-shm", MARK_NAME, "lock"}


@pytest.mark.parametrize("content", [b"", bytes(60), bytes(70_000)])
def test_a_mark_that_never_reached_the_disk(tmp_path: Path, content: bytes) -> None:
    """It counts as none: fine for a database that was closed, or not yet used, and not for one that was in use."""
    left(tmp_path / "data", tmp_path / "left")
    for directory in (tmp_path / "data", tmp_path / "left"):
        mark_path(directory / NAME).write_bytes(content)
    assert stored(tmp_path / "data") == {b"k": b"v"}
    with pytest.raises(StorageOpenError, match=f"was in use .*{MARK_NAME}, which tells .*, is missing"):
        stored(tmp_path / "left")


def test_the_database_may_be_elsewhere(tmp_path: Path) -> None:
    """Where the name is a link: its log and its mark are beside the file, not beside the link."""
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    data.mkdir()
    elsewhere.mkdir()
    (data / NAME).symlink_to(elsewhere / "real.db")
    with opened(data) as storage:
        storage.put(b"k", b"v")
        storage.sync()
        shutil.copytree(elsewhere, tmp_path / "left")
    assert stored(data) == {b"k": b"v"}
    assert {path.name for path in data.iterdir()} == {NAME, "lock"}
    (data / NAME).unlink()
    (data / NAME).symlink_to(tmp_path / "left" / "real.db")
    assert verify(data).keys == 1
    assert stored(data) == {b"k": b"v"}

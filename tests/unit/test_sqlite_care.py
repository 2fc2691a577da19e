"""Backups and checks of a data directory, with an engine that writes meanwhile."""

from pathlib import Path
from random import Random

import pytest

from kvs.adapters.storage.sqlite.care import back_up, verify
from kvs.adapters.storage.sqlite.file import NAME
from kvs.engine import StorageOpenError

from .test_sqlite_engine import contents, database, opened, scribble, stored


def test_a_sound_directory_is_counted(tmp_path: Path) -> None:
    """Keys, bytes, and rows of the journal; in use or not."""
    with opened(tmp_path) as storage:
        scribble(storage, Random(1), 500)
        expected = contents(storage)
        in_use = verify(tmp_path)
    sound = verify(tmp_path)
    assert in_use == sound
    assert sound.keys == len(expected)
    assert sound.bytes == sum(len(key) + len(value) for key, value in expected.items())
    assert 0 < sound.journal_rows < 1000


def test_damage_is_told(tmp_path: Path) -> None:
    """Of a row, of the file, and that there is none."""
    with pytest.raises(StorageOpenError, match=f"{tmp_path}/{NAME}: there is no such file"):
        verify(tmp_path)
    with opened(tmp_path) as storage:
        scribble(storage, Random(1), 500)
    with database(tmp_path) as connection:
        connection.execute("UPDATE journal SET value = x'01' WHERE seq = 7")
    with pytest.raises(StorageOpenError, match=f"{NAME}: is damaged: row 7 of the journal"):
        verify(tmp_path)
    (tmp_path / NAME).write_bytes(b"something else" * 1000)
    with pytest.raises(StorageOpenError, match=f"{NAME}: cannot be read: file is not a database"):
        verify(tmp_path)


def test_a_backup_is_the_data_at_one_moment(tmp_path: Path) -> None:
    """What is written while it is made is not in it; it can be opened, and written to, as any data directory."""
    told: list[tuple[int, int]] = []
    with opened(tmp_path / "data") as storage:
        scribble(storage, Random(1), 2000, 5000)
        expected = contents(storage)

        def write_on(done: int, total: int) -> None:
            told.append((done, total))
            storage.put(b"written meanwhile", b"%d" % done)
            storage.sync()

        sound = back_up(tmp_path / "data", tmp_path / "copy", write_on)
        assert storage.get(b"written meanwhile") is not None
    assert told[-1][0] == told[-1][1] > 100
    assert [path.name for path in (tmp_path / "copy").iterdir()] == [NAME]
    assert sound == verify(tmp_path / "copy")
    assert stored(tmp_path / "copy") == expected
    with opened(tmp_path / "copy") as storage:
        storage.put(b"k", b"v")
        storage.sync()
    assert stored(tmp_path / "copy") == expected | {b"k": b"v"}


def test_a_backup_overwrites_nothing_but_its_own_beginnings(tmp_path: Path) -> None:
    """A directory that holds anything is refused; one that an earlier attempt has left is not."""
    with opened(tmp_path / "data") as storage:
        storage.put(b"k", b"v")
        storage.sync()
    full, begun = tmp_path / "full", tmp_path / "begun"
    full.mkdir()
    (full / "precious").write_text("")
    with pytest.raises(StorageOpenError, match=f"{full}: is not empty"):
        back_up(tmp_path / "data", full, lambda *_: None)
    begun.mkdir()
    (begun / f"{NAME}.part").write_text("half")
    back_up(tmp_path / "data", begun, lambda *_: None)
    assert stored(begun) == {b"k": b"v"}
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageOpenError, match="the backup failed: "):
        back_up(tmp_path / "data", tmp_path / "file" / "copy", lambda *_: None)


def test_damaged_data_are_no_backup(tmp_path: Path) -> None:
    """The copy is checked before it gets its name."""
    with opened(tmp_path / "data") as storage:
        scribble(storage, Random(1), 100)
    with database(tmp_path / "data") as connection:
        connection.execute("UPDATE journal SET checksum = 0 WHERE seq = 7")
    with pytest.raises(StorageOpenError, match="row 7 of the journal is damaged"):
        back_up(tmp_path / "data", tmp_path / "copy", lambda *_: None)
    assert not (tmp_path / "copy" / NAME).exists()

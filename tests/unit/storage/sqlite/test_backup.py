"""Backups and checks of a data directory, with an engine that writes meanwhile."""

import os
import shutil
from pathlib import Path
from random import Random

import pytest

from kvs.adapters.storage.sqlite.backup import CHECKED_ROWS, STRUCTURE_PART, back_up, verify
from kvs.adapters.storage.sqlite.file import NAME
from kvs.domain.values import string_of
from kvs.engine import StorageOpenError
from tests.support.journals import append

from .test_engine import SMALL_JOURNAL, compaction_by_hand, contents, database, opened, scribble, stored

pytestmark = pytest.mark.one_build

ENDS = ("", "-wal", "-shm", "-mark")


def test_progress_of_a_check(tmp_path: Path) -> None:
    """It grows, towards a total that is right from the beginning, and reaches it after the last check alone."""
    with opened(tmp_path) as storage:
        for number in range(2 * CHECKED_ROWS):
            storage.put(b"%d" % number, b"")
        storage.sync()
    steps: list[tuple[int, int]] = []
    verify(tmp_path, lambda _label, _unit, *step: steps.append(step))
    rows = 2 * CHECKED_ROWS
    total = rows + rows // STRUCTURE_PART
    assert steps == [(CHECKED_ROWS, total), (rows, total), (rows, total), (total, total)]


def test_a_destination_that_is_refused_costs_no_copy(tmp_path: Path) -> None:
    """Nothing has begun, so nothing is shown."""
    with opened(tmp_path / "data") as storage:
        storage.put(b"k", b"v")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "nothing").mkdir()
    steps: list[object] = []
    with pytest.raises(StorageOpenError, match="is not empty"):
        back_up(tmp_path / "data", tmp_path / "full", lambda *step: steps.append(step))
    with pytest.raises(StorageOpenError, match="is not empty"):  # whatever the source is
        back_up(tmp_path / "nothing", tmp_path / "full")
    with pytest.raises(StorageOpenError, match=f"^{tmp_path}/nowhere: there is no such directory"):
        back_up(tmp_path / "nowhere", tmp_path / "copy", lambda *step: steps.append(step))
    assert not (tmp_path / "copy").exists()
    assert steps == []


def test_a_sound_directory_is_counted(tmp_path: Path) -> None:
    """Keys, bytes, and rows of the journal; in use or not."""
    with opened(tmp_path) as storage:
        scribble(storage, Random(1), 500)
        expected = contents(storage)
        in_use = verify(tmp_path)
    report = verify(tmp_path)
    assert in_use == report
    assert report.keys == len(expected)
    assert report.bytes == sum(len(key) + len(string_of(value)) for key, value in expected.items())
    assert 0 < report.journal_rows < 1000


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
    told: dict[str, list[tuple[int, int]]] = {}
    with opened(tmp_path / "data") as storage:
        scribble(storage, Random(1), 2000, 5000)
        expected = contents(storage)

        def write_on(label: str, _unit: str, count: int, total: int | None, _: int | None = None) -> None:
            told.setdefault(label, []).append((count, total or 0))
            storage.put(b"written meanwhile", b"%d" % count)
            storage.sync()

        report = back_up(tmp_path / "data", tmp_path / "copy", write_on)
        assert storage.get(b"written meanwhile") is not None
    assert list(told) == ["Copying", "Verifying"]
    for label, steps in told.items():
        assert steps == sorted(steps)
        assert steps[-1][0] == steps[-1][1] > 100
        assert all(count < total for count, total in steps[:-1]), label
    assert [path.name for path in (tmp_path / "copy").iterdir()] == [NAME]
    assert report == verify(tmp_path / "copy")
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
    for end in ("", "-journal", "-wal", "-shm"):
        (begun / f"{NAME}.part{end}").write_text("half")
    back_up(tmp_path / "data", begun, lambda *_: None)
    assert [path.name for path in begun.iterdir()] == [NAME]
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


# What care leaves alone, and how private it is.


@pytest.mark.parametrize("within", ["", "copy", "a/b/copy", "../data/copy", "link/copy"])
def test_a_backup_into_its_source_is_refused(tmp_path: Path, within: str) -> None:
    """And into a directory in it, whatever it is called; nothing is made."""
    data = tmp_path / "data"
    stored(data)
    (tmp_path / "link").symlink_to(data)
    destination = tmp_path / within if within.startswith("link") else data / within
    before = files_of(data)
    with pytest.raises(StorageOpenError, match=f"{destination}: lies in {data}, which is to be copied"):
        back_up(data, destination, lambda *_: None)
    assert files_of(data) == before
    back_up(data, tmp_path / "data copy", lambda *_: None)


def test_a_backup_through_a_link_to_its_source_is_refused(tmp_path: Path) -> None:
    """Though it is the source that is called by another name."""
    stored(tmp_path / "data")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    with pytest.raises(StorageOpenError, match=": lies in "):
        back_up(tmp_path / "link", tmp_path / "data" / "copy", lambda *_: None)


def test_verify_and_backup_change_nothing(tmp_path: Path) -> None:
    """Of a directory that was closed, and of one that a kill has left."""
    with opened(tmp_path / "data") as storage:
        scribble(storage, Random(1), 500)
        shutil.copytree(tmp_path / "data", tmp_path / "left")
    for directory in (tmp_path / "data", tmp_path / "left"):
        before = files_of(directory)
        assert verify(directory) == back_up(directory, directory.with_suffix(".copy"), lambda *_: None)
        assert files_of(directory) == before


def test_a_start_waits_for_who_reads(tmp_path: Path) -> None:
    """Else what verify reads, without locks of SQLite, would change meanwhile; afterwards it may start."""
    with opened(tmp_path) as storage:
        scribble(storage, Random(1), 500)

    def start(*_: object) -> None:
        with pytest.raises(StorageOpenError, match=f"{tmp_path} is being read by kvs verify, backup or dump"):
            stored(tmp_path)

    back_up(tmp_path, tmp_path.with_name("copy"), start)
    stored(tmp_path)


def test_commits_that_are_missing_can_be_done_without(tmp_path: Path) -> None:
    """What there is can be copied, if that is asked for; the copy is a directory like any other."""
    with opened(tmp_path / "data") as storage:
        storage.put(b"k", b"1")
        storage.sync()
    with opened(tmp_path / "data") as storage:
        storage.put(b"k", b"2")
        storage.sync()
        shutil.copytree(tmp_path / "data", tmp_path / "left")
    (tmp_path / "left" / f"{NAME}-wal").unlink()
    with pytest.raises(StorageOpenError, match=r"acknowledged commits are missing.*kvs backup --incomplete"):
        back_up(tmp_path / "left", tmp_path / "copy", lambda *_: None)
    back_up(tmp_path / "left", tmp_path / "copy", lambda *_: None, incomplete=True)
    assert stored(tmp_path / "copy") == {b"k": b"1"}


@pytest.mark.parametrize("rows_left", [1, 2])
def test_a_commit_in_part_can_be_done_without(tmp_path: Path, rows_left: int) -> None:
    """As a power cut may leave it if nothing is synced."""
    data, copy = tmp_path / "data", tmp_path / "copy"
    data.mkdir()
    with compaction_by_hand(data) as (journal, _):
        append(journal, [(b"a", b"1"), (b"b", b"1")])
        append(journal, [(b"a", b"2"), (b"b", b"2"), (b"c", b"2")])
    with database(data) as connection:
        connection.execute("DELETE FROM journal WHERE seq > ?", (2 + rows_left,))
    for act in (stored, verify, lambda directory: back_up(directory, copy)):
        with pytest.raises(StorageOpenError, match=rf"in part: .* at row {2 + rows_left}, .*kvs backup --incomplete"):
            act(data)
    assert back_up(data, copy, incomplete=True).keys == 2
    assert stored(copy) == {b"a": b"1", b"b": b"1"}


def test_a_clear_whose_rows_are_missing_cannot_be_done_without(tmp_path: Path) -> None:
    """What was before it is gone, so nothing that was once can be copied, and nobody is told that it can."""
    data = tmp_path / "data"
    data.mkdir()
    with compaction_by_hand(data) as (journal, _):
        append(journal, [(b"a", b"1")])
        append(journal, [(b"b", b"2"), (b"c", b"2")], clears=True)
    with database(data) as connection:
        connection.execute("DELETE FROM journal WHERE key = CAST('c' AS BLOB)")
    with pytest.raises(StorageOpenError, match="commits are missing: the journal ends at row 3, and had come to row 4"):
        verify(data)
    with pytest.raises(StorageOpenError, match="commits are missing: the journal ends at row 2, and had come to row 4"):
        back_up(data, tmp_path / "copy", incomplete=True)


def test_commits_behind_damage_can_be_done_without(tmp_path: Path) -> None:
    """What the log has before it is copied, if that is asked for."""
    with opened(tmp_path / "data") as storage:
        for number in range(20):
            storage.put(b"k%02d" % number, b"v" * 100)
            storage.sync()
        shutil.copytree(tmp_path / "data", tmp_path / "left")
    log = tmp_path / "left" / f"{NAME}-wal"
    damaged = bytearray(log.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    log.write_bytes(damaged)
    with pytest.raises(StorageOpenError, match=r"is damaged at byte .*kvs backup --incomplete"):
        back_up(tmp_path / "left", tmp_path / "copy", lambda *_: None)
    back_up(tmp_path / "left", tmp_path / "copy", lambda *_: None, incomplete=True)
    found = sorted(stored(tmp_path / "copy"))
    assert 0 < len(found) < 20
    assert found == [b"k%02d" % number for number in range(len(found))]


@pytest.mark.parametrize("mode", [0o755, 0o777])
def test_nobody_else_can_read_a_file(tmp_path: Path, mode: int) -> None:
    """Neither in a directory that others may enter, nor in a backup there, whatever the umask; nor what was once."""
    tmp_path.chmod(mode)
    before = os.umask(0)
    try:
        data, copy = tmp_path / "data", tmp_path / "copy"
        data.mkdir(mode)
        copy.mkdir(mode)
        for loose in (False, True):
            for path in data.iterdir():
                path.chmod(0o644)
            with opened(data, SMALL_JOURNAL) as storage:
                scribble(storage, Random(1), 2000, 400)
                assert {path.name for path in data.iterdir()} == {"lock", *(NAME + end for end in ENDS)}
                assert {path.stat().st_mode & 0o777 for path in data.iterdir()} == {0o600}, loose
        back_up(data, copy, lambda *_: None)
        assert (copy / NAME).stat().st_mode & 0o777 == 0o600
        assert stored(copy) == stored(data)
        assert {path.stat().st_mode & 0o777 for path in (*data.iterdir(), *copy.iterdir())} == {0o600}
    finally:
        os.umask(before)


def files_of(directory: Path) -> dict[str, bytes]:
    """Return the files of a directory."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}

"""The file of the audit log, which fails in every way that a file can."""

import os
import queue
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from kvs import audit_file
from kvs.audit_file import NOBODY_READS, AuditFile
from tests.support.waiting import TIMEOUT_S, polling

pytestmark = pytest.mark.one_build

FULL: Final = "No space left on device"

Open = Callable[..., AuditFile]


class Troubles:
    """What the file has told of its state."""

    def __init__(self) -> None:
        self._told: queue.Queue[str] = queue.Queue()
        self.note = self._told.put

    def next(self) -> str:
        """Wait for the next change, and return it."""
        return self._told.get(timeout=TIMEOUT_S)

    @property
    def quiet(self) -> bool:
        """Whether there is no other change."""
        return self._told.empty()


@pytest.fixture
def troubles() -> Troubles:
    """Return what collects changes."""
    return Troubles()


@pytest.fixture
def opened(troubles: Troubles) -> Iterator[Open]:
    """Return a function that opens a file, which ends with the test."""
    with ExitStack() as stack:

        def open_(path: Path, max_buffer_bytes: int = 1000) -> AuditFile:
            file = AuditFile(str(path), max_buffer_bytes, troubles.note)
            file.notice = lambda count, reason: f"<{count} lost: {reason}>\n"
            stack.callback(file.finish)
            file.open()
            return file

        yield open_


def lines(path: Path) -> list[str]:
    """Return the lines of a file."""
    return path.read_text(encoding="utf-8").splitlines()


def test_lines_are_appended_and_the_file_is_for_its_owner_only(opened: Open, tmp_path: Path) -> None:
    """Whatever the mask of new files."""
    path = tmp_path / "audit"
    before = os.umask(0)
    try:
        file = opened(path)
    finally:
        os.umask(before)
    file.write("first\n")
    file.finish()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    file = opened(path)
    file.write("second\n")
    file.finish()
    assert lines(path) == ["first", "second"]


def test_what_was_torn_before_does_not_tear_the_first_line(opened: Open, tmp_path: Path) -> None:
    """As by a power cut."""
    path = tmp_path / "audit"
    path.write_text('{"event": "conn')
    file = opened(path)
    file.write("first\n")
    file.drain(TIMEOUT_S)
    path.rename(tmp_path / "former")
    path.write_text('{"event": "dis')
    file.reopen()
    file.write("second\n")
    file.finish()
    assert lines(tmp_path / "former") == ['{"event": "conn', "first"]
    assert lines(path) == ['{"event": "dis', "second"]


def test_rotation(opened: Open, tmp_path: Path) -> None:
    """Lines go to the renamed file until it is told, and to a new one from then on."""
    path = tmp_path / "audit"
    file = opened(path)
    file.write("first\n")
    file.drain(TIMEOUT_S)
    path.rename(tmp_path / "former")
    file.write("second\n")
    file.drain(TIMEOUT_S)
    file.reopen()
    for _ in polling("there is a new file"):
        if path.exists():
            break
    file.write("third\n")
    file.finish()
    assert lines(tmp_path / "former") == ["first", "second"]
    assert lines(path) == ["third"]


def test_a_file_renamed_again_at_once(opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that comes while the new file is being opened is about the next one."""
    path = tmp_path / "audit"
    file = opened(path)
    open_file = audit_file._opened

    def rename_behind_it(name: str) -> tuple[int, bool]:
        result = open_file(name)
        if not (tmp_path / "second").exists():
            path.rename(tmp_path / "second")
            file.reopen()
        return result

    monkeypatch.setattr(audit_file, "_opened", rename_behind_it)
    path.rename(tmp_path / "first")
    file.reopen()
    for _ in polling("there is a third file"):
        if path.exists():
            break
    assert lines(tmp_path / "second") == []


def test_a_file_that_cannot_be_reopened(
    opened: Open, troubles: Troubles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again after a while, and not all the time."""
    monkeypatch.setattr(audit_file, "RETRY_S", TIMEOUT_S)
    path = tmp_path / "logs" / "audit"
    path.parent.mkdir()
    file = opened(path)
    path.unlink()
    path.parent.rmdir()
    waits: queue.Queue[bool] = queue.Queue()
    wait_for = file._changed.wait_for

    def wait(predicate: Callable[[], bool], timeout_s: float | None = None) -> bool:
        waits.put(predicate())
        return wait_for(predicate, timeout_s)

    monkeypatch.setattr(file._changed, "wait_for", wait)
    file.reopen()
    assert troubles.next() == "No such file or directory"
    assert not waits.get(timeout=TIMEOUT_S)
    path.parent.mkdir()
    file.reopen()
    assert troubles.next() == ""


def test_a_removed_directory(opened: Open, troubles: Troubles, tmp_path: Path) -> None:
    """Lines wait until it is there again; nothing is written to a file that nobody can see."""
    directory = tmp_path / "logs"
    directory.mkdir()
    path = directory / "audit"
    file = opened(path)
    file.write("lost with the file\n")
    file.drain(TIMEOUT_S)
    path.unlink()
    directory.rmdir()
    file.write("first\n")
    assert troubles.next() == "No such file or directory"
    file.write("second\n")
    directory.mkdir()
    file.reopen()
    assert troubles.next() == ""
    file.finish()
    assert lines(path) == ["first", "second"]
    assert file.dropped == 0


@pytest.mark.parametrize("room_bytes", range(0, 30, 3))
def test_a_disk_that_becomes_full_in_the_middle_of_several_lines(
    opened: Open, troubles: Troubles, tmp_path: Path, room_bytes: int
) -> None:
    """Those that have been written are not written again, and the torn one is, on a line of its own."""
    resource = pytest.importorskip("resource")
    path = tmp_path / "audit"
    file = opened(path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room_bytes, hard))
        with file._changed:  # so that they are written together
            for number in range(3):
                file.write(f"line {number:04d}\n")
        assert troubles.next() == "File too large"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    file.reopen()
    assert troubles.next() == ""
    file.finish()
    whole, torn = divmod(room_bytes, 10)
    expected = [f"line {number:04d}" for number in range(3)]
    if torn:
        expected.insert(whole, expected[whole][:torn])
    assert lines(path) == expected


def full_then_not(path: Path, target: Path) -> Callable[[], None]:
    """Make a file on a full disk; return what gives it room."""
    path.symlink_to("/dev/full")

    def give_room() -> None:
        link = path.with_name("link")
        link.symlink_to(target)
        link.replace(path)

    return give_room


def test_a_full_disk(opened: Open, troubles: Troubles, tmp_path: Path) -> None:
    """Lines wait for room."""
    path = tmp_path / "audit"
    give_room = full_then_not(path, tmp_path / "real")
    file = opened(path)
    file.write("first\n")
    assert troubles.next() == FULL
    assert file.trouble == FULL
    file.write("second\n")
    give_room()
    file.reopen()
    assert troubles.next() == ""
    assert file.trouble == ""
    file.finish()
    assert lines(tmp_path / "real") == ["first", "second"]
    assert troubles.quiet


def test_what_waits_is_bounded(opened: Open, troubles: Troubles, tmp_path: Path) -> None:
    """What is beyond is dropped and counted, and the file tells of it."""
    path = tmp_path / "audit"
    give_room = full_then_not(path, tmp_path / "real")
    file = opened(path, max_buffer_bytes=100)
    for number in range(30):
        file.write(f"line {number:04d}\n")
    assert file.dropped == 20
    assert troubles.next() in (FULL, "the buffer of 100 bytes was full")
    give_room()
    file.reopen()
    assert troubles.next() == ""
    file.finish()
    *written, last = lines(tmp_path / "real")
    assert written == [f"line {number:04d}" for number in range(10)]
    assert last == "<20 lost: the buffer of 100 bytes was full>"


def test_a_pipe_without_a_reader(opened: Open, troubles: Troubles, tmp_path: Path) -> None:
    """Nothing waits for one, neither to open it nor to write."""
    path = tmp_path / "audit"
    os.mkfifo(path)
    with pytest.raises(OSError, match="No such device"):
        opened(path)
    file = AuditFile(str(path), 1000, troubles.note)
    file.write("first\n")
    assert troubles.next() == NOBODY_READS
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    file.reopen()
    assert troubles.next() == ""
    assert os.read(reading, 100) == b"first\n"
    os.close(reading)
    file.finish()


def test_a_pipe_whose_reader_does_not_read(opened: Open, troubles: Troubles, tmp_path: Path) -> None:
    """Lines wait; the end waits for nobody; and a reader that goes on misses nothing."""
    path = tmp_path / "audit"
    os.mkfifo(path)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    file = opened(path, max_buffer_bytes=1 << 20)
    line = "x" * 999 + "\n"
    for _ in range(200):  # a pipe holds 64 KiB
        file.write(line)
    assert troubles.next() == NOBODY_READS
    received = b""
    while len(received.replace(b"\n", b"")) < 200 * 999:
        try:
            received += os.read(reading, 1 << 16)
        except BlockingIOError:
            file.reopen()
    whole = [each for each in received.splitlines() if len(each) == 999]
    assert len(whole) >= 199  # the one that was cut is written again, as a whole
    assert troubles.next() == ""
    for _ in range(200):
        file.write(line)
    assert troubles.next() == NOBODY_READS
    file.finish(0.01)
    assert file.dropped > 100
    assert "kvs-audit" not in {thread.name for thread in threading.enumerate()}
    os.close(reading)


def test_the_end_with_trouble(opened: Open, troubles: Troubles, tmp_path: Path) -> None:
    """What waits gets a last attempt, and is counted; and no thread is left."""
    path = tmp_path / "audit"
    full_then_not(path, tmp_path / "real")
    file = opened(path)
    file.write("first\n")
    file.write("second\n")
    assert troubles.next() == FULL
    file.finish(0.01)
    assert file.dropped == 2
    file.write("late\n")
    file.reopen()
    assert file.dropped == 3
    assert "kvs-audit" not in {thread.name for thread in threading.enumerate()}

"""The stream behind the log: writing neither raises nor waits, and what is lost is counted and reported."""

import io
import os
import pty
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from kvs.logs import make_logger
from kvs.standard_streams import BackgroundStream, Stdin, Stdout, open_stderr, stderr_replaced
from tests.support.harness import TIMEOUT_S, polling

pytestmark = pytest.mark.one_build

T = TypeVar("T")

PIPE_BYTES = 1 << 20


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """Yield the ends of a pipe; the test may have closed either."""
    reading, writing = os.pipe()
    try:
        yield reading, writing
    finally:
        for descriptor in (reading, writing):
            try:
                os.close(descriptor)
            except OSError:
                continue


def fill(writing: int) -> int:
    """Fill a pipe; return how many bytes that took."""
    os.set_blocking(writing, False)
    filled = 0
    try:
        while True:
            filled += os.write(writing, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writing, True)
        return filled


MADE: list[BackgroundStream] = []


@pytest.fixture(autouse=True)
def closed_streams() -> Iterator[None]:
    """Close what a test has made, and wait until its threads have ended."""
    yield
    for stream in MADE:
        stream.close()
        if stream._thread is not None:
            stream._thread.join(TIMEOUT_S)
            assert not stream._thread.is_alive()
    MADE.clear()


def stream_to(descriptor: int | None, max_buffer_bytes: int = PIPE_BYTES) -> BackgroundStream:
    """Return a stream that is closed at the end of the test."""
    stream = BackgroundStream(descriptor, max_buffer_bytes)
    MADE.append(stream)
    return stream


def with_notice(descriptor: int | None, max_buffer_bytes: int = PIPE_BYTES) -> BackgroundStream:
    """Return one that reports what it has dropped in a line of its own."""
    stream = stream_to(descriptor, max_buffer_bytes)
    stream.notice = lambda count, reason: f"<{count} dropped: {reason}>\n"
    return stream


def read_lines(reading: int, last: bytes) -> list[bytes]:
    """Return what comes through a pipe, up to a line."""
    received = b""
    while last not in received:
        data = os.read(reading, 1 << 16)
        assert data, received[-200:]
        received += data
    return received.splitlines()


def test_lines_come_in_their_order() -> None:
    """Everything written is there after a drain, whoever wrote it."""
    with pipe() as (reading, writing):
        stream = with_notice(writing)
        for number in range(100):
            assert stream.write(f"line {number}\n") > 0
        stream.drain(TIMEOUT_S)
        assert read_lines(reading, b"line 99\n") == [b"line %d" % number for number in range(100)]
        assert stream.dropped == 0


def test_many_threads_may_write() -> None:
    """Lines are never torn by one another."""
    with pipe() as (reading, writing):
        stream = with_notice(writing)
        threads = [
            threading.Thread(target=lambda letter=letter: [stream.write(letter * 100 + "\n") for _ in range(50)])
            for letter in "abcd"
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        stream.write("end\n")
        *lines, _ = read_lines(reading, b"end\n")
        assert sorted(lines) == sorted(letter * 100 for letter in (b"a", b"b", b"c", b"d") for _ in range(50))


def test_a_pipe_that_nobody_reads_holds_up_nobody() -> None:
    """Beyond the buffer lines are dropped; once somebody reads, the log goes on and says how many are missing."""
    with pipe() as (reading, writing):
        filled = fill(writing)
        stream = with_notice(writing, max_buffer_bytes=1000)
        for number in range(100):
            stream.write(f"line {number:04}\n")
        kept = 1000 // 10
        assert stream.dropped == 0
        for _ in range(7):
            stream.write("one too many\n")
        assert stream.dropped == 7
        stream.drain(0.0)
        received = read_lines(reading, b"dropped: the buffer of 1000 bytes was full>\n")
        lines = b"\n".join(received)[filled:].split(b"\n")
        assert lines[:kept] == [b"line %04d" % number for number in range(kept)]
        assert lines[kept:] == [b"<7 dropped: the buffer of 1000 bytes was full>"]
        stream.write("on it goes\n")
        assert read_lines(reading, b"on it goes\n") == [b"on it goes"]


def test_a_disk_that_gets_room_again() -> None:
    """What was lost is reported before the next line that can be written, once."""
    with pipe() as (reading, writing), Path("/dev/full").open("wb", buffering=0) as full:
        copy = os.dup(writing)
        os.dup2(full.fileno(), writing)
        stream = with_notice(writing)
        for _ in range(3):
            stream.write("lost\n")
        stream.drain(TIMEOUT_S)
        assert stream.dropped == 3
        os.dup2(copy, writing)
        os.close(copy)
        stream.write("written\n")
        stream.write("and on\n")
        assert read_lines(reading, b"and on\n") == [b"<3 dropped: No space left on device>", b"written", b"and on"]
        assert stream.dropped == 3


@pytest.mark.parametrize("room_bytes", range(12))
def test_a_line_that_was_torn_does_not_tear_the_next(tmp_path: Path, room_bytes: int) -> None:
    """Wherever the disk was full: what follows begins on a line of its own."""
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    path = tmp_path / "log"
    with path.open("ab", buffering=0) as file:
        stream = with_notice(file.fileno())
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (room_bytes, hard))
            stream.write("a long line\n")
            stream.drain(TIMEOUT_S)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, handler)
        assert stream.dropped == 1
        stream.write("the next\n")
        stream.drain(TIMEOUT_S)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[-2:] == ["<1 dropped: File too large>", "the next"]
    assert "".join(lines[:-2]) == "a long line\n"[:room_bytes]


def test_a_line_that_was_torn_is_remembered_while_the_disk_is_full(tmp_path: Path) -> None:
    """Lines that fail whole are no reason to go on behind the part of another."""
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    path = tmp_path / "log"
    with path.open("ab", buffering=0) as file:
        stream = with_notice(file.fileno())
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (5, hard))
            for line in ("torn in two\n", "lost\n", "lost too\n"):
                stream.write(line)
            stream.drain(TIMEOUT_S)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, handler)
        stream.write("the next\n")
        stream.drain(TIMEOUT_S)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines == ["torn ", "<3 dropped: File too large>", "the next"]


def broken_pipe() -> int:
    """Return the end of a pipe whose other end is closed."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def dead_terminal() -> int:
    """Return a terminal that has been closed on the other side."""
    leader, follower = pty.openpty()
    os.close(leader)
    return follower


def closed() -> int:
    """Return a descriptor that is not open any more."""
    descriptor = os.dup(2)
    os.close(descriptor)
    return descriptor


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (broken_pipe, "Broken pipe"),
        (dead_terminal, "Input/output error"),
        (closed, "it is closed"),
        (lambda: os.open("/dev/full", os.O_WRONLY), "No space left on device"),
        (lambda: os.open(os.devnull, os.O_RDONLY), "it is closed"),
    ],
    ids=["broken pipe", "dead terminal", "closed", "full", "not for writing"],
)
def test_a_stream_that_fails(make: object, reason: str) -> None:
    """Each write is counted with the reason, and none raises."""
    assert callable(make)
    descriptor = make()
    stream = stream_to(descriptor)
    reasons: list[str] = []
    stream.notice = lambda _, reason: reasons.append(reason) or ""  # type: ignore[func-returns-value]
    for _ in range(5):
        stream.write("lost\n")
    stream.drain(TIMEOUT_S)
    assert stream.dropped == 5
    assert set(reasons) == {reason}


def test_nowhere_to_write() -> None:
    """Without a descriptor everything is dropped, and no thread is started."""
    stream = stream_to(None)
    stream.write("lost\n")
    stream.drain(TIMEOUT_S)
    assert stream.dropped == 1
    assert not stream.isatty()


def test_a_pipe_that_another_process_made_non_blocking() -> None:
    """The line waits until there is room, and is not lost."""
    with pipe() as (reading, writing):
        filled = fill(writing)
        os.set_blocking(writing, False)
        stream = with_notice(writing)
        stream.write("last\n")
        received = read_lines(reading, b"last\n")
        assert b"".join(received)[filled:] == b"last"
        assert stream.dropped == 0


def test_an_event_that_cannot_be_rendered_is_dropped() -> None:
    """Logging does not raise, whatever it is given; and the next event reports what is missing."""

    class Unprintable:
        def __repr__(self) -> str:
            raise RuntimeError("no words for it")

    with pipe() as (reading, writing):
        stream = stream_to(writing)
        log = make_logger("info", "json", stream)
        log.info("first", what=Unprintable())
        assert stream.dropped == 1
        log.info("second")
        second, report = read_lines(reading, b"RuntimeError")
        assert b'"second"' in second
        assert b"log_events_dropped" in report
        assert b'"dropped": 1' in report


@pytest.mark.parametrize("form", ["json", "console"])
def test_dropped_events_are_an_event(form: str) -> None:
    """In the format of all others."""
    with pipe() as (reading, writing):
        stream = stream_to(writing)
        log = make_logger("info", form, stream)
        stream.drop("a reason")
        log.info("next")
        _, report = read_lines(reading, b"a reason")
        assert b"log_events_dropped" in report
        assert (b'"level": "warning"' in report) == (form == "json")


def test_what_python_reports_goes_the_same_way() -> None:
    """The end of a thread by an exception is written to a stream that is standard error for a while."""
    with pipe() as (reading, writing):
        original = sys.stderr
        with stderr_replaced(stream_to(writing)):
            print("by hand", file=sys.stderr)  # noqa: T201
        assert sys.stderr is original
        assert read_lines(reading, b"by hand\n") == [b"by hand"]


def test_standard_error_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have no descriptor, or not be there."""
    monkeypatch.setattr(sys, "stderr", None)
    assert open_stderr().write("lost\n") == 5
    with Path(os.devnull).open("w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        assert open_stderr().fileno() == stream.fileno()


def test_a_report_that_cannot_be_made_does_not_end_the_log() -> None:
    """As for want of memory: the next line is written."""

    def fail(_count: int, _reason: str) -> str:
        raise MemoryError

    with pipe() as (reading, writing):
        stream = stream_to(writing)
        stream.drop("a reason")
        stream.notice = fail
        stream.write("first\n")
        assert read_lines(reading, b"first\n") == [b"first"]
        stream.drain(TIMEOUT_S)
        stream.notice = lambda _count, _reason: ""
        stream.write("second\n")
        assert read_lines(reading, b"second\n") == [b"second"]


def test_a_closed_stream_writes_what_it_has_and_takes_no_more() -> None:
    """What comes later is dropped."""
    with pipe() as (reading, writing):
        stream = with_notice(writing)
        stream.write("first\n")
        stream.close()
        stream.write("late\n")
        assert read_lines(reading, b"first\n")[0] == b"first"
        assert stream.dropped == 1


def test_drain_waits_no_longer_than_it_may() -> None:
    """A pipe that nobody reads does not keep a process from ending."""
    with pipe() as (reading, writing):
        fill(writing)
        stream = with_notice(writing)
        stream.write("stuck\n")
        for _ in polling("the write is under way"):
            if not stream._waiting:
                break
        stream.drain(0.01)
        assert stream._waiting_bytes == 6
        os.read(reading, 1 << 20)
        stream.drain(TIMEOUT_S)
        assert stream._waiting_bytes == 0


def in_thread(work: Callable[[], T], waits: threading.Event) -> Future[T]:
    """Have something done by a thread, up to where it waits or has ended; return what will come of it."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001  # it is raised where the result is asked for
            future.set_exception(error)
        waits.set()

    threading.Thread(target=run).start()
    assert waits.wait(TIMEOUT_S)
    return future


def test_output_of_a_command_into_a_pipe_that_another_process_made_non_blocking() -> None:
    """It waits until there is room."""
    waits = threading.Event()

    class Watched(Stdout):
        def fileno(self) -> int:
            waits.set()
            return super().fileno()

    with pipe() as (reading, writing):
        filled = fill(writing)
        os.set_blocking(writing, False)
        stream = io.BufferedWriter(Watched(writing, "w", closefd=False))
        stream.write(b"last\n")
        flushed = in_thread(stream.flush, waits)
        received = read_lines(reading, b"last\n")
        flushed.result(TIMEOUT_S)
        assert b"".join(received)[filled:] == b"last"


def test_input_of_a_command_from_a_pipe_that_another_process_made_non_blocking() -> None:
    """Nothing yet is not its end."""
    waits = threading.Event()

    class Watched(Stdin):
        def fileno(self) -> int:
            waits.set()
            return super().fileno()

    with pipe() as (reading, writing):
        os.set_blocking(reading, False)
        stream = io.BufferedReader(Watched(reading, "r", closefd=False))
        read = in_thread(stream.readline, waits)
        os.write(writing, b"late\n")
        assert read.result(TIMEOUT_S) == b"late\n"

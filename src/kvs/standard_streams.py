"""Standard output and standard error, which fail in every way that a file can.

Either may be closed, have lost its reader, be on a full disk, or be a pipe without an active reader, which blocks its
writers. None of this may affect a server, so a write to its standard error never raises and never blocks: lines go into
a bounded buffer, from which a thread writes them. Lines that cannot be written are dropped and counted, which the log
reports as soon as it can be written again. A command whose output cannot be written ends with one line.
"""

import errno
import io
import os
import select
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition, Thread
from typing import TYPE_CHECKING, Final, TextIO

from kvs.errors import CommandError
from kvs.override import override

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

DRAIN_TIMEOUT_S: Final = 1.0
"""How long a process that ends waits for buffered output."""

DEFAULT_BUFFER_BYTES: Final = 1 << 20

CLOSED: Final = "standard error is closed"


class BackgroundStream(io.TextIOBase):
    """A text stream that is written by a background thread. Any thread may call it.

    Args:
        descriptor: Where to write; None if it is closed.
        max_buffer_bytes: Maximum buffered output; beyond it writes are dropped.
        thread_name: Name of the thread.

    Attributes:
        dropped: Number of writes dropped so far.
        notice: Returns the line that reports a number of dropped writes, and why; empty for none.
    """

    def __init__(
        self,
        descriptor: int | None,
        max_buffer_bytes: int = DEFAULT_BUFFER_BYTES,
        thread_name: str = "kvs-stderr",
    ) -> None:
        super().__init__()
        self.dropped = 0
        self.notice: Callable[[int, str], str] = lambda _count, _reason: ""
        self._descriptor = descriptor
        self._max_buffer_bytes = max_buffer_bytes
        self._thread_name = thread_name
        self._reported = 0  # of those dropped
        self._reason = ""
        self._failed = False  # the last write failed
        self._torn = False  # the last line was written in part
        self._left = 0  # bytes of the last write that were not written, if it failed
        self._changed = Condition()  # on a reentrant lock: a signal handler may write in the middle of a write
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0  # including the line being written
        self._thread: Thread | None = None

    def fileno(self) -> int:
        if self._descriptor is None:
            raise io.UnsupportedOperation(CLOSED)
        return self._descriptor

    def isatty(self) -> bool:
        return self._descriptor is not None and os.isatty(self._descriptor)

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        """Queue text to be written, or drop all of it. O(length); never blocks."""
        data = text.encode(errors="backslashreplace")
        with self._changed:
            if self._descriptor is None or self.closed:
                self._drop(CLOSED)
            elif self._waiting_bytes + len(data) > self._max_buffer_bytes:
                self._drop(f"the buffer of {self._max_buffer_bytes} bytes was full")
            elif self._start():
                self._waiting.append(data)
                self._waiting_bytes += len(data)
                self._changed.notify_all()
        return len(text)

    def drop(self, reason: str) -> None:
        """Count an event that could not be rendered."""
        with self._changed:
            self._drop(reason)

    def drain(self, timeout_s: float = DRAIN_TIMEOUT_S) -> None:
        """Wait until everything has been written or dropped, at most so long."""
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            while self._waiting_bytes:
                left_s = deadline_s - time.monotonic()
                if left_s <= 0 or not self._changed.wait(left_s):
                    return

    def close(self) -> None:
        """Refuse further writes, and end the thread when everything has been written or dropped."""
        with self._changed:
            super().close()
            self._changed.notify_all()

    def _drop(self, reason: str) -> None:
        self.dropped += 1
        self._reason = reason

    def _start(self) -> bool:
        """Start the thread if it is not running; return whether it is. With the lock held."""
        if self._thread is None:
            # A daemon: a thread stuck in a write must not keep the process from ending.
            thread = Thread(target=self._run, name=self._thread_name, daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # no more threads, or the interpreter is ending
                self._drop(str(error))
                return False
            self._thread = thread
        return True

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    if self.closed:
                        return
                    self._changed.wait()
            self._gather()
            with self._changed:
                data = self._take()
            try:
                self._write_line(data)
            except Exception as error:  # noqa: BLE001  # want of memory, above all; without its thread the log would end
                self._failed = True
                self.drop(type(error).__name__)
            with self._changed:
                self._waiting_bytes -= len(data)
                self._changed.notify_all()

    def _gather(self) -> None:
        """Wait for more lines, if they are to be written together."""

    def _take(self) -> bytes:
        """Remove and return what is to be written next. With the lock held."""
        return self._waiting.popleft()

    def _write_line(self, data: bytes) -> None:
        """Write a line, and report what was dropped: before it if writes failed, else once nothing is waiting."""
        try:
            if self._failed:
                self._report()
            self._write_all(data)
        except OSError as error:
            self._failed = True
            self.drop(reason_of(error))
            return
        self._failed = False
        if not self._waiting:
            try:
                self._report()
            except OSError:
                self._failed = True  # so the next line tries again

    def _report(self) -> None:
        """Report what has been dropped since the last report."""
        count = self.dropped - self._reported
        if count:
            self._write_all(self.notice(count, self._reason).encode(errors="backslashreplace"))
            self._reported += count

    def _write_all(self, data: bytes) -> None:
        if self._torn:
            data = b"\n" + data
        view = memoryview(data)
        while view:
            self._left = len(view)
            try:
                try:
                    written = os.write(self.fileno(), view)
                except BlockingIOError:
                    self._wait_for_room()
                    continue
            except OSError:
                self._torn = self._torn or len(view) < len(data)
                raise
            view = view[written:]
        self._torn = False

    def _wait_for_room(self) -> None:
        """Wait for a descriptor that is non-blocking: another process, which shares it, may have made it so."""
        _wait(self.fileno(), select.POLLOUT)


def open_stderr(max_buffer_bytes: int = DEFAULT_BUFFER_BYTES) -> BackgroundStream:
    """Return a stream to this process's standard error, also if that is closed."""
    try:
        descriptor = None if sys.stderr is None else sys.stderr.fileno()
    except (OSError, ValueError):
        descriptor = None
    return BackgroundStream(descriptor, max_buffer_bytes)


@contextmanager
def stderr_replaced(stream: BackgroundStream) -> Iterator[None]:
    """Send Python's own reports, such as an exception that ends a thread, through a stream as well."""
    original: TextIO | None = sys.stderr
    sys.stderr = stream
    try:
        yield
    finally:
        sys.stderr = original
        stream.drain()


def _wait(descriptor: int, event: int) -> None:
    """Wait for a stream that another process, which shares it, has made non-blocking."""
    poll = select.poll()
    poll.register(descriptor, event)
    poll.poll()


class Stdin(io.FileIO):
    """Standard input of a command, where a non-blocking read without data is not the end."""

    @override
    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        while (count := super().readinto(buffer)) is None:
            _wait(self.fileno(), select.POLLIN)
        return count


class Stdout(io.FileIO):
    """Standard output of a command: the first write that fails ends the command, and later ones are dropped.

    The interpreter flushes its streams on exit, and would report the failure a second time.
    """

    _failed = False

    @override
    def write(self, data: "ReadableBuffer", /) -> int:
        if self._failed:
            return memoryview(data).nbytes
        try:
            while (count := super().write(data)) is None:
                _wait(self.fileno(), select.POLLOUT)
        except BrokenPipeError:
            raise
        except OSError as error:
            self._failed = True
            raise CommandError(f"standard output cannot be written: {reason_of(error)}") from None
        return count


def prepare_streams() -> None:
    """Replace closed standard streams with ones that fail, and turn failures of standard output into CommandError.

    Otherwise the next file opened would get the descriptor of a closed stream, and its output.
    """
    for name, descriptor in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free descriptor, so this one; and open for the wrong direction.
            os.open(os.devnull, os.O_RDONLY if descriptor else os.O_WRONLY)
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, "w" if descriptor else "r", closefd=False))  # noqa: SIM115
    errors = sys.stdout.errors
    if errors == "strict":  # a directory's name may not be in any encoding
        errors = "backslashreplace"
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(Stdout(1, "w", closefd=False)), sys.stdout.encoding, errors, line_buffering=True
    )


def reason_of(error: OSError) -> str:
    """Return why a file or standard stream cannot be read or written."""
    return "it is closed" if error.errno == errno.EBADF else error.strerror or str(error)


def report(message: str) -> None:
    """Write one line to standard error, if that is possible within a second."""
    stderr = open_stderr()
    stderr.write(f"kvs: {message}\n")
    stderr.drain()

"""The file of the audit log: lines are written by a thread, and wait in memory while they cannot be.

To write a line never blocks and never fails. A disk may be full, a directory removed, a pipe without a reader:
lines wait, up to a bound, and the write is tried again every second. What is beyond the bound is dropped and counted,
and the file says so as soon as it can be written again.
"""

import errno
import os
import select
import stat
import time
from collections.abc import Callable
from typing import Final, final

from kvs.override import override
from kvs.standard_streams import DRAIN_TIMEOUT_S, BackgroundStream, reason_of

MODE: Final = 0o600
RETRY_S: Final = 1.0
"""Time between two attempts to write a line."""

GATHER_S: Final = 0.005
"""How long lines are gathered to be written together: 8 us of a processor for each of many, in place of 12."""

BATCH_BYTES: Final = 1 << 16
"""Maximum size of the lines that are written together, unless it is one."""

NOT_OPEN: Final = -1
NOBODY_READS: Final = "nobody reads it"

_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""Non-blocking, so that neither opening a pipe nor writing to it waits for a reader."""


@final
class AuditFile(BackgroundStream):
    """A file of lines. Any thread may write.

    Args:
        path: Where it is; it is made with mode 0600 if it is not there.
        max_buffer_bytes: Maximum size of the lines that wait; beyond it they are dropped.
        changed: Called when :attr:`trouble` has changed, with it. By any thread.

    Attributes:
        trouble: Why it cannot be written, since it could be; empty: all lines have been, or are about to be.
    """

    def __init__(self, path: str, max_buffer_bytes: int, changed: Callable[[str], None]) -> None:
        super().__init__(NOT_OPEN, max_buffer_bytes, "kvs-audit")
        self.path: Final = path
        self.trouble = ""
        self._descriptor: int = NOT_OPEN
        self._when_changed = changed
        self._reopening = False

    def open(self) -> None:
        """Open the file, before the first line is written.

        Raises:
            OSError: It cannot be opened; each line will try again.
        """
        self._descriptor, self._torn = _opened(self.path)

    def reopen(self) -> None:
        """Open the file of that name from now on: the present one has been renamed. Never blocks."""
        with self._changed:
            if not self.closed and self._start():
                self._reopening = True
                self._waiting.append(b"")
                self._changed.notify_all()

    def finish(self, timeout_s: float = DRAIN_TIMEOUT_S) -> None:
        """Write what waits, for at most so long, and end the thread."""
        self.drain(timeout_s)
        self.close()
        if self._thread is not None:
            self._thread.join(timeout_s + RETRY_S)
            if self._thread.is_alive():  # in a call that does not return, and a daemon
                return
        if self._descriptor != NOT_OPEN:
            os.close(self._descriptor)
            self._descriptor = NOT_OPEN

    # The thread.

    @override
    def _gather(self) -> None:
        if not (self.closed or self._reopening):
            time.sleep(GATHER_S)

    @override
    def _take(self) -> bytes:
        lines = [self._waiting.popleft()]
        size = len(lines[0])
        while self._waiting and size + len(self._waiting[0]) <= BATCH_BYTES:
            lines.append(self._waiting.popleft())
            size += len(lines[-1])
        return b"".join(lines)

    @override
    def _write_line(self, data: bytes) -> None:
        while True:
            self._left = len(data)
            try:
                self._make_ready()
                self._write_all(data)
            except OSError as error:
                data = _unwritten(data, self._left)
                self._fail(NOBODY_READS if error.errno == errno.ENXIO else reason_of(error))
            else:
                break
            if not self._wait_to_retry():
                self._give_up(data.count(b"\n"))
                return
        if not self._waiting:
            try:
                self._report()
            except OSError as error:
                self._fail(reason_of(error))  # the next line tries again
            else:
                self._recover()

    def _give_up(self, lines: int) -> None:
        with self._changed:
            for _ in range(lines):
                self._drop(self.trouble)

    def _make_ready(self) -> None:
        """Open the file if that is asked for, or it has not been, or has been removed."""
        with self._changed:
            # Before the file is opened: a request that comes later is about the next one.
            reopening, self._reopening = self._reopening, False
        if self._descriptor != NOT_OPEN and (reopening or not os.fstat(self._descriptor).st_nlink):
            former, self._descriptor = self._descriptor, NOT_OPEN
            os.close(former)
        if self._descriptor == NOT_OPEN:
            self._descriptor, self._torn = _opened(self.path)

    def _wait_to_retry(self) -> bool:
        """Wait a while; return False if this was the last attempt."""
        with self._changed:
            if self.closed:
                return False
            self._changed.wait_for(lambda: self.closed or self._reopening, RETRY_S)
        return True

    @override
    def _wait_for_room(self) -> None:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        if not poll.poll(0 if self.closed or self._reopening else RETRY_S * 1000):
            raise OSError(errno.ENXIO, NOBODY_READS)

    @override
    def _drop(self, reason: str) -> None:
        super()._drop(reason)
        self._fail(reason)

    def _fail(self, trouble: str) -> None:
        if not self.trouble:
            self.trouble = trouble
            self._when_changed(trouble)

    def _recover(self) -> None:
        if self.trouble:
            self.trouble = ""
            self._when_changed("")


def _unwritten(data: bytes, left: int) -> bytes:
    """Return the lines of which something is left to be written."""
    return data[data.rfind(b"\n", 0, max(0, len(data) - left)) + 1 :]


def _opened(path: str) -> tuple[int, bool]:
    """Open the file; return its descriptor, and whether it ends in the middle of a line."""
    descriptor = os.open(path, _FLAGS, MODE)
    try:
        status = os.fstat(descriptor)
        torn = stat.S_ISREG(status.st_mode) and status.st_size > 0 and _last_byte(path, status.st_size) != b"\n"
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, torn


def _last_byte(path: str, size: int) -> bytes:
    """Return the last byte of a file; none if it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.pread(descriptor, 1, size - 1)
    finally:
        os.close(descriptor)

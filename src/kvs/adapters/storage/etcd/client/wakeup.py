"""Wakes a thread that sleeps in ``poll``, from any other thread, without a lock."""

import os
import weakref
from contextlib import suppress
from typing import Final, final


@final
class Wakeup:
    """A pipe; a byte in it wakes the sleeper. Of many wake-ups before it has woken, only the first costs a system call.

    Attributes:
        descriptor: What the sleeper polls, for input.
    """

    def __init__(self) -> None:
        self._awake = False
        reader, self._writer = os.pipe()
        self.descriptor: Final = reader
        os.set_blocking(self.descriptor, False)
        os.set_blocking(self._writer, False)
        # Not before nobody can write to it: its number might be another file's by then.
        weakref.finalize(self, _close, self.descriptor, self._writer)

    def wake(self) -> None:
        """Have the sleeper look at what it was given before."""
        if not self._awake:
            self._awake = True
            with suppress(BlockingIOError):  # it is full, so the sleeper will wake
                os.write(self._writer, b"\0")

    def woken(self) -> None:
        """Say that the sleeper looks now: what is given later needs another wake-up."""
        if self._awake:
            with suppress(BlockingIOError):  # its byte is not there yet, and will wake the sleeper once more
                os.read(self.descriptor, 64)
            self._awake = False


def _close(reader: int, writer: int) -> None:
    os.close(reader)
    os.close(writer)

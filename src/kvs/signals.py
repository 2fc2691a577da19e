"""Signal handling, from before an engine is opened until after it has been closed.

One handler for all of that time, so that none is lost between two: the kernel drops a signal that process 1 of a
container has no handler for, and others would be ended by it in the middle of something.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, NoReturn, TypeAlias

STOPPING: Final = (signal.SIGTERM, signal.SIGINT)

HARMLESS: Final = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that end a process by default, and reach servers by closed terminals, by log rotation, or by mistake."""

Receiver: TypeAlias = Callable[[signal.Signals], None]


AGAIN_S: Final = 0.001
"""How long after an exception was lost it is raised again."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Have Ctrl-C raise KeyboardInterrupt, and end the process without a word before and afterwards."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield
        return
    with _never_lost(KeyboardInterrupt):
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            yield
        finally:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def _never_lost(kind: type[BaseException]) -> Iterator[None]:
    """Have an exception that a signal's handler has raised come again, a moment later, where it could not propagate.

    In a finalizer, or in a callback of a weak reference such as every import has, Python reports an exception with a
    traceback, and goes on.
    """
    report = sys.unraisablehook

    def unraisable(lost: "sys.UnraisableHookArgs") -> None:
        if isinstance(lost.exc_value, kind):
            signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
        else:
            report(lost)

    def again(_number: int, _frame: FrameType | None) -> NoReturn:
        raise kind

    before = signal.signal(signal.SIGALRM, again)
    sys.unraisablehook = unraisable
    try:
        yield
    finally:
        sys.unraisablehook = report
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Stopped(BaseException):  # no error, as KeyboardInterrupt is none
    """Raised in the main thread, wherever it is, by a signal that ends the opening of the engine."""


class Signals:
    """Takes signals for a server.

    The first one that stops it is kept until the server receives signals, or interrupts the opening of the engine. A
    second one before that ends the process at once.

    Concurrency: for the main thread, where Python runs handlers, between any two of its instructions.

    Attributes:
        stopping: The first signal that is to stop the server.
    """

    def __init__(self) -> None:
        self.stopping: signal.Signals | None = None
        self._early: list[signal.Signals] = []
        self._receiver: Receiver | None = None
        self._interrupting = False

    def install(self) -> None:
        """Handle signals from now on; those that are ignored, as SIGHUP is by ``nohup``, stay ignored."""
        for number in STOPPING:
            signal.signal(number, self._handle)
        for number in HARMLESS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._handle)

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Raise :class:`Stopped` in the block when a signal stops the server, at once if it has come already.

        Raises:
            Stopped: It has.
        """
        self._interrupting = True
        try:
            if self.stopping is not None:
                raise Stopped
            with _never_lost(Stopped):
                yield
            if self.stopping is not None:  # it was lost, or caught by somebody else
                raise Stopped
        finally:
            self._interrupting = False

    def deliver_to(self, receiver: Receiver | None) -> None:
        """Deliver each signal to a receiver, and first those that came before; None ends the delivery."""
        self._receiver = receiver
        if receiver is not None:
            early, self._early = self._early, []
            for number in early:
                receiver(number)

    def ignore(self) -> None:
        """Ignore signals from now on: all that is left to do is to write the log, within a bounded time."""
        for number in (*STOPPING, *HARMLESS):
            signal.signal(number, signal.SIG_IGN)

    def finish(self) -> None:
        """Let a signal that stops end the process: only the interpreter's own cleanup is left."""
        for number in STOPPING:
            signal.signal(number, signal.SIG_DFL)
        for number in HARMLESS:
            signal.signal(number, signal.SIG_IGN)

    def _handle(self, number: int, _: FrameType | None) -> None:
        received = signal.Signals(number)
        second = received in STOPPING and self.stopping is not None
        if received in STOPPING and self.stopping is None:
            self.stopping = received
        if self._receiver is not None:
            self._receiver(received)
        elif second:
            os._exit(1)
        else:
            self._early.append(received)
            if self._interrupting and received in STOPPING:
                self._interrupting = False
                raise Stopped

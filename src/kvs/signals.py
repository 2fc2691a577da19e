"""Signal handling, from before an engine is opened until after it has been closed.

One handler is installed for all of that time, so that no signal is lost: the kernel drops a signal for which process 1
of a container has no handler, and other processes would be killed by it.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, TypeAlias

STOPPING: Final = (signal.SIGTERM, signal.SIGINT)

HARMLESS: Final = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that end a process by default, and reach servers by closed terminals, by log rotation, or by mistake."""

Receiver: TypeAlias = Callable[[signal.Signals], None]


AGAIN_S: Final = 0.001
"""Delay before a lost exception is raised again."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt in the block, and end the process silently before and after it."""
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
    """Raise an exception of a signal handler again, a moment later, if it could not propagate.

    In a finalizer, or in a callback of a weak reference such as every import has, Python prints an exception with a
    traceback and continues. The alarm repeats until it has been raised: one that comes just before a system call which
    waits is noticed by Python only when another interrupts that.
    """
    report = sys.unraisablehook

    def unraisable(lost: "sys.UnraisableHookArgs") -> None:
        if isinstance(lost.exc_value, kind):
            signal.setitimer(signal.ITIMER_REAL, AGAIN_S, AGAIN_S)
        else:
            report(lost)

    def again(_: int, frame: FrameType | None) -> None:
        while frame is not None:
            if frame.f_code is unraisable.__code__:  # there it would be lost, too
                return
            frame = frame.f_back
        signal.setitimer(signal.ITIMER_REAL, 0)
        raise kind

    before = signal.signal(signal.SIGALRM, again)
    sys.unraisablehook = unraisable
    try:
        yield
    finally:
        sys.unraisablehook = report
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Stopped(BaseException):  # not an error, like KeyboardInterrupt
    """Raised in the main thread by a signal that interrupts the opening of the engine."""


class Signals:
    """Handles the signals of a server.

    The first one that stops it is kept until the server receives signals, or interrupts the opening of the engine. A
    second one before that ends the process at once.

    Concurrency: only for the main thread, where Python runs handlers between any two instructions.

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
        """Raise :class:`Stopped` in the block when a signal stops the server.

        Raises:
            Stopped: One has already arrived.
        """
        self._interrupting = True
        try:
            if self.stopping is not None:
                raise Stopped
            with _never_lost(Stopped):
                yield
            if self.stopping is not None:  # it was lost, or something else caught it
                raise Stopped
        finally:
            self._interrupting = False

    def deliver_to(self, receiver: Receiver | None) -> None:
        """Deliver signals to a receiver, earlier ones first; None ends the delivery."""
        self._receiver = receiver
        if receiver is not None:
            early, self._early = self._early, []
            for number in early:
                receiver(number)

    def keep(self, number: signal.Signals) -> None:
        """Have the next receiver get a signal, too: this one could not do all that it asks for."""
        self._early.append(number)

    def ignore(self) -> None:
        """Ignore signals from now on: only the log remains to be written, within a bounded time."""
        for number in (*STOPPING, *HARMLESS):
            signal.signal(number, signal.SIG_IGN)

    def finish(self) -> None:
        """Let a stopping signal end the process: only the interpreter's cleanup remains."""
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

"""Runs kvs as ``python -m kvs`` does, with what a test has asked for: ``script.py NAME[,NAME...] ARGUMENTS``.

* ``hangs``: on SIGUSR2 the loop hangs, until SIGUSR1.
* ``ahead``, ``behind``: the clock of the machine is a day off.
* ``steps``: on SIGRTMIN the clock is set forward by an hour, and on SIGRTMAX back.
* ``format2``: this is a version that also reads and writes a format 2, which is as format 1. It comes first.
* Others are rules that are left out; see :mod:`tests.faults.etcd.left_out`.
"""

import signal
import sys
import threading
import time
from types import FrameType

from kvs.__main__ import main
from kvs.signals import Signals

DAY_S = 86_400.0
HOUR_S = 3_600.0


def hang_on_signals() -> None:
    """Have the main thread, which is the loop's, hang in a signal handler."""
    go_on = threading.Event()
    install = Signals.install

    def hang(_number: int, _frame: FrameType | None) -> None:
        go_on.clear()
        while not go_on.is_set():
            time.sleep(0.01)

    def resume(_number: int, _frame: FrameType | None) -> None:
        go_on.set()

    def install_all(self: Signals) -> None:
        install(self)
        signal.signal(signal.SIGUSR2, hang)
        signal.signal(signal.SIGUSR1, resume)

    Signals.install = install_all  # type: ignore[method-assign]


class WallClock:
    """The clock of a machine that tells another time of day; kvs finds it in place of the real one."""

    def __init__(self, ahead_s: float = 0.0) -> None:
        self.ahead_s = ahead_s
        self._real = time.time
        time.time = self

    def __call__(self) -> float:
        return self._real() + self.ahead_s


def step_on_signals() -> None:
    """Have the clock set forward and back."""
    clock = WallClock()

    def step(number: int, _frame: FrameType | None) -> None:
        clock.ahead_s += HOUR_S if number == signal.SIGRTMIN else -HOUR_S

    signal.signal(signal.SIGRTMIN, step)
    signal.signal(signal.SIGRTMAX, step)


def know_format_2() -> None:
    """Be a later version."""
    from kvs.adapters.storage.etcd import formats  # noqa: PLC0415  # nothing else has imported it

    formats.READS = formats.WRITES = (1, 2)  # type: ignore[misc]


if __name__ == "__main__":
    names = sys.argv.pop(1).split(",")
    for name in names:
        if name == "hangs":
            hang_on_signals()
        elif name == "format2":
            know_format_2()
        elif name == "steps":
            step_on_signals()
        elif name in ("ahead", "behind"):
            WallClock(DAY_S if name == "ahead" else -DAY_S)
        else:
            from left_out import LEFT_OUT  # type: ignore[import-not-found]  # beside this file

            LEFT_OUT[name]()
    main()

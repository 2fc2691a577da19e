"""A server that notes for how long each callback of its loop waits: ``python -m bench.clocked``; SIGUSR1 has them told.

A wait is what is left of the time of a callback without the processor time of the thread, and without the time for
which it was ready to run and had no processor: Python's lock, locks of the server, and calls that block.
"""

import asyncio
import json
import os
import signal
import time
from asyncio import events
from pathlib import Path
from threading import Thread
from typing import Final

from bench.servers import WAITS_DIRECTORY
from kvs.__main__ import main

_waits_us: list[float] = []
_run_callback: Final = events.Handle._run  # noqa: SLF001  # there is no other place that all callbacks pass
_run_forever: Final = asyncio.BaseEventLoop.run_forever
_statistics: Final = os.open("/proc/thread-self/schedstat", os.O_RDONLY)  # of this thread, which runs the loop


def _run(handle: events.Handle) -> None:
    began_ns = time.monotonic_ns() - _own_ns()
    _run_callback(handle)
    _waits_us.append((time.monotonic_ns() - _own_ns() - began_ns) / 1e3)


def _own_ns() -> int:
    """Return for how long this thread has had a processor, or was ready for one."""
    return time.thread_time_ns() + int(os.pread(_statistics, 100, 0).split()[1])


def _run_with_signal(loop: asyncio.BaseEventLoop) -> None:
    loop.add_signal_handler(signal.SIGUSR1, _tell)
    _run_forever(loop)


def _tell() -> None:
    waits = _waits_us.copy()
    _waits_us.clear()
    Thread(target=_write, args=(waits,)).start()  # the loop is not to wait for a disk


def _write(waits_us: list[float]) -> None:
    path = Path(os.environ[WAITS_DIRECTORY], str(os.getpid()))
    part = path.with_suffix(".part")
    part.write_text(json.dumps(waits_us))
    part.rename(path)


if __name__ == "__main__":
    events.Handle._run = _run  # type: ignore[method-assign,assignment]  # noqa: SLF001
    asyncio.BaseEventLoop.run_forever = _run_with_signal  # type: ignore[method-assign,assignment]
    main()

"""Process-wide settings of a server: the garbage collector, the thread switch interval, and the descriptor limit."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from kvs.log_type import FilteringBoundLogger

FD_RESERVE: Final = 32
"""Descriptors that are not for clients: standard streams, listeners, the loop's own, the engine's, refused clients."""

SWITCH_INTERVAL_S: Final = 0.0005
"""How long a worker that computes in Python delays other threads, above all the loop; Python's default is ten times
that. Beside 8 clients whose calls computed for some 10 ms, the median PING took 4 ms instead of 13."""


def tune_gc() -> None:
    """Restrict the cyclic garbage collector to the youngest generation, and keep that small.

    A full collection walks every list of the key index and every map of a transaction: 30 ms at a million keys, 180 ms
    beside a transaction of 250,000 writes, and every client waits; one of the middle generation takes up to 60 ms while
    a million keys get old versions. Both would find nothing, since what lives long here is in no cycle
    (``tests/unit/test_cycles.py`` checks this), and reference counts free it. 2,000 young objects take about 1 ms.
    Python 3.14 collects in steps by itself; there the second threshold sets how large they are.
    """
    gc.freeze()
    gc.set_threshold(2_000, 2**31 - 1, 2**31 - 1)


def tune_thread_switching() -> None:
    """Let the loop run soon while workers compute."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)


@contextmanager
def thread_switching_tuned() -> Iterator[None]:
    """Let the loop run soon while other threads compute, for the time of a context."""
    before_s = sys.getswitchinterval()
    tune_thread_switching()
    try:
        yield
    finally:
        sys.setswitchinterval(before_s)


def raise_fd_limit(max_clients: int, log: FilteringBoundLogger) -> int:
    """Raise the limit on descriptors as far as needed and allowed; return how many clients then fit."""
    import resource  # noqa: PLC0415  # Unix only

    allowed = fitting_clients(max_clients)
    if allowed < max_clients:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        log.warning("max_clients_lowered", max_clients=allowed, wanted=max_clients, open_files_limit=soft)
    return allowed


def fitting_clients(max_clients: int) -> int:
    """Do the same, and log nothing."""
    import resource  # noqa: PLC0415  # Unix only

    needed = max_clients + FD_RESERVE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return max_clients
    soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max_clients if soft == needed else max(1, soft - FD_RESERVE)

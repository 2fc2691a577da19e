"""The memory allocator's figures, and the release of free memory to the system.

Freed memory stays with the process for reuse: after large transactions have been closed, hundreds of MiB may be
resident that no figure counts. glibc releases it on ``malloc_trim``. Where the C library has no such call, figures are
omitted and nothing is released.

Python has small objects in arenas of its own, of 1 MiB each, and returns one to the system when nothing is left in it.
But it also keeps up to some hundred freed lists, tuples and so on for reuse, which may be anywhere: after a million
keys have been deleted, they may hold half of the arenas. Only a full garbage collection frees them.
"""

import gc
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from ctypes import CDLL, Structure, c_int, c_size_t
from functools import cache
from pathlib import Path
from typing import Final, final

KEPT_BYTES: Final = 8 << 20
"""Free memory that malloc keeps at the end of its heap, and size from which a block gets memory of its own. By itself
malloc gives all beyond 128 KiB back at once, and takes it again page by page: a GET of 64 KiB by line took twice the
processor time."""

M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3
"""Names of glibc's parameters, ``mallopt(3)``."""

TRIM_EVERY_S: Final = 5.0
"""Least time between two trims."""

WORTH_TRIMMING_BYTES: Final = 8 << 20
"""Free memory that makes a trim worth its time, some 10 ms per GiB."""

MANY_BLOCKS: Final = 100_000
"""Python's objects that have been freed since there were most, which make a collection worth its time; ..."""

MANY_UNITS: Final = 100_000
"""... so does as much work, in which as many may have come and gone, unseen by an idle server; ..."""

FEW_BLOCKS: Final = 400_000
"""... where so few are left: it takes 5 ms then, and 30 at a million keys."""

QUIET_UNITS: Final = 1000
"""Most units of work since the last check, about 1 ms of work, for the server to count as idle."""


class _Mallinfo(Structure):
    _fields_ = [
        (name, c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


@cache
def _libc() -> CDLL | None:
    """Return the C library if it is one that can trim."""
    try:
        library = CDLL(None)
        library.mallinfo2.restype = _Mallinfo
        library.malloc_trim.argtypes = [c_size_t]
        library.malloc_trim.restype = c_int
    except (AttributeError, OSError):
        return None
    return library


def tune_malloc() -> None:
    """Have malloc keep what is free while the server is busy, unless the environment says what it is to do."""
    library = _libc()
    if library is None or "malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return
    for variable, parameter in (
        ("MALLOC_TRIM_THRESHOLD_", M_TRIM_THRESHOLD),
        ("MALLOC_MMAP_THRESHOLD_", M_MMAP_THRESHOLD),
    ):
        if variable not in os.environ:
            library.mallopt(parameter, KEPT_BYTES)


def free_bytes() -> int:
    """Return the free memory that the C library keeps; 0 where it does not report it."""
    library = _libc()
    return 0 if library is None else int(library.mallinfo2().fordblks)


def memory_figures() -> dict[str, int]:
    """Return the available figures for INFO."""
    figures = {}
    with suppress(OSError):
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
        figures["resident_bytes"] = pages * os.sysconf("SC_PAGE_SIZE")
    library = _libc()
    if library is not None:
        info = library.mallinfo2()
        figures["malloc_bytes"] = int(info.arena + info.hblkhd)
        figures["malloc_free_bytes"] = int(info.fordblks)
    return figures


def release_arenas() -> None:
    """Have Python free the objects that it keeps for reuse, and so the arenas that hold nothing else."""
    gc.collect()


def trim() -> None:
    """Release free memory to the system."""
    library = _libc()
    if library is not None:
        library.malloc_trim(0)


@final
class IdleTrimmer:
    """Releases free memory while the server is idle.

    Args:
        clock: Monotonic seconds.
        trim: Releases free memory.
        free: Returns the size of free memory.
        blocks: Returns how many objects Python has.
        release_arenas: Releases what is held by objects that are free.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        trim: Callable[[], None] = trim,
        free: Callable[[], int] = free_bytes,
        blocks: Callable[[], int] = sys.getallocatedblocks,
        release_arenas: Callable[[], None] = release_arenas,
    ) -> None:
        self._clock = clock
        self._trim = trim
        self._free = free
        self._blocks = blocks
        self._release_arenas = release_arenas
        self._most_blocks = 0  # since the last release
        self._units = 0  # since then
        self._due_s = 0.0
        self._left_bytes = 0  # was still free after the last trim

    def look(self, units: int) -> None:
        """Trim if it is worth it. To be called about every second.

        Args:
            units: Units of work since the last call.
        """
        self._units += units
        now_s = self._clock()
        if units > QUIET_UNITS or now_s < self._due_s:
            return
        self._due_s = now_s + TRIM_EVERY_S
        blocks = self._blocks()
        self._most_blocks = max(self._most_blocks, blocks)
        worth_it = self._most_blocks - blocks >= MANY_BLOCKS or self._units >= MANY_UNITS
        if worth_it and blocks <= FEW_BLOCKS:
            self._most_blocks = blocks
            self._units = 0
            self._release_arenas()
        free = self._free()
        if free < self._left_bytes + WORTH_TRIMMING_BYTES:
            self._left_bytes = min(self._left_bytes, free)
            return
        self._trim()
        self._left_bytes = self._free()

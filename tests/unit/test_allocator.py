"""What is free is given back while nothing else happens, and not more often than it is worth."""

import os
import subprocess
import sys

import pytest

from kvs.allocator import (
    FEW_BLOCKS,
    MANY_BLOCKS,
    MANY_UNITS,
    QUIET_UNITS,
    TRIM_EVERY_S,
    WORTH_TRIMMING_BYTES,
    IdleTrimmer,
    free_bytes,
    memory_figures,
)


class Heap:
    """What an allocator would say, and when it was trimmed."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.free = 0
        self.stays = 0  # free, and cannot be given back
        self.trims = 0
        self.blocks = 1000
        self.releases = 0
        self.trimmer = IdleTrimmer(lambda: self.now_s, self.trim, lambda: self.free, lambda: self.blocks, self.release)

    def trim(self) -> None:
        """Give back what can be."""
        self.trims += 1
        self.free = self.stays

    def release(self) -> None:
        """Give back arenas."""
        self.releases += 1

    def released(self, *blocks: int) -> int:
        """Let there be so many objects, one after the other; return how often arenas were given back."""
        for self.blocks in blocks:
            self.now_s += TRIM_EVERY_S
            self.look()
        return self.releases

    def look(self, units: int = 0) -> int:
        """Return how many trims there have been after a look."""
        self.trimmer.look(units)
        return self.trims


def test_what_is_worth_it_is_given_back() -> None:
    """At once, when nothing happens; and a little is not worth it."""
    heap = Heap()
    assert heap.look() == 0
    heap.free, heap.now_s = WORTH_TRIMMING_BYTES, heap.now_s + TRIM_EVERY_S
    assert heap.look() == 1


def test_a_busy_server_keeps_what_it_will_need() -> None:
    """A trim is for idle ones: it takes time, and the memory would be asked for again."""
    heap = Heap()
    heap.free = 1 << 30
    assert heap.look(QUIET_UNITS + 1) == 0
    assert heap.look(QUIET_UNITS) == 1


def test_trims_are_not_frequent() -> None:
    """However much is freed in between."""
    heap = Heap()
    heap.free = 1 << 30
    assert heap.look() == 1
    heap.free, heap.now_s = 1 << 30, heap.now_s + TRIM_EVERY_S / 2
    assert heap.look() == 1
    heap.now_s += TRIM_EVERY_S
    assert heap.look() == 2


def test_what_cannot_be_given_back_is_not_tried_again_and_again() -> None:
    """Only what has become free since counts."""
    heap = Heap()
    heap.free = heap.stays = 1 << 30
    assert heap.look() == 1
    for _ in range(3):
        heap.now_s += TRIM_EVERY_S
        assert heap.look() == 1
    heap.free += WORTH_TRIMMING_BYTES
    heap.now_s += TRIM_EVERY_S
    assert heap.look() == 2


def test_arenas_are_given_back_once_many_objects_have_gone_and_few_are_left() -> None:
    """They are in Python's hands, which no figure of the C library shows."""
    assert Heap().released(1000, MANY_BLOCKS + 1000, 1000, 1000, 1000) == 1
    assert Heap().released(1000, 10 * MANY_BLOCKS, 1000, 10 * MANY_BLOCKS, 1000) == 2
    assert Heap().released(1000, MANY_BLOCKS, 1000) == 0
    assert Heap().released(10 * FEW_BLOCKS, 9 * FEW_BLOCKS, 4 * FEW_BLOCKS, FEW_BLOCKS + 1) == 0
    assert Heap().released(3 * FEW_BLOCKS, FEW_BLOCKS) == 1
    assert Heap().released(FEW_BLOCKS, FEW_BLOCKS - MANY_BLOCKS + 1) == 0


def test_arenas_are_given_back_after_much_work() -> None:
    """Many objects may have come and gone while nobody looked."""
    heap = Heap()
    assert heap.released(1000) == 0
    for _ in range(3):
        heap.look(MANY_UNITS // 3)
    assert heap.releases == 0
    heap.look(QUIET_UNITS)
    assert heap.released(1000, 1000) == 1


def test_figures_are_those_that_can_be_had() -> None:
    """Whole numbers, none of them negative; free memory is part of what is held."""
    figures = memory_figures()
    assert all(type(figure) is int and figure >= 0 for figure in figures.values())
    if "malloc_bytes" not in figures:
        pytest.skip("this C library does not say what it holds")
    assert figures["malloc_free_bytes"] <= figures["malloc_bytes"]
    assert 0 <= free_bytes() <= figures["malloc_bytes"] + WORTH_TRIMMING_BYTES


FAULTS = """
import resource, sys
from kvs.allocator import tune_malloc
if "tune" in sys.argv:
    tune_malloc()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(1000):
    blocks = [bytes(100_000) for _ in range(5)]
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(*arguments: str, **variables: str) -> int:
    """Return how many pages a process was given while it took the same 500 KB, and let them go, a thousand times."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", FAULTS, *arguments]
    return int(subprocess.run(command, env=environment | variables, check=True, capture_output=True).stdout)


@pytest.mark.skipif(free_bytes() == 0, reason="only glibc can be told")
def test_what_is_needed_again_is_kept() -> None:
    """Else each reply of some size would take its pages from the system anew; but who sets malloc by hand decides."""
    assert page_faults() > 10_000
    assert page_faults("tune") < 1_000
    assert page_faults("tune", MALLOC_TRIM_THRESHOLD_="131072") > 10_000
    assert page_faults("tune", GLIBC_TUNABLES="glibc.malloc.trim_threshold=131072") > 10_000

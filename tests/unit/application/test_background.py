"""Threads for what would hold up the loop: started when needed, and ended with their owner."""

import os
import sys
from threading import active_count, current_thread, get_native_id

import pytest

from kvs.application.background import NICENESS, Background
from tests.support.stage_of_users import HandLoop


def test_no_thread_before_the_first_job() -> None:
    """And none after the end; closing twice is harmless."""
    before = active_count()
    loop = HandLoop()
    background = Background(2, lambda: loop)
    background.close()
    assert active_count() == before
    names: list[str] = []
    background.run(lambda: names.append(current_thread().name), lambda: names.append(current_thread().name))
    assert active_count() == before + 2
    loop.run_one()
    assert names == ["kvs-worker", current_thread().name]
    background.close()
    background.close()
    assert active_count() == before


def test_a_job_ends_on_the_loop_that_ran_when_it_began() -> None:
    """One that has ended is told nothing."""
    loops = [HandLoop(), HandLoop()]
    background = Background(1, lambda: loops[0])
    ended: list[int] = []
    background.run(lambda: None, lambda: ended.append(1))
    loops.pop(0)
    background.run(lambda: None, lambda: ended.append(2))
    loops[0].run_one()
    background.close()
    assert ended == [2]
    assert loops[0].calls.empty()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of threads")
@pytest.mark.parametrize("polite", [False, True])
def test_polite_threads_give_way(polite: bool) -> None:
    """To the loop, whose priority stays what it is."""
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    loop = HandLoop()
    background = Background(1, lambda: loop, polite=polite)
    found: list[int] = []
    background.run(lambda: found.append(os.getpriority(os.PRIO_PROCESS, get_native_id())), lambda: None)
    loop.run_one()
    background.close()
    assert found == [min(19, max(ours, NICENESS)) if polite else ours]
    assert os.getpriority(os.PRIO_PROCESS, 0) == ours

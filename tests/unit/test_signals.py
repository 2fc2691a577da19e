"""An exception of a signal handler is raised where it can propagate, and nowhere else."""

import subprocess
import sys

import pytest

from tests.support.waiting import TIMEOUT_S

pytestmark = pytest.mark.one_build

SCRIPT = """
import signal, sys, time, traceback, types
from kvs import signals
def slow(*arguments):
    signal.setitimer = arm
    arm(*arguments)
    until_s = time.monotonic() + 10 * signals.AGAIN_S
    while time.monotonic() < until_s:
        pass
arm, signal.setitimer = signal.setitimer, slow
try:
    with signals.interruptible():
        sys.unraisablehook(types.SimpleNamespace(exc_value=KeyboardInterrupt()))
        time.sleep(60)
except KeyboardInterrupt as error:
    print([frame.name for frame in traceback.extract_tb(error.__traceback__)])
"""


def test_an_exception_that_was_lost_is_not_raised_where_it_would_be_lost_again() -> None:
    """While the hook runs that Python calls for lost ones, which may take longer than the delay."""
    ran = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    assert (ran.stdout, ran.stderr) == ("['<module>', 'again']\n", "")

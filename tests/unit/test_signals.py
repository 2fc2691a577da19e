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


MISSED = """
import signal, sys, time, types
from kvs import signals
missed = []
try:
    with signals.interruptible():
        again = signal.getsignal(signal.SIGALRM)
        signal.signal(signal.SIGALRM, lambda *arguments: again(*arguments) if missed else missed.append(arguments))
        sys.unraisablehook(types.SimpleNamespace(exc_value=KeyboardInterrupt()))
        time.sleep(60)
except KeyboardInterrupt:
    print(len(missed), signal.getitimer(signal.ITIMER_REAL))
"""


def test_an_alarm_that_changes_nothing_is_followed_by_another() -> None:
    """Python notices none that comes between its last look and a system call that waits."""
    ran = subprocess.run([sys.executable, "-c", MISSED], capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    assert (ran.stdout, ran.stderr) == ("1 (0.0, 0.0)\n", "")

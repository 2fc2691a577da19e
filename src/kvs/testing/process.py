"""A process with a durable engine open, which a test kills: how a test controls it, and what runs in it.

The process imports the test class by name and opens the engine as the class does, so it inherits nothing from this one,
in particular no open files and no locks. It prints a line for every step that must be durable from then on.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import count
from operator import attrgetter
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Final

from kvs.domain.commit import CommitRequest
from kvs.domain.updates import Remove, Replace
from kvs.domain.values import TOMBSTONE, Key, Value
from kvs.ports.storage import Storage
from kvs.testing.cases.base import EDGE_CASE_KEYS, EDGE_CASE_VALUES, end_tick

if TYPE_CHECKING:
    from kvs.testing.cases.durability import DurabilityCases

TIMEOUT_S: Final = 60.0

FILLED: Final[dict[Key, Value]] = {
    **{key: b"value of " + key for key in EDGE_CASE_KEYS},
    **{b"v%d" % number: value for number, value in enumerate(EDGE_CASE_VALUES)},
    b"emptied": b"",
    b"overwritten": b"new",
    b"committed": b"new",
    b"came back": b"new",
    b"updated": b"new",
}
"""The data after :func:`fill`."""


class Process:
    """Controls the process."""

    def __init__(self, process: "subprocess.Popen[str]", name: str) -> None:
        self._process = process
        self._name = name

    def wait_for(self, line: str) -> None:
        """Wait until the process has printed a line.

        Raises:
            AssertionError: It has ended, or printed nothing for a minute; its standard error has the reason.
        """
        assert self._process.stdout is not None
        for printed in self._process.stdout:
            if printed.strip() == line:
                return
        raise AssertionError(f"the process that opens {self._name} did not get to {line!r}; see its standard error")

    def kill(self) -> str:
        """Kill the process; return the last line that it printed and nobody waited for, or ''."""
        self._process.kill()
        assert self._process.stdout is not None
        lines = self._process.stdout.read().split("\n")[:-1]  # a last line without an end is incomplete
        self._process.wait()
        return lines[-1] if lines else ""


@contextmanager
def running(cases: "DurabilityCases", directory: Path, work: Callable[[Storage], None]) -> Iterator[Process]:
    """Run ``work`` in another process, on an engine in a directory; the process is killed on exit at the latest."""
    name = f"{type(cases).__module__}:{type(cases).__qualname__}"
    code = "from kvs.testing.process import main; main()"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(  # noqa: S603  # this Python, and names of classes
        [sys.executable, "-c", code, name, str(directory), work.__name__],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        watchdog = Timer(TIMEOUT_S, process.kill)
        watchdog.start()
        try:
            yield Process(process, name)
        finally:
            watchdog.cancel()
            process.kill()


# In the process.


def main() -> None:
    """Open the engine of a test class in a directory, run the work of that name, and wait to be killed."""
    name, directory, work = sys.argv[1:]
    module, _, qualified_name = name.partition(":")
    cases: DurabilityCases = attrgetter(qualified_name)(import_module(module))()
    with cases.open_storage_in(Path(directory)) as storage:
        WORKS[work](storage)
        sys.stdin.read()  # returns when the parent process ends, however it ends


def say(line: str) -> None:
    """Print a line for the test, without buffering."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def hold(_: Storage) -> None:
    """Keep the engine open."""
    say("open")


def fill(storage: Storage) -> None:
    """Write by every kind of call, and make it durable."""
    storage.put(b"cleared", b"old")
    end_tick(storage)
    storage.clear()
    for key, value in FILLED.items():
        storage.put(key, value)
    for key in (b"overwritten", b"came back", b"updated", b"deleted", b"deleted by an update", b"deleted by a commit"):
        storage.put(key, b"old")
    storage.delete(b"came back")
    end_tick(storage)
    storage.put(b"overwritten", b"new")
    storage.delete(b"deleted")
    storage.update(b"updated", Replace(b"new"))
    storage.update(b"deleted by an update", Remove())
    storage.commit(CommitRequest((), {b"committed": b"new", b"came back": b"new", b"deleted by a commit": TOMBSTONE}))
    end_tick(storage)
    say("filled")


def count_up(storage: Storage) -> None:
    """Commit the next number under several keys, for ever; print each number once it must be durable."""
    for number in count(1):
        digits = b"%d" % number
        last = b"n%d" % (number - 1)
        storage.commit(CommitRequest((), {b"a": digits, b"n" + digits: b"", last: TOMBSTONE, b"z": digits}))
        end_tick(storage)
        say(str(number))


WORKS: Final = {work.__name__: work for work in (hold, fill, count_up)}

"""Another process that has a durable engine open, to be killed: both ends of it.

The process imports the test class by its name and opens the engine as the class says, so that nothing of this process,
open files and locks least of all, is inherited. It prints a line for each thing that from then on has to last.
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
from kvs.testing.cases.base import ODD_KEYS, ODD_VALUES, settle

if TYPE_CHECKING:
    from kvs.testing.cases.durability import DurabilityCases

TIMEOUT_S: Final = 60.0

FILLED: Final[dict[Key, Value]] = {
    **{key: b"value of " + key for key in ODD_KEYS},
    **{b"v%d" % number: value for number, value in enumerate(ODD_VALUES)},
    b"emptied": b"",
    b"overwritten": b"new",
    b"committed": b"new",
    b"came back": b"new",
    b"updated": b"new",
}
"""The data after :func:`fill`."""


class Process:
    """The process, from outside."""

    def __init__(self, process: "subprocess.Popen[str]", name: str) -> None:
        self._process = process
        self._name = name

    def wait_for(self, line: str) -> None:
        """Wait until the process has said a line.

        Raises:
            AssertionError: It has ended, or said nothing for a minute; why is on its standard error.
        """
        assert self._process.stdout is not None
        for said in self._process.stdout:
            if said.strip() == line:
                return
        raise AssertionError(f"the process that opens {self._name} did not get to {line!r}; see its standard error")

    def kill(self) -> str:
        """Kill the process, with no warning; return the last line that it said and that was not waited for, or ''."""
        self._process.kill()
        assert self._process.stdout is not None
        lines = self._process.stdout.read().split("\n")[:-1]  # what follows the last end of a line was cut short
        self._process.wait()
        return lines[-1] if lines else ""


@contextmanager
def running(cases: "DurabilityCases", directory: Path, work: Callable[[Storage], None]) -> Iterator[Process]:
    """Have another process open the engine in a directory and work there; it is killed at the end at the latest."""
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


# The other end.


def main() -> None:
    """Open the engine of a test class in a directory, do the work of that name, and wait to be killed."""
    name, directory, work = sys.argv[1:]
    module, _, qualified_name = name.partition(":")
    cases: DurabilityCases = attrgetter(qualified_name)(import_module(module))()
    with cases.open_storage_in(Path(directory)) as storage:
        WORKS[work](storage)
        sys.stdin.read()  # returns when the parent process ends, however it ends


def say(line: str) -> None:
    """Tell the other process, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def hold(_: Storage) -> None:
    """Have the engine open, and no more."""
    say("open")


def fill(storage: Storage) -> None:
    """Write in every way there is, and make it last."""
    storage.put(b"cleared", b"old")
    settle(storage)
    storage.clear()
    for key, value in FILLED.items():
        storage.put(key, value)
    for key in (b"overwritten", b"came back", b"updated", b"deleted", b"deleted by an update", b"deleted by a commit"):
        storage.put(key, b"old")
    storage.delete(b"came back")
    settle(storage)
    storage.put(b"overwritten", b"new")
    storage.delete(b"deleted")
    storage.update(b"updated", Replace(b"new"))
    storage.update(b"deleted by an update", Remove())
    storage.commit(CommitRequest((), {b"committed": b"new", b"came back": b"new", b"deleted by a commit": TOMBSTONE}))
    settle(storage)
    say("filled")


def count_up(storage: Storage) -> None:
    """Commit the next number under several keys, for ever; say each number when it is to last."""
    for number in count(1):
        digits = b"%d" % number
        last = b"n%d" % (number - 1)
        storage.commit(CommitRequest((), {b"a": digits, b"n" + digits: b"", last: TOMBSTONE, b"z": digits}))
        settle(storage)
        say(str(number))


WORKS: Final = {work.__name__: work for work in (hold, fill, count_up)}

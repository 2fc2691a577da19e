"""Loads a dump into a sink: all of it is checked first, where it can be read twice."""

from collections.abc import Callable, Iterable, Iterator
from os import SEEK_END
from typing import BinaryIO, Final, Protocol

from kvs.domain.values import Key, Value
from kvs.dump.errors import CareError, LineError
from kvs.dump.progress import Progress
from kvs.dump.reader import NumberedEntry, read_entries
from kvs.standard_streams import reason_of

MAX_PROBLEMS: Final = 10
"""How many bad lines are told before a check gives up."""

JSON_OVERHEAD_BYTES: Final = 1024
"""What a line may hold beyond key and value: names, punctuation, and blanks in one that was made by hand."""


class Sink(Protocol):
    """**Protocol:** Where entries go, and how many have arrived for certain."""

    stored: int

    def objection(self, key: Key, value: Value) -> str:
        """Return why an entry cannot be stored; nothing if it can."""

    def store(self, entries: Iterable[NumberedEntry]) -> None:
        """Store entries, up to the first that fails.

        Raises:
            CareError: An entry was refused, or could not be read; or the sink fails.
        """


def longest_line_bytes(max_key_bytes: int, max_value_bytes: int) -> int:
    """Return how long the line of an entry can be: JSON writes a control character in six bytes."""
    return 6 * (max_key_bytes + max_value_bytes) + JSON_OVERHEAD_BYTES


def load(stream: BinaryIO, sink: Sink, max_line_bytes: int) -> None:
    """Load a dump. Keys that are there are overwritten, others are left alone.

    A file is checked whole before its first entry is stored. What comes through a pipe is checked line by line as it is
    stored, for it can be read only once.

    Raises:
        CareError: Something is wrong with the dump or the sink; the message says how many entries were stored.
    """
    total = None
    if stream.seekable():
        beginning = stream.tell()
        total = _check(stream, sink, max_line_bytes)
        stream.seek(beginning)
    try:
        with Progress("Loading", total) as progress:
            sink.store(progress.through(_entries(stream, sink, max_line_bytes, _fail)))
    except CareError as error:
        raise CareError(f"{str(error).rstrip('.')}; at least {sink.stored} entries were loaded") from error
    except KeyboardInterrupt:
        raise CareError(f"interrupted; at least {sink.stored} entries were loaded") from None


def _check(stream: BinaryIO, sink: Sink, max_line_bytes: int) -> int:
    """Return how many entries a dump has, if all of it can be loaded."""
    problems: list[CareError] = []

    def report(problem: CareError) -> None:
        problems.append(problem)
        if len(problems) == MAX_PROBLEMS:
            raise _summary(problems, "wrong, among others")

    beginning = stream.tell()
    size = stream.seek(0, SEEK_END) - beginning
    stream.seek(beginning)
    count = 0
    with Progress("Checking", size, lambda: stream.tell() - beginning) as progress:
        for _ in progress.through(_entries(stream, sink, max_line_bytes, report)):
            count += 1
    if problems:
        raise _summary(problems, "wrong")
    return count


def _entries(
    stream: BinaryIO, sink: Sink, max_line_bytes: int, report: Callable[[CareError], None]
) -> Iterator[NumberedEntry]:
    """Yield the entries that the sink will take."""
    try:
        for entry in read_entries(stream, max_line_bytes, report):
            number, key, value = entry
            objection = sink.objection(key, value)
            if objection:
                report(LineError(number, objection))
            else:
                yield entry
    except OSError as error:
        raise CareError(f"the dump cannot be read: {reason_of(error)}") from None


def _fail(problem: CareError) -> None:
    raise problem


def _summary(problems: list[CareError], they_are: str) -> CareError:
    if len(problems) == 1:
        return CareError(f"{problems[0]}; nothing was loaded")
    return CareError("\n  ".join([f"nothing was loaded; {they_are}:", *map(str, problems)]))

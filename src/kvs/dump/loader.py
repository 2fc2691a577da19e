"""Loads a dump into a sink, after a complete check if the dump can be read twice."""

from collections.abc import Callable, Iterable, Iterator
from os import SEEK_END
from typing import BinaryIO, Final, Protocol

from kvs.domain.values import Key, Value
from kvs.dump.errors import DumpError, LineError
from kvs.dump.reader import NumberedEntry, read_entries
from kvs.progress import Progress, no_progress
from kvs.standard_streams import reason_of

MAX_PROBLEMS: Final = 10
"""Maximum number of bad lines that a check reports."""

JSON_OVERHEAD_BYTES: Final = 1024
"""Bytes that a line may have beyond key and value: names, punctuation, and blanks in a dump made by hand."""


class Sink(Protocol):
    """**Protocol:** Stores entries."""

    @property
    def stored(self) -> int:
        """Number of entries that are certainly stored."""

    @property
    def unconfirmed(self) -> int:
        """Number of further entries that may be stored."""

    def rejection_reason(self, key: Key, value: Value) -> str:
        """Return why an entry cannot be stored; empty if it can."""

    def store(self, entries: Iterable[NumberedEntry]) -> None:
        """Store entries, up to the first that fails.

        Raises:
            DumpError: An entry was refused, or could not be read; or the sink fails.
        """


def longest_line_bytes(max_key_bytes: int, max_value_bytes: int) -> int:
    """Return the maximum length of a line: JSON writes a control character in six bytes."""
    return 6 * (max_key_bytes + max_value_bytes) + JSON_OVERHEAD_BYTES


def load(stream: BinaryIO, sink: Sink, max_line_bytes: int, progress: Progress = no_progress) -> int:
    """Load a dump; return the number of entries. Existing keys are overwritten, other keys are kept.

    A file is checked whole before its first entry is stored. A pipe can be read only once, so its lines are checked as
    they are stored.

    Raises:
        DumpError: Something is wrong with the dump or the sink; the message says how many entries were stored.
    """
    total = None
    if stream.seekable():
        beginning = stream.tell()
        total = _check(stream, sink, max_line_bytes, progress)
        stream.seek(beginning)
    try:
        sink.store(_reported(_entries(stream, sink, max_line_bytes, _fail), total, progress))
    except DumpError as error:
        raise DumpError(f"{str(error).rstrip('.')}; {_outcome(sink)}") from error
    except KeyboardInterrupt:
        raise DumpError(f"interrupted; {_outcome(sink)}") from None
    return sink.stored


def counted(entries: int) -> str:
    """Return a number of entries with its noun, such as ``1 entry``."""
    return f"{entries:,} entr{'y' if entries == 1 else 'ies'}"


def _outcome(sink: Sink) -> str:
    stored = f"{counted(sink.stored)} {'was' if sink.stored == 1 else 'were'} loaded"
    if not sink.unconfirmed:
        return stored if sink.stored else "nothing was loaded"
    if not sink.stored:
        return f"up to {counted(sink.unconfirmed)} may have been loaded"
    return f"{stored}, and up to {sink.unconfirmed:,} more may have been"


def _check(stream: BinaryIO, sink: Sink, max_line_bytes: int, progress: Progress) -> int:
    """Return the number of entries of a dump.

    Raises:
        DumpError: An entry cannot be loaded.
    """
    problems: list[DumpError] = []

    def report(problem: DumpError) -> None:
        problems.append(problem)
        if len(problems) == MAX_PROBLEMS:
            raise _summary(problems, f"the first {MAX_PROBLEMS} errors")

    beginning = stream.tell()
    size = stream.seek(0, SEEK_END) - beginning
    stream.seek(beginning)
    count = 0
    progress("Checking", "keys", count, size, 0)
    for count, _ in enumerate(_entries(stream, sink, max_line_bytes, report), 1):
        progress("Checking", "keys", count, size, stream.tell() - beginning)
    progress("Checking", "keys", count, size, size)
    if problems:
        raise _summary(problems, "errors")
    return count


def _entries(
    stream: BinaryIO, sink: Sink, max_line_bytes: int, report: Callable[[DumpError], None]
) -> Iterator[NumberedEntry]:
    """Yield the entries that the sink would accept, and report the others."""
    try:
        for entry in read_entries(stream, max_line_bytes, report):
            number, key, value = entry
            reason = sink.rejection_reason(key, value)
            if reason:
                report(LineError(number, reason))
            else:
                yield entry
    except OSError as error:
        raise DumpError(f"the dump cannot be read: {reason_of(error)}") from None


def _reported(entries: Iterable[NumberedEntry], total: int | None, progress: Progress) -> Iterator[NumberedEntry]:
    progress("Loading", "keys", 0, total)
    for count, entry in enumerate(entries, 1):
        yield entry
        progress("Loading", "keys", count, total)


def _fail(problem: DumpError) -> None:
    raise problem


def _summary(problems: list[DumpError], what: str) -> DumpError:
    if len(problems) == 1:
        return DumpError(f"{problems[0]}; nothing was loaded")
    return DumpError("\n  ".join([f"nothing was loaded; {what}:", *map(str, problems)]))

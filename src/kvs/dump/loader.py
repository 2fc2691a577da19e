"""Loads a dump into a sink, after a complete check if the dump can be read twice."""

from collections.abc import Callable, Iterable, Iterator
from os import SEEK_END
from typing import BinaryIO, Final, NamedTuple, Protocol

from kvs.domain.values import NO_DEADLINE, Key, Value, deadline_of
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

    def now_ms(self) -> int:
        """Return the time by which the sink judges what is due, in milliseconds since 1970."""

    def rejection_reason(self, key: Key, value: Value) -> str:
        """Return why an entry cannot be stored; empty if it can."""

    def store(self, entries: Iterable[NumberedEntry]) -> None:
        """Store entries, up to the first that fails.

        Raises:
            DumpError: An entry was refused, or could not be read; or the sink fails.
        """


class Loaded(NamedTuple):
    """What a load has done: the number of entries stored, and of those skipped because they had expired."""

    stored: int
    expired: int


def longest_line_bytes(max_key_bytes: int, max_value_bytes: int) -> int:
    """Return the maximum length of a line: JSON writes a control character in six bytes."""
    return 6 * (max_key_bytes + max_value_bytes) + JSON_OVERHEAD_BYTES


def load(
    stream: BinaryIO, sink: Sink, max_line_bytes: int, progress: Progress = no_progress, *, extend: bool = False
) -> Loaded:
    """Load a dump. Existing keys are overwritten, other keys are kept, and entries that are due are skipped.

    A file is checked whole before its first entry is stored. A pipe can be read only once, so its lines are checked as
    they are stored.

    Args:
        stream: The dump.
        sink: Stores the entries.
        max_line_bytes: Maximum length of a line.
        progress: Called periodically.
        extend: Whether deadlines are shifted by the age of the dump, so that every entry has the time left that it had.

    Raises:
        DumpError: Something is wrong with the dump or the sink; the message says how many entries were stored.
    """
    total = None
    expired = 0
    extends_to_ms = sink.now_ms() if extend else 0

    def entries(report: Callable[[DumpError], None]) -> Iterator[NumberedEntry]:
        return _entries(read_entries(stream, max_line_bytes, report, extends_to_ms), sink, report)

    def living() -> Iterator[NumberedEntry]:
        nonlocal expired
        for entry in _reported(entries(_fail), total, progress):
            value = entry[2]
            if type(value) is not bytes and NO_DEADLINE < deadline_of(value) <= sink.now_ms():
                expired += 1
            else:
                yield entry

    if stream.seekable():
        beginning = stream.tell()
        total = _check(stream, entries, progress)
        stream.seek(beginning)
    try:
        sink.store(living())
    except DumpError as error:
        raise DumpError(f"{str(error).rstrip('.')}; {_outcome(sink)}") from error
    except KeyboardInterrupt:
        raise DumpError(f"interrupted; {_outcome(sink)}") from None
    return Loaded(sink.stored, expired)


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


def _check(
    stream: BinaryIO, entries: Callable[[Callable[[DumpError], None]], Iterator[NumberedEntry]], progress: Progress
) -> int:
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
    for count, _ in enumerate(entries(report), 1):
        progress("Checking", "keys", count, size, stream.tell() - beginning)
    progress("Checking", "keys", count, size, size)
    if problems:
        raise _summary(problems, "errors")
    return count


def _entries(read: Iterable[NumberedEntry], sink: Sink, report: Callable[[DumpError], None]) -> Iterator[NumberedEntry]:
    """Yield the entries that the sink would accept, and report the others."""
    try:
        for entry in read:
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

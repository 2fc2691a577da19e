"""Dumps a source: header, entries, trailer, and the clock if there are deadlines."""

from collections.abc import Iterator
from typing import BinaryIO, Protocol

from kvs.dump.errors import DumpError
from kvs.dump.format import HEADER, Entry, clock_line, entry_line, trailer_line
from kvs.progress import Progress, no_progress


class Source(Protocol):
    """**Protocol:** The data as of one moment. Failures raise a :class:`DumpError`.

    Attributes:
        total: Number of entries.
        time_ms: The moment, in milliseconds since 1970, by the clock that decides what is due.
    """

    total: int
    time_ms: int

    def entries(self) -> Iterator[Entry]:
        """Yield every entry in key order."""


def dump(source: Source, output: BinaryIO, progress: Progress = no_progress) -> int:
    """Write a dump; return the number of entries. Without its last line, a dump is incomplete.

    Raises:
        DumpError: The source fails.
        OSError: The output cannot be written.
    """
    output.write(HEADER)
    count = 0
    has_clock = False
    progress("Dumping", "keys", count, source.total)
    for count, (key, value) in enumerate(source.entries(), 1):
        if type(value) is not bytes and not has_clock:
            output.write(clock_line(source.time_ms))
            has_clock = True
        output.write(entry_line(key, value))
        progress("Dumping", "keys", count, source.total)
    if count != source.total:
        raise DumpError(f"expected {source.total} entries, got {count}; please report this as a bug")
    output.write(trailer_line(count))
    return count

"""Dumps a source: header, entries, trailer."""

from collections.abc import Iterator
from typing import BinaryIO, Protocol

from kvs.dump.errors import DumpError
from kvs.dump.format import HEADER, Entry, entry_line, trailer_line
from kvs.dump.progress import NoProgress, StartProgress


class Source(Protocol):
    """**Protocol:** The data as of one moment.

    Attributes:
        total: Number of entries.
    """

    total: int

    def entries(self) -> Iterator[Entry]:
        """Yield every entry in key order."""


def dump(source: Source, output: BinaryIO, progress: StartProgress = NoProgress) -> int:
    """Write a dump; return the number of entries. Without its last line, a dump is incomplete.

    Raises:
        DumpError: The source fails.
        OSError: The output cannot be written.
    """
    output.write(HEADER)
    count = 0
    with progress("Dumping", source.total) as tracker:
        for key, value in tracker.through(source.entries()):
            output.write(entry_line(key, value))
            count += 1
    if count != source.total:
        raise DumpError(f"expected {source.total} entries, got {count}; please report this as a bug")
    output.write(trailer_line(count))
    return count

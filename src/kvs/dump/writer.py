"""Dumps a source: header, entries, trailer."""

from collections.abc import Iterator
from typing import BinaryIO, Protocol

from kvs.dump.errors import CareError
from kvs.dump.format import HEADER, Entry, entry_line, trailer_line
from kvs.dump.progress import Progress


class Source(Protocol):
    """**Protocol:** Data as of one moment, and how many entries they are."""

    total: int

    def entries(self) -> Iterator[Entry]:
        """Yield every entry, in the order of keys."""


def dump(source: Source, output: BinaryIO) -> None:
    """Write a dump. Its last line is what tells that all of it is there.

    Raises:
        CareError: The source fails.
        OSError: It cannot be written.
    """
    output.write(HEADER)
    count = 0
    with Progress("Dumping", source.total, shown=not output.isatty()) as progress:
        for key, value in progress.through(source.entries()):
            output.write(entry_line(key, value))
            count += 1
    if count != source.total:
        raise CareError(f"there were {source.total} keys to dump and {count} came; please report it")
    output.write(trailer_line(count))

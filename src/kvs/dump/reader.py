"""Reads a dump line by line: its entries, each with the number of its line, and whether all of it is there."""

import codecs
from collections.abc import Callable, Iterator
from typing import BinaryIO, TypeAlias

from kvs.domain.values import Key, Value
from kvs.dump.errors import CareError, LineError
from kvs.dump.format import VERSION, BadLineError, Header, Trailer, parse

NumberedEntry: TypeAlias = tuple[int, Key, Value]
"""The number of a line, from 1, and the entry it holds."""


def read_entries(stream: BinaryIO, max_line_bytes: int, report: Callable[[CareError], None]) -> Iterator[NumberedEntry]:
    """Yield the entries of a dump, in bounded memory.

    A dump that begins with a header has to end with a trailer. One that does not was made by hand: it may end anywhere,
    but if there is a trailer, it has to be right.

    Args:
        stream: The dump.
        max_line_bytes: Longest line; a longer one ends it.
        report: Is told what is wrong. If it returns, reading goes on behind the line, where that makes sense.

    Raises:
        OSError: The stream cannot be read.
    """
    number = entries = bad = 0
    begun = ended = False
    while line := stream.readline(max_line_bytes + 1):
        number += 1
        if len(line) > max_line_bytes:
            report(LineError(number, f"longer than {max_line_bytes} bytes, which no entry within the limits can be"))
            return
        if ended:
            report(
                LineError(number, "there is more behind the line that tells the number of entries, the last of a dump")
            )
            return
        try:
            said = parse((line.removeprefix(codecs.BOM_UTF8) if number == 1 else line).removesuffix(b"\n"))
            if isinstance(said, tuple):
                entries += 1
                yield number, said[0], said[1]
            elif isinstance(said, Header):
                objection = _header_objection(said, number)
                if objection:
                    report(LineError(number, objection))
                    return
                begun = True
            else:
                ended = True
                _check_trailer(said, entries + bad)
        except BadLineError as error:
            reason = str(error) if line.endswith(b"\n") else f"the dump is cut off in the middle of this line ({error})"
            report(LineError(number, reason))
            bad += 1
    if not number:
        report(CareError("the dump is empty: there is not a single line in it"))
    elif begun and not ended and not bad:
        report(
            CareError(
                f"the dump is cut off behind line {number}: its last line, with the number of entries, is missing"
            )
        )


def _header_objection(header: Header, number: int) -> str:
    if number > 1:
        return "the first line of a dump is in the middle of another; load them one by one"
    if header.kvs_dump != VERSION:
        return f"this dump has format {header.kvs_dump}; this version of kvs knows format {VERSION}"
    return ""


def _check_trailer(trailer: Trailer, entries: int) -> None:
    if trailer.entries != entries:
        raise BadLineError(
            f"there should be {trailer.entries} entries and there are {entries}; if that is meant, leave the first and "
            "the last line out"
        )

"""Reads the entries of a dump line by line, and detects truncation."""

import codecs
from collections.abc import Callable, Iterator
from typing import BinaryIO, TypeAlias

from kvs.domain.values import MAX_DEADLINE_MS, Key, Value, deadline_of, with_deadline
from kvs.dump.errors import DumpError, LineError
from kvs.dump.format import VERSION, BadLineError, Clock, Header, Trailer, parse

NumberedEntry: TypeAlias = tuple[int, Key, Value]
"""The number of a line, from 1, and the entry it holds."""


def read_entries(
    stream: BinaryIO, max_line_bytes: int, report: Callable[[DumpError], None], extends_to_ms: int = 0
) -> Iterator[NumberedEntry]:
    """Yield the entries of a dump, in bounded memory.

    A dump with a header must end with a trailer. One without a header was made by hand; it may end anywhere,
    but a trailer, if present, must be correct.

    Args:
        stream: The dump.
        max_line_bytes: Maximum length of a line; reading stops at a longer one.
        report: Called for each problem. If it returns, reading continues after the line, if possible.
        extends_to_ms: If not 0, deadlines are shifted by what is between the time of the dump and this one, in
            milliseconds since 1970.

    Raises:
        OSError: The stream cannot be read.
    """
    number = entries = bad = 0
    has_header = has_trailer = False
    clock: Clock | None = None
    while line := stream.readline(max_line_bytes + 1):
        number += 1
        if len(line) > max_line_bytes:
            report(LineError(number, "longer than any entry within max_key_bytes and max_value_bytes can be"))
            return
        if has_trailer:
            report(LineError(number, "more data after the number of entries, which is the last line of a dump"))
            return
        try:
            parsed = parse((line.removeprefix(codecs.BOM_UTF8) if number == 1 else line).removesuffix(b"\n"))
            if isinstance(parsed, tuple):
                key, value = parsed
                if extends_to_ms and type(value) is not bytes:
                    value = _extended(value, clock, extends_to_ms)
                entries += 1
                yield number, key, value
            elif isinstance(parsed, Header):
                problem = _header_problem(parsed, number)
                if problem:
                    report(LineError(number, problem))
                    return
                has_header = True
            elif isinstance(parsed, Clock):
                if clock is not None:
                    report(LineError(number, "the time of the dump is given twice"))
                clock = parsed
            else:
                has_trailer = True
                _check_trailer(parsed, entries + bad)
        except BadLineError as error:
            reason = (
                str(error) if line.endswith(b"\n") else f"the dump is truncated in the middle of this line ({error})"
            )
            report(LineError(number, reason))
            bad += 1
    if not number:
        report(DumpError("the input is empty"))
    elif has_header and not has_trailer and not bad:
        report(
            DumpError(
                f"the dump is truncated after line {number}: its last line, with the number of entries, is missing"
            )
        )


def _header_problem(header: Header, number: int) -> str:
    if number > 1:
        return "a second dump begins here; load them one by one"
    if header.kvs_dump != VERSION:
        return f"the dump has format {header.kvs_dump}; this version of kvs reads format {VERSION}"
    return ""


def _check_trailer(trailer: Trailer, entries: int) -> None:
    if trailer.entries != entries:
        raise BadLineError(
            f"expected {trailer.entries} entries, found {entries}; if that is intended, remove the first and the last "
            "line"
        )


def _extended(value: Value, clock: Clock | None, to_ms: int) -> Value:
    """Return a value that has as much time left at a moment as it had at that of the dump."""
    if clock is None:
        raise BadLineError("the time of the dump is not known, so this deadline cannot be extended")
    deadline_ms = deadline_of(value) + to_ms - clock.time_ms
    return with_deadline(value, min(max(deadline_ms, 1), MAX_DEADLINE_MS))

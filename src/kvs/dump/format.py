r"""The format of a dump: JSON lines, one entry each, text wherever the bytes are UTF-8.

::

    {"kvs_dump":1}
    {"key":"user/1","value":"Ann"}
    {"key_base64":"/wA=","value":"a key that is not UTF-8"}
    {"time_ms":1764350000000}
    {"key":"user/2","value":"Bob","deadline_ms":1764350060000}
    {"entries":3}

The first line is the header, the last one the trailer, which make truncation detectable. A dump without them was made
by hand. The *clock*, the time as of which the data are, comes before the first entry that has a deadline. So a dump
without deadlines is one that version 0.1.0 reads, which refuses both lines by the names of their fields; and who writes
a dump need not know beforehand whether there are any.
"""

import json
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from kvs.domain.values import MAX_DEADLINE_MS, Key, Value, deadline_of, string_of, with_deadline
from kvs.dump.errors import quoted

VERSION: Final = 1

Entry: TypeAlias = tuple[Key, Value]


class BadLineError(Exception):
    """Raised when a line is not of this format; the message says why."""


class Header(msgspec.Struct, frozen=True):
    """The first line of a dump, with the version of its format."""

    kvs_dump: int = VERSION


class Clock(msgspec.Struct, frozen=True):
    """The line with the time of the dump, in milliseconds since 1970."""

    time_ms: int


class Trailer(msgspec.Struct, frozen=True):
    """The last line of a dump, with the number of its entries."""

    entries: int


_Time: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_DEADLINE_MS)]


class _TextEntry(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """An entry whose key and value are UTF-8, the usual case."""

    key: str
    value: str
    deadline_ms: _Time | UnsetType = UNSET


class _Line(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """Any line. Bytes are in base64, with the standard alphabet and padding."""

    key: str | UnsetType = UNSET
    key_base64: bytes | UnsetType = UNSET
    value: str | UnsetType = UNSET
    value_base64: bytes | UnsetType = UNSET
    deadline_ms: _Time | UnsetType = UNSET
    time_ms: _Time | UnsetType = UNSET
    kvs_dump: Annotated[int, Meta(ge=0)] | UnsetType = UNSET
    entries: Annotated[int, Meta(ge=0)] | UnsetType = UNSET


_encode: Final = msgspec.json.Encoder().encode
_decode_text_entry: Final = msgspec.json.Decoder(_TextEntry).decode
_decode_line: Final = msgspec.json.Decoder(_Line).decode

HEADER: Final = _encode(Header()) + b"\n"


def entry_line(key: Key, value: Value) -> bytes:
    """Return the line of an entry, whose value is a string."""
    try:
        if isinstance(value, bytes):  # as most are
            return _encode(_TextEntry(key.decode(), value.decode())) + b"\n"
    except UnicodeDecodeError:
        pass
    string, deadline_ms = string_of(value), deadline_of(value) or UNSET
    try:
        return _encode(_TextEntry(key.decode(), string.decode(), deadline_ms)) + b"\n"
    except UnicodeDecodeError:
        line = _Line(deadline_ms=deadline_ms)
        line.key, line.key_base64 = _text_or_bytes(key)
        line.value, line.value_base64 = _text_or_bytes(string)
        return _encode(line) + b"\n"


def clock_line(time_ms: int) -> bytes:
    """Return the line with the time of the dump."""
    return _encode(Clock(time_ms)) + b"\n"


def trailer_line(entries: int) -> bytes:
    """Return the last line."""
    return _encode(Trailer(entries)) + b"\n"


def parse(line: bytes) -> Entry | Header | Clock | Trailer:
    """Parse a line.

    Args:
        line: Without its end.

    Raises:
        BadLineError: It is not of this format.
    """
    try:
        entry = _decode_text_entry(line)
        if entry.key and _encode(entry) == line:  # as dump writes it, so it has no other fields
            value = entry.value.encode()
            return entry.key.encode(), value if entry.deadline_ms is UNSET else with_deadline(value, entry.deadline_ms)
    except (msgspec.MsgspecError, ValueError):
        pass
    return _parse_any(line)


def _parse_any(line: bytes) -> Entry | Header | Clock | Trailer:
    try:
        parsed = _decode_line(line)
    except (msgspec.MsgspecError, ValueError) as error:  # ValueError: invalid UTF-8, and some numbers
        raise BadLineError(f"not a valid entry ({quoted(str(error)) if line else 'empty line'})") from None
    json.loads(line.decode(), object_pairs_hook=_check_no_field_twice)
    if parsed.kvs_dump is not UNSET or parsed.time_ms is not UNSET or parsed.entries is not UNSET:
        return _no_entry(parsed)
    key = _field("key", parsed.key, parsed.key_base64)
    if not key:
        raise BadLineError("the key is empty")
    value = _field("value", parsed.value, parsed.value_base64)
    return key, value if parsed.deadline_ms is UNSET else with_deadline(value, parsed.deadline_ms)


def _text_or_bytes(data: bytes) -> tuple[str | UnsetType, bytes | UnsetType]:
    try:
        return data.decode(), UNSET
    except UnicodeDecodeError:
        return UNSET, data


def _field(name: str, text: str | UnsetType, raw: bytes | UnsetType) -> bytes:
    if text is not UNSET:
        if raw is not UNSET:
            raise BadLineError(f"both {name} and {name}_base64 are given")
        return text.encode()
    if raw is UNSET:
        raise BadLineError(f"neither {name} nor {name}_base64 is given")
    return raw


def _no_entry(parsed: _Line) -> Header | Clock | Trailer:
    header, time_ms, trailer = parsed.kvs_dump, parsed.time_ms, parsed.entries
    if header is not UNSET and parsed == _Line(kvs_dump=header):
        return Header(header)
    if time_ms is not UNSET and parsed == _Line(time_ms=time_ms):
        return Clock(time_ms)
    if trailer is not UNSET and parsed == _Line(entries=trailer):
        return Trailer(trailer)
    raise BadLineError("an entry, and the first, the last or the time line of a dump, in one line")


def _check_no_field_twice(fields: list[tuple[str, object]]) -> None:
    names = [name for name, _ in fields]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise BadLineError(f"{twice} is given twice")

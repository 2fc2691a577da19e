"""The codec of values: as the fields of a row, and as bytes.

A storage that keeps rows has fields for a value's kind and deadline beside its payload (:func:`fields_of`,
:func:`value_of`); a bare string has 0 in both. One that keeps bytes has one string of them (:func:`encode`,
:func:`decode`): the version of this format, the kind, whose highest bit says whether there is a deadline, the deadline
in milliseconds since 1970 if there is one, and the payload. Numbers are big-endian.

What is decoded may be damaged, or be of another program: nothing about it is taken for granted.
"""

from typing import Final

from kvs.domain.values import MAX_DEADLINE_MS, NO_DEADLINE, STRING, Record, Value

FORMAT: Final = 1

MAX_KIND: Final = 127
"""Largest number of a type. Which of them there are is not the codec's concern."""

_DEADLINE_FLAG: Final = 0x80
_DEADLINE_BYTES: Final = 8
_HEAD_BYTES: Final = 2
_STRING_HEAD: Final = bytes((FORMAT, STRING))


class DamagedValueError(Exception):
    """Raised when what is to be decoded is no value; the message says why."""


def fields_of(value: Value) -> tuple[int, int, bytes]:
    """Return kind, deadline and payload of a value."""
    if isinstance(value, bytes):
        return STRING, NO_DEADLINE, value
    return value.kind, value.deadline_ms, value.payload


def value_of(kind: object, deadline_ms: object, payload: object) -> Value:
    """Return the value of fields, whatever these are.

    Raises:
        DamagedValueError: They are not those of a value.
    """
    if type(payload) is not bytes:
        raise DamagedValueError("its payload is not bytes")
    if not (isinstance(kind, int) and 0 <= kind <= MAX_KIND):
        raise DamagedValueError("its kind is not a number of a kind")
    if not (isinstance(deadline_ms, int) and 0 <= deadline_ms <= MAX_DEADLINE_MS):
        raise DamagedValueError("its deadline is not a time")
    return payload if kind == STRING and deadline_ms == NO_DEADLINE else Record(payload, deadline_ms, kind)


def encode(value: Value) -> bytes:
    """Return a value as bytes."""
    if isinstance(value, bytes):
        return _STRING_HEAD + value
    if value.deadline_ms == NO_DEADLINE:
        return bytes((FORMAT, value.kind)) + value.payload
    head = bytes((FORMAT, value.kind | _DEADLINE_FLAG))
    return head + value.deadline_ms.to_bytes(_DEADLINE_BYTES, "big") + value.payload


def decode(data: bytes) -> Value:
    """Return the value that bytes encode.

    Raises:
        DamagedValueError: They encode none, or in another format.
    """
    if len(data) < _HEAD_BYTES:
        raise DamagedValueError("it is cut off")
    if data[0] != FORMAT:
        raise DamagedValueError(f"it has format {data[0]}; this version of kvs knows format {FORMAT}")
    kind = data[1]
    if not kind & _DEADLINE_FLAG:
        return value_of(kind, NO_DEADLINE, data[_HEAD_BYTES:])
    payload_at = _HEAD_BYTES + _DEADLINE_BYTES
    deadline_ms = int.from_bytes(data[_HEAD_BYTES:payload_at], "big")
    if len(data) < payload_at or deadline_ms == NO_DEADLINE:
        raise DamagedValueError("its deadline is missing")
    return value_of(kind & ~_DEADLINE_FLAG, deadline_ms, data[payload_at:])

"""The encoding of Protocol Buffers, as far as etcd's messages use it: numbers, and strings of bytes."""

from collections.abc import Iterator
from typing import Final

VARINT: Final = 0
FIXED64: Final = 1
LENGTH: Final = 2
FIXED32: Final = 5

_SIGN: Final = 1 << 63
_MODULUS: Final = 1 << 64


class WireError(ValueError):
    """Raised for bytes that are no message."""


def varint(number: int) -> bytes:
    """Encode a number of 64 bits; a negative one by its complement."""
    if number < 0:
        number += _MODULUS
    if number < 128:
        return bytes((number,))
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def number_field(field: int, number: int) -> bytes:
    """Encode a field that is a number; zero is the default, and is left out."""
    return varint(field << 3) + varint(number) if number else b""


def number_field_always(field: int, number: int) -> bytes:
    """Encode a number of a ``oneof``, where also zero is told."""
    return varint(field << 3) + varint(number)


def field_head(field: int, size: int) -> bytes:
    """Encode what comes before the bytes of a field."""
    return varint(field << 3 | LENGTH) + varint(size)


def bytes_field(field: int, value: bytes) -> bytes:
    """Encode a field that is a string of bytes, or a message."""
    return b"".join((field_head(field, len(value)), value))


def signed(number: int) -> int:
    """Return a number of 64 bits as the signed one that it encodes."""
    return number - _MODULUS if number >= _SIGN else number


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number that begins there, and where it ends."""
    result = shift = 0
    try:
        while True:
            byte = data[at]
            at += 1
            result |= (byte & 127) << shift
            if byte < 128:
                return result & _MODULUS - 1, at
            shift += 7
            if shift > 63:
                raise WireError("a number of more than 64 bits")
    except IndexError:
        raise WireError("a number ends early") from None


def numbers_and_bytes(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield each field of a message: its number, its value if that is a number, and its bytes if it has such.

    Complexity: O(bytes).

    Raises:
        WireError: These bytes are no message.
    """
    at = 0
    end = len(data)
    while at < end:
        key, at = read_varint(data, at)
        kind = key & 7
        if kind == LENGTH:
            size, at = read_varint(data, at)
            if size > end - at:
                raise WireError("a field ends early")
            yield key >> 3, 0, data[at : at + size]
            at += size
        elif kind == VARINT:
            number, at = read_varint(data, at)
            yield key >> 3, number, b""
        elif kind in (FIXED64, FIXED32):
            at += 8 if kind == FIXED64 else 4
            if at > end:
                raise WireError("a field ends early")
        else:
            raise WireError(f"a field of type {kind}")

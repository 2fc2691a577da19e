"""The first message of a TLS client, as far as the server has to look at it before OpenSSL does: its ALPN.

A browser offers ``h2`` and ``http/1.1``. One that a hostile page makes talk to this server must get no TLS connection:
what it then sends might be taken for commands, and what it reads for a page.
"""

from typing import Final

HANDSHAKE: Final = 0x16
"""First byte of a TLS connection. No request of any protocol begins with it."""

RECORD_HEADER_BYTES: Final = 5
MESSAGE_HEADER_BYTES: Final = 4
MAX_RECORD_BYTES: Final = 16 << 10
MAX_HELLO_BYTES: Final = 64 << 10
"""Longest first message, headers included. With keys that quantum computers cannot find it has some 2 KiB."""

MAX_HELLO_RECORDS: Final = 16
"""Most records in which it comes; more would be looked at again and again."""

MAJOR_VERSION: Final = 3
CLIENT_HELLO: Final = 1
ALPN: Final = 16
VERSION_AND_RANDOM_BYTES: Final = 34

NO_APPLICATION_PROTOCOL: Final = b"\x15\x03\x03\x00\x02\x02\x78"
"""The alert that refuses what ALPN offers."""

WEB: Final = frozenset({b"h2", b"h2c", b"h3", b"http/0.9", b"http/1.0", b"http/1.1"})


class HelloError(Exception):
    """Raised for what is no first message of a TLS client."""


def offered_protocols(data: bytes) -> list[bytes] | None:
    """Return the protocols that the ALPN of a first message offers; None if the message is incomplete.

    Args:
        data: The records, as far as they have arrived, perhaps with more behind.

    Raises:
        HelloError: It is none, or too long.
    """
    message = b""
    at = 0
    for _ in range(MAX_HELLO_RECORDS):
        if len(data) < at + RECORD_HEADER_BYTES:
            _check_size(data)
            return None
        size = int.from_bytes(data[at + 3 : at + RECORD_HEADER_BYTES], "big")
        if data[at] != HANDSHAKE or data[at + 1] != MAJOR_VERSION or not 0 < size <= MAX_RECORD_BYTES:
            raise HelloError("no TLS")
        if len(data) < at + RECORD_HEADER_BYTES + size:
            _check_size(data)
            return None
        message += data[at + RECORD_HEADER_BYTES : at + RECORD_HEADER_BYTES + size]
        at += RECORD_HEADER_BYTES + size
        if message[0] != CLIENT_HELLO:
            raise HelloError("no TLS client")
        if len(message) >= MESSAGE_HEADER_BYTES:
            end = MESSAGE_HEADER_BYTES + int.from_bytes(message[1:MESSAGE_HEADER_BYTES], "big")
            if end > MAX_HELLO_BYTES:
                raise HelloError("first message too long")
            if len(message) >= end:
                return _alpn_of(message[MESSAGE_HEADER_BYTES:end])
    raise HelloError("first message in too many records")


def _check_size(data: bytes) -> None:
    if len(data) > MAX_HELLO_BYTES:
        raise HelloError("first message too long")


def is_web_only(protocols: list[bytes]) -> bool:
    """Return whether nothing but HTTP is offered."""
    return bool(protocols) and WEB.issuperset(protocols)


def _alpn_of(body: bytes) -> list[bytes]:
    """Return the names in the ALPN of a body; nothing if there is none. What is malformed is for OpenSSL to refuse."""
    at = VERSION_AND_RANDOM_BYTES
    for width in (1, 2, 1):  # session, ciphers, compressions
        at += width + int.from_bytes(body[at : at + width], "big")
    end = min(len(body), at + 2 + int.from_bytes(body[at : at + 2], "big"))
    at += 2
    while at + 4 <= end:
        kind = int.from_bytes(body[at : at + 2], "big")
        size = int.from_bytes(body[at + 2 : at + 4], "big")
        at += 4
        if kind == ALPN:
            return _names(body[at + 2 : at + size])
        at += size
    return []


def _names(listed: bytes) -> list[bytes]:
    names = []
    at = 0
    while at < len(listed):
        end = at + 1 + listed[at]
        names.append(listed[at + 1 : end])
        at = end
    return names

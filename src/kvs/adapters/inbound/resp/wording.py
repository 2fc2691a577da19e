"""Errors that repeat what a client has sent, byte for byte as those of Redis do.

The messages of errors are text, and what a client sends is bytes: those that are not UTF-8 are carried in the text as
surrogates, and come out of it as they went in.
"""

from typing import Final

NAME_BYTES: Final = 128
"""Most of a name, and of all arguments together, that is repeated of an unknown command. It is the same in Redis."""

SHOWN_BYTES: Final = 1024
"""Most that is repeated of any other argument. Redis repeats all of it."""


def as_text(raw: bytes) -> str:
    """Return bytes for a message."""
    return raw.decode(errors="surrogateescape")


def as_bytes(message: str) -> bytes:
    """Return a message as it goes over the wire."""
    try:
        return message.encode(errors="surrogateescape")
    except UnicodeEncodeError:  # surrogates of others, who do not say what they stand for
        return message.encode(errors="backslashreplace")


def shown(raw: bytes, max_bytes: int = SHOWN_BYTES) -> str:
    """Return bytes for a message up to a length, and up to a zero byte, where text ends for Redis."""
    return as_text(c_string(raw[:max_bytes]))


def c_string(raw: bytes) -> bytes:
    """Return bytes up to the first that is zero."""
    return raw.partition(b"\0")[0]

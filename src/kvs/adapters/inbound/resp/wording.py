"""Errors that quote a client's bytes unchanged, as Redis's do.

Messages are text, and a client sends bytes: those that are not UTF-8 become surrogates in the text, and are restored
when it is encoded.
"""

from typing import Final

NAME_BYTES: Final = 128
"""Maximum length of the name, and of all arguments, quoted for an unknown command, as in Redis."""

EXCERPT_BYTES: Final = 1024
"""Maximum length quoted of any other argument. Redis quotes all of it."""


def as_text(raw: bytes) -> str:
    """Return bytes for a message."""
    return raw.decode(errors="surrogateescape")


def as_bytes(message: str) -> bytes:
    """Encode a message."""
    try:
        return message.encode(errors="surrogateescape")
    except UnicodeEncodeError:  # surrogates of another origin
        return message.encode(errors="backslashreplace")


def excerpt(raw: bytes, max_bytes: int = EXCERPT_BYTES) -> str:
    """Return bytes for a message, cut at a length and at a zero byte, where Redis's text ends."""
    return as_text(c_string(raw[:max_bytes]))


def c_string(raw: bytes) -> bytes:
    """Return bytes up to the first zero byte."""
    return raw.partition(b"\0")[0]

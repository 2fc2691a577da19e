"""Errors that end a dump or a load, and how they quote foreign text."""

from typing import Final

from kvs.errors import CommandError, escaped

QUOTED_CHARACTERS: Final = 200
"""Maximum length of foreign text that a message quotes."""


class DumpError(CommandError):
    """Raised when a dump or a load fails."""


class LineError(DumpError):
    """Raised when a line of a dump cannot be loaded.

    Args:
        number: Number of the line, from 1.
        reason: Why it cannot.
    """

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(f"line {number}: {reason}")


def quoted(text: str) -> str:
    """Return foreign text, shortened and escaped."""
    return escaped(text if len(text) <= QUOTED_CHARACTERS else text[:QUOTED_CHARACTERS] + "...")

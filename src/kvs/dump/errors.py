"""What ends a dump or a load, each told in one line."""

from typing import Final

from kvs.errors import CommandError

SHOWN_CHARACTERS: Final = 200
"""Most that is repeated in a message of what others have written."""


class CareError(CommandError):
    """Raised when a dump or a load cannot be done."""


class LineError(CareError):
    """Raised when a line of a dump cannot be loaded.

    Args:
        number: Of the line, from 1.
        reason: What is wrong.
    """

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(f"line {number}: {reason}")


def shown(text: str) -> str:
    """Return what others have written, cut, and escaped where it could move a terminal's cursor or start a line."""
    cut = text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "..."
    if cut.isprintable():
        return cut
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in cut)

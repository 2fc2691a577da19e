"""The errors that end a command, and text for terminals. Errors for clients are in :mod:`kvs.domain.errors`."""

from typing import ClassVar


class CommandError(Exception):
    """Raised when a command fails; its message is one line for people."""

    exit_code: ClassVar[int] = 1


class ConfigError(CommandError):
    """Raised when a setting is not allowed; its message names it, its value, its source and what is allowed."""

    exit_code: ClassVar[int] = 2


def escaped(text: str) -> str:
    """Return text with unprintable characters escaped: they could control a terminal, or begin a line."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)

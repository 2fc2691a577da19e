"""The error that ends a command. Errors for clients are in :mod:`kvs.domain.errors`."""

from typing import ClassVar


class CommandError(Exception):
    """Raised when a command fails; its message is one line for people."""

    exit_code: ClassVar[int] = 1

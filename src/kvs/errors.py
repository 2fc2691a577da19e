"""What ends a command of the command line. What a client is answered is in :mod:`kvs.domain.errors`."""

from typing import ClassVar


class CommandError(Exception):
    """Raised when a command cannot do what it is for; its message is one line for people."""

    exit_code: ClassVar[int] = 1

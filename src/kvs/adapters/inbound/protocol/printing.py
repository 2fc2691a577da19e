"""What others than its client may see of a request. All that shows one prints it by this function."""

from typing import Final

from kvs.adapters.inbound.protocol.command import CONTENT, OTHER, SECRET, USER, VALUE, Command
from kvs.domain.accounts import is_name

REDACTED: Final = b"(redacted)"

BEFORE_VALUES: Final = frozenset({b"IFEQ", b"IFNE", b"IFDEQ", b"IFDNE"})
"""Options, in capitals, whose argument is a value, wherever they are in a request."""


def shown(
    command: Command, request: list[bytes], max_arguments: int, max_argument_bytes: int, *, values: bool
) -> list[bytes]:
    """Return the arguments of a request as others may see them, with its name first.

    Args:
        command: Its command.
        request: The request.
        max_arguments: Number of arguments; in place of the last of them may be how many more there are.
        max_argument_bytes: Length from which an argument is cut.
        values: Show values, and not just how long they are. Secrets are never shown.
    """
    rest = len(request) - max_arguments
    arguments: list[bytes] = []
    for at in range(len(request) if rest <= 0 else max_arguments - 1):
        argument = request[at]
        kind = _kind_of(command, request, at) if at else OTHER
        if kind == SECRET or (kind == USER and not is_name(argument.decode(errors="replace"))):
            argument = REDACTED
        elif kind in (VALUE, CONTENT) and not values:
            argument = b"(%d bytes)" % len(argument)
        elif len(argument) > max_argument_bytes:
            cut = len(argument) - max_argument_bytes
            argument = b"%b... (%d more bytes)" % (argument[:max_argument_bytes], cut)
        arguments.append(argument)
    if rest > 0:
        arguments.append(b"... (%d more arguments)" % (rest + 1))
    return arguments


def _kind_of(command: Command, request: list[bytes], at: int) -> str:
    if not command.declares(at):
        return VALUE  # which it may be
    kind = command.kind_of(at)
    if kind != OTHER:
        return kind
    if request[at - 1].upper() in BEFORE_VALUES:
        return VALUE
    for word, distance in command.contents:
        if at > distance and request[at - distance].upper() == word:
            return CONTENT
    return OTHER

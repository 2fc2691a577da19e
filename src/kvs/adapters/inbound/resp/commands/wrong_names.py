"""The error of Redis for a command that it does not know."""

from kvs.adapters.inbound.protocol.errors import UnknownCommandError
from kvs.adapters.inbound.resp.wording import NAME_BYTES, as_bytes, excerpt


def unknown_command(arguments: list[bytes]) -> UnknownCommandError:
    """Return the error, which names the command and how its arguments begin."""
    rest = ""
    room_bytes = NAME_BYTES
    for argument in arguments[1:]:
        if room_bytes <= 0:
            break
        part = f"'{excerpt(argument, room_bytes)}' "
        rest += part
        room_bytes -= len(as_bytes(part))
    name = excerpt(arguments[0], NAME_BYTES)
    return UnknownCommandError(f"unknown command '{name}', with args beginning with: {rest}")

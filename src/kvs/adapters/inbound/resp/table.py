"""Every command of RESP by its name, and the command that tells of them: COMMAND."""

from typing import Final

from kvs.adapters.inbound.resp import clients, keyspace, replies, server, strings, transactions
from kvs.adapters.inbound.resp.containers import container
from kvs.adapters.inbound.resp.keyspace import NO_KEYS, check_patterns
from kvs.adapters.inbound.resp.peer import QUEUED, SLOW_COST, Command, Peer
from kvs.domain.errors import UnknownCommandError, UsageError
from kvs.domain.globs import Glob
from kvs.ports.inbound import Session

SHOWN_BYTES: Final = 128
"""Most of a name, and of all arguments together, that is repeated in a message."""

GROUP: Final = "server"

CATEGORIES: Final = (b"readonly", b"write", b"fast", b"admin")
"""Flags that are categories as well."""


def command_of(arguments: list[bytes]) -> Command:
    """Return the command that is asked for.

    Raises:
        UnknownCommandError: There is none of that name.
        UsageError: It takes another number of arguments.
    """
    name = arguments[0]
    command = BY_NAME.get(name)
    if command is None:
        command = BY_NAME.get(name.lower())
        if command is None:
            raise _unknown(arguments)
    if not command.takes(len(arguments)):
        raise UsageError(f"wrong number of arguments for '{command.name.decode()}' command")
    return command


def _unknown(arguments: list[bytes]) -> UnknownCommandError:
    shown = ""
    for argument in arguments[1:]:
        if len(shown) >= SHOWN_BYTES:
            break
        shown += f"'{_text(argument[: SHOWN_BYTES - len(shown)])}' "
    return UnknownCommandError(
        f"unknown command '{_text(arguments[0][:SHOWN_BYTES])}', with args beginning with: {shown}"
    )


def _text(text: bytes) -> str:
    return text.decode(errors="backslashreplace")


def _all(_: Session, peer: Peer, __: list[bytes]) -> bytes:
    return replies.array([_described(peer, command) for command in COMMANDS])


def _count(_: Session, __: Peer, ___: list[bytes]) -> bytes:
    return replies.number(len(COMMANDS))


def _list(_: Session, __: Peer, arguments: list[bytes]) -> bytes:
    if len(arguments) == 2:
        return replies.bulks([command.name for command in COMMANDS])
    if len(arguments) == 5 and arguments[2].upper() == b"FILTERBY" and arguments[3].upper() == b"PATTERN":
        check_patterns(arguments[4:])
        glob = Glob(arguments[4].lower())
        return replies.bulks([command.name for command in COMMANDS if glob(command.name)])
    raise UsageError("syntax error")


def _info(session: Session, peer: Peer, arguments: list[bytes]) -> bytes:
    if len(arguments) == 2:
        return _all(session, peer, arguments)
    found = [BY_NAME.get(name.lower()) for name in arguments[2:]]
    return replies.array([peer.dialect.null if command is None else _described(peer, command) for command in found])


def _docs(_: Session, peer: Peer, arguments: list[bytes]) -> bytes:
    wanted = [name.lower() for name in arguments[2:]]
    chosen = [command for command in COMMANDS if not wanted or command.name in wanted]
    return peer.dialect.mapping([(replies.bulk(command.name), _documented(peer, command)) for command in chosen])


def _getkeys(_: Session, __: Peer, arguments: list[bytes]) -> bytes:
    command = BY_NAME.get(arguments[2].lower())
    if command is None:
        raise UsageError("Invalid command specified")
    if not command.first_key:
        raise UsageError("The command has no key arguments")
    if not command.takes(len(arguments) - 2):
        raise UsageError("Invalid number of arguments specified for command")
    return replies.bulks(command.keys(arguments[2:]))


def _described(peer: Peer, command: Command) -> bytes:
    """Return what COMMAND INFO tells of a command."""
    categories = [b"@" + command.group.replace(b"generic", b"keyspace").replace(b"transactions", b"transaction")]
    categories += [b"@" + flag.replace(b"readonly", b"read") for flag in command.flags if flag in CATEGORIES]
    if b"fast" not in command.flags:
        categories.append(b"@slow")
    return replies.array(
        [
            replies.bulk(command.name),
            replies.number(command.arity),
            peer.dialect.unordered([replies.simple(flag) for flag in command.flags]),
            replies.number(command.first_key),
            replies.number(command.last_key),
            replies.number(command.key_step),
            peer.dialect.unordered([replies.simple(category) for category in categories]),
            replies.EMPTY_ARRAY,
            replies.EMPTY_ARRAY,
            replies.EMPTY_ARRAY,
        ]
    )


def _documented(peer: Peer, command: Command) -> bytes:
    return peer.dialect.mapping(
        [
            (replies.bulk(b"summary"), replies.bulk(command.summary)),
            (replies.bulk(b"since"), replies.bulk(b"1.0.0")),
            (replies.bulk(b"group"), replies.bulk(command.group)),
        ]
    )


SUBCOMMANDS: Final[list[Command]] = [
    Command("count", _count, 2, "", NO_KEYS, GROUP, "Returns the number of commands."),
    Command("list", _list, -2, "", NO_KEYS, GROUP, "Lists their names."),
    Command("info", _info, -2, "", NO_KEYS, GROUP, "Describes commands to programs."),
    Command("docs", _docs, -2, "", NO_KEYS, GROUP, "Describes commands to people."),
    Command("getkeys", _getkeys, -4, "", NO_KEYS, GROUP, "Returns the keys of a command that is given in full."),
]

COMMANDS: Final[list[Command]] = [
    *strings.COMMANDS,
    *keyspace.COMMANDS,
    *transactions.COMMANDS,
    *clients.COMMANDS,
    *server.COMMANDS,
    container("command", SUBCOMMANDS, GROUP, "Tells of commands.", bare=_all, cost=SLOW_COST, in_queue=QUEUED),
]

BY_NAME: Final[dict[bytes, Command]] = {
    name: command for command in COMMANDS for name in (command.name, command.name.upper())
}
"""In small letters and in capitals, as nearly everybody writes them."""

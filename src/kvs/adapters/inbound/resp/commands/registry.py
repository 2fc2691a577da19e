"""Every command of RESP by its name, and the command that tells of them: COMMAND."""

from collections.abc import Iterator, Sequence
from typing import Final

from kvs.adapters.inbound.resp import replies
from kvs.adapters.inbound.resp.commands import clients, connection, info, keys, server, strings, transactions
from kvs.adapters.inbound.resp.commands.catalogue import DEPRECATED, NOTES, Keys
from kvs.adapters.inbound.resp.commands.keys import check_patterns
from kvs.adapters.inbound.resp.commands.subcommands import container
from kvs.adapters.inbound.resp.context import SLOW_COST, Command, Handler, Peer, check_reply
from kvs.adapters.inbound.resp.glob import Glob
from kvs.adapters.inbound.resp.wording import NAME_BYTES, as_bytes, c_string, shown
from kvs.domain.errors import ProtocolViolationError, UnknownCommandError, UsageError
from kvs.ports.session import Session

HTTP_WORDS: Final = (b"post", b"host:")
"""What Redis takes for an attack, and ends the connection without a word."""


def command_of(arguments: list[bytes]) -> Command:
    """Return the command that is asked for.

    Raises:
        UnknownCommandError: There is none of that name.
        UsageError: It takes another number of arguments, or has no such subcommand.
        ProtocolViolationError: This is a word of HTTP: a browser may have been made to send it.
    """
    name = arguments[0]
    command = BY_NAME.get(name)
    if command is None:
        command = BY_NAME.get(name.lower())
        if command is None:
            if c_string(name).lower() in HTTP_WORDS:
                raise ProtocolViolationError("This looks like HTTP, and this port does not speak HTTP.")
            raise _unknown(arguments)
    if command.subcommands is not None and len(arguments) > 1:
        subcommand = command.subcommands.get(arguments[1].lower())
        if subcommand is None:
            raise UsageError(
                f"unknown subcommand '{shown(arguments[1], NAME_BYTES)}'. Try {command.name.decode().upper()} HELP."
            )
        command = subcommand
    if not command.takes(len(arguments)):
        raise UsageError(f"wrong number of arguments for '{command.name.decode()}' command")
    return command


def _unknown(arguments: list[bytes]) -> UnknownCommandError:
    rest = ""
    room_bytes = NAME_BYTES
    for argument in arguments[1:]:
        if room_bytes <= 0:
            break
        part = f"'{shown(argument, room_bytes)}' "
        rest += part
        room_bytes -= len(as_bytes(part))
    return UnknownCommandError(f"unknown command '{shown(arguments[0], NAME_BYTES)}', with args beginning with: {rest}")


# COMMAND.


def _all(_: Session, peer: Peer, __: list[bytes]) -> bytes:
    return replies.array([_described(peer, command) for command in COMMANDS])


def _count(_: Session, __: Peer, ___: list[bytes]) -> bytes:
    return replies.number(len(COMMANDS))


def _list(_: Session, __: Peer, arguments: list[bytes]) -> bytes:
    names = [command.name for command in _with_subcommands()]
    if len(arguments) > 2:
        names = _filtered(arguments)
    return replies.bulks(names)


def _filtered(arguments: list[bytes]) -> list[bytes]:
    if len(arguments) != 5 or arguments[2].lower() != b"filterby":
        raise UsageError("syntax error")
    by, word = arguments[3].lower(), c_string(arguments[4]).lower()
    if by == b"module":
        return []
    if by == b"aclcat":
        category = word.decode(errors="replace")
        return [command.name for command in _with_subcommands() if category in command.about.categories]
    if by == b"pattern":
        pattern = arguments[4].lower()  # where a zero byte does not end it, as in Redis
        check_patterns([pattern])
        glob = Glob(pattern)
        return [command.name for command in _with_subcommands() if glob(command.name)]
    raise UsageError("syntax error")


def _info(session: Session, peer: Peer, arguments: list[bytes]) -> bytes:
    if len(arguments) == 2:
        return _all(session, peer, arguments)
    known: dict[Command | None, bytes] = {None: peer.dialect.null}
    described = []
    for command in map(_found, arguments[2:]):
        if command is not None and command not in known:
            known[command] = _described(peer, command)
        described.append(known[command])
    check_reply(peer, described)
    return replies.array(described)


def _docs(_: Session, peer: Peer, arguments: list[bytes]) -> bytes:
    chosen: Sequence[Command | None] = COMMANDS if len(arguments) == 2 else [*map(_found, arguments[2:])]
    return _documented(peer, [command for command in chosen if command is not None])


def _getkeys(_: Session, __: Peer, arguments: list[bytes]) -> bytes:
    command = _with_keys(arguments[2:])
    return replies.bulks(command.keys(arguments[2:]))


def _getkeysandflags(_: Session, peer: Peer, arguments: list[bytes]) -> bytes:
    words = arguments[2:]
    found = []
    for spec in _with_keys(words).about.keys:
        end = (spec.first + spec.last if spec.last >= 0 else len(words) + spec.last) + 1
        flags = _flags(peer, _flags_of_set(words) if "variable_flags" in spec.flags else spec.flags)
        found += [replies.array([replies.bulk(key), flags]) for key in words[spec.first : end : spec.step]]
    return replies.array(found)


def _flags_of_set(words: list[bytes]) -> tuple[str, ...]:
    """Return what becomes of the key of a SET, which with GET is read as well."""
    reads = any(word.lower() == b"get" for word in words[3:])
    return ("RW", "access", "update") if reads else ("OW", "update")


def _with_keys(words: list[bytes]) -> Command:
    """Return the command that is given in full, which has keys."""
    command = BY_NAME.get(words[0].lower())
    if command is not None and command.subcommands is not None and len(words) > 1:
        command = command.subcommands.get(words[1].lower())
    if command is None:
        raise UsageError("Invalid command specified")
    if not command.first_key:
        raise UsageError("The command has no key arguments")
    if not command.takes(len(words)):
        raise UsageError("Invalid number of arguments specified for command")
    return command


def _found(name: bytes) -> Command | None:
    """Return a command, or a subcommand by both names with a bar between them."""
    container_name, bar, rest = name.lower().partition(b"|")
    command = BY_NAME.get(container_name)
    if command is None or not bar:
        return command
    return None if command.subcommands is None else command.subcommands.get(rest)


def _with_subcommands() -> Iterator[Command]:
    for command in COMMANDS:
        yield command
        yield from _subcommands_of(command)


def _subcommands_of(command: Command) -> list[Command]:
    return [] if command.subcommands is None else list(command.subcommands.values())


def _described(peer: Peer, command: Command) -> bytes:
    """Return what COMMAND INFO tells of a command."""
    about = command.about
    note = NOTES.get(command.name.decode(), "")
    subcommands = [_described(peer, subcommand) for subcommand in _subcommands_of(command)]
    return replies.array(
        [
            replies.bulk(command.name),
            replies.number(command.arity),
            _flags(peer, about.flags),
            replies.number(command.first_key),
            replies.number(command.last_key),
            replies.number(command.key_step),
            _flags(peer, [f"@{category}" for category in about.categories]),
            peer.dialect.unordered([_text(tip) for tip in about.tips]),
            peer.dialect.unordered([_key_specification(peer, keys, note) for keys in about.keys]),
            replies.array(subcommands) if subcommands else peer.dialect.unordered([]),  # as Redis has it
        ]
    )


def _key_specification(peer: Peer, keys: Keys, note: str) -> bytes:
    """Return where the keys are: from a place on, so many steps."""
    mapping = peer.dialect.mapping
    begin = mapping([(_text("index"), replies.number(keys.first))])
    find = mapping(
        [
            (_text("lastkey"), replies.number(keys.last)),
            (_text("keystep"), replies.number(keys.step)),
            (_text("limit"), replies.number(0)),
        ]
    )
    pairs = [(_text("notes"), _text(note))] if note else []
    pairs += [
        (_text("flags"), _flags(peer, keys.flags)),
        (_text("begin_search"), mapping([(_text("type"), _text("index")), (_text("spec"), begin)])),
        (_text("find_keys"), mapping([(_text("type"), _text("range")), (_text("spec"), find)])),
    ]
    return mapping(pairs)


def _documented(peer: Peer, commands: Sequence[Command]) -> bytes:
    """Return what COMMAND DOCS tells of commands, by their names."""
    known: dict[Command, bytes] = {}
    for command in commands:
        if command not in known:
            known[command] = _facts(peer, command)
    check_reply(peer, [known[command] for command in commands])
    return peer.dialect.mapping([(replies.bulk(command.name), known[command]) for command in commands])


def _facts(peer: Peer, command: Command) -> bytes:
    """Return what COMMAND DOCS tells of one."""
    about = command.about
    facts = [
        (_text("summary"), _text(about.summary)),
        (_text("since"), _text(about.since)),
        (_text("group"), _text(about.group)),
    ]
    since, instead = DEPRECATED.get(command.name.decode(), ("", ""))
    if since:
        facts += [
            (_text("doc_flags"), _flags(peer, ["deprecated"])),
            (_text("deprecated_since"), _text(since)),
            (_text("replaced_by"), _text(instead)),
        ]
    subcommands = _subcommands_of(command)
    if subcommands:
        facts.append((_text("subcommands"), _documented(peer, subcommands)))
    return peer.dialect.mapping(facts)


def _text(text: str) -> bytes:
    return replies.bulk(text.encode())


def _flags(peer: Peer, flags: Sequence[str]) -> bytes:
    return peer.dialect.unordered([replies.simple(flag.encode()) for flag in flags])


def _subcommand(name: str, run: Handler) -> Command:
    return Command(f"command|{name}", run, cost=SLOW_COST)


SUBCOMMANDS: Final[list[Command]] = [
    _subcommand("count", _count),
    _subcommand("list", _list),
    _subcommand("info", _info),
    _subcommand("docs", _docs),
    _subcommand("getkeys", _getkeys),
    _subcommand("getkeysandflags", _getkeysandflags),
]

COMMANDS: Final[list[Command]] = [
    *strings.COMMANDS,
    *keys.COMMANDS,
    *transactions.COMMANDS,
    *connection.COMMANDS,
    *clients.COMMANDS,
    *server.COMMANDS,
    *info.COMMANDS,
    container("command", SUBCOMMANDS, bare=_all),
]

BY_NAME: Final[dict[bytes, Command]] = {
    name: command for command in COMMANDS for name in (command.name, command.name.upper())
}
"""In small letters and in capitals, as nearly everybody writes them."""

"""All commands of RESP by name, and COMMAND, which describes them."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Final

from kvs.adapters.inbound.protocol.command import ANSWERED, OTHER, RELAYED, SLOW_COST, everywhere
from kvs.adapters.inbound.protocol.errors import HttpError
from kvs.adapters.inbound.resp import replies
from kvs.adapters.inbound.resp.acl_categories import AclCategories
from kvs.adapters.inbound.resp.command import Handler, RespCommand
from kvs.adapters.inbound.resp.commands import (
    acl,
    bitfield,
    bits,
    clients,
    connection,
    deadlines,
    info,
    introspection,
    keys,
    latency,
    lcs,
    roles,
    sentinel,
    server,
    slow_log,
    strings,
    subscriptions,
    transactions,
)
from kvs.adapters.inbound.resp.commands.catalogue import DEPRECATED, NOTES, Keys
from kvs.adapters.inbound.resp.commands.keys import check_patterns
from kvs.adapters.inbound.resp.commands.subcommands import container
from kvs.adapters.inbound.resp.commands.wrong_names import unknown_command
from kvs.adapters.inbound.resp.context import ClientContext, check_reply
from kvs.adapters.inbound.resp.glob import Glob
from kvs.adapters.inbound.resp.wording import NAME_BYTES, c_string, excerpt
from kvs.domain.errors import UsageError
from kvs.ports.session import Session, Steps

HTTP_WORDS: Final = (b"post", b"host:")
"""Words that Redis takes for an attack, on which it closes the connection silently."""

NAME_ROOM_BYTES: Final = 64
"""More than the name of any command or subcommand has: a longer word is cut there, and is no name then either."""

ANSWERED_IF_UNKNOWN: Final = (*HTTP_WORDS, b"client")
"""What a standby answers by an error. Libraries begin a connection with CLIENT and what later servers know about it, as
redis-py does with MAINT_NOTIFICATIONS, and go on without."""


def command_of(arguments: list[bytes], context: ClientContext) -> RespCommand:
    """Return the command of a request.

    Raises:
        UnknownCommandError: The name is unknown to this server.
        UsageError: The subcommand is unknown.
        HttpError: The name is a word of HTTP, possibly from a browser under attack.
    """
    command = BY_NAME.get(arguments[0]) if len(arguments[0]) < NAME_ROOM_BYTES else None
    if command is None:
        name = _lowered(arguments[0])
        command = _known(context, name)
        if command is None:
            if c_string(name) in HTTP_WORDS:
                raise HttpError("This looks like HTTP, and this port does not speak HTTP.")
            raise unknown_command(arguments)
    if command.subcommands is not None and len(arguments) > 1:
        subcommand = command.subcommands.get(_lowered(arguments[1]))
        if subcommand is None:
            raise UsageError(
                f"unknown subcommand '{excerpt(arguments[1], NAME_BYTES)}'. Try {command.name.decode().upper()} HELP."
            )
        command = subcommand
    return command


def answered_by_standbys(arguments: list[bytes], context: ClientContext, *, full: bool) -> int:
    """Return what a server that stands by does with a request: ``RELAYED``, ``BEGINS`` or ``ANSWERED``.

    Args:
        arguments: The request.
        context: Of the client.
        full: The clients together hold too much memory, so what needs more is refused here.
    """
    command = _command_named(context, arguments)
    if command is None:  # the leader may be of another version
        return ANSWERED if c_string(_lowered(arguments[0])) in ANSWERED_IF_UNKNOWN else RELAYED
    return ANSWERED if full and not command.runs_when_full else command.on_standby


def _lowered(word: bytes) -> bytes:
    return word[:NAME_ROOM_BYTES].lower()


def _known(context: ClientContext, name: bytes) -> RespCommand | None:
    """Return a command of this server, by its name in lower or upper case."""
    command = BY_NAME.get(name)
    if command is None and context.shared.topology is not None:
        command = OF_SENTINELS.get(name)
    return command


def _commands(context: ClientContext) -> Sequence[RespCommand]:
    """Return all commands of this server."""
    return COMMANDS if context.shared.topology is None else [*COMMANDS, *OF_SENTINELS.values()]


# COMMAND.


def _all(session: Session, context: ClientContext, _: list[bytes]) -> bytes:
    session.work.left -= 3 * SLOW_COST  # 200 us
    return replies.array([_description(context, command) for command in _commands(context)])


def _count(_: Session, context: ClientContext, __: list[bytes]) -> bytes:
    return replies.number(len(_commands(context)))


def _list(_: Session, context: ClientContext, arguments: list[bytes]) -> bytes:
    names = [command.name for command in _with_subcommands(context)]
    if len(arguments) > 2:
        names = _filtered(context, arguments)
    return replies.bulks(names)


def _filtered(context: ClientContext, arguments: list[bytes]) -> list[bytes]:
    if len(arguments) != 5 or arguments[2].lower() != b"filterby":
        raise UsageError("syntax error")
    by, word = arguments[3].lower(), c_string(arguments[4]).lower()
    if by == b"module":
        return []
    if by == b"aclcat":
        category = word.decode(errors="replace")
        return [command.name for command in _with_subcommands(context) if category in command.about.categories]
    if by == b"pattern":
        pattern = arguments[4].lower()  # a zero byte does not end it, as in Redis
        check_patterns([pattern])
        glob = Glob(pattern)
        return [command.name for command in _with_subcommands(context) if glob.match(command.name)]
    raise UsageError("syntax error")


def _info(session: Session, context: ClientContext, arguments: list[bytes]) -> Steps[bytes]:
    if len(arguments) == 2:
        return _all(session, context, arguments)
    known: dict[RespCommand | None, bytes] = {None: context.protocol.null}
    descriptions = []
    for name in arguments[2:]:
        session.work.left -= 1
        if session.work.left <= 0:
            yield
        command = _found(context, name)
        if command is not None and command not in known:
            known[command] = _description(context, command)
        descriptions.append(known[command])
        session.work.hold(len(known[command]))
    check_reply(context, descriptions)
    return replies.array(descriptions)


def _docs(_: Session, context: ClientContext, arguments: list[bytes]) -> bytes:
    if len(arguments) == 2:
        return _documented(context, _commands(context))
    chosen = [_found(context, name) for name in arguments[2:]]
    return _documented(context, [command for command in chosen if command is not None])


def _getkeys(_: Session, context: ClientContext, arguments: list[bytes]) -> bytes:
    command = _with_keys(context, arguments[2:])
    return replies.bulks(command.keys(arguments[2:]))


def _getkeysandflags(_: Session, context: ClientContext, arguments: list[bytes]) -> bytes:
    words = arguments[2:]
    found = []
    command = _with_keys(context, words)
    for spec in command.about.keys:
        flags = _flags(context, spec.flags if command.flags_of_key is None else command.flags_of_key(words))
        found += [replies.array([replies.bulk(words[at]), flags]) for at in spec.places(words)]
    return replies.array(found)


def _command_named(context: ClientContext, words: list[bytes]) -> RespCommand | None:
    """Return the command of a request, if there is one."""
    command = _known(context, _lowered(words[0]))
    if command is not None and command.subcommands is not None and len(words) > 1:
        command = command.subcommands.get(_lowered(words[1]))
    return command


def _with_keys(context: ClientContext, words: list[bytes]) -> RespCommand:
    """Return the command of a complete request that has keys."""
    command = _command_named(context, words)
    if command is None:
        raise UsageError("Invalid command specified")
    if not command.about.keys:
        raise UsageError("The command has no key arguments")
    if not command.takes(len(words)):
        raise UsageError("Invalid number of arguments specified for command")
    return command


def _found(context: ClientContext, name: bytes) -> RespCommand | None:
    """Return a command, or a subcommand by both names with a bar between them."""
    container_name, bar, rest = name.lower().partition(b"|")
    command = _known(context, container_name)
    if command is None or not bar:
        return command
    return None if command.subcommands is None else command.subcommands.get(rest)


def _with_subcommands(context: ClientContext) -> Iterator[RespCommand]:
    for command in _commands(context):
        yield command
        yield from _subcommands_of(command)


def _subcommands_of(command: RespCommand) -> list[RespCommand]:
    return [] if command.subcommands is None else list(command.subcommands.values())


def _description(context: ClientContext, command: RespCommand) -> bytes:
    """Return a command's entry in COMMAND INFO."""
    about = command.about
    note = NOTES.get(command.name.decode(), "")
    subcommands = [_description(context, subcommand) for subcommand in _subcommands_of(command)]
    return replies.array(
        [
            replies.bulk(command.name),
            replies.number(command.arity),
            _flags(context, about.flags),
            replies.number(command.first_key),
            replies.number(command.last_key),
            replies.number(command.key_step),
            _flags(context, [f"@{category}" for category in about.categories]),
            context.protocol.set_of([_text(tip) for tip in about.tips]),
            context.protocol.set_of([_key_specification(context, keys, note) for keys in about.keys]),
            replies.array(subcommands) if subcommands else context.protocol.set_of([]),  # as Redis has it
        ]
    )


def _key_specification(context: ClientContext, keys: Keys, note: str) -> bytes:
    """Return the positions of keys: a start, and the steps from it."""
    mapping = context.protocol.mapping
    begin = mapping([(_text("index"), replies.number(keys.first))])
    if keys.counted:
        kind, numbers = "keynum", {"keynumidx": 0, "firstkey": keys.last, "keystep": keys.step}
    else:
        kind, numbers = "range", {"lastkey": keys.last, "keystep": keys.step, "limit": 0}
    find = mapping([(_text(name), replies.number(number)) for name, number in numbers.items()])
    pairs = [(_text("notes"), _text(note))] if note else []
    pairs += [
        (_text("flags"), _flags(context, keys.flags)),
        (_text("begin_search"), mapping([(_text("type"), _text("index")), (_text("spec"), begin)])),
        (_text("find_keys"), mapping([(_text("type"), _text(kind)), (_text("spec"), find)])),
    ]
    return mapping(pairs)


def _documented(context: ClientContext, commands: Sequence[RespCommand]) -> bytes:
    """Return the entries of commands in COMMAND DOCS, by name."""
    known: dict[RespCommand, bytes] = {}
    for command in commands:
        if command not in known:
            known[command] = _facts(context, command)
    check_reply(context, [known[command] for command in commands])
    return context.protocol.mapping([(replies.bulk(command.name), known[command]) for command in commands])


def _facts(context: ClientContext, command: RespCommand) -> bytes:
    """Return a command's entry in COMMAND DOCS."""
    about = command.about
    facts = [
        (_text("summary"), _text(about.summary)),
        (_text("since"), _text(about.since)),
        (_text("group"), _text(about.group)),
    ]
    since, instead = DEPRECATED.get(command.name.decode(), ("", ""))
    if since:
        facts += [
            (_text("doc_flags"), _flags(context, ["deprecated"])),
            (_text("deprecated_since"), _text(since)),
            (_text("replaced_by"), _text(instead)),
        ]
    subcommands = _subcommands_of(command)
    if subcommands:
        facts.append((_text("subcommands"), _documented(context, subcommands)))
    return context.protocol.mapping(facts)


def _text(text: str) -> bytes:
    return replies.bulk(text.encode())


def _flags(context: ClientContext, flags: Sequence[str]) -> bytes:
    return context.protocol.set_of([replies.simple(flag.encode()) for flag in flags])


def _subcommand(name: str, run: Handler) -> RespCommand:
    return RespCommand(f"command|{name}", run, (OTHER,), 1, cost=SLOW_COST, is_local=everywhere, on_standby=ANSWERED)


@cache
def _categories() -> AclCategories:
    return AclCategories([*COMMANDS, *OF_SENTINELS.values()])


SUBCOMMANDS: Final[list[RespCommand]] = [
    _subcommand("count", _count),
    _subcommand("list", _list),
    _subcommand("info", _info),
    _subcommand("docs", _docs),
    _subcommand("getkeys", _getkeys),
    _subcommand("getkeysandflags", _getkeysandflags),
]

COMMANDS: Final[list[RespCommand]] = [
    *strings.COMMANDS,
    *bits.COMMANDS,
    *bitfield.COMMANDS,
    *lcs.COMMANDS,
    *keys.COMMANDS,
    *deadlines.COMMANDS,
    *introspection.COMMANDS,
    *transactions.COMMANDS,
    *connection.COMMANDS,
    *clients.COMMANDS,
    *server.COMMANDS,
    *roles.COMMANDS,
    *info.COMMANDS,
    *slow_log.COMMANDS,
    *latency.COMMANDS,
    container("command", SUBCOMMANDS, default=_all),
    acl.command(_categories, _command_named),
]

BY_NAME: Final[dict[bytes, RespCommand]] = {
    name: command for command in COMMANDS for name in (command.name, command.name.upper())
}
"""In lower and upper case, as most clients write them."""

OF_SENTINELS: Final[dict[bytes, RespCommand]] = {
    command.name: command for command in [*sentinel.COMMANDS, *subscriptions.COMMANDS]
}
"""What only servers have that share a data set with others, by name."""

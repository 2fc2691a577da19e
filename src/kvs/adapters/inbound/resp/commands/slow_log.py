"""SLOWLOG: commands that took long."""

from itertools import islice
from typing import Final

from kvs.adapters.inbound.protocol.command import OTHER, everywhere
from kvs.adapters.inbound.protocol.slow_log import SlowCommand
from kvs.adapters.inbound.resp import replies
from kvs.adapters.inbound.resp.command import RespCommand
from kvs.adapters.inbound.resp.commands.subcommands import container
from kvs.adapters.inbound.resp.context import ClientContext, check_reply
from kvs.adapters.inbound.resp.wording import NAME_BYTES, excerpt
from kvs.domain.errors import UsageError
from kvs.domain.updates import integer
from kvs.ports.session import Session, Steps

USUAL_COUNT: Final = 10
ALL: Final = -1

ENTRY_COST: Final = 10
"""Units of work to describe a command."""


def _get(session: Session, context: ClientContext, arguments: list[bytes]) -> Steps[bytes]:
    if len(arguments) > 3:
        name = excerpt(arguments[1], NAME_BYTES)
        raise UsageError(f"unknown subcommand or wrong number of arguments for '{name}'. Try SLOWLOG HELP.")
    entries = context.shared.observation.slow_log.entries
    count = _count(arguments[2]) if len(arguments) == 3 else USUAL_COUNT
    described = []
    for entry in list(entries) if count == ALL else list(islice(entries, count)):
        described.append(_described(entry))
        session.work.left -= ENTRY_COST
        if session.work.left <= 0:
            yield
    check_reply(context, described)
    return replies.array(described)


def _count(word: bytes) -> int:
    message = "count should be greater than or equal to -1"
    try:
        count = integer(word)
    except UsageError:
        raise UsageError(message) from None
    if count < ALL:
        raise UsageError(message)
    return count


def _described(entry: SlowCommand) -> bytes:
    return replies.array(
        [
            replies.number(entry.number),
            replies.number(entry.unix_s),
            replies.number(entry.duration_us),
            replies.bulks(entry.arguments),
            replies.bulk(entry.address),
            replies.bulk(entry.name),
        ]
    )


def _len(_: Session, context: ClientContext, __: list[bytes]) -> bytes:
    return replies.number(len(context.shared.observation.slow_log.entries))


def _reset(_: Session, context: ClientContext, __: list[bytes]) -> bytes:
    context.shared.observation.slow_log.entries.clear()
    return replies.OK


COMMANDS: Final[list[RespCommand]] = [
    container(
        "slowlog",
        [
            RespCommand("slowlog|reset", _reset, (OTHER,), is_local=everywhere),
            RespCommand("slowlog|len", _len, (OTHER,), is_local=everywhere),
            RespCommand("slowlog|get", _get, (OTHER,), 1, is_local=everywhere),
        ],
    )
]

"""Commands about the server: TIME and CONFIG."""

from typing import Final

from kvs.adapters.inbound.protocol.command import OTHER, SECRET, SLOW_COST, everywhere
from kvs.adapters.inbound.resp import replies
from kvs.adapters.inbound.resp.command import AFTER_EXEC, RespCommand
from kvs.adapters.inbound.resp.commands.info import counts_of
from kvs.adapters.inbound.resp.commands.keys import check_patterns
from kvs.adapters.inbound.resp.commands.subcommands import container
from kvs.adapters.inbound.resp.context import ClientContext
from kvs.adapters.inbound.resp.glob import Glob
from kvs.adapters.inbound.resp.wording import c_string, excerpt
from kvs.domain.errors import UsageError
from kvs.ports.session import Session

WILDCARDS: Final = b"*[?"


def _time(_: Session, context: ClientContext, __: list[bytes]) -> bytes:
    microseconds = int(context.shared.clock() * 1_000_000)
    return replies.bulks([b"%d" % (microseconds // 1_000_000), b"%d" % (microseconds % 1_000_000)])


def _get(_: Session, context: ClientContext, arguments: list[bytes]) -> bytes:
    check_patterns(arguments[2:])
    parameters = context.shared.parameters
    found: dict[bytes, bytes] = {}  # by the requested name, as in Redis, but each parameter once
    met: set[bytes] = set()
    for pattern in dict.fromkeys(arguments[2:]):
        name = pattern.lower()
        if name.translate(None, WILDCARDS) != name:
            glob = Glob(c_string(name))
            matching = {name: name for name in parameters if glob.match(name)}
        else:
            matching = {name: pattern} if name in parameters else {}
        found.update({requested: parameters[name] for name, requested in matching.items() if name not in met})
        met.update(matching)
    return context.protocol.mapping([(replies.bulk(name), replies.bulk(value)) for name, value in found.items()])


def _set(_: Session, context: ClientContext, arguments: list[bytes]) -> bytes:
    if len(arguments) % 2:
        raise UsageError("syntax error")
    name = excerpt(arguments[2])
    if arguments[2].lower() not in context.shared.parameters:
        raise UsageError(f"Unknown option or number of arguments for CONFIG SET - '{name}'")
    raise UsageError(f"CONFIG SET failed (possibly related to argument '{name}') - can't set immutable config")


def _resetstat(session: Session, context: ClientContext, _: list[bytes]) -> bytes:
    context.shared.observation.statistics.reset()
    context.shared.counts_at_reset = counts_of(context, session.info()["server"])
    return replies.OK


def _rewrite(_: Session, __: ClientContext, ___: list[bytes]) -> bytes:
    raise UsageError("The server is running without a config file")


SUBCOMMANDS: Final[list[RespCommand]] = [
    RespCommand("config|get", _get, (OTHER,), 1, cost=SLOW_COST, is_local=everywhere),
    RespCommand("config|set", _set, (OTHER, OTHER, SECRET), 2, is_local=everywhere),
    RespCommand("config|resetstat", _resetstat, (OTHER,), cost=SLOW_COST, multi_policy=AFTER_EXEC),
    RespCommand("config|rewrite", _rewrite, (OTHER,), is_local=everywhere),
]

COMMANDS: Final[list[RespCommand]] = [RespCommand("time", _time, is_local=everywhere), container("config", SUBCOMMANDS)]

"""Commands about the server: TIME and CONFIG."""

from typing import Final

from kvs.adapters.inbound.protocol.command import OTHER, SECRET, SLOW_COST, everywhere
from kvs.adapters.inbound.protocol.printing import REDACTED
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

REQUIREPASS: Final = b"requirepass"

WILDCARDS: Final = b"*[?"


def _time(session: Session, _: ClientContext, __: list[bytes]) -> bytes:
    seconds, milliseconds = divmod(session.now_ms, 1000)
    return replies.bulks([b"%d" % seconds, b"%d" % (milliseconds * 1000)])


def _get(_: Session, context: ClientContext, arguments: list[bytes]) -> bytes:
    check_patterns(arguments[2:])
    parameters = context.shared.parameters
    _tell_of_password(context)
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
    parameters, changeable = context.shared.parameters, context.shared.changeable
    _tell_of_password(context)
    changes: dict[bytes, bytes] = {}
    for name, word in zip(arguments[2::2], arguments[3::2], strict=True):
        if name.lower() not in parameters:
            raise UsageError(f"Unknown option or number of arguments for CONFIG SET - '{excerpt(name)}'")
        if name.lower() not in changeable and (word != parameters[name.lower()] or word == REDACTED):
            raise _failed(name, "can't set immutable config")
        if name.lower() in changes:
            raise _failed(name, "duplicate parameter")
        changes[name.lower()] = word
    for given in arguments[2::2]:
        name = given.lower()
        if name in changeable:
            try:
                changes[name] = changeable[name].allowed(changes[name])
            except UsageError as error:
                raise _failed(given, str(error)) from None
    for name, value in changes.items():
        if value != parameters[name]:  # or nothing changes
            changeable[name].change(value)
            parameters[name] = value
    return replies.OK


def _tell_of_password(context: ClientContext) -> None:
    """Tell whether there is a password, and no more."""
    parameters = context.shared.parameters
    if REQUIREPASS in parameters:
        parameters[REQUIREPASS] = b"" if context.shared.security.users.default.nopass else REDACTED


def _failed(name: bytes, reason: str) -> UsageError:
    return UsageError(f"CONFIG SET failed (possibly related to argument '{excerpt(name)}') - {reason}")


def _resetstat(session: Session, context: ClientContext, _: list[bytes]) -> bytes:
    context.shared.observation.statistics.reset()
    context.shared.counts_at_reset = counts_of(context, session.info()["server"])
    return replies.OK


def _rewrite(_: Session, __: ClientContext, ___: list[bytes]) -> bytes:
    raise UsageError(
        "CONFIG REWRITE is not supported: what CONFIG SET changes lasts until the server stops; to keep it, change the "
        "flags, the environment or the file that the server is started with"
    )


SUBCOMMANDS: Final[list[RespCommand]] = [
    RespCommand("config|get", _get, (OTHER,), 1, cost=SLOW_COST, is_local=everywhere),
    RespCommand("config|set", _set, (OTHER, OTHER, SECRET), 2, is_local=everywhere),
    RespCommand("config|resetstat", _resetstat, (OTHER,), cost=SLOW_COST, multi_policy=AFTER_EXEC),
    RespCommand("config|rewrite", _rewrite, (OTHER,), is_local=everywhere),
]

COMMANDS: Final[list[RespCommand]] = [RespCommand("time", _time, is_local=everywhere), container("config", SUBCOMMANDS)]

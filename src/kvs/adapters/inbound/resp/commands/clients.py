"""CLIENT: describes and closes connections."""

from typing import TYPE_CHECKING, Final

from kvs.adapters.inbound.protocol.command import ANSWERED, BEGINS, OTHER, RELAYED, SLOW_COST, Uses, no_range
from kvs.adapters.inbound.resp import replies
from kvs.adapters.inbound.resp.command import AFTER_EXEC, REFUSED, Handler, RespCommand
from kvs.adapters.inbound.resp.commands import tracking
from kvs.adapters.inbound.resp.commands.client_line import client_line
from kvs.adapters.inbound.resp.commands.connection import checked_name
from kvs.adapters.inbound.resp.commands.subcommands import container
from kvs.adapters.inbound.resp.context import REPLIES_OFF, REPLIES_ON, SKIP_NEXT_REPLY, ClientContext, check_reply
from kvs.adapters.inbound.resp.pieces import Pieces
from kvs.adapters.inbound.resp.wording import NAME_BYTES, c_string, excerpt
from kvs.domain.errors import UsageError
from kvs.domain.updates import INTEGER_MIN, integer
from kvs.ports.session import Session, Steps

if TYPE_CHECKING:
    from kvs.application.users import User

DESCRIPTION_COST: Final = 10
"""Units of work to describe a client."""


def _id(session: Session, _: ClientContext, __: list[bytes]) -> bytes:
    return replies.number(session.id)


def _getname(_: Session, context: ClientContext, __: list[bytes]) -> bytes:
    return replies.bulk(context.peer.name) if context.peer.name else context.protocol.null


def _setname(_: Session, context: ClientContext, arguments: list[bytes]) -> bytes:
    context.peer.name = checked_name(arguments[2])
    return replies.OK


def _setinfo(_: Session, context: ClientContext, arguments: list[bytes]) -> bytes:
    option = arguments[2].lower()
    if option == b"lib-name":
        context.library = checked_name(arguments[3], "lib-name")
    elif option == b"lib-ver":
        context.library_version = checked_name(arguments[3], "lib-ver")
    else:
        raise UsageError(f"Unrecognized option '{excerpt(arguments[2])}'")
    return replies.OK


def _reply(_: Session, context: ClientContext, arguments: list[bytes]) -> bytes:
    mode = arguments[2].lower()
    if mode == b"on":
        context.reply_mode = REPLIES_ON
        return replies.OK
    if mode == b"off":
        context.reply_mode = REPLIES_OFF
    elif mode != b"skip":
        raise UsageError("syntax error")
    elif context.reply_mode != REPLIES_OFF:
        context.reply_mode = SKIP_NEXT_REPLY
    return b""


def _no_evict(_: Session, context: ClientContext, arguments: list[bytes]) -> bytes:
    context.no_evict = _on_or_off(arguments[2])
    return replies.OK


def _no_touch(_: Session, __: ClientContext, arguments: list[bytes]) -> bytes:
    _on_or_off(arguments[2])
    return replies.OK  # access times are not recorded


def _on_or_off(word: bytes) -> bool:
    if word.lower() not in (b"on", b"off"):
        raise UsageError("syntax error")
    return word.lower() == b"on"


# Features that kvs lacks.


def _pause(_: Session, __: ClientContext, arguments: list[bytes]) -> bytes:
    if len(arguments) > 4:
        raise _syntax_of(arguments)
    if len(arguments) == 4 and arguments[3].lower() not in (b"write", b"all"):
        raise UsageError("CLIENT PAUSE mode must be WRITE or ALL")
    try:
        timeout_ms = integer(arguments[2])
    except UsageError:
        raise UsageError("timeout is not an integer or out of range") from None
    if timeout_ms < 0:
        raise UsageError("timeout is negative")
    raise UsageError("CLIENT PAUSE is not supported")


def _unpause(_: Session, __: ClientContext, ___: list[bytes]) -> bytes:
    return replies.OK


def _unblock(_: Session, __: ClientContext, arguments: list[bytes]) -> bytes:
    if len(arguments) > 4:
        raise _syntax_of(arguments)
    if len(arguments) == 4 and arguments[3].lower() not in (b"timeout", b"error"):
        raise UsageError("CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
    integer(arguments[2])
    return replies.ZERO


def _syntax_of(arguments: list[bytes]) -> UsageError:
    return UsageError(
        f"unknown subcommand or wrong number of arguments for '{excerpt(arguments[1], NAME_BYTES)}'. Try CLIENT HELP."
    )


# All of them.


def _info(session: Session, context: ClientContext, _: list[bytes]) -> bytes:
    client = context.shared.clients.describe(session.id)
    return context.protocol.verbatim(b"" if client is None else client_line(client, context.shared.uptime_clock()))


def _list(session: Session, context: ClientContext, arguments: list[bytes]) -> Steps[list[bytes]]:
    clients = context.shared.clients
    option = arguments[2].lower() if len(arguments) > 3 else b""
    if option == b"id":
        wanted = [_client_id(word, "Invalid client ID", INTEGER_MIN) for word in arguments[3:]]
    elif option == b"type" and len(arguments) == 4:
        wanted = clients.ids() if _normal(arguments[3]) else []
    elif len(arguments) > 2:
        raise UsageError("syntax error")
    else:
        wanted = clients.ids()
    now_s = context.shared.uptime_clock()
    known: dict[int, bytes] = {}
    lines: list[bytes] = []
    size = 0
    for number in wanted:  # the same one may repeat many times
        line = known.get(number)
        if line is None:
            client = clients.describe(number)
            line = known[number] = b"" if client is None else client_line(client, now_s)
            session.work.left -= DESCRIPTION_COST
        lines.append(line)
        size += len(line)
        session.work.hold(len(line))
        session.work.left -= 1
        if session.work.left <= 0:
            yield
    check_reply(context, lines)
    pieces = Pieces(session.work)
    pieces.add(context.protocol.verbatim_header(size))
    for line in lines:
        pieces.add(line)
        if session.work.left <= 0:
            yield
    pieces.add(replies.CRLF)
    return pieces.end()


def _kill(session: Session, context: ClientContext, arguments: list[bytes]) -> Steps[bytes]:
    address: bytes | None = None
    local_address: bytes | None = None
    number = 0
    oldest_s = 0
    normal, skips_me = True, True
    user: User | None = None
    if len(arguments) == 3:
        address, skips_me = c_string(arguments[2]), False
    for at in range(2, len(arguments), 2) if len(arguments) > 3 else ():
        session.work.left -= 1
        if session.work.left <= 0:
            yield
        option = arguments[at].lower()
        word = arguments[at + 1] if at + 1 < len(arguments) else None
        if word is None:
            raise UsageError("syntax error")
        if option == b"id":
            number = _client_id(word, "client-id should be greater than 0")
        elif option == b"type":
            normal = _normal(word)
        elif option == b"addr":
            address = c_string(word)
        elif option == b"laddr":
            local_address = c_string(word)
        elif option == b"user":
            user = context.shared.security.users.get(word.decode(errors="surrogateescape"))
            if user is None:
                raise UsageError(f"No such user '{excerpt(word)}'")
        elif option == b"skipme" and word.lower() in (b"yes", b"no"):
            skips_me = word.lower() == b"yes"
        elif option == b"maxage":
            oldest_s = integer(word)
        else:
            raise UsageError("syntax error")
    clients = context.shared.clients
    connected_s = context.shared.uptime_clock() - oldest_s
    killed = 0
    for session_id in clients.ids() if normal else []:
        session.work.left -= 1
        if session.work.left <= 0:
            yield
        client = clients.describe(session_id)
        if (
            client is None
            or (number and session_id != number)
            or (address is not None and client.address.encode() != address)
            or (local_address is not None and client.local_address.encode() != local_address)
            or (user is not None and client.connection.peer.user is not user)
            or (oldest_s and client.connected_s > connected_s)
        ):
            continue
        if session_id != session.id:
            killed += clients.kill(session_id)
        elif not skips_me:
            context.closing = True
            killed += 1
    if len(arguments) > 3:
        return replies.number(killed)
    if not killed:
        raise UsageError("No such client")
    return replies.OK


def _normal(kind: bytes) -> bool:
    """Return whether clients of that kind exist."""
    if c_string(kind).lower() not in (b"normal", b"master", b"replica", b"slave", b"pubsub"):
        raise UsageError(f"Unknown client type '{excerpt(kind)}'")
    return c_string(kind).lower() == b"normal"


def _client_id(word: bytes, message: str, least: int = 1) -> int:
    try:
        number = integer(word)
    except UsageError:
        raise UsageError(message) from None
    if number < least:
        raise UsageError(message)
    return number


def _subcommand(
    name: str,
    run: Handler,
    cost: int = 0,
    multi_policy: int = AFTER_EXEC,
    on_standby: int = RELAYED,
    ranges: Uses = no_range,
) -> RespCommand:
    return RespCommand(
        f"client|{name}",
        run,
        (OTHER,),
        1,
        cost=cost,
        multi_policy=multi_policy,
        on_loop=True,
        runs_when_full=True,
        on_standby=on_standby,
        ranges=ranges,
    )


SUBCOMMANDS: Final[list[RespCommand]] = [
    _subcommand("id", _id, on_standby=ANSWERED),
    _subcommand("getname", _getname, on_standby=ANSWERED),
    _subcommand("setname", _setname, on_standby=ANSWERED),
    _subcommand("setinfo", _setinfo, on_standby=ANSWERED),
    _subcommand("info", _info, cost=SLOW_COST),
    _subcommand("list", _list, cost=SLOW_COST),
    _subcommand("kill", _kill, cost=SLOW_COST),
    _subcommand("reply", _reply, multi_policy=REFUSED, on_standby=BEGINS),
    _subcommand("no-evict", _no_evict, on_standby=ANSWERED),
    _subcommand("no-touch", _no_touch, on_standby=ANSWERED),
    _subcommand("pause", _pause),
    _subcommand("unpause", _unpause),
    _subcommand("unblock", _unblock),
    _subcommand("tracking", tracking.tracking, multi_policy=REFUSED, on_standby=BEGINS, ranges=tracking.bcast_ranges),
    _subcommand("trackinginfo", tracking.trackinginfo),
    _subcommand("caching", tracking.caching, multi_policy=REFUSED),
    _subcommand("getredir", tracking.getredir),
]

COMMANDS: Final[list[RespCommand]] = [container("client", SUBCOMMANDS)]

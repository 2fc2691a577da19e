"""Commands about this connection."""

from typing import Final

from kvs.adapters.inbound.protocol.command import (
    ANSWERED,
    BEGINS,
    CONTENT,
    OTHER,
    SECRET,
    Reply,
    everywhere,
    without_snapshot,
)
from kvs.adapters.inbound.resp import replies
from kvs.adapters.inbound.resp.command import AFTER_EXEC, IMMEDIATE, REFUSED, RespCommand
from kvs.adapters.inbound.resp.commands.keys import check_database
from kvs.adapters.inbound.resp.commands.roles import leads
from kvs.adapters.inbound.resp.context import REPLIES_ON, SKIP_THIS_REPLY, ClientContext
from kvs.adapters.inbound.resp.replies import RESP2, RESP3, RespVersion
from kvs.adapters.inbound.resp.wording import excerpt
from kvs.application.users import DEFAULT_NAME
from kvs.domain.errors import TooLargeError, UsageError
from kvs.domain.updates import integer
from kvs.ports.session import Session, Steps

REDIS_VERSION: Final = b"7.0.0"
"""The version of Redis that kvs reports: programs enable features by it."""

HELLO_WITHOUT_AUTH: Final = (
    b"HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> option can be "
    b"used to authenticate the client and select the RESP protocol version at the same time"
)

MAX_NAME_BYTES: Final = 512
"""Longest name of a client, or of its library."""


def _ping(_: Session, context: ClientContext, arguments: list[bytes]) -> bytes:
    if len(arguments) > 2:
        raise UsageError("wrong number of arguments for 'ping' command")
    if context.subscriptions() and context.protocol is RESP2:  # its reply must not look like a message, as in Redis
        return replies.bulks([b"pong", *(arguments[1:] or [b""])])
    return replies.bulk(arguments[1]) if len(arguments) == 2 else replies.PONG


def _echo(_: Session, __: ClientContext, arguments: list[bytes]) -> bytes:
    return replies.bulk(arguments[1])


def _quit(_: Session, context: ClientContext, __: list[bytes]) -> bytes:
    context.closing = True
    return replies.OK


def _auth(session: Session, context: ClientContext, arguments: list[bytes]) -> Steps[bytes]:
    if len(arguments) > 3:
        raise UsageError("syntax error")
    security = context.shared.security
    if len(arguments) == 2 and security.users.default.nopass:
        raise UsageError(
            "AUTH <password> called without any password configured for the default user. Are you sure your "
            "configuration is correct?"
        )
    name = arguments[1] if len(arguments) == 3 else DEFAULT_NAME.encode()
    yield from security.log_in(session, context.peer, name, arguments[-1], "AUTH")
    return replies.OK


def _reset(session: Session, context: ClientContext, _: list[bytes]) -> bytes:
    session.reset()
    context.discard()
    context.protocol = RESP2
    if context.reply_mode != SKIP_THIS_REPLY:  # which still applies to this one
        context.reply_mode = REPLIES_ON
    context.peer.name = b""
    context.monitoring = False
    context.end_tracking()
    context.channels.clear()
    context.patterns.clear()
    context.peer.become(context.shared.security.first_user())
    return replies.RESET


def _monitor(session: Session, context: ClientContext, _: list[bytes]) -> bytes:
    if context.monitoring:
        return b""  # as in Redis
    if session.depth:
        raise UsageError("MONITOR inside a transaction that START opened; COMMIT or ROLLBACK ends it.")
    context.monitoring = True
    return replies.OK


def _select(_: Session, __: ClientContext, arguments: list[bytes]) -> bytes:
    check_database(arguments[1])
    return replies.OK


def _hello(session: Session, context: ClientContext, arguments: list[bytes]) -> Reply:
    protocol = context.protocol
    if len(arguments) > 1:
        try:
            version = integer(arguments[1])
        except UsageError:
            raise UsageError("Protocol version is not an integer or out of range") from None
        if version not in (2, 3):
            return replies.error_line("NOPROTO", b"unsupported protocol version")
        protocol = RESP2 if version == 2 else RESP3
    name, secret = b"", None
    at = 2
    while at < len(arguments):
        option = arguments[at].upper()
        if option == b"AUTH" and at + 2 < len(arguments):
            name, secret = arguments[at + 1 : at + 3]
            at += 3
        elif option == b"SETNAME" and at + 1 < len(arguments):
            context.peer.name = checked_name(arguments[at + 1])  # at once, whatever follows, as in Redis
            at += 2
        else:
            raise UsageError(f"Syntax error in HELLO option '{excerpt(arguments[at])}'")
    if secret is None:
        return _introduce(session, context, protocol)
    if context.queue is not None:
        raise UsageError("HELLO with AUTH is not allowed between MULTI and EXEC")
    return _log_in_and_introduce(session, context, protocol, name, secret)


def _log_in_and_introduce(
    session: Session, context: ClientContext, protocol: RespVersion, name: bytes, secret: bytes
) -> Steps[bytes]:
    yield from context.shared.security.log_in(session, context.peer, name, secret, "HELLO")
    return _introduce(session, context, protocol)


def _introduce(session: Session, context: ClientContext, protocol: RespVersion) -> bytes:
    """Go on in a version of the protocol, and tell what this server is."""
    if context.peer.user is None:
        return replies.error_line("NOAUTH", HELLO_WITHOUT_AUTH)
    context.protocol = protocol
    if protocol is RESP2:
        context.end_tracking()  # its messages have no form there
    return protocol.mapping(
        [
            (replies.bulk(b"server"), replies.bulk(b"kvs")),
            (replies.bulk(b"version"), replies.bulk(REDIS_VERSION)),
            (replies.bulk(b"proto"), replies.number(protocol.version)),
            (replies.bulk(b"id"), replies.number(session.id)),
            (replies.bulk(b"mode"), replies.bulk(b"standalone")),
            (replies.bulk(b"role"), replies.bulk(b"master" if leads(context) else b"replica")),
            (replies.bulk(b"modules"), replies.EMPTY_ARRAY),
        ]
    )


def checked_name(name: bytes, of: str = "") -> bytes:
    """Return a valid name of a client or its library.

    Raises:
        TooLargeError: It is too long.
        UsageError: It contains blanks or invisible characters.
    """
    if len(name) > MAX_NAME_BYTES:
        raise TooLargeError(f"The name has {len(name)} bytes; {MAX_NAME_BYTES} are allowed.")
    if not all(0x21 <= code <= 0x7E for code in name):
        raise UsageError(f"{of or 'Client names'} cannot contain spaces, newlines or special characters.")
    return name


COMMANDS: Final[list[RespCommand]] = [
    RespCommand("ping", _ping, (CONTENT,), is_local=everywhere, runs_when_full=True, on_standby=ANSWERED),
    RespCommand("echo", _echo, (CONTENT,), is_local=everywhere, on_standby=ANSWERED),
    RespCommand(
        "auth",
        _auth,
        (SECRET,),
        1,
        multi_policy=REFUSED,
        is_local=everywhere,
        on_loop=True,
        runs_when_full=True,
        on_standby=ANSWERED,
    ),
    RespCommand(
        "quit",
        _quit,
        (OTHER,),
        1,
        multi_policy=IMMEDIATE,
        is_local=everywhere,
        runs_when_full=True,
        on_standby=ANSWERED,
    ),
    RespCommand(
        "reset",
        _reset,
        multi_policy=IMMEDIATE,
        is_local=without_snapshot,
        runs_when_full=True,
        on_standby=ANSWERED,
    ),
    RespCommand("monitor", _monitor, multi_policy=REFUSED, on_loop=True, on_standby=BEGINS),
    RespCommand("select", _select, (OTHER,), is_local=everywhere, on_standby=ANSWERED),
    RespCommand("hello", _hello, (OTHER, SECRET), 1, multi_policy=AFTER_EXEC, on_loop=True, on_standby=ANSWERED),
]

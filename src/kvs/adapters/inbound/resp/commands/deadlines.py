"""Commands about the deadlines of keys."""

from functools import partial
from typing import Final

from kvs.adapters.inbound.protocol.command import KEY, OTHER, of_pending_key
from kvs.adapters.inbound.resp import replies
from kvs.adapters.inbound.resp.command import RespCommand
from kvs.adapters.inbound.resp.commands.options import invalid_expire_time
from kvs.adapters.inbound.resp.context import ClientContext
from kvs.adapters.inbound.resp.wording import excerpt
from kvs.application.time_left import time_left_ms
from kvs.domain.deadlines import IF_EARLIER, IF_LATER, WITH_DEADLINE, WITHOUT_DEADLINE, RemoveDeadline, SetDeadline
from kvs.domain.errors import UsageError
from kvs.domain.updates import INTEGER_MIN, integer
from kvs.domain.values import MAX_DEADLINE_MS, NO_DEADLINE, deadline_of
from kvs.ports.session import Session

CONDITIONS: Final = {b"NX": WITHOUT_DEADLINE, b"XX": WITH_DEADLINE, b"GT": IF_LATER, b"LT": IF_EARLIER}

ABSENT: Final = -2
PERSISTENT: Final = -1
"""Replies in place of a time."""

SECOND_MS: Final = 1000


def _expire(unit_ms: int, relative: bool, session: Session, _: ClientContext, arguments: list[bytes]) -> bytes:  # noqa: FBT001  # for partial()
    conditions = _conditions(arguments)
    now_ms = session.now_ms
    amount_ms = integer(arguments[2]) * unit_ms
    deadline_ms = amount_ms + (now_ms if relative else 0)
    if amount_ms < INTEGER_MIN or deadline_ms > MAX_DEADLINE_MS:
        raise invalid_expire_time(arguments[0])
    change = SetDeadline(deadline_ms, now_ms, conditions)
    old = session.update(arguments[1], change)[0]
    return replies.ONE if change.applies_to(old) else replies.ZERO


def _conditions(arguments: list[bytes]) -> int:
    conditions = 0
    for word in arguments[3:]:
        condition = CONDITIONS.get(word.upper())
        if condition is None:
            raise UsageError(f"Unsupported option {excerpt(word)}")
        conditions |= condition
    if conditions & WITHOUT_DEADLINE and conditions != WITHOUT_DEADLINE:
        raise UsageError("NX and XX, GT or LT options at the same time are not compatible")
    if conditions & IF_LATER and conditions & IF_EARLIER:
        raise UsageError("GT and LT options at the same time are not compatible")
    return conditions


def _persist(session: Session, _: ClientContext, arguments: list[bytes]) -> bytes:
    old = session.update(arguments[1], RemoveDeadline())[0]
    return replies.ZERO if deadline_of(old) == NO_DEADLINE else replies.ONE


def _time_left(unit_ms: int, session: Session, _: ClientContext, arguments: list[bytes]) -> bytes:
    deadline_ms = _deadline_of(session, arguments)
    if deadline_ms <= 0:
        return replies.number(deadline_ms)
    return replies.number(_rounded(time_left_ms(session, deadline_ms), unit_ms))


def _expire_time(unit_ms: int, session: Session, _: ClientContext, arguments: list[bytes]) -> bytes:
    deadline_ms = _deadline_of(session, arguments)
    return replies.number(deadline_ms if deadline_ms <= 0 else _rounded(deadline_ms, unit_ms))


def _deadline_of(session: Session, arguments: list[bytes]) -> int:
    """Return the deadline of the first key, or the reply that there is none."""
    value = session.get(arguments[1])
    return ABSENT if value is None else deadline_of(value) or PERSISTENT


def _rounded(time_ms: int, unit_ms: int) -> int:
    return (time_ms + unit_ms // 2) // unit_ms


def _setter(name: str, unit_ms: int, *, relative: bool) -> RespCommand:
    return RespCommand(name, partial(_expire, unit_ms, relative), (KEY, OTHER), 1, is_local=of_pending_key)


COMMANDS: Final[list[RespCommand]] = [
    _setter("expire", SECOND_MS, relative=True),
    _setter("pexpire", 1, relative=True),
    _setter("expireat", SECOND_MS, relative=False),
    _setter("pexpireat", 1, relative=False),
    RespCommand("persist", _persist, (KEY,), is_local=of_pending_key),
    RespCommand("ttl", partial(_time_left, SECOND_MS), (KEY,), is_local=of_pending_key),
    RespCommand("pttl", partial(_time_left, 1), (KEY,), is_local=of_pending_key),
    RespCommand("expiretime", partial(_expire_time, SECOND_MS), (KEY,), is_local=of_pending_key),
    RespCommand("pexpiretime", partial(_expire_time, 1), (KEY,), is_local=of_pending_key),
]

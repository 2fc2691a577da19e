"""Commands about the values of one key or several."""

from functools import partial
from typing import Final

from kvs.adapters.inbound.protocol.command import KEY, OTHER, VALUE, Reply, in_transaction, of_pending_key
from kvs.adapters.inbound.resp import replies
from kvs.adapters.inbound.resp.command import RespCommand
from kvs.adapters.inbound.resp.context import ClientContext
from kvs.application.operations import get_many, put_all_if_absent
from kvs.domain.errors import UsageError
from kvs.domain.updates import (
    INTEGER_MIN,
    Add,
    Append,
    Overwrite,
    PutIfAbsent,
    PutIfPresent,
    Remove,
    Replace,
    Update,
    byte_range,
    integer,
)
from kvs.domain.values import Key, Value
from kvs.ports.session import COPIED_BYTES_PER_UNIT, Session, Steps

LARGE_VALUE_BYTES: Final = 1 << 14
"""Length from which it takes less time to send a value in a piece of its own than to copy it."""

FLOAT_COST: Final = 15
FLOAT_BYTES_PER_UNIT: Final = 4
"""INCRBYFLOAT takes 15 us for short numbers, and 1.2 ms for 5,000 digits."""

EXPIRY_OPTIONS: Final = (b"EX", b"PX", b"EXAT", b"PXAT", b"KEEPTTL")


def _value(context: ClientContext, value: Value | None) -> Reply:
    """Return the reply that has a value; a large one is not copied into it."""
    if value is None or len(value) <= LARGE_VALUE_BYTES:
        return context.protocol.value(value)
    return [b"$%d\r\n" % len(value), value, replies.CRLF]


def _get(session: Session, context: ClientContext, arguments: list[bytes]) -> Reply:
    return _value(context, session.get(arguments[1]))


def _set(session: Session, context: ClientContext, arguments: list[bytes]) -> bytes:
    value = arguments[2]
    if len(arguments) == 3:
        session.put(arguments[1], value)
        return replies.OK
    condition = b""
    answers_old = False
    for word in arguments[3:]:
        option = word.upper()
        if option in EXPIRY_OPTIONS:
            raise UsageError("expiry is not supported: there is no EX, PX, EXAT, PXAT or KEEPTTL")
        if option == b"GET":
            answers_old = True
        elif option in (b"NX", b"XX") and condition in (b"", option):
            condition = option
        else:
            raise UsageError("syntax error")
    change: Update
    if condition == b"NX":
        change = PutIfAbsent(value)
    elif condition == b"XX":
        change = PutIfPresent(value)
    else:
        change = Replace(value)
    old = session.update(arguments[1], change)[0]
    if answers_old:
        return context.protocol.value(old)
    # The old value shows whether the condition held.
    held = condition != (b"NX" if old is not None else b"XX")
    return replies.OK if held else context.protocol.null


def _is_local_set(session: Session, arguments: list[bytes]) -> bool:
    """Return whether a SET needs no engine: it is blind in a transaction, or of a pending key."""
    return session.depth > 0 and (len(arguments) == 3 or session.is_pending(arguments[1]))


def _setnx(session: Session, _: ClientContext, arguments: list[bytes]) -> bytes:
    old = session.update(arguments[1], PutIfAbsent(arguments[2]))[0]
    return replies.ONE if old is None else replies.ZERO


def _getset(session: Session, context: ClientContext, arguments: list[bytes]) -> Reply:
    return _value(context, session.update(arguments[1], Replace(arguments[2]))[0])


def _getdel(session: Session, context: ClientContext, arguments: list[bytes]) -> Reply:
    return _value(context, session.update(arguments[1], Remove())[0])


def _append(session: Session, context: ClientContext, arguments: list[bytes]) -> bytes:
    return _copied(session, arguments[1], Append(arguments[2], context.limits.max_value_bytes))


def _strlen(session: Session, _: ClientContext, arguments: list[bytes]) -> bytes:
    return _length(session.get(arguments[1]))


def _getrange(session: Session, context: ClientContext, arguments: list[bytes]) -> Reply:
    first, last = integer(arguments[2]), integer(arguments[3])
    part = byte_range(session.get(arguments[1]) or b"", first, last)
    session.work.left -= len(part) // COPIED_BYTES_PER_UNIT
    return _value(context, part)


def _setrange(session: Session, context: ClientContext, arguments: list[bytes]) -> bytes:
    offset = integer(arguments[2])
    if offset < 0:
        raise UsageError("offset is out of range")
    return _copied(session, arguments[1], Overwrite(offset, arguments[3], context.limits.max_value_bytes))


def _incr(session: Session, _: ClientContext, arguments: list[bytes]) -> bytes:
    return _added(session, arguments[1], 1)


def _decr(session: Session, _: ClientContext, arguments: list[bytes]) -> bytes:
    return _added(session, arguments[1], -1)


def _incrby(session: Session, _: ClientContext, arguments: list[bytes]) -> bytes:
    return _added(session, arguments[1], integer(arguments[2]))


def _decrby(session: Session, _: ClientContext, arguments: list[bytes]) -> bytes:
    amount = integer(arguments[2])
    if amount == INTEGER_MIN:
        raise UsageError("decrement would overflow")
    return _added(session, arguments[1], -amount)


def _incrbyfloat(session: Session, context: ClientContext, arguments: list[bytes]) -> bytes:
    from kvs.adapters.inbound.resp.floats import AddFloat  # noqa: PLC0415  # of use to few

    old, new = session.update(arguments[1], AddFloat(arguments[2]))
    session.work.left -= (len(arguments[2]) + len(old or b"") + len(new or b"")) // FLOAT_BYTES_PER_UNIT
    return context.protocol.value(new)


def _mget(session: Session, context: ClientContext, arguments: list[bytes]) -> Steps[bytes]:
    values = yield from session.view(partial(get_many, arguments[1:], context.limits.max_reply_bytes))
    return replies.array([context.protocol.value(value) for value in values])


def _mset(session: Session, _: ClientContext, arguments: list[bytes]) -> bytes:
    session.put_all(_entries(arguments))
    return replies.OK


def _msetnx(session: Session, _: ClientContext, arguments: list[bytes]) -> Steps[bytes]:
    stored = yield from session.transact(partial(put_all_if_absent, _entries(arguments)))
    return replies.ONE if stored else replies.ZERO


def _copied(session: Session, key: Key, change: Update) -> bytes:
    """Apply an update that copies the value; return the length of the new one."""
    _, new = session.update(key, change)
    session.work.left -= len(new or b"") // COPIED_BYTES_PER_UNIT
    return _length(new)


def _length(value: Value | None) -> bytes:
    return replies.number(len(value or b""))


def _added(session: Session, key: bytes, amount: int) -> bytes:
    return b":%b\r\n" % (session.update(key, Add(amount))[1] or b"0")


def _entries(arguments: list[bytes]) -> dict[Key, Value]:
    if len(arguments) % 2 == 0:
        raise UsageError(f"wrong number of arguments for '{arguments[0].decode().lower()}' command")
    return {arguments[at]: arguments[at + 1] for at in range(1, len(arguments), 2)}


COMMANDS: Final[list[RespCommand]] = [
    RespCommand("get", _get, (KEY,), is_local=of_pending_key),
    RespCommand("set", _set, (KEY, VALUE, OTHER), 1, is_local=_is_local_set),
    RespCommand("setnx", _setnx, (KEY, VALUE), is_local=of_pending_key),
    RespCommand("getset", _getset, (KEY, VALUE), is_local=of_pending_key),
    RespCommand("getdel", _getdel, (KEY,), is_local=of_pending_key),
    RespCommand("append", _append, (KEY, VALUE), is_local=of_pending_key),
    RespCommand("strlen", _strlen, (KEY,), is_local=of_pending_key),
    RespCommand("getrange", _getrange, (KEY, OTHER, OTHER), is_local=of_pending_key),
    RespCommand("setrange", _setrange, (KEY, OTHER, VALUE), is_local=of_pending_key),
    RespCommand("incr", _incr, (KEY,), is_local=of_pending_key),
    RespCommand("decr", _decr, (KEY,), is_local=of_pending_key),
    RespCommand("incrby", _incrby, (KEY, OTHER), is_local=of_pending_key),
    RespCommand("decrby", _decrby, (KEY, OTHER), is_local=of_pending_key),
    RespCommand("incrbyfloat", _incrbyfloat, (KEY, OTHER), cost=FLOAT_COST, is_local=of_pending_key),
    RespCommand("mget", _mget, (KEY,), 1),
    RespCommand("mset", _mset, (KEY, VALUE), 2, is_local=in_transaction),
    RespCommand("msetnx", _msetnx, (KEY, VALUE), 2),
]

"""Commands about one value, and about the values of several keys."""

from typing import Final

from kvs.adapters.inbound.resp import replies
from kvs.adapters.inbound.resp.context import COPIED_BYTES_PER_COST, SLOW_COST, Command, Peer
from kvs.application.operations import GetMany, PutManyIfAbsent
from kvs.domain.errors import TooLargeError, UsageError
from kvs.domain.updates import (
    INTEGER_MIN,
    Add,
    AddFloat,
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
from kvs.ports.session import Session

SIMPLE_FLOAT_BYTES: Final = 64
"""Numbers with so many digits, and no exponent, take some 10 us to add."""

EXPIRY_OPTIONS: Final = (b"EX", b"PX", b"EXAT", b"PXAT", b"KEEPTTL")


def _value(peer: Peer, value: bytes) -> Value:
    """Return a value that is not too long to be stored."""
    limit = peer.limits.max_value_bytes
    if len(value) > limit:
        raise TooLargeError(f"The value has {len(value)} bytes; max_value_bytes is {limit}.")
    return value


def _get(session: Session, peer: Peer, arguments: list[bytes]) -> bytes:
    return peer.dialect.value(session.get(arguments[1]))


def _set(session: Session, peer: Peer, arguments: list[bytes]) -> bytes:
    value = _value(peer, arguments[2])
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
    old, _ = session.update(arguments[1], change)
    if answers_old:
        return peer.dialect.value(old)
    # Of several values that differ, the one before tells whether the condition held.
    held = condition != (b"NX" if old is not None else b"XX")
    return replies.OK if held else peer.dialect.null


def _setnx(session: Session, peer: Peer, arguments: list[bytes]) -> bytes:
    old, _ = session.update(arguments[1], PutIfAbsent(_value(peer, arguments[2])))
    return replies.ONE if old is None else replies.ZERO


def _getset(session: Session, peer: Peer, arguments: list[bytes]) -> bytes:
    return peer.dialect.value(session.update(arguments[1], Replace(_value(peer, arguments[2])))[0])


def _getdel(session: Session, peer: Peer, arguments: list[bytes]) -> bytes:
    return peer.dialect.value(session.update(arguments[1], Remove())[0])


def _append(session: Session, peer: Peer, arguments: list[bytes]) -> bytes:
    return _copied(session, peer, arguments[1], Append(arguments[2], peer.limits.max_value_bytes))


def _strlen(session: Session, _: Peer, arguments: list[bytes]) -> bytes:
    return _length(session.get(arguments[1]))


def _getrange(session: Session, _: Peer, arguments: list[bytes]) -> bytes:
    first, last = integer(arguments[2]), integer(arguments[3])
    return replies.bulk(byte_range(session.get(arguments[1]) or b"", first, last))


def _setrange(session: Session, peer: Peer, arguments: list[bytes]) -> bytes:
    offset = integer(arguments[2])
    if offset < 0:
        raise UsageError("offset is out of range")
    return _copied(session, peer, arguments[1], Overwrite(offset, arguments[3], peer.limits.max_value_bytes))


def _incr(session: Session, _: Peer, arguments: list[bytes]) -> bytes:
    return _added(session, arguments[1], 1)


def _decr(session: Session, _: Peer, arguments: list[bytes]) -> bytes:
    return _added(session, arguments[1], -1)


def _incrby(session: Session, _: Peer, arguments: list[bytes]) -> bytes:
    return _added(session, arguments[1], integer(arguments[2]))


def _decrby(session: Session, _: Peer, arguments: list[bytes]) -> bytes:
    amount = integer(arguments[2])
    if amount == INTEGER_MIN:
        raise UsageError("decrement would overflow")
    return _added(session, arguments[1], -amount)


def _incrbyfloat(session: Session, peer: Peer, arguments: list[bytes]) -> bytes:
    peer.extra_cost = SLOW_COST  # unless all numbers are simple: one of 5,000 digits takes 600 us
    old, new = session.update(arguments[1], AddFloat(arguments[2]))
    if _simple(arguments[2]) and _simple(old or b"") and _simple(new or b""):
        peer.extra_cost = 0
    return peer.dialect.value(new)


def _simple(number: bytes) -> bool:
    return len(number) <= SIMPLE_FLOAT_BYTES and not number.translate(None, b"0123456789+-.")


def _mget(session: Session, peer: Peer, arguments: list[bytes]) -> bytes:
    values = session.atomically(GetMany(tuple(arguments[1:]), peer.limits.max_reply_bytes), read_only=True)
    return replies.array([peer.dialect.value(value) for value in values])


def _mset(session: Session, peer: Peer, arguments: list[bytes]) -> bytes:
    session.put_all(_entries(peer, arguments))
    return replies.OK


def _msetnx(session: Session, peer: Peer, arguments: list[bytes]) -> bytes:
    return replies.ONE if session.atomically(PutManyIfAbsent(_entries(peer, arguments))) else replies.ZERO


def _copied(session: Session, peer: Peer, key: Key, change: Update) -> bytes:
    """Make a change that copies the value, and return the length of the new one."""
    _, new = session.update(key, change)
    peer.extra_cost = len(new or b"") // COPIED_BYTES_PER_COST
    return _length(new)


def _length(value: Value | None) -> bytes:
    return replies.number(len(value or b""))


def _added(session: Session, key: bytes, amount: int) -> bytes:
    return b":%b\r\n" % (session.update(key, Add(amount))[1] or b"0")


def _entries(peer: Peer, arguments: list[bytes]) -> dict[Key, Value]:
    if len(arguments) % 2 == 0:
        raise UsageError(f"wrong number of arguments for '{arguments[0].decode().lower()}' command")
    return {arguments[at]: _value(peer, arguments[at + 1]) for at in range(1, len(arguments), 2)}


COMMANDS: Final[list[Command]] = [
    Command("get", _get),
    Command("set", _set),
    Command("setnx", _setnx),
    Command("getset", _getset),
    Command("getdel", _getdel),
    Command("append", _append),
    Command("strlen", _strlen),
    Command("getrange", _getrange),
    Command("setrange", _setrange),
    Command("incr", _incr),
    Command("decr", _decr),
    Command("incrby", _incrby),
    Command("decrby", _decrby),
    Command("incrbyfloat", _incrbyfloat),
    Command("mget", _mget),
    Command("mset", _mset),
    Command("msetnx", _msetnx),
]

"""Commands about the values of one key or several."""

from functools import partial
from typing import Final, cast

from kvs.adapters.inbound.protocol.command import (
    CONTENT,
    KEY,
    OTHER,
    VALUE,
    Reply,
    WholeReply,
    in_transaction,
    of_pending_key,
)
from kvs.adapters.inbound.resp import replies
from kvs.adapters.inbound.resp.command import RespCommand
from kvs.adapters.inbound.resp.commands.charged import LARGE_COPY_BYTES, STORED_BYTES_PER_UNIT, Charged, next_share
from kvs.adapters.inbound.resp.commands.options import (
    COMPARISONS,
    DIGEST_COMPARISONS,
    KEEPTTL,
    OF_GETEX,
    OF_MSETEX,
    OF_SET,
    PERSIST,
    comparison,
    deadline_ms,
    digests_unsupported,
    parse_options,
)
from kvs.adapters.inbound.resp.context import ClientContext
from kvs.adapters.inbound.resp.pieces import LARGE_PART_BYTES, Pieces
from kvs.application.operations import get_many, update_all_if
from kvs.domain.deadlines import RemoveDeadline, SetDeadline
from kvs.domain.errors import UsageError
from kvs.domain.updates import (
    INTEGER_MIN,
    Add,
    Append,
    Condition,
    IsEqual,
    Overwrite,
    PutIf,
    PutIfAbsent,
    Remove,
    Replace,
    Update,
    always,
    byte_range,
    integer,
    is_absent,
)
from kvs.domain.values import (
    NO_DEADLINE,
    TOMBSTONE,
    Key,
    Tombstone,
    Value,
    Write,
    string_or_empty,
    string_or_none,
    with_deadline,
)
from kvs.ports.session import COPIED_BYTES_PER_UNIT, Session, Steps

FEW_VALUES: Final = 32
"""Most values that MGET joins in one go, if none is large."""

COPIED_STEP_BYTES: Final = 1 << 18
"""Bytes of a large part of a value that are copied in one step."""

MAX_NUMKEYS: Final = 2**31 - 1

FLOAT_COST: Final = 15
FLOAT_BYTES_PER_UNIT: Final = 4
"""INCRBYFLOAT takes 15 us for short numbers, and 1.2 ms for 5,000 digits."""


def _value(context: ClientContext, value: Value | None) -> Reply:
    """Return the reply that has a value; a large one is not copied into it."""
    string = string_or_none(value)
    if string is None or len(string) <= LARGE_PART_BYTES:
        return context.protocol.value(string)
    return [b"$%d\r\n" % len(string), string, replies.CRLF]


def _get(session: Session, context: ClientContext, arguments: list[bytes]) -> Reply:
    return _value(context, session.get(arguments[1]))


def _set(session: Session, context: ClientContext, arguments: list[bytes]) -> Reply:
    key, value = arguments[1], arguments[2]
    if len(arguments) == 3:
        session.put(key, value)
        return replies.OK
    options = parse_options(arguments, 3, OF_SET)
    write = options.write(arguments[0], value, session.now_ms)
    condition = options.condition
    if condition is None and not options.answers_old and options.lifetime != KEEPTTL:
        _put(session, key, write)
        return replies.OK
    change = PutIf(condition or always, write, keeps_deadline=options.lifetime == KEEPTTL)
    session.work.left -= options.compared_bytes // COPIED_BYTES_PER_UNIT
    old = session.update(key, change)[0]
    if options.answers_old:
        session.lookups.count(old)
        return _value(context, old)
    return replies.OK if change.condition(old) else context.protocol.null


def _put(session: Session, key: Key, write: Write) -> None:
    """Store a value, or delete the key."""
    if isinstance(write, Tombstone):
        session.delete(key)
    else:
        session.put(key, write)


def _is_local_set(session: Session, arguments: list[bytes]) -> bool:
    """Return whether a SET needs no engine: it is blind in a transaction, or of a pending key."""
    return session.depth > 0 and (len(arguments) == 3 or session.is_pending(arguments[1]))


def _old(session: Session, context: ClientContext, key: Key, change: Update) -> Reply:
    """Change a value; return the reply that has the old one."""
    old = session.update(key, change)[0]
    session.lookups.count(old)
    return _value(context, old)


def _setnx(session: Session, _: ClientContext, arguments: list[bytes]) -> bytes:
    old = session.update(arguments[1], PutIfAbsent(arguments[2]))[0]
    return replies.ONE if old is None else replies.ZERO


def _setex(unit: bytes, session: Session, _: ClientContext, arguments: list[bytes]) -> bytes:
    deadline = deadline_ms(arguments[0], unit, arguments[2], session.now_ms)
    session.put(arguments[1], with_deadline(arguments[3], deadline))
    return replies.OK


def _getex(session: Session, context: ClientContext, arguments: list[bytes]) -> Reply:
    key = arguments[1]
    if len(arguments) == 2:
        return _value(context, session.get(key))
    options = parse_options(arguments, 2, OF_GETEX)
    now_ms = session.now_ms
    change: Update = RemoveDeadline()
    if options.lifetime != PERSIST:
        try:
            change = SetDeadline(options.deadline_ms(arguments[0], now_ms), now_ms)
        except UsageError:
            if string_or_none(session.get(key)) is None:
                return context.protocol.null  # of an absent key, Redis does not look at the time
            raise
    return _old(session, context, key, change)


def _getset(session: Session, context: ClientContext, arguments: list[bytes]) -> Reply:
    return _old(session, context, arguments[1], Replace(arguments[2]))


def _getdel(session: Session, context: ClientContext, arguments: list[bytes]) -> Reply:
    return _old(session, context, arguments[1], Remove())


def _delex(session: Session, _: ClientContext, arguments: list[bytes]) -> bytes:
    if len(arguments) == 2:
        return replies.ONE if session.delete(arguments[1]) else replies.ZERO
    if len(arguments) != 4:
        raise UsageError("wrong number of arguments for 'delex' command")
    word = arguments[2].upper()
    if word in DIGEST_COMPARISONS:
        raise digests_unsupported()
    if word not in COMPARISONS:
        raise UsageError("Invalid condition. Use IFEQ or IFNE")
    session.work.left -= len(arguments[3]) // COPIED_BYTES_PER_UNIT
    return _deleted_if(session, arguments[1], comparison(word, arguments[3]))


def _delifeq(session: Session, _: ClientContext, arguments: list[bytes]) -> bytes:
    session.work.left -= len(arguments[2]) // COPIED_BYTES_PER_UNIT
    return _deleted_if(session, arguments[1], IsEqual(arguments[2]))


def _deleted_if(session: Session, key: Key, condition: Condition) -> bytes:
    """Delete a key if it is present and a condition holds; return the reply."""
    old = session.update(key, PutIf(condition, TOMBSTONE))[0]
    return replies.ONE if old is not None and condition(old) else replies.ZERO


def _append(session: Session, context: ClientContext, arguments: list[bytes]) -> Reply:
    change = Append(arguments[2], context.limits.max_value_bytes)
    return _copied(session, arguments[1], Charged(change, session.work))


def _strlen(session: Session, _: ClientContext, arguments: list[bytes]) -> bytes:
    return replies.number(len(string_or_empty(session.get(arguments[1]))))


def _getrange(session: Session, context: ClientContext, arguments: list[bytes]) -> Reply:
    first, last = integer(arguments[2]), integer(arguments[3])
    value = string_or_empty(session.get(arguments[1]))
    begin, end = byte_range(len(value), first, last)
    if end - begin >= LARGE_COPY_BYTES:
        return _large_part(session, value, begin, end)
    session.work.left -= (end - begin) // COPIED_BYTES_PER_UNIT
    return _value(context, value[begin:end])


def _large_part(session: Session, value: bytes, begin: int, end: int) -> Steps[WholeReply]:
    """Return the reply that has a part of a value, in pieces, which are copied and freed one by one."""
    work = session.work
    work.held_bytes += len(value)  # others may delete it meanwhile
    yield from next_share(work)
    pieces = [b"$%d\r\n" % (end - begin)]
    for at in range(begin, end, COPIED_STEP_BYTES):
        if work.left <= 0:
            yield
        pieces.append(value[at : min(at + COPIED_STEP_BYTES, end)])
        work.left -= COPIED_STEP_BYTES // STORED_BYTES_PER_UNIT
    pieces.append(replies.CRLF)
    return pieces


def _setrange(session: Session, context: ClientContext, arguments: list[bytes]) -> Reply:
    offset, part = integer(arguments[2]), arguments[3]
    if offset < 0:
        raise UsageError("offset is out of range")
    change = Overwrite(offset, part, context.limits.max_value_bytes)
    return _copied(session, arguments[1], Charged(change, session.work, offset + len(part) if part else 0))


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

    old, new = map(string_or_none, session.update(arguments[1], AddFloat(arguments[2])))
    session.work.left -= (len(arguments[2]) + len(old or b"") + len(new or b"")) // FLOAT_BYTES_PER_UNIT
    return context.protocol.value(new)


def _mget(session: Session, context: ClientContext, arguments: list[bytes]) -> Steps[WholeReply]:
    values = yield from session.view(partial(get_many, arguments[1:], context.limits.max_reply_bytes))
    protocol = context.protocol
    if len(values) <= FEW_VALUES and not _has_large(values):
        return replies.array([protocol.value(value) for value in values])
    work = session.work
    pieces = Pieces(work)
    pieces.add(b"*%d\r\n" % len(values))
    for value in values:
        if value is None:
            pieces.add(protocol.null)
        else:
            pieces.add(b"$%d\r\n" % len(value))
            pieces.add(value)
            pieces.add(replies.CRLF)
        if work.left <= 0:
            yield
    return pieces.end()


def _has_large(values: list[bytes | None]) -> bool:
    for value in values:  # compiled, a loop takes less time than a generator
        if value is not None and len(value) > LARGE_PART_BYTES:
            return True
    return False


def _mset(session: Session, _: ClientContext, arguments: list[bytes]) -> bytes:
    _check_pairs(arguments)
    session.put_all(arguments[1::2], cast("list[Value]", arguments[2::2]))
    return replies.OK


def _msetnx(session: Session, _: ClientContext, arguments: list[bytes]) -> Steps[bytes]:
    _check_pairs(arguments)
    updates = {arguments[at]: Replace(arguments[at + 1]) for at in range(1, len(arguments), 2)}
    return _one_if(session.transact(partial(update_all_if, is_absent, updates)))


def _check_pairs(arguments: list[bytes]) -> None:
    """Check that every key has a value."""
    if len(arguments) % 2 == 0:
        raise UsageError(f"wrong number of arguments for '{arguments[0].decode().lower()}' command")


def _msetex(session: Session, _: ClientContext, arguments: list[bytes]) -> Reply:
    keys = _number_of_keys(arguments)
    options = parse_options(arguments, 2 + 2 * keys, OF_MSETEX)
    deadline = options.deadline_ms(arguments[0], session.now_ms)
    condition = options.condition
    pairs = range(2, 2 + 2 * keys, 2)
    passed = NO_DEADLINE < deadline <= session.now_ms
    if condition is None and options.lifetime != KEEPTTL and not passed:
        session.put_all([arguments[at] for at in pairs], [with_deadline(arguments[at + 1], deadline) for at in pairs])
        return replies.ONE
    keeps = options.lifetime == KEEPTTL
    updates: dict[Key, Update] = {}
    for at in pairs:
        write = TOMBSTONE if passed else with_deadline(arguments[at + 1], deadline)
        updates[arguments[at]] = PutIf(always, write, keeps_deadline=keeps)
    return _one_if(session.transact(partial(update_all_if, condition or always, updates)))


def _number_of_keys(arguments: list[bytes]) -> int:
    """Return how many keys an MSETEX has."""
    try:
        keys = integer(arguments[1])
    except UsageError:
        keys = 0
    if not 0 < keys <= MAX_NUMKEYS:
        raise UsageError("invalid numkeys value")
    if 2 + 2 * keys > len(arguments):
        raise UsageError("wrong number of key-value pairs")
    return keys


def _one_if(steps: Steps[bool]) -> Steps[bytes]:
    return replies.ONE if (yield from steps) else replies.ZERO


def _copied(session: Session, key: Key, change: Charged) -> Reply:
    """Apply an update that copies the value; return the length of the new one."""
    new = session.update(key, change)[1]
    if change.postponed:
        return _copied_later(session, key, change)
    return replies.number(len(string_or_empty(new)))


def _copied_later(session: Session, key: Key, change: Charged) -> Steps[bytes]:
    yield from change.next_share()
    return replies.number(len(string_or_empty(session.update(key, change)[1])))


def _added(session: Session, key: bytes, amount: int) -> bytes:
    return b":%b\r\n" % (string_or_none(session.update(key, Add(amount))[1]) or b"0")


def _use_of_set(words: list[bytes]) -> tuple[str, ...]:
    """Return how a SET uses its key, which options may make it read as well."""
    reads = any(word.lower() in (b"get", b"ifeq", b"ifne") for word in words[3:])
    return ("RW", "access", "update") if reads else ("OW", "update")


def _use_of_delex(words: list[bytes]) -> tuple[str, ...]:
    return ("RM", "delete") if len(words) == 2 else ("RW", "access", "delete")


COMMANDS: Final[list[RespCommand]] = [
    RespCommand("get", _get, (KEY,), is_local=of_pending_key),
    RespCommand("set", _set, (KEY, VALUE, OTHER), 1, is_local=_is_local_set, flags_of_key=_use_of_set),
    RespCommand("setnx", _setnx, (KEY, VALUE), is_local=of_pending_key),
    RespCommand("setex", partial(_setex, b"EX"), (KEY, OTHER, VALUE), is_local=in_transaction),
    RespCommand("psetex", partial(_setex, b"PX"), (KEY, OTHER, VALUE), is_local=in_transaction),
    RespCommand("getex", _getex, (KEY, OTHER), 1, is_local=of_pending_key),
    RespCommand("delex", _delex, (KEY, OTHER, VALUE), is_local=of_pending_key, flags_of_key=_use_of_delex),
    RespCommand("delifeq", _delifeq, (KEY, VALUE), is_local=of_pending_key),
    RespCommand("getset", _getset, (KEY, VALUE), is_local=of_pending_key),
    RespCommand("getdel", _getdel, (KEY,), is_local=of_pending_key),
    RespCommand("append", _append, (KEY, VALUE), is_local=of_pending_key),
    RespCommand("strlen", _strlen, (KEY,), is_local=of_pending_key),
    RespCommand("getrange", _getrange, (KEY, OTHER, OTHER), is_local=of_pending_key),
    RespCommand("setrange", _setrange, (KEY, OTHER, VALUE), is_local=of_pending_key),
    RespCommand("incr", _incr, (KEY,), is_local=of_pending_key),
    RespCommand("decr", _decr, (KEY,), is_local=of_pending_key),
    RespCommand("incrby", _incrby, (KEY, CONTENT), is_local=of_pending_key),
    RespCommand("decrby", _decrby, (KEY, CONTENT), is_local=of_pending_key),
    RespCommand("incrbyfloat", _incrbyfloat, (KEY, CONTENT), cost=FLOAT_COST, is_local=of_pending_key),
    RespCommand("mget", _mget, (KEY,), 1),
    RespCommand("mset", _mset, (KEY, VALUE), 2, is_local=in_transaction),
    RespCommand("msetex", _msetex, (OTHER, KEY, VALUE), 2),
    RespCommand("msetnx", _msetnx, (KEY, VALUE), 2),
]

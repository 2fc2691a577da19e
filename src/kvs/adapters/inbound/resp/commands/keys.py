"""Commands about keys, whatever their values."""

from functools import partial
from typing import Final

from kvs.adapters.inbound.protocol.command import (
    KEY,
    OTHER,
    SLOW_COST,
    Reply,
    WholeReply,
    everywhere,
    of_pending_key,
    reads_all_keys,
)
from kvs.adapters.inbound.resp import replies
from kvs.adapters.inbound.resp.command import RespCommand
from kvs.adapters.inbound.resp.context import ClientContext
from kvs.adapters.inbound.resp.cursors import Place
from kvs.adapters.inbound.resp.glob import Glob, literal_prefix
from kvs.adapters.inbound.resp.pieces import PIECE_BYTES, Pieces
from kvs.adapters.inbound.resp.wording import c_string
from kvs.application.operations import MATCHED_UNITS, copy, count_present, delete_all, find_keys, random_key, rename
from kvs.domain.errors import TooLargeError, UsageError
from kvs.domain.grants import READ, WRITE
from kvs.domain.updates import integer
from kvs.domain.values import Key
from kvs.ports.session import Session, Steps, Work

SCAN_COUNT: Final = 10
MAX_SCAN_COUNT: Final = 10_000
"""Maximum number of keys that one SCAN examines; COUNT is a hint, as in Redis."""

CURSOR_DIGITS: Final = 20
"""Digits of the largest cursor, a 64-bit number."""

DATABASE_MIN: Final = -(2**31)
DATABASE_MAX: Final = 2**31 - 1
"""Numbers that Redis accepts as the number of a database, whether or not it exists."""

MAX_PATTERNS_BYTES: Final = 1024
"""Maximum length of all patterns of one request, which bounds the cost per byte of every key."""


def _exists(session: Session, _: ClientContext, arguments: list[bytes]) -> Reply:
    if len(arguments) == 2:
        return replies.ZERO if session.get(arguments[1]) is None else replies.ONE
    return _number(session.view(partial(count_present, arguments[1:])))


def _del(session: Session, _: ClientContext, arguments: list[bytes]) -> Reply:
    if len(arguments) == 2:
        return replies.ONE if session.delete(arguments[1]) else replies.ZERO
    return _number(session.transact(partial(delete_all, arguments[1:])))


def _number(steps: Steps[int]) -> Steps[bytes]:
    return replies.number((yield from steps))


def _type(session: Session, _: ClientContext, arguments: list[bytes]) -> bytes:
    return replies.simple(b"none" if session.get(arguments[1]) is None else b"string")


def _keys(session: Session, context: ClientContext, arguments: list[bytes]) -> Steps[WholeReply]:
    glob = _glob(arguments[1], session.work)
    max_bytes = context.limits.max_reply_bytes
    matches = None if glob.matches_all else glob
    found = yield from session.view(partial(find_keys, glob.prefix, matches, max_bytes))
    return (yield from _bulks(session, found))


def _bulks(session: Session, keys: list[Key]) -> Steps[list[bytes]]:
    """Return an array of any number of keys, in pieces."""
    pieces = Pieces(session.work)
    pieces.add(b"*%d\r\n" % len(keys))
    for key in keys:
        pieces.add(replies.bulk(key))
        if session.work.left <= 0:
            yield
    return pieces.end()


def _scan(session: Session, context: ClientContext, arguments: list[bytes]) -> Steps[WholeReply]:
    cursor = _cursor(c_string(arguments[1]))
    pattern: bytes | None = None
    count = SCAN_COUNT
    typed = True
    at = 2
    while at < len(arguments):
        option = arguments[at].upper()
        if at + 1 == len(arguments):
            raise UsageError("syntax error")
        word = arguments[at + 1]
        if option == b"MATCH":
            pattern = word
        elif option == b"COUNT":
            count = integer(word)
            if count < 1:
                raise UsageError("syntax error")
        elif option == b"TYPE":
            typed = word.lower() == b"string"
        else:
            raise UsageError("syntax error")
        at += 2
    glob = None if pattern is None else _glob(pattern, session.work)  # only the last one counts
    last, user = context.last_cursor, context.peer.user
    prefix = b"" if glob is None else glob.prefix
    if last is not None and last[0] == cursor and last[1].is_for(user, prefix):
        after = last[1].after
    else:
        after = context.shared.cursors.find(cursor, user, prefix)
    count = min(count, MAX_SCAN_COUNT)
    page = yield from session.keys(prefix, after, count)
    more = len(page) == count
    room_bytes = context.limits.max_reply_bytes
    keys: list[Key] = []
    for place, key in enumerate(page):
        room_bytes -= len(key)
        if room_bytes < 0:
            del page[place:]
            more = True
            break
        if not typed:
            continue
        if glob is not None:
            units = glob.cost(len(key))
            session.work.left -= units
            if session.work.left <= 0:
                yield
            if not (glob.match(key) if units <= MATCHED_UNITS else (yield from glob.steps(key))):
                continue
        keys.append(key)
    following = 0
    context.last_cursor = None
    if more:
        stop = Place(page[-1], prefix, user)
        following = context.shared.cursors.issue(stop)
        context.last_cursor = (following, stop)
    cursor_reply = replies.bulk(b"%d" % following)
    if context.limits.max_reply_bytes - room_bytes <= PIECE_BYTES:
        return replies.array([cursor_reply, replies.bulks(keys)])
    return [b"*2\r\n" + cursor_reply, *(yield from _bulks(session, keys))]


def _randomkey(session: Session, context: ClientContext, _: list[bytes]) -> Steps[bytes]:
    key = yield from session.view(random_key)
    return context.protocol.value(key)


def _rename(session: Session, _: ClientContext, arguments: list[bytes]) -> Steps[bytes]:
    yield from session.transact(partial(rename, arguments[1], arguments[2], True))  # noqa: FBT003
    return replies.OK


def _renamenx(session: Session, _: ClientContext, arguments: list[bytes]) -> Steps[bytes]:
    done = yield from session.transact(partial(rename, arguments[1], arguments[2], False))  # noqa: FBT003
    return replies.ONE if done else replies.ZERO


def _copy(session: Session, _: ClientContext, arguments: list[bytes]) -> Steps[bytes]:
    replace = False
    at = 3
    while at < len(arguments):
        option = arguments[at].upper()
        if option == b"REPLACE":
            replace = True
        elif option == b"DB" and at + 1 < len(arguments):
            at += 1
            check_database(arguments[at])
        else:
            raise UsageError("syntax error")
        at += 1
    if arguments[1] == arguments[2]:
        raise UsageError("source and destination objects are the same")
    done = yield from session.transact(partial(copy, arguments[1], arguments[2], replace))
    return replies.ONE if done else replies.ZERO


def _move(_: Session, __: ClientContext, arguments: list[bytes]) -> bytes:
    check_database(arguments[2])
    raise UsageError("source and destination objects are the same")


def _swapdb(_: Session, __: ClientContext, arguments: list[bytes]) -> bytes:
    for word, place in ((arguments[1], "first"), (arguments[2], "second")):
        try:
            index = integer(word)
        except UsageError:
            raise UsageError(f"invalid {place} DB index") from None
        if not DATABASE_MIN <= index <= DATABASE_MAX:
            raise UsageError(f"invalid {place} DB index")
    if (arguments[1], arguments[2]) != (b"0", b"0"):
        raise no_such_database()
    return replies.OK


def _flush(session: Session, _: ClientContext, arguments: list[bytes]) -> bytes:
    if len(arguments) > 2 or (len(arguments) == 2 and arguments[1].upper() not in (b"ASYNC", b"SYNC")):
        raise UsageError("syntax error")
    session.clear()
    return replies.OK


def _range_of_keys(arguments: list[bytes]) -> list[tuple[int, Key]]:
    return _range_of(arguments[1])


def _range_of_scan(arguments: list[bytes]) -> list[tuple[int, Key]]:
    pattern = b""
    for at in range(2, len(arguments) - 1, 2):
        if len(arguments[at]) == len(b"MATCH") and arguments[at].upper() == b"MATCH":
            pattern = arguments[at + 1]
    return _range_of(pattern)


def _range_of(pattern: bytes) -> list[tuple[int, Key]]:
    check_patterns([pattern])
    return [(READ, literal_prefix(pattern))]


def _writes_all_keys(_: list[bytes]) -> list[tuple[int, Key]]:
    return [(WRITE, b"")]


def _dbsize(session: Session, _: ClientContext, __: list[bytes]) -> Steps[bytes]:
    return _number(session.count(b""))


def _glob(pattern: bytes, work: Work) -> Glob:
    check_patterns([pattern])
    glob = Glob(pattern)
    work.left -= glob.units
    return glob


def check_patterns(patterns: list[bytes]) -> None:
    """Refuse patterns that would block other clients.

    Raises:
        TooLargeError: They are too long.
    """
    size = sum([len(pattern) for pattern in patterns])
    if size > MAX_PATTERNS_BYTES:
        raise TooLargeError(f"The patterns have {size} bytes; {MAX_PATTERNS_BYTES} are allowed.")


def check_database(number: bytes) -> None:
    """Refuse any database but the only one, 0.

    Raises:
        UsageError: It is another, or not a number.
    """
    index = integer(number)
    if not DATABASE_MIN <= index <= DATABASE_MAX:
        raise UsageError(f"value is out of range, value must between {DATABASE_MIN} and {DATABASE_MAX}")
    if index != 0:
        raise no_such_database()


def no_such_database() -> UsageError:
    """Return the error for any database but 0, which says what to do instead."""
    return UsageError(
        "DB index is out of range: there is one database, 0; run a server for each, or give each a prefix of keys"
    )


def _cursor(text: bytes) -> int:
    """Parse a cursor as Redis does, with strtoul(): the empty text is 0, and -1 the largest 64-bit number."""
    digits = text[1:] if text[:1] in (b"+", b"-") else text
    significant = digits.lstrip(b"0")
    if len(significant) <= CURSOR_DIGITS and (digits.isdigit() or not text):
        number = int(significant or b"0")
        if number < 1 << 64:
            return (1 << 64) - number if text[:1] == b"-" and number else number
    raise UsageError("invalid cursor")


COMMANDS: Final[list[RespCommand]] = [
    RespCommand("exists", _exists, (KEY,), 1),
    RespCommand("touch", _exists, (KEY,), 1),
    RespCommand("del", _del, (KEY,), 1),
    RespCommand("unlink", _del, (KEY,), 1),
    RespCommand("type", _type, (KEY,), is_local=of_pending_key),
    RespCommand("keys", _keys, (OTHER,), cost=SLOW_COST, ranges=_range_of_keys),
    RespCommand("scan", _scan, (OTHER,), 1, cost=SLOW_COST, ranges=_range_of_scan),
    RespCommand("randomkey", _randomkey, cost=4 * SLOW_COST, ranges=reads_all_keys),
    RespCommand("rename", _rename, (KEY, KEY)),
    RespCommand("renamenx", _renamenx, (KEY, KEY)),
    RespCommand("copy", _copy, (KEY, KEY, OTHER), 1),
    RespCommand("move", _move, (KEY, OTHER), is_local=everywhere),
    RespCommand("swapdb", _swapdb, (OTHER, OTHER), is_local=everywhere, ranges=_writes_all_keys),
    RespCommand("dbsize", _dbsize, ranges=reads_all_keys),
    RespCommand("flushdb", _flush, (OTHER,), 1, cost=SLOW_COST, ranges=_writes_all_keys),
    RespCommand("flushall", _flush, (OTHER,), 1, cost=SLOW_COST, ranges=_writes_all_keys),
]

"""Commands about keys, whatever their values."""

from typing import Final

from kvs.adapters.inbound.resp import replies
from kvs.adapters.inbound.resp.context import SLOW_COST, Command, Peer
from kvs.adapters.inbound.resp.glob import Glob
from kvs.adapters.inbound.resp.wording import c_string
from kvs.application.operations import Copy, CountPresent, DeleteMany, FindKeys, RandomKey, Rename
from kvs.domain.errors import TooLargeError, UsageError
from kvs.domain.updates import integer, small_integer
from kvs.ports.session import Session

SCAN_COUNT: Final = 10
MAX_SCAN_COUNT: Final = 10_000
"""Most keys that one SCAN looks at; COUNT is a hint, here as in Redis."""

CURSOR_DIGITS: Final = 20
"""Of the largest cursor, a number of 64 bits."""

MAX_PATTERNS_BYTES: Final = 1024
"""Longest pattern, or all those of one request together. To read one takes up to 50 us for each byte."""


def _exists(session: Session, _: Peer, arguments: list[bytes]) -> bytes:
    if len(arguments) == 2:
        return replies.ZERO if session.get(arguments[1]) is None else replies.ONE
    return replies.number(session.atomically(CountPresent(tuple(arguments[1:])), read_only=True))


def _del(session: Session, _: Peer, arguments: list[bytes]) -> bytes:
    if len(arguments) == 2:
        return replies.ONE if session.delete(arguments[1]) else replies.ZERO
    return replies.number(session.atomically(DeleteMany(tuple(arguments[1:]))))


def _type(session: Session, _: Peer, arguments: list[bytes]) -> bytes:
    return replies.simple(b"none" if session.get(arguments[1]) is None else b"string")


def _keys(session: Session, peer: Peer, arguments: list[bytes]) -> bytes:
    glob = _glob(arguments[1])
    max_bytes = peer.limits.max_reply_bytes
    matches = None if glob.matches_all else glob
    found = session.atomically(FindKeys(glob.prefix, b"", matches, 1 << 62, max_bytes), read_only=True)
    return replies.bulks(found.keys)


def _scan(session: Session, peer: Peer, arguments: list[bytes]) -> bytes:
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
    glob = None if pattern is None else _glob(pattern)  # the last one counts, and only that is read
    known = peer.scanning
    after = known[1] if known is not None and known[0] == cursor else peer.shared.cursors.find(cursor)
    peer.scanning = cursor, after  # for the same again, if there is no answer yet
    count = min(count, MAX_SCAN_COUNT)
    page = session.keys(b"" if glob is None else glob.prefix, after, count)
    more = len(page) == count
    room_bytes = peer.limits.max_reply_bytes
    for place, key in enumerate(page):
        room_bytes -= len(key)
        if room_bytes < 0:
            del page[place:]
            more = True
            break
    following = peer.shared.cursors.issue(page[-1]) if more else 0
    peer.scanning = (following, page[-1]) if more else None  # whatever cursors others are given until it goes on
    keys = [key for key in page if typed and (glob is None or glob(key))]
    return replies.array([replies.bulk(b"%d" % following), replies.bulks(keys)])


def _randomkey(session: Session, peer: Peer, _: list[bytes]) -> bytes:
    return peer.dialect.value(session.atomically(RandomKey(), read_only=True))


def _rename(session: Session, _: Peer, arguments: list[bytes]) -> bytes:
    session.atomically(Rename(arguments[1], arguments[2], replace=True))
    return replies.OK


def _renamenx(session: Session, _: Peer, arguments: list[bytes]) -> bytes:
    done = session.atomically(Rename(arguments[1], arguments[2], replace=False))
    return replies.ONE if done else replies.ZERO


def _copy(session: Session, _: Peer, arguments: list[bytes]) -> bytes:
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
    done = session.atomically(Copy(arguments[1], arguments[2], replace))
    return replies.ONE if done else replies.ZERO


def _flush(session: Session, _: Peer, arguments: list[bytes]) -> bytes:
    if len(arguments) > 2 or (len(arguments) == 2 and arguments[1].upper() not in (b"ASYNC", b"SYNC")):
        raise UsageError("syntax error")
    session.clear()
    return replies.OK


def _dbsize(session: Session, _: Peer, __: list[bytes]) -> bytes:
    return replies.number(session.count(b""))


def _glob(pattern: bytes) -> Glob:
    check_patterns([pattern])
    return Glob(pattern)


def check_patterns(patterns: list[bytes]) -> None:
    """Refuse patterns that would hold up everybody else.

    Raises:
        TooLargeError: They are.
    """
    size = sum([len(pattern) for pattern in patterns])
    if size > MAX_PATTERNS_BYTES:
        raise TooLargeError(f"The patterns have {size} bytes; {MAX_PATTERNS_BYTES} are allowed.")


def check_database(number: bytes) -> None:
    """Refuse any database but the one there is.

    Raises:
        UsageError: It is another, or none.
    """
    if small_integer(number) != 0:
        raise UsageError("DB index is out of range")


def _cursor(text: bytes) -> int:
    """Return a cursor as Redis reads it, with strtoul(): nothing is 0, and -1 the largest number of 64 bits."""
    digits = text[1:] if text[:1] in (b"+", b"-") else text
    significant = digits.lstrip(b"0")
    if len(significant) <= CURSOR_DIGITS and (digits.isdigit() or not text):
        number = int(significant or b"0")
        if number < 1 << 64:
            return (1 << 64) - number if text[:1] == b"-" and number else number
    raise UsageError("invalid cursor")


COMMANDS: Final[list[Command]] = [
    Command("exists", _exists),
    Command("del", _del),
    Command("unlink", _del),
    Command("type", _type),
    Command("keys", _keys, cost=SLOW_COST),
    Command("scan", _scan, cost=SLOW_COST),
    Command("randomkey", _randomkey, cost=4 * SLOW_COST),
    Command("rename", _rename),
    Command("renamenx", _renamenx),
    Command("copy", _copy),
    Command("dbsize", _dbsize),
    Command("flushdb", _flush, cost=SLOW_COST),
    Command("flushall", _flush, cost=SLOW_COST),
]

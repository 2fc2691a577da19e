"""The line protocol's commands about deadlines."""

import re
from typing import Final

from kvs.adapters.inbound.line import replies
from kvs.adapters.inbound.line.command import LineCommand
from kvs.adapters.inbound.line.context import LineContext
from kvs.adapters.inbound.protocol.command import KEY, OTHER, of_pending_key
from kvs.adapters.inbound.protocol.messages import quoted
from kvs.application.time_left import time_left_ms
from kvs.domain.deadlines import RemoveDeadline, SetDeadline
from kvs.domain.errors import UsageError
from kvs.domain.grants import READ, WRITE
from kvs.domain.values import MAX_DEADLINE_MS, deadline_of
from kvs.ports.session import Session

EXPIRE_USAGE: Final = "EXPIRE takes a key and a number of seconds: EXPIRE key seconds."

_SECONDS: Final = re.compile(rb"(-?)([0-9]{1,15})(?:\.([0-9]{1,15}))?")


def _expire(session: Session, __: LineContext, words: list[bytes]) -> bytes:
    deadline_ms = session.now_ms + _milliseconds(words[2])
    if deadline_ms > MAX_DEADLINE_MS:
        raise UsageError("That is too far in the future.")
    old, _ = session.update(words[1], SetDeadline(deadline_ms, session.now_ms))
    return replies.FALSE if old is None else replies.TRUE


def _persist(session: Session, _: LineContext, words: list[bytes]) -> bytes:
    old, new = session.update(words[1], RemoveDeadline())
    return replies.TRUE if new is not old else replies.FALSE


def _ttl(session: Session, _: LineContext, words: list[bytes]) -> bytes:
    value = session.get(words[1])
    if value is None:
        return replies.absent(words[1], session.work)
    deadline_ms = deadline_of(value)
    if not deadline_ms:
        return replies.result_json(b"null")
    return replies.result_json(b"%d.%03d" % divmod(time_left_ms(session, deadline_ms), 1000))


def _milliseconds(seconds: bytes) -> int:
    """Return a decimal number of seconds in milliseconds, rounded down.

    Raises:
        UsageError: It is none.
    """
    match = _SECONDS.fullmatch(seconds)
    if match is None:
        raise UsageError(f"{quoted(seconds)} is not a number of seconds, as 60 and 0.5 are. {EXPIRE_USAGE}")
    sign, whole, fraction = match.groups()
    number = int(whole) * 1000 + int(((fraction or b"") + b"000")[:3])
    return -number if sign else number


COMMANDS: Final[list[LineCommand]] = [
    LineCommand(
        "EXPIRE",
        _expire,
        3,
        (KEY, OTHER),
        EXPIRE_USAGE,
        "EXPIRE key seconds: delete the key after that time, as 60 or 0.5; true if it is there. PUT ends that.",
        is_local=of_pending_key,
        categories=WRITE,
        access=WRITE,
    ),
    LineCommand(
        "PERSIST",
        _persist,
        2,
        (KEY,),
        "PERSIST takes one key: PERSIST key.",
        "PERSIST key: undo EXPIRE; true if the key was to expire.",
        is_local=of_pending_key,
        categories=WRITE,
        access=WRITE,
    ),
    LineCommand(
        "TTL",
        _ttl,
        2,
        (KEY,),
        "TTL takes one key: TTL key.",
        "TTL key: the seconds until the key expires; null if it does not, or is not there.",
        is_local=of_pending_key,
        categories=READ,
        access=READ,
    ),
]

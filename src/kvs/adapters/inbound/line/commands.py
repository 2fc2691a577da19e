"""The commands of the line protocol.

The grammar is ``VERB [KEY [VALUE]]``: one space ends the verb, one ends the key, and the value is everything after it,
so parsing is ``line.split(b" ", 2)``. Blanks after a command without a value are ignored.
"""

from collections.abc import Callable
from typing import Final, TypeAlias

from kvs.adapters.inbound.line import about, deadlines, replies
from kvs.adapters.inbound.line.command import Handler, LineCommand
from kvs.adapters.inbound.line.context import LineContext
from kvs.adapters.inbound.line.keys import NO_PATTERN, list_keys
from kvs.adapters.inbound.protocol.command import (
    ANSWERED,
    BEGINS,
    CONTENT,
    KEY,
    OTHER,
    PREFIX,
    RELAYED,
    SLOW_COST,
    VALUE,
    Locality,
    Reply,
    everywhere,
    in_frame,
    in_transaction,
    of_pending_key,
)
from kvs.adapters.inbound.protocol.errors import UnknownCommandError
from kvs.adapters.inbound.protocol.messages import conflict_message, quoted
from kvs.domain.commit import Committed
from kvs.domain.errors import NotANumberError, UsageError
from kvs.domain.grants import CONNECTION, EVERYTHING, READ, TRANSACTION, WRITE, Grants
from kvs.domain.updates import Add, integer
from kvs.domain.values import Key, string_or_none
from kvs.ports.session import Session, Steps

TAB: Final = b"\t"

READ_ONLY: Final = b"READONLY"

HELP: Final = (
    b"PUT key value: store. GET key: read. DEL key: delete. INCR key [by]: add to a number. EXPIRE key seconds: "
    b"delete it after that time. PERSIST key: keep it after all. TTL key: seconds left. KEYS [prefix [after]]: "
    b"list up to 1000 keys. COUNT [prefix]: count keys. START: open a transaction, or a nested one inside it. "
    b"COMMIT: keep the innermost; the outermost is applied at once for all to see, or answers conflict if "
    b"something you read has changed: then retry from START. ROLLBACK: undo the innermost. START READONLY: open a "
    b"read-only transaction, which never conflicts. INFO: figures. PING. AUTH user secret: say who you are, if that "
    b"is asked. EXIT: leave; an open transaction is undone. A key is one word of UTF-8; the value is the rest of the "
    b"line."
)


NoArgumentHandler: TypeAlias = Callable[[Session], bytes]
"""A command without arguments: takes the session, returns the reply."""


def _of_one_word(
    name: str,
    run: Handler,
    help_text: str,
    *,
    cost: int = 0,
    is_local: Locality = everywhere,
    closes: bool = False,
    on_standby: int = RELAYED,
    categories: int = CONNECTION,
    is_open: bool = False,
    ends_transaction: bool = False,
) -> LineCommand:
    return LineCommand(
        name,
        run,
        1,
        (),
        f"{name} takes nothing after it.",
        help_text,
        cost=cost,
        is_local=is_local,
        runs_when_full=True,
        closes=closes,
        on_standby=on_standby,
        categories=categories,
        is_open=is_open,
        ends_transaction=ends_transaction,
    )


def _of_session(handler: Callable[[Session], Reply]) -> Handler:
    """Return the handler of a command that needs no more than the session."""

    def run(session: Session, _: LineContext, __: list[bytes]) -> Reply:
        return handler(session)

    return run


def get(session: Session, key: bytes) -> Reply:
    """Run GET. The reply to a long value is made in steps."""
    value = string_or_none(session.get(key))
    if value is None:
        return replies.absent(key, session.work)
    if len(value) <= replies.SHORT_BYTES:
        return replies.result(value)
    if len(value) <= replies.LONG_BYTES:
        return replies.longer_result(value, session.work)
    return replies.result_steps(value, session.work)


def _put(session: Session, _: LineContext, words: list[bytes]) -> bytes:
    if words[1].endswith(TAB):  # GET and DEL ignore blanks after a key, so could never reach it
        raise UsageError("A key cannot end in a tab.")
    session.put(words[1], words[2])
    return replies.OK


def _get(session: Session, _: LineContext, words: list[bytes]) -> Reply:
    return get(session, words[1])


def _del(session: Session, _: LineContext, words: list[bytes]) -> bytes:
    return replies.TRUE if session.delete(words[1]) else replies.FALSE


def _incr(session: Session, _: LineContext, words: list[bytes]) -> bytes:
    try:
        amount = integer(words[2]) if len(words) > 2 else 1
    except NotANumberError:
        raise NotANumberError(f"{quoted(words[2])} is not a whole number of 64 bits to add.") from None
    try:
        total = session.update(words[1], Add(amount))[1]
    except NotANumberError:
        raise NotANumberError("The value under this key is not a whole number of 64 bits.") from None
    return replies.result_json(string_or_none(total) or b"0")


def _keys(session: Session, context: LineContext, words: list[bytes]) -> Reply:
    prefix = words[1] if len(words) > 1 else b""
    return list_keys(session, prefix, words[2] if len(words) > 2 else b"", context.limits.max_line_bytes)


def _count(session: Session, _: LineContext, words: list[bytes]) -> Steps[bytes]:
    if len(words) > 2:
        raise UsageError(COMMANDS[b"COUNT"].usage)
    prefix = words[1] if len(words) > 1 else b""
    number = yield from session.count(prefix)
    return replies.result_json(b"%d" % number, NO_PATTERN if not number and prefix.endswith(b"*") else None)


def _range(words: list[bytes]) -> list[tuple[int, Key]]:
    return [(READ, words[1] if len(words) > 1 else b"")]


def run_no_argument_line(session: Session, line: bytes) -> bytes | None:
    """Run a line that consists of the verb of a command without arguments; return None for any other line."""
    if line == b"START":  # compared, not looked up: a dict would take the compiled build three times as long
        return _start(session)
    if line == b"COMMIT":
        reply = _commit(session)
        return reply if isinstance(reply, bytes) else None
    run = NO_ARGUMENT_LINES.get(line)
    return None if run is None else run(session)


def _start(session: Session) -> bytes:
    session.start()
    return replies.OK


def _start_with_words(session: Session, _: LineContext, words: list[bytes]) -> bytes:
    if len(words) > 2 or (len(words) == 2 and words[1].upper() != READ_ONLY):
        raise UsageError(COMMANDS[b"START"].usage)
    session.start(read_only=len(words) == 2)
    return replies.OK


def _commit(session: Session, grants: Grants = EVERYTHING) -> Reply:
    preparing = session.prepare_commit()
    return _outcome(session, grants) if preparing is None else _commit_after(session, grants, preparing)


def _commit_after(session: Session, grants: Grants, preparing: Steps[None]) -> Steps[bytes]:
    yield from preparing
    return _outcome(session, grants)


def _outcome(session: Session, grants: Grants) -> bytes:
    outcome = session.commit()
    if isinstance(outcome, Committed):
        return replies.OK
    return replies.error("conflict", conflict_message(outcome, grants))


def _commit_as(session: Session, context: LineContext, _: list[bytes]) -> Reply:
    return _commit(session, context.peer.grants)


def _rollback(session: Session) -> bytes:
    session.rollback()
    return replies.OK


def _ping(_: Session) -> bytes:
    return replies.result(b"PONG")


def _ping_of_redis(_: Session, context: LineContext, __: list[bytes]) -> bytes:
    return b"+PONG\r\n" if context.peer.user is not None else b"-NOAUTH Authentication required.\r\n"


def _help(session: Session, _: LineContext, words: list[bytes]) -> bytes:
    if len(words) > 2:
        raise UsageError(COMMANDS[b"HELP"].usage)
    if len(words) == 1:
        return replies.result(HELP)
    command = COMMANDS.get(words[1].upper())
    if command is None:
        session.work.left -= SLOW_COST  # for the search for a suggestion
        raise unknown_command(words[1])
    return replies.result(command.help.encode())


def _exit(_: Session) -> bytes:
    return replies.OK


def unknown_command(verb: bytes) -> UnknownCommandError:
    """Return the error for an unknown verb, with a suggestion."""
    meant = MEANT.get(verb.upper(), "")
    if not meant and len(verb) <= LONGEST_VERB_BYTES + 2:
        from difflib import get_close_matches  # noqa: PLC0415  # 3 ms of every start

        close = get_close_matches(verb.upper().decode(), [name.decode() for name in COMMANDS], n=1)
        meant = close[0] if close else ""
    hint = f" Did you mean {meant}?" if meant else ""
    return UnknownCommandError(f"There is no command {quoted(verb)}.{hint} HELP lists the commands.")


MEANT: Final[dict[bytes, str]] = {
    b"SET": "PUT",
    b"DELETE": "DEL",
    b"REMOVE": "DEL",
    b"LIST": "KEYS",
    b"SCAN": "KEYS",
    b"INCRBY": "INCR",
    b"PEXPIRE": "EXPIRE",
    b"PTTL": "TTL",
    b"BEGIN": "START",
    b"MULTI": "START",
    b"EXEC": "COMMIT",
    b"ABORT": "ROLLBACK",
    b"DISCARD": "ROLLBACK",
    b"UNDO": "ROLLBACK",
}
"""Verbs of other programs, with the corresponding command."""

_TABLE: Final[list[LineCommand]] = [
    LineCommand(
        "PUT",
        _put,
        3,
        (KEY, VALUE),
        "PUT takes a key and a value: PUT key value.",
        "PUT key value: store a value. The value is the rest of the line.",
        is_local=in_transaction,
        takes_value=True,
        categories=WRITE,
        access=WRITE,
        grant_name="set",
    ),
    LineCommand(
        "GET",
        _get,
        2,
        (KEY,),
        "GET takes one key: GET key.",
        "GET key: read a value; null if there is none.",
        is_local=of_pending_key,
        categories=READ,
        access=READ,
    ),
    LineCommand(
        "DEL",
        _del,
        2,
        (KEY,),
        "DEL takes one key: DEL key.",
        "DEL key: delete a key; true if it was there.",
        is_local=of_pending_key,
        categories=WRITE,
        access=WRITE,
    ),
    LineCommand(
        "INCR",
        _incr,
        -2,
        (KEY, CONTENT),
        "INCR takes a key and perhaps a whole number: INCR key [by].",
        "INCR key [by]: add 1, or another whole number, to the number under a key; without one it counts as 0.",
        is_local=of_pending_key,
        categories=WRITE,
        access=READ | WRITE,
    ),
    *deadlines.COMMANDS,
    LineCommand(
        "START",
        _start_with_words,
        -1,
        (OTHER,),
        "START takes nothing after it but READONLY: START [READONLY].",
        "START: open a transaction, or a nested one inside it. START READONLY: open a read-only "
        "transaction, which never conflicts.",
        is_local=in_transaction,
        on_standby=BEGINS,
        categories=TRANSACTION,
    ),
    _of_one_word(
        "COMMIT",
        _commit_as,
        "COMMIT: keep the innermost transaction; the outermost is applied at once for all to see, or answers conflict "
        "if something you read has changed: then retry from START.",
        is_local=in_frame,
        categories=TRANSACTION,
        ends_transaction=True,
    ),
    _of_one_word(
        "ROLLBACK",
        _of_session(_rollback),
        "ROLLBACK: undo the innermost transaction.",
        is_local=in_frame,
        categories=TRANSACTION,
    ),
    LineCommand(
        "KEYS",
        _keys,
        -1,
        (PREFIX, OTHER),
        "KEYS takes at most a prefix and a key: KEYS [prefix [after]].",
        "KEYS [prefix [after]]: list up to 1000 keys that begin with the prefix, after a key. There are no patterns.",
        cost=SLOW_COST,
        categories=READ,
        ranges=_range,
    ),
    LineCommand(
        "COUNT",
        _count,
        -1,
        (PREFIX, OTHER),
        "COUNT takes at most a prefix: COUNT [prefix].",
        "COUNT [prefix]: count the keys that begin with the prefix.",
        cost=SLOW_COST,
        categories=READ,
        ranges=_range,
    ),
    *about.COMMANDS,
    _of_one_word("PING", _of_session(_ping), "PING: answer PONG.", on_standby=ANSWERED),
    LineCommand(
        "HELP",
        _help,
        -1,
        (OTHER,),
        "HELP takes at most a command: HELP [command].",
        "HELP [command]: how to use all commands, or one.",
        is_local=everywhere,
        runs_when_full=True,
        on_standby=ANSWERED,
        categories=CONNECTION,
        is_open=True,
    ),
    *(
        _of_one_word(name, _of_session(_exit), help_text, closes=True, on_standby=ANSWERED, is_open=True)
        for name, help_text in (
            ("EXIT", "EXIT: leave; an open transaction is undone."),
            ("QUIT", "QUIT: leave, as EXIT does."),
        )
    ),
]

PING_OF_REDIS: Final = _of_one_word("PING", _ping_of_redis, "")
"""Answers a PING that does not tell the protocol."""

COMMANDS: Final[dict[bytes, LineCommand]] = {command.name: command for command in _TABLE}
"""Every command by its verb, in the order of HELP."""

LONGEST_VERB_BYTES: Final = max(map(len, COMMANDS))

NO_ARGUMENT_LINES: Final[dict[bytes, NoArgumentHandler]] = {
    b"START": _start,
    b"ROLLBACK": _rollback,
    b"PING": _ping,
}
"""Commands that the fast path runs by a look-up of the whole line."""

LONGEST_NO_ARGUMENT_LINE_BYTES: Final = max(map(len, NO_ARGUMENT_LINES))

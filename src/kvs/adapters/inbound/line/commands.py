"""The commands of the line protocol: each asks the session, and returns its reply.

The grammar is ``VERB [KEY [VALUE]]``: one space ends the verb, one ends the key, and the value is everything after it,
so ``line.split(b" ", 2)`` is the whole of parsing. Blanks behind a command that has no value are ignored.
"""

import json
from collections.abc import Callable
from typing import Final, TypeAlias, final

from kvs.adapters.inbound.line import replies
from kvs.adapters.inbound.line.keys import BLANKS, KeysPage
from kvs.adapters.inbound.protocol.messages import conflict_message, shown
from kvs.domain.commit import Committed
from kvs.domain.errors import (
    KvsError,
    TooLargeError,
    UnknownCommandError,
    UsageError,
)
from kvs.ports.session import Session

TAB: Final = b"\t"

SLOW_COST: Final = 50
"""What a command that takes tens of microseconds counts for, in requests, against ``max_tick_requests``."""

LINE_OVERHEAD_BYTES: Final = 1024
"""What a line may hold beyond the longest key and value: verb, blanks, and some bytes too many, so that a value that is
a little too long is told so and only a line beyond all reason ends the connection."""

PUT_USAGE: Final = "PUT takes a key and a value: PUT key value."

READ_ONLY: Final = b"READONLY"

HELP: Final = (
    b"PUT key value: store. GET key: read. DEL key: delete. KEYS [prefix [after]]: list up to 1000 keys. "
    b"COUNT [prefix]: count keys. START: open a transaction, or a nested one inside it. COMMIT: keep the innermost; "
    b"the outermost is applied at once for all to see, or answers conflict if something you read has changed: then "
    b"retry from START. ROLLBACK: undo the innermost. START READONLY: open a transaction to read in, any amount. "
    b"INFO: figures. PING. EXIT: leave; an open transaction is undone. A key is one word of UTF-8; the value is the "
    b"rest of the line."
)


@final
class LineLimits:
    """What one client may send, and do in one tick; see the settings of the same names."""

    __slots__ = (
        "max_key_bytes",
        "max_line_bytes",
        "max_tick_output_bytes",
        "max_tick_requests",
        "max_value_bytes",
    )

    def __init__(
        self, max_key_bytes: int, max_value_bytes: int, max_tick_requests: int, max_tick_output_bytes: int
    ) -> None:
        self.max_key_bytes = max_key_bytes
        self.max_value_bytes = max_value_bytes
        self.max_tick_requests = max_tick_requests
        self.max_tick_output_bytes = max_tick_output_bytes
        self.max_line_bytes = max_key_bytes + max_value_bytes + LINE_OVERHEAD_BYTES


Handler: TypeAlias = Callable[[Session, LineLimits, list[bytes]], bytes]
"""Takes the session, the limits and the words of the line; returns the reply."""

Bare: TypeAlias = Callable[[Session], bytes]
"""Takes the session, as nothing may follow the verb; returns the reply."""


@final
class Command:
    """An entry of :data:`COMMANDS`.

    Attributes:
        run: What it does.
        bare: The same, for a line that is nothing but the verb; None if there is no such line.
        cost: What it counts for against ``max_tick_requests``.
        closes: Whether the connection ends with it.
        runs_always: Whether it runs even when the clients hold all the memory they may: to free some, or tell of it.
    """

    __slots__ = ("bare", "closes", "cost", "run", "runs_always")

    def __init__(
        self, run: Handler, *, bare: Bare | None = None, cost: int = 1, closes: bool = False, runs_always: bool = False
    ) -> None:
        self.run: Final = run
        self.bare: Final = bare
        self.cost: Final = cost
        self.closes: Final = closes
        self.runs_always: Final = runs_always


def _bare_command(bare: Bare, *, cost: int = 1, closes: bool = False, runs_always: bool = False) -> Command:
    def run(session: Session, _: LineLimits, words: list[bytes]) -> bytes:
        for word in words[1:]:
            if word.strip(BLANKS):
                raise UsageError(f"{shown_verb(words)} takes nothing after it.")
        return bare(session)

    return Command(run, bare=bare, cost=cost, closes=closes, runs_always=runs_always)


def unknown_command(verb: bytes) -> UnknownCommandError:
    """Return the error for a verb there is no command of, with the one that may have been meant."""
    from difflib import get_close_matches  # noqa: PLC0415  # 3 ms of every start

    close: list[str] = []
    if len(verb) <= LONGEST_VERB_BYTES + 2:
        close = get_close_matches(verb.upper().decode(), [name.decode() for name in COMMANDS], n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return UnknownCommandError(f"There is no command {shown(verb)}.{hint} HELP lists the commands.")


def put(session: Session, limits: LineLimits, key: bytes, value: bytes) -> bytes:
    """Run PUT."""
    if not 0 < len(key) <= limits.max_key_bytes:
        raise _bad_key(key, limits, PUT_USAGE)
    if len(value) > limits.max_value_bytes:
        raise TooLargeError(f"The value has {len(value)} bytes; max_value_bytes is {limits.max_value_bytes}.")
    session.put(key, value)
    return replies.OK


def get(session: Session, limits: LineLimits, key: bytes) -> bytes:
    """Run GET."""
    if not 0 < len(key) <= limits.max_key_bytes:
        raise _bad_key(key, limits, "GET takes one key: GET key.")
    value = session.get(key)
    if value is None:
        return replies.result_json(b"null", key + b" was not found.")
    return replies.result(value)


def _put(session: Session, limits: LineLimits, words: list[bytes]) -> bytes:
    if len(words) != 3:
        raise UsageError(PUT_USAGE)
    if words[1].endswith(TAB):  # GET and DEL ignore blanks behind a key, so nothing could reach it
        raise UsageError("A key cannot end in a tab.")
    return put(session, limits, words[1], words[2])


def _get(session: Session, limits: LineLimits, words: list[bytes]) -> bytes:
    return get(session, limits, _one_key(words, limits))


def _del(session: Session, limits: LineLimits, words: list[bytes]) -> bytes:
    return replies.TRUE if session.delete(_one_key(words, limits)) else replies.FALSE


def _keys(session: Session, limits: LineLimits, words: list[bytes]) -> bytes:
    after = words[2] if len(words) == 3 and words[2].strip(BLANKS) else b""
    prefix = words[1] if after else _prefix(words)
    if len(prefix) > limits.max_key_bytes:
        raise _key_too_large(prefix, limits)
    return session.atomically(KeysPage(prefix, after, limits.max_line_bytes), read_only=True)


def _count(session: Session, limits: LineLimits, words: list[bytes]) -> bytes:
    if len(words) == 3 and words[2].strip(BLANKS):
        raise UsageError("COUNT takes at most a prefix: COUNT [prefix].")
    prefix = _prefix(words)
    if len(prefix) > limits.max_key_bytes:
        raise _key_too_large(prefix, limits)
    return replies.result_json(b"%d" % session.count(prefix))


def bare(session: Session, line: bytes) -> bytes | None:
    """Run a line that is nothing but the verb of a command that takes nothing; return None if it is anything else."""
    if line == b"START":  # told at once: to look it up would take the compiled build three times as long
        return _start(session)
    if line == b"COMMIT":
        return _commit(session)
    run = _BARE_LINES.get(line)
    return None if run is None else run(session)


def _start(session: Session) -> bytes:
    session.start()
    return replies.OK


def _start_with_words(session: Session, _: LineLimits, words: list[bytes]) -> bytes:
    option = _prefix(words).upper()
    if option not in (b"", READ_ONLY) or (len(words) == 3 and words[2].strip(BLANKS)):
        raise UsageError("START takes nothing after it but READONLY: START [READONLY].")
    session.start(read_only=option == READ_ONLY)
    return replies.OK


def _commit(session: Session) -> bytes:
    answer = session.commit()
    return replies.OK if isinstance(answer, Committed) else replies.error("conflict", conflict_message(answer))


def _rollback(session: Session) -> bytes:
    session.rollback()
    return replies.OK


def _info(session: Session) -> bytes:
    return replies.result_json(json.dumps(session.info()).encode())


def _ping(_: Session) -> bytes:
    return replies.result(b"PONG")


def _help(_: Session) -> bytes:
    return replies.result(HELP)


def _exit(_: Session) -> bytes:
    return replies.OK


def _one_key(words: list[bytes], limits: LineLimits) -> bytes:
    key = b"" if len(words) == 3 and words[2].strip(BLANKS) else _prefix(words)
    if not 0 < len(key) <= limits.max_key_bytes:
        verb = shown_verb(words)
        raise _bad_key(key, limits, f"{verb} takes one key: {verb} key.")
    return key


def _prefix(words: list[bytes]) -> bytes:
    return words[1].rstrip(BLANKS) if len(words) > 1 else b""


def shown_verb(words: list[bytes]) -> str:
    """Return the verb of a command as it is documented."""
    return words[0].strip(BLANKS).decode().upper()


def _bad_key(key: bytes, limits: LineLimits, usage: str) -> KvsError:
    return _key_too_large(key, limits) if key else UsageError(usage)


def _key_too_large(key: bytes, limits: LineLimits) -> TooLargeError:
    return TooLargeError(f"The key has {len(key)} bytes; max_key_bytes is {limits.max_key_bytes}.")


COMMANDS: Final[dict[bytes, Command]] = {
    b"PUT": Command(_put),
    b"GET": Command(_get),
    b"DEL": Command(_del),
    b"START": Command(_start_with_words, bare=_start),
    b"COMMIT": _bare_command(_commit, runs_always=True),
    b"ROLLBACK": _bare_command(_rollback, runs_always=True),
    b"KEYS": Command(_keys, cost=SLOW_COST),
    b"COUNT": Command(_count, cost=SLOW_COST),
    b"INFO": _bare_command(_info, cost=SLOW_COST, runs_always=True),
    b"PING": _bare_command(_ping, runs_always=True),
    b"HELP": _bare_command(_help, runs_always=True),
    b"EXIT": _bare_command(_exit, runs_always=True, closes=True),
    b"QUIT": _bare_command(_exit, runs_always=True, closes=True),
}
"""Every command by its verb, in the order a newcomer meets them."""

LONGEST_VERB_BYTES: Final = max(map(len, COMMANDS))

_BARE_LINES: Final[dict[bytes, Bare]] = {
    verb: command.bare
    for verb, command in COMMANDS.items()
    if command.bare is not None and command.cost == 1 and not command.closes
}

LONGEST_BARE_LINE_BYTES: Final = max(map(len, _BARE_LINES))

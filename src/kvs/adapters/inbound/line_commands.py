"""The commands of the line protocol: each takes the words of a line, asks the session, and returns its reply.

The grammar is ``VERB [KEY [VALUE]]``: one space ends the verb, one ends the key, and the value is everything after it,
so ``line.split(b" ", 2)`` is the whole of parsing. Blanks behind a command that has no value are ignored.
"""

import json
from collections.abc import Callable
from typing import Final, TypeAlias, final

from kvs.adapters.inbound import json_line
from kvs.domain.errors import TooLargeError, UnknownCommandError, UsageError
from kvs.domain.transaction import Committed, Conflict
from kvs.ports.inbound import Session

BLANKS: Final = b" \t"
TAB: Final = 9

PAGE_KEYS: Final = 1000
"""Most keys that one KEYS lists."""

SLOW_COST: Final = 50
"""What a command that takes tens of microseconds counts for, in requests, against ``max_tick_requests``."""

SHOWN_BYTES: Final = 64
"""Most of a key or verb that is repeated in a message."""

LINE_OVERHEAD_BYTES: Final = 1024
"""What a line may hold beyond the longest key and value: verb, blanks, and some bytes too many, so that a value that is
a little too long is told so and only a line beyond all reason ends the connection."""

HELP: Final = (
    b"PUT key value: store. GET key: read. DEL key: delete. KEYS [prefix [after]]: list up to 1000 keys. "
    b"COUNT [prefix]: count keys. START: open a transaction, or a nested one inside it. COMMIT: keep the innermost; "
    b"the outermost is applied at once for all to see, or answers conflict if something you read has changed: then "
    b"retry from START. ROLLBACK: undo the innermost. INFO: figures. PING. EXIT: leave; an open transaction is "
    b"undone. A key is one word of UTF-8; the value is the rest of the line."
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


@final
class Command:
    """An entry of :data:`COMMANDS`.

    Attributes:
        run: What it does.
        cost: What it counts for against ``max_tick_requests``.
        closes: Whether the connection ends with it.
        runs_always: Whether it runs even when the clients hold all the memory they may: to free some, or tell of it.
    """

    __slots__ = ("closes", "cost", "run", "runs_always")

    def __init__(self, run: Handler, *, cost: int = 1, closes: bool = False, runs_always: bool = False) -> None:
        self.run: Final = run
        self.cost: Final = cost
        self.closes: Final = closes
        self.runs_always: Final = runs_always


def unknown_command(verb: bytes) -> UnknownCommandError:
    """Return the error for a verb there is no command of, with the one that may have been meant."""
    from difflib import get_close_matches  # noqa: PLC0415  # 3 ms of every start

    close: list[str] = []
    if len(verb) <= LONGEST_VERB_BYTES + 2:
        close = get_close_matches(verb.upper().decode(), [name.decode() for name in COMMANDS], n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return UnknownCommandError(f"There is no command {shown(verb)}.{hint} HELP lists the commands.")


def shown(text: bytes) -> str:
    """Return client bytes in quotes, cut to a bounded length, for a message or a log field."""
    cut = text[:SHOWN_BYTES].decode(errors="backslashreplace")
    return json.dumps(cut + "..." if len(text) > SHOWN_BYTES else cut, ensure_ascii=False)


def _put(session: Session, limits: LineLimits, words: list[bytes]) -> bytes:
    if len(words) != 3 or not words[1]:
        raise UsageError("PUT takes a key and a value: PUT key value.")
    key, value = words[1], words[2]
    if key[-1] == TAB:  # GET and DEL ignore blanks behind a key, so nothing could reach it
        raise UsageError("A key cannot end in a tab.")
    if len(key) > limits.max_key_bytes:
        raise _key_too_large(key, limits)
    if len(value) > limits.max_value_bytes:
        raise TooLargeError(f"The value has {len(value)} bytes; max_value_bytes is {limits.max_value_bytes}.")
    session.put(key, value)
    return json_line.OK


def _get(session: Session, limits: LineLimits, words: list[bytes]) -> bytes:
    key = words[1] if len(words) == 2 else b""
    if not key or key[-1] == TAB or len(key) > limits.max_key_bytes:  # asked here too, to save a call: 60 ns
        key = _one_key(words, limits)
    value = session.get(key)
    if value is None:
        return json_line.result_json(b"null", key + b" was not found.")
    if value.isalnum():  # needs no escapes; asked here too, to save a call: 60 ns
        return b'{"status": "Ok", "result": "%b"}\n' % value
    return json_line.result(value)


def _del(session: Session, limits: LineLimits, words: list[bytes]) -> bytes:
    return json_line.TRUE if session.delete(_one_key(words, limits)) else json_line.FALSE


def _keys(session: Session, limits: LineLimits, words: list[bytes]) -> bytes:
    after = words[2] if len(words) == 3 and words[2].strip(BLANKS) else b""
    prefix = words[1] if after else _prefix(words)
    if len(prefix) > limits.max_key_bytes:
        raise _key_too_large(prefix, limits)
    page = session.keys(prefix, after, PAGE_KEYS + 1)
    message = None
    if len(page) > PAGE_KEYS:
        del page[PAGE_KEYS:]
        message = b"There are more; go on with: KEYS %b %b" % (prefix, page[-1])
    return json_line.result_json(b"[%b]" % b", ".join([json_line.quoted(key) for key in page]), message)


def _count(session: Session, limits: LineLimits, words: list[bytes]) -> bytes:
    if len(words) == 3 and words[2].strip(BLANKS):
        raise UsageError("COUNT takes at most a prefix: COUNT [prefix].")
    prefix = _prefix(words)
    if len(prefix) > limits.max_key_bytes:
        raise _key_too_large(prefix, limits)
    return json_line.result_json(b"%d" % session.count(prefix))


def _start(session: Session, _: LineLimits, words: list[bytes]) -> bytes:
    _no_words(words)
    session.start()
    return json_line.OK


def _commit(session: Session, _: LineLimits, words: list[bytes]) -> bytes:
    _no_words(words)
    answer = session.commit()
    return json_line.OK if isinstance(answer, Committed) else json_line.error("conflict", _conflict_message(answer))


def _rollback(session: Session, _: LineLimits, words: list[bytes]) -> bytes:
    _no_words(words)
    session.rollback()
    return json_line.OK


def _info(session: Session, _: LineLimits, words: list[bytes]) -> bytes:
    _no_words(words)
    return json_line.result_json(json.dumps(session.info()).encode())


def _ping(_: Session, __: LineLimits, words: list[bytes]) -> bytes:
    _no_words(words)
    return json_line.result(b"PONG")


def _help(_: Session, __: LineLimits, words: list[bytes]) -> bytes:
    _no_words(words)
    return json_line.result(HELP)


def _exit(_: Session, __: LineLimits, words: list[bytes]) -> bytes:
    _no_words(words)
    return json_line.OK


def _one_key(words: list[bytes], limits: LineLimits) -> bytes:
    key = _prefix(words)
    if not key or (len(words) == 3 and words[2].strip(BLANKS)):
        verb = shown_verb(words)
        raise UsageError(f"{verb} takes one key: {verb} key.")
    if len(key) > limits.max_key_bytes:
        raise _key_too_large(key, limits)
    return key


def _prefix(words: list[bytes]) -> bytes:
    return words[1].rstrip(BLANKS) if len(words) > 1 else b""


def _no_words(words: list[bytes]) -> None:
    for word in words[1:]:
        if word.strip(BLANKS):
            raise UsageError(f"{shown_verb(words)} takes nothing after it.")


def shown_verb(words: list[bytes]) -> str:
    """Return the verb of a command as it is documented."""
    return words[0].strip(BLANKS).decode().upper()


def _key_too_large(key: bytes, limits: LineLimits) -> TooLargeError:
    return TooLargeError(f"The key has {len(key)} bytes; max_key_bytes is {limits.max_key_bytes}.")


def _conflict_message(conflict: Conflict) -> str:
    changed = [shown(key) for key in conflict.keys]
    changed += [f"the keys under {shown(prefix)}" if prefix else "the set of keys" for prefix in conflict.prefixes]
    return f"Nothing was applied, for this changed since START: {', '.join(changed)}. Retry from START."


COMMANDS: Final[dict[bytes, Command]] = {
    b"PUT": Command(_put),
    b"GET": Command(_get),
    b"DEL": Command(_del),
    b"START": Command(_start),
    b"COMMIT": Command(_commit, runs_always=True),
    b"ROLLBACK": Command(_rollback, runs_always=True),
    b"KEYS": Command(_keys, cost=SLOW_COST),
    b"COUNT": Command(_count, cost=SLOW_COST),
    b"INFO": Command(_info, cost=SLOW_COST, runs_always=True),
    b"PING": Command(_ping, runs_always=True),
    b"HELP": Command(_help, runs_always=True),
    b"EXIT": Command(_exit, runs_always=True, closes=True),
    b"QUIT": Command(_exit, runs_always=True, closes=True),
}
"""Every command by its verb, in the order a newcomer meets them."""

LONGEST_VERB_BYTES: Final = max(map(len, COMMANDS))

QUICK_COMMANDS: Final[dict[bytes, Handler]] = {
    verb: command.run for verb, command in COMMANDS.items() if command.cost == 1 and not command.closes
}
"""Those that may be run without a further thought, which is nearly all that ever comes."""

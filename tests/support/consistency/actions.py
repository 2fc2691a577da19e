"""Single commands: how they are asked for in each protocol, and what their answers tell."""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from tests.support.consistency.history import (
    CLEAR,
    COMMIT,
    ROLLBACK,
    START,
    Operation,
    append,
    counted,
    end_of,
    expire,
    increment,
    listed,
    read,
    seen,
    write,
)

Answer: TypeAlias = Any
"""As simple as can be: text, a number, a list, None; True and False, and what is only acknowledged is True."""


class Failed(NamedTuple):
    """An answer that tells of an error."""

    code: str


class Action(NamedTuple):
    """A command.

    Attributes:
        line: Its words in the line protocol, the last of which may be a value; empty if it has none.
        resp: Its words in RESP; empty if it has none.
        told: What an answer tells.
        unanswered: What it does, if it is done at all.
    """

    line: Sequence[str]
    resp: Sequence[str]
    told: Callable[[Answer], list[Operation]]
    unanswered: Sequence[Operation] = ()


def _same(*operations: Operation) -> Callable[[Answer], list[Operation]]:
    return lambda _: list(operations)


def get(key: str) -> Action:
    """Read a value."""
    return Action(("GET", key), ("GET", key), lambda answer: [read(key, answer)])


def put(key: str, value: str) -> Action:
    """Store a value."""
    done = write(key, value)
    return Action(("PUT", key, value), ("SET", key, value), _same(done), (done,))


def put_several(values: dict[str, str]) -> Action:
    """Store several values at once."""
    done = [write(key, value) for key, value in values.items()]
    return Action((), ("MSET", *(word for pair in values.items() for word in pair)), _same(*done), done)


def put_for(key: str, value: str, lasts_s: float) -> Action:
    """Store a value with a deadline."""
    done = write(key, value, lasts_s)
    return Action((), ("SET", key, value, "PX", str(round(lasts_s * 1000))), _same(done), (done,))


def put_if_absent(key: str, value: str) -> Action:
    """Store a value where there is none. Not for queues: if that is not answered, it may or may not do so."""

    def told(stored: Answer) -> list[Operation]:
        return [read(key, None), write(key, value)] if stored else [seen(key, True)]

    return Action((), ("SET", key, value, "NX"), told, (write(key, value),))


def exchange(key: str, value: str) -> Action:
    """Store a value and read the one before."""
    done = write(key, value)
    return Action((), ("SET", key, value, "GET"), lambda answer: [read(key, answer), done], (done,))


def delete(key: str) -> Action:
    """Delete a key."""
    done = write(key, None)

    def told(there: Answer) -> list[Operation]:
        return [seen(key, True), done] if there else [seen(key, False)]

    return Action(("DEL", key), ("DEL", key), told, (done,))


def take(key: str) -> Action:
    """Read a value and delete it."""
    done = write(key, None)

    def told(value: Answer) -> list[Operation]:
        return [read(key, value)] if value is None else [read(key, value), done]

    return Action((), ("GETDEL", key), told, (done,))


def add_element(key: str, element: str) -> Action:
    """Append to a list."""
    done = append(key, element)
    return Action((), ("APPEND", key, "," + element), _same(done), (done,))


def add_one(key: str) -> Action:
    """Increment a counter."""
    words = "INCR", key
    return Action(words, words, lambda answer: [increment(key, answer)], (increment(key, None),))


def set_deadline(key: str, lasts_s: float) -> Action:
    """Give a key a deadline."""
    done = expire(key, lasts_s)

    def told(there: Answer) -> list[Operation]:
        return [seen(key, True), done] if there else [seen(key, False)]

    return Action(("EXPIRE", key, str(lasts_s)), ("PEXPIRE", key, str(round(lasts_s * 1000))), told, (done,))


def keep(key: str) -> Action:
    """Remove a deadline; the answer does not tell whether there is such a key."""
    done = expire(key, None)
    words = "PERSIST", key

    def told(kept: Answer) -> list[Operation]:
        return [seen(key, True), done] if kept else []

    return Action(words, words, told, (done,))


def exists(key: str) -> Action:
    """Look whether there is a key."""
    return Action((), ("EXISTS", key), lambda there: [seen(key, there > 0)])


def list_keys(prefix: str) -> Action:
    """List the keys with a prefix."""

    def told(keys: Answer) -> list[Operation]:
        return [listed(prefix, end_of(prefix), keys)]

    return Action(("KEYS", prefix), ("KEYS", prefix + "*"), told)


def list_page(prefix: str, most: int) -> Action:
    """List some of the keys with a prefix."""

    def told(page: Answer) -> list[Operation]:
        cursor, keys = page
        return [listed(prefix, end_of(prefix) if cursor == "0" else keys[-1] + "\0", keys)]

    return Action((), ("SCAN", "0", "MATCH", prefix + "*", "COUNT", str(most)), told)


def count_keys(prefix: str) -> Action:
    """Count the keys with a prefix."""
    return Action(("COUNT", prefix), (), lambda answer: [counted(prefix, end_of(prefix), answer)])


CLEAR_ALL: Final = Action((), ("FLUSHALL",), _same(CLEAR), (CLEAR,))
BEGIN: Final = Action(("START",), ("START",), _same(START))
MERGE: Final = Action(("COMMIT",), ("COMMIT",), _same(COMMIT))
UNDO: Final = Action(("ROLLBACK",), ("ROLLBACK",), _same(ROLLBACK))
BEGIN_READING: Final = Action(("START", "READONLY"), ("START", "READONLY"), _same(START))

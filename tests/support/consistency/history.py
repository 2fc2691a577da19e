"""What clients have asked, what they were answered and when: all that is known of a run.

Every write has a value that no other write has, so that what was read tells who wrote it. The value tells its form:

* ``,a,b,c``: a list; who appends writes the list with one more element, which is unique. It shows all its versions;
* a whole number: a counter, which is only ever incremented by one, and never deleted;
* anything else: a register.

Times are nanoseconds of one monotonic clock.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple, TypeAlias

NEVER_NS: Final = 1 << 62

Window: TypeAlias = tuple[int, int]
"""When a request was sent, and when its answer had come."""


class Outcome(Enum):
    """What is known to have become of a transaction."""

    COMMITTED = "committed"
    ABORTED = "aborted"  # it has not been applied, and never will be
    UNKNOWN = "unknown"  # it may have been applied, or may be at any later time, once


class Kind(Enum):
    """What an operation does."""

    READ = "read"  # ``value``: what there was
    SEEN = "seen"  # ``amount``: 1 if there was a value, which was not shown, and 0 if there was none
    WRITE = "write"  # ``value``, or None for a delete, with a deadline after ``lasts_s``, if it has one
    APPEND = "append"  # the element ``value``, to a list that was not shown
    INCREMENT = "increment"  # ``value``: the sum, None if it is not known
    EXPIRE = "expire"  # a deadline after ``lasts_s``, None for none any more; what there was stays
    RANGE = "range"  # ``keys``: all there were, from ``key`` and below ``high``, which is "" if there is no bound
    COUNT = "count"  # ``amount``: how many there were in such a range
    CLEAR = "clear"  # deletes every key
    START = "start"  # of an inner frame
    COMMIT = "commit"  # likewise
    ROLLBACK = "rollback"  # likewise


class Operation(NamedTuple):
    """One command in a transaction, and its answer. What it is about depends on its kind."""

    kind: Kind
    key: str = ""
    value: str | None = None
    high: str = ""
    keys: tuple[str, ...] = ()
    amount: int = 0
    lasts_s: float | None = None


START: Final = Operation(Kind.START)
COMMIT: Final = Operation(Kind.COMMIT)
ROLLBACK: Final = Operation(Kind.ROLLBACK)
CLEAR: Final = Operation(Kind.CLEAR)


def read(key: str, value: str | None) -> Operation:
    """Return a read of a value, None for none."""
    return Operation(Kind.READ, key, value)


def seen(key: str, present: bool) -> Operation:
    """Return that a key was there, or was not."""
    return Operation(Kind.SEEN, key, amount=int(present))


def write(key: str, value: str | None, lasts_s: float | None = None) -> Operation:
    """Return a write, or with None a delete."""
    return Operation(Kind.WRITE, key, value, lasts_s=lasts_s)


def append(key: str, element: str) -> Operation:
    """Return an append to a list that was not shown."""
    return Operation(Kind.APPEND, key, element)


def increment(key: str, total: int | None) -> Operation:
    """Return an increment by one."""
    return Operation(Kind.INCREMENT, key, None if total is None else str(total))


def expire(key: str, lasts_s: float | None) -> Operation:
    """Return that a key was given a deadline, or with None lost it, if it was there."""
    return Operation(Kind.EXPIRE, key, lasts_s=lasts_s)


def listed(low: str, high: str, keys: Collection[str]) -> Operation:
    """Return the keys that a range had."""
    return Operation(Kind.RANGE, low, high=high, keys=tuple(keys))


def counted(low: str, high: str, count: int) -> Operation:
    """Return how many keys a range had."""
    return Operation(Kind.COUNT, low, high=high, amount=count)


def end_of(prefix: str) -> str:
    """Return the bound below which everything with a prefix is."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1) if prefix else ""


@dataclass(slots=True)
class Transaction:
    """One transaction, or one command by itself.

    Attributes:
        number: Its own.
        client: Who asked for it.
        operations: What it did, in order, without the outermost START and COMMIT.
        outcome: What became of it.
        begun: Its START, or all of it.
        ended: Its COMMIT, or all of it.
    """

    number: int
    client: int
    operations: list[Operation]
    outcome: Outcome
    begun: Window
    ended: Window


def element_of(value: str) -> str:
    """Return what makes a value unique: the last element of a list, else itself."""
    return value.rpartition(",")[2]


def elements_of(value: str) -> list[str]:
    """Return the elements of a list, or a value that is none."""
    return value[1:].split(",") if value.startswith(",") else [value]


def is_number(value: str) -> bool:
    """Return whether a value is that of a counter."""
    return value.isdecimal()

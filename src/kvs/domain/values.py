"""Key and value types, and how their memory is charged.

Keys are plain ``bytes``, and none is empty. A string without a deadline, as most values are, is plain ``bytes``, too;
anything else is a :class:`Record`. Every limit on memory in kvs counts an entry the same way, with :func:`entry_bytes`,
so that the figures of one limit can be compared with those of another.
"""

from enum import Enum
from typing import Final, TypeAlias, final

from mypy_extensions import mypyc_attr

from kvs.domain.errors import WrongTypeError

Key: TypeAlias = bytes

STRING: Final = 0
"""The type of a record that is a string: the only one so far."""

NO_DEADLINE: Final = 0

MAX_DEADLINE_MS: Final = 2**53
"""Largest deadline: 285,000 years from 1970."""


NEVER_MS: Final = 2**60
"""Later than any deadline."""


@final
@mypyc_attr(acyclic=True)  # so that it is not tracked by the garbage collector, which takes a quarter of its memory
class Record:
    """A value that is more than a string: it has another type, or a deadline. Immutable.

    Args:
        payload: Its content, in the form of its type.
        deadline_ms: When it expires, in milliseconds since 1970; :data:`NO_DEADLINE`: never.
        kind: Its type.
    """

    __slots__ = ("deadline_ms", "kind", "payload")

    def __init__(self, payload: bytes, deadline_ms: int, kind: int = STRING) -> None:
        self.payload: Final = payload
        self.deadline_ms: Final = deadline_ms
        self.kind: Final = kind

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Record)
            and self.payload == other.payload
            and self.deadline_ms == other.deadline_ms
            and self.kind == other.kind
        )

    def __hash__(self) -> int:
        return hash((self.payload, self.deadline_ms))

    def __repr__(self) -> str:
        return f"Record({self.payload!r}, {self.deadline_ms}, {self.kind})"


Value: TypeAlias = bytes | Record


class Tombstone(Enum):
    """The type of :data:`TOMBSTONE`, which a type checker can distinguish from a value."""

    TOMBSTONE = "tombstone"


TOMBSTONE: Final = Tombstone.TOMBSTONE
"""A pending delete in a write set; never a stored value."""

Write: TypeAlias = Value | Tombstone
"""A pending write of a key: a value to be stored, or a tombstone."""

ENTRY_OVERHEAD_BYTES: Final = 160
"""Charged for an entry on top of its key and value: two ``bytes`` headers (33 B each, rounded up by the allocator) and
its share of the map that holds it. Measured with ``tracemalloc`` over 100,000 entries: 150 to 165 B in a dict with the
ordered index, 140 to 190 B in a persistent map."""

RECORD_OVERHEAD_BYTES: Final = 112
"""Charged for a record on top of that: its object (48 B), and its share of the index of deadlines."""


def entry_bytes(key: Key, write: Write | None) -> int:
    """Return the bytes charged for an entry; a tombstone or an absent value adds nothing to its key."""
    size = ENTRY_OVERHEAD_BYTES + len(key)
    if isinstance(write, bytes):
        return size + len(write)
    return size + RECORD_OVERHEAD_BYTES + len(write.payload) if isinstance(write, Record) else size


def string_of(value: Value) -> bytes:
    """Return the content of a string.

    Raises:
        WrongTypeError: The value is no string.
    """
    if isinstance(value, bytes):
        return value
    if value.kind != STRING:
        raise WrongTypeError("Operation against a key holding the wrong kind of value")
    return value.payload


def string_or_none(value: Value | None) -> bytes | None:
    """Return the content of a string, or None if the key is absent.

    Raises:
        WrongTypeError: The value is no string.
    """
    return value if value is None or isinstance(value, bytes) else string_of(value)


def string_or_empty(value: Value | None) -> bytes:
    """Return the content of a string, which is empty if the key is absent.

    Raises:
        WrongTypeError: The value is no string.
    """
    return b"" if value is None else string_of(value)


def deadline_of(value: Write | None) -> int:
    """Return when a value expires, in milliseconds since 1970; :data:`NO_DEADLINE`: never."""
    return value.deadline_ms if isinstance(value, Record) else NO_DEADLINE


def with_deadline(value: Value, deadline_ms: int) -> Value:
    """Return the value with another deadline."""
    if isinstance(value, bytes):
        return value if deadline_ms == NO_DEADLINE else Record(value, deadline_ms)
    if deadline_ms == NO_DEADLINE and value.kind == STRING:
        return value.payload
    return Record(value.payload, deadline_ms, value.kind)


def with_string(old: Value | None, string: bytes) -> Value:
    """Return a string that keeps the deadline of the value before it."""
    return Record(string, old.deadline_ms) if isinstance(old, Record) else string

"""Calls of a session as values, so that tests make the same ones on the model, on an engine and on a server."""

from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeAlias

from kvs.domain.errors import KvsError
from kvs.domain.values import Key, Record, Value

if TYPE_CHECKING:
    from collections.abc import Sequence

NO_LIMIT: Final = 1 << 40
"""Limit of a page that has every key."""


class Failed(NamedTuple):
    """The outcome of a call that fails, or of a commit that conflicts, without its message.

    Attributes:
        code: The stable code of the error.
    """

    code: str


Outcome: TypeAlias = "bool | int | bytes | Record | Failed | Sequence[Outcome] | None"
"""What a call returns, or how it failed."""

CONFLICT: Final = Failed("conflict")


class Update(NamedTuple):
    """An update of a value; see the one of the same name in :mod:`kvs.domain.updates`.

    Attributes:
        kind: ``append``, ``add``, ``replace``, ``put_if_absent``, ``remove``, ``expire`` or ``persist``.
        operand: The bytes to append, the number to add, the value to put, or the milliseconds until it expires.
    """

    kind: str
    operand: bytes = b""


class Call(NamedTuple):
    """A call of one of the methods of :class:`SessionDriver`.

    Attributes:
        method: Its name.
        arguments: Its arguments, by position.
    """

    method: str
    arguments: tuple[Any, ...] = ()

    def __repr__(self) -> str:
        return f"{self.method}({', '.join(map(repr, self.arguments))})"

    def on(self, session: "SessionDriver") -> Outcome:
        """Make the call.

        Raises:
            KvsError: It fails.
        """
        outcome: Outcome = getattr(session, self.method)(*self.arguments)
        return outcome

    def outcome(self, session: "SessionDriver") -> Outcome:
        """Make the call; return what it returns, or how it fails."""
        try:
            return self.on(session)
        except KvsError as error:
            return Failed(error.code)


class SessionDriver(Protocol):
    """**Protocol:** A session of the inbound port, with methods that return outcomes.

    Those for operations take calls as values. A conflict is an outcome; every other failure is raised.
    """

    def get(self, key: Key) -> Outcome:
        """Return the value, or None."""

    def put(self, key: Key, value: Value) -> Outcome:
        """Store a value."""

    def put_for(self, key: Key, string: bytes, lifetime_ms: int) -> Outcome:
        """Store a string that expires."""

    def deadline(self, key: Key) -> Outcome:
        """Return when a key expires, 0 for never, or None if it is absent."""

    def delete(self, key: Key) -> Outcome:
        """Return whether the key was present."""

    def update(self, key: Key, update: Update) -> Outcome:
        """Return the values before and after."""

    def put_all(self, entries: tuple[tuple[Key, Value], ...]) -> Outcome:
        """Store several values."""

    def keys(self, prefix: Key, after: Key, limit: int) -> Outcome:
        """Return a page of keys."""

    def count(self, prefix: Key) -> Outcome:
        """Return the number of keys."""

    def clear(self) -> Outcome:
        """Delete every key."""

    def view(self, calls: tuple[Call, ...]) -> Outcome:
        """Make reading calls on one snapshot; return the outcome of each."""

    def transact(self, calls: tuple[Call, ...]) -> Outcome:
        """Make calls as one operation; return the outcome of each. The first failure fails the operation."""

    def watch(self, keys: tuple[Key, ...]) -> Outcome:
        """Watch keys, for :meth:`execute`."""

    def unwatch(self) -> Outcome:
        """Watch no keys."""

    def execute(self, calls: tuple[Call, ...]) -> Outcome:
        """Make calls in one transaction, unless a watched key has changed; return the outcome of each."""

    def start(self, read_only: bool) -> Outcome:
        """Open a frame."""

    def commit(self) -> Outcome:
        """Merge or apply the innermost frame."""

    def rollback(self) -> Outcome:
        """Discard the innermost frame."""

    def reset(self) -> Outcome:
        """Discard every frame, and watch no keys."""

    def depth(self) -> Outcome:
        """Return how many frames are open."""


def needs_records(call: Call) -> bool:
    """Return whether a call stores a record, itself or by one of its calls."""
    if call.method == "update":
        return str(call.arguments[1].kind) == "expire"
    if call.method in ("view", "transact", "execute"):
        return any(map(needs_records, call.arguments[0]))
    return call.method == "put_for"


METHODS: Final = frozenset(name for name in vars(SessionDriver) if not name.startswith("_"))
"""The names of all calls."""

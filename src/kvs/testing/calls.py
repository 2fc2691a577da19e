"""What a test asks of a session, as values: the model, an engine in this process and a server are asked the same."""

from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeAlias

from kvs.domain.errors import KvsError
from kvs.domain.values import Key, Value

if TYPE_CHECKING:
    from collections.abc import Sequence

NO_LIMIT: Final = 1 << 40
"""The limit of a listing that is to have every key."""


class Failed(NamedTuple):
    """What comes of a call that fails, or of a commit that conflicts; the wording is open.

    Attributes:
        code: The stable code of the error.
    """

    code: str


Outcome: TypeAlias = "bool | int | bytes | Failed | Sequence[Outcome] | None"
"""What comes of a call: what it returns, or how it failed."""

CONFLICT: Final = Failed("conflict")


class Update(NamedTuple):
    """What is to become of a value; see the domain's update of the same name.

    Attributes:
        kind: ``append``, ``add``, ``replace``, ``put_if_absent`` or ``remove``.
        operand: What to append, add or put.
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
        """Make the call and return what comes of it, a failure as well."""
        try:
            return self.on(session)
        except KvsError as error:
            return Failed(error.code)


class SessionDriver(Protocol):
    """**Protocol:** A session of the inbound port with calls that return what comes of them.

    Those that run several calls are given them as values. A conflict is an outcome, every other failure is raised.
    """

    def get(self, key: Key) -> Outcome:
        """Return the value, or None."""

    def put(self, key: Key, value: Value) -> Outcome:
        """Store a value."""

    def delete(self, key: Key) -> Outcome:
        """Return whether the key was there."""

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
        """Make calls that only read, as of one moment; return what each returned."""

    def transact(self, calls: tuple[Call, ...]) -> Outcome:
        """Make calls as one; return what each returned. The first failure is that of the whole."""

    def watch(self, keys: tuple[Key, ...]) -> Outcome:
        """Have :meth:`execute` depend on keys."""

    def unwatch(self) -> Outcome:
        """Forget what is watched."""

    def execute(self, calls: tuple[Call, ...]) -> Outcome:
        """Make calls as one transaction, unless something watched has changed; return the outcome of each."""

    def start(self, read_only: bool) -> Outcome:
        """Open a frame."""

    def commit(self) -> Outcome:
        """Merge or apply the innermost frame."""

    def rollback(self) -> Outcome:
        """Discard the innermost frame."""

    def reset(self) -> Outcome:
        """Discard every frame, and forget what is watched."""

    def depth(self) -> Outcome:
        """Return how many frames are open."""


METHODS: Final = frozenset(name for name in vars(SessionDriver) if not name.startswith("_"))
"""All that can be called."""

"""What tests of sessions share: sessions over an engine of the test's choice, with small limits."""

import io
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from kvs.application.memory_budget import ClientsBudget
from kvs.application.registry import EngineSessions, SessionLimits
from kvs.application.session import EngineSession
from kvs.domain.commit import CommitRequest, Committed, Conflict
from kvs.domain.errors import UsageError
from kvs.domain.values import Key, Value
from kvs.logs import make_logger
from kvs.ports.session import Session, Unfinished
from kvs.ports.storage import Storage
from kvs.testing.counted_storage import CountedStorage
from kvs.testing.drivers import Clock
from tests.support.naive_storage import NaiveStorage

UNLIMITED = 1 << 40

P = ParamSpec("P")
R = TypeVar("R")


def asked(question: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Ask a listing until it has its answer."""
    while True:
        try:
            return question(*args, **kwargs)
        except Unfinished:
            pass


class Scripted(NaiveStorage):
    """Raises what the test says, instead of committing."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self.errors = list(errors)

    def commit(self, request: CommitRequest) -> Committed | Conflict:
        """See :class:`kvs.ports.storage.Storage`."""
        if self.errors:
            raise self.errors.pop(0)
        return super().commit(request)


class Bench:
    """Sessions over one engine, whose snapshots are counted.

    Attributes:
        storage: The engine, counted.
        budget: What all sessions hold.
        clock: The time.
        log: What was logged, as JSON lines.
    """

    def __init__(
        self,
        storage: Storage | None = None,
        max_transaction_bytes: int = UNLIMITED,
        max_transaction_depth: int = UNLIMITED,
    ) -> None:
        self.storage = CountedStorage(NaiveStorage() if storage is None else storage)
        self.budget = ClientsBudget(UNLIMITED)
        self.clock = Clock()
        self.log = io.StringIO()
        self.sessions = EngineSessions(
            self.storage,
            SessionLimits(max_transaction_bytes, max_transaction_depth),
            self.budget,
            self.clock,
            {"version": "1.2.3", "build": "test", "engine": "naive"},
            make_logger("info", "json", self.log),
        )

    def open(self) -> EngineSession:
        """Open a session."""
        return self.sessions.open()

    def assert_nothing_is_held(self) -> None:
        """Assert that every snapshot has been closed, once, and that nobody is charged for anything."""
        assert self.storage.open_snapshots == 0
        assert self.storage.misuses == []
        assert self.budget.used_bytes == 0


def filled(bench: Bench, data: dict[Key, Value], *, inside: bool) -> EngineSession:
    """Return a session over data, which has opened a transaction if the test is about one."""
    for key, value in data.items():
        bench.storage.put(key, value)
    session = bench.open()
    if inside:
        session.start()
    return session


def stored(bench: Bench) -> dict[Key, Value | None]:
    """Return everything that is stored."""
    return {key: bench.storage.get(key) for key in bench.storage.scan(b"", b"", 1 << 20)}


def write(session: Session) -> str:
    """Write something; a unit."""
    session.put(b"mine", b"")
    return "done"


def fail(session: Session) -> None:
    """Write, and fail."""
    session.put(b"mine", b"")
    raise UsageError("no")

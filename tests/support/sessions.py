"""What tests of sessions share: sessions over an engine of the test's choice, with small limits, and shares of work."""

import io
from collections.abc import Callable, Mapping
from typing import TypeVar

from kvs.adapters.inbound.protocol.connection import Connection
from kvs.adapters.inbound.protocol.tracking import Tracking
from kvs.adapters.inbound.resp.replies import invalidation
from kvs.adapters.storage.checked import CheckedStorage
from kvs.application.changes import ChangeFeed
from kvs.application.disposal import Disposal
from kvs.application.expiry import Expiry
from kvs.application.memory_budget import MemoryBudget
from kvs.application.registry import SessionRegistry
from kvs.application.session import EngineSession
from kvs.application.slot import SessionLimits
from kvs.domain.errors import UsageError
from kvs.domain.keyspace import stored_key
from kvs.domain.values import Key, Value
from kvs.logs import make_logger
from kvs.ports.session import Operation, Session, Steps, Work
from kvs.ports.storage import Storage
from kvs.testing.drivers import Clock, run_to_end
from kvs.testing.leak_checked_storage import LeakCheckedStorage
from tests.support.naive_storage import NaiveStorage

UNLIMITED = 1 << 40

T = TypeVar("T")

run = run_to_end


def shares(
    steps: Steps[T], work: Work, units: int = 1000, between: Callable[[], object] = lambda: None
) -> tuple[int, T]:
    """Run steps by shares of so many units; return how often they made way for others, and their result.

    Args:
        steps: What to run.
        work: Of its session.
        units: A share.
        between: What others do between any two steps.
    """
    yields = 0
    while True:
        work.left = units
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return yields, result
        assert work.left <= 0
        yields += 1
        between()


def suspend(steps: Steps[T], work: Work, units: int = 1000) -> Steps[T]:
    """Run steps by one share, which must not be enough; return them."""
    work.left = units
    next(steps)
    assert work.left <= 0
    return steps


def in_one_step(function: Callable[[Session], T]) -> "Operation[T]":
    """Return an operation that never makes way for others."""

    def steps(session: Session) -> Steps[T]:
        return function(session)
        yield

    return steps


class Bench:
    """Sessions over one engine, whose snapshots are counted.

    Attributes:
        storage: The engine, counted.
        limits: Of each session.
        budget: What all sessions hold.
        changes: What they change, while anybody wants to know.
        tracking: Who tracks keys.
        clock: The time.
        log: What was logged, as JSON lines.
        logger: Who writes there.
    """

    def __init__(
        self,
        storage: Storage | None = None,
        max_transaction_bytes: int = UNLIMITED,
        max_transaction_depth: int = UNLIMITED,
        *,
        records: bool = True,
    ) -> None:
        self.storage = LeakCheckedStorage(NaiveStorage() if storage is None else storage)
        self.budget = MemoryBudget(UNLIMITED)
        self.clock = Clock()
        self.log = io.StringIO()
        self.disposal = Disposal()
        self.limits = SessionLimits(max_transaction_bytes, max_transaction_depth)
        checked = CheckedStorage(self.storage)  # as bootstrap does with engines that are not built in
        self.logger = make_logger("info", "json", self.log)
        self.changes = ChangeFeed()
        self.tracking = Tracking(self.changes, self.budget, 0, invalidation, 1 << 20)
        self.expiry = Expiry(checked, self.clock, self.clock, self.logger, changes=self.changes)
        self.sessions = SessionRegistry(
            checked,
            self.limits,
            self.budget,
            self.clock,
            {"version": "1.2.3", "build": "test", "engine": "naive"},
            self.logger,
            self.disposal,
            self.expiry,
            self.changes,
            wall_clock=self.clock,
            records=records,
        )

    def open(self) -> EngineSession:
        """Open a session."""
        return self.sessions.open()

    def assert_nothing_is_held(self) -> None:
        """Assert that every snapshot has been closed, once, and that nobody is charged for anything."""
        assert self.storage.open_snapshots == 0
        assert self.storage.misuses == []
        assert self.budget.used_bytes == 0


def filled(bench: Bench, data: Mapping[Key, Value], *, inside: bool) -> EngineSession:
    """Return a session over data, which has opened a transaction if the test is about one."""
    for key, value in data.items():
        bench.storage.put(stored_key(key), value)
    session = bench.open()
    if inside:
        session.start()
    return session


def is_watching(session: Session) -> bool:
    """Return whether any key is watched."""
    assert isinstance(session, EngineSession)
    return session._watched is not None


def stored(bench: Bench) -> dict[Key, Value | None]:
    """Return everything that is stored."""
    return {key: bench.storage.get(key) for key in bench.storage.scan(b"", b"", 1 << 20)}


def write(session: Session) -> Steps[str]:
    """Write something; an operation."""
    session.put(b"mine", b"")
    return "done"
    yield


def fail(session: Session) -> Steps[None]:
    """Write, and fail."""
    session.put(b"mine", b"")
    raise UsageError("no")
    yield


def output_of(connection: Connection) -> bytes:
    """Take a connection's output, whole."""
    pieces, size = connection.take_output()
    output = b"".join(pieces)
    assert len(output) == size
    return output

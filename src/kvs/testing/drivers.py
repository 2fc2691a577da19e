"""Drivers, which make a test's calls on sessions; and the driver of sessions over an engine in this process."""

import io
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from queue import SimpleQueue
from typing import Final, Protocol, TypeVar

from kvs.application.changes import ChangeFeed
from kvs.application.disposal import Disposal
from kvs.application.executor import Job, WorkerExecutor, WorkerThreads
from kvs.application.expiry import Expiry
from kvs.application.memory_budget import MemoryBudget
from kvs.application.registry import SessionRegistry
from kvs.application.slot import SessionLimits
from kvs.domain import updates
from kvs.domain.commit import Conflict
from kvs.domain.deadlines import RemoveDeadline, SetDeadline
from kvs.domain.values import Key, Value, deadline_of, with_deadline
from kvs.logs import make_logger
from kvs.override import override
from kvs.ports.session import Session, Steps
from kvs.ports.storage import Storage
from kvs.testing.calls import CONFLICT, METHODS, Call, Outcome, Update
from kvs.testing.leak_checked_storage import as_served

T = TypeVar("T")

TIMEOUT_S: Final = 20.0
WORKER_THREADS: Final = 2


class Driver(Protocol):
    """**Protocol:** Makes calls on sessions, named by number; the first call of a number opens its session.

    Attributes:
        lazy: Whether what is due is deleted by calls only.
    """

    lazy: bool

    @staticmethod
    def can(call: Call) -> bool:
        """Return whether the driver can make this call."""

    def execute_many(self, session: int, calls: Sequence[Call]) -> Sequence[object]:
        """Make calls, in one round trip if there is a connection; return the outcome of each."""

    def pass_time(self, passed_ms: int) -> None:
        """Let time pass, in which what is due is deleted, and begin a tick."""

    def expected(self, call: Call, outcome: Outcome) -> object:
        """Return what :meth:`execute_many` must return for a call with this outcome."""

    def disconnect(self, session: int) -> None:
        """Cut the connection of a session without notice."""

    def leave(self, session: int) -> None:
        """End a session in an orderly way, such as by QUIT."""

    def check(self, snapshots: int) -> None:
        """Assert the invariants that hold between any two calls, with this number of open snapshots."""

    def close(self) -> None:
        """Cut all connections."""


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Loop:
    """A loop that runs posted jobs when a test tells it to."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Job] = SimpleQueue()

    def post(self, job: Job) -> None:
        """Queue a job. Called by any thread."""
        self._jobs.put(job)

    def run_until(self, condition: Callable[[], bool]) -> None:
        """Run posted jobs until a condition holds."""
        while not condition():
            self._jobs.get(timeout=TIMEOUT_S)()


def domain_update(update: Update, now_ms: int) -> updates.Update:
    """Return the domain's update for that of a call, made at some time."""
    operand = update.operand
    makers: dict[str, Callable[[], updates.Update]] = {
        "append": lambda: updates.Append(operand, 1 << 20),
        "add": lambda: updates.Add(int(operand)),
        "replace": lambda: updates.Replace(operand),
        "put_if_absent": lambda: updates.PutIfAbsent(operand),
        "remove": updates.Remove,
        "expire": lambda: SetDeadline(now_ms + int(operand), now_ms),
        "persist": RemoveDeadline,
    }
    return makers[update.kind]()


def run_to_end(steps: Steps[T]) -> T:
    """Run steps to the end without pausing; return their result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


class PortSession:
    """A session of the port, each call run to its end; see :class:`kvs.testing.calls.SessionDriver`."""

    def __init__(self, session: Session) -> None:
        self.session: Final = session

    def get(self, key: Key) -> Value | None:
        return self.session.get(key)

    def put(self, key: Key, value: Value) -> None:
        self.session.put(key, value)

    def put_for(self, key: Key, string: bytes, lifetime_ms: int) -> None:
        self.session.put(key, with_deadline(string, self.session.now_ms + lifetime_ms))

    def deadline(self, key: Key) -> int | None:
        value = self.session.get(key)
        return None if value is None else deadline_of(value)

    def delete(self, key: Key) -> bool:
        return self.session.delete(key)

    def update(self, key: Key, update: Update) -> tuple[Value | None, Value | None]:
        return self.session.update(key, domain_update(update, self.session.now_ms))

    def put_all(self, entries: tuple[tuple[Key, Value], ...]) -> None:
        self.session.put_all([key for key, _ in entries], [value for _, value in entries])

    def keys(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        return run_to_end(self.session.keys(prefix, after, limit))

    def count(self, prefix: Key) -> int:
        return run_to_end(self.session.count(prefix))

    def clear(self) -> None:
        self.session.clear()

    def view(self, calls: tuple[Call, ...]) -> list[Outcome]:
        return run_to_end(self.session.view(partial(_all, calls)))

    def transact(self, calls: tuple[Call, ...]) -> list[Outcome]:
        return run_to_end(self.session.transact(partial(_all, calls)))

    def watch(self, keys: tuple[Key, ...]) -> None:
        self.session.watch([*keys])

    def unwatch(self) -> None:
        self.session.unwatch()

    def execute(self, calls: tuple[Call, ...]) -> Outcome:
        outcome = run_to_end(self.session.execute(partial(_each, calls)))
        return CONFLICT if isinstance(outcome, Conflict) else outcome

    def start(self, read_only: bool) -> None:
        self.session.start(read_only=read_only)

    def commit(self) -> Outcome:
        preparing = self.session.prepare_commit()
        if preparing is not None:
            run_to_end(preparing)
        return CONFLICT if isinstance(self.session.commit(), Conflict) else None

    def rollback(self) -> None:
        self.session.rollback()

    def reset(self) -> None:
        self.session.reset()

    def depth(self) -> int:
        return self.session.depth


def _all(calls: tuple[Call, ...], session: Session) -> Steps[list[Outcome]]:
    """An operation: makes calls, up to the first that fails."""
    outcomes = []
    for call in calls:
        yield
        outcomes.append(call.on(PortSession(session)))
    return outcomes


def _each(calls: tuple[Call, ...], session: Session) -> Steps[list[Outcome]]:
    """An operation: makes calls, and continues after a failure."""
    outcomes = []
    for call in calls:
        yield
        outcomes.append(call.outcome(PortSession(session)))
    return outcomes


class InProcessDriver(Driver):
    """Sessions over an engine, without any protocol.

    Args:
        opening: Opens the engine, and closes it with the driver.
        by_workers: Whether worker threads call it; they always call a blocking engine.
        lazy: Nothing is deleted between calls when it is due: expiry is lagging.

    Attributes:
        storage: The engine, with an index of deadlines and a check for leaks.
        budget: The memory budget of all sessions.
        log: The log, as JSON lines.
    """

    def __init__(
        self, opening: AbstractContextManager[Storage], *, by_workers: bool = False, lazy: bool = False
    ) -> None:
        self.lazy = lazy
        self._opened = ExitStack()
        self.storage = as_served(self._opened.enter_context(opening))
        self.budget = MemoryBudget(1 << 40)
        self.log = io.StringIO()
        logger = make_logger("info", "json", self.log)
        about = {"version": "0", "build": "test", "engine": "test"}
        limits = SessionLimits(1 << 40, 1 << 20)
        self.clock = Clock()
        self.expiry = Expiry(self.storage, self.clock, self.clock, logger, 0 if lazy else 1000)
        self._sessions = SessionRegistry(
            self.storage,
            limits,
            self.budget,
            self.clock,
            about,
            logger,
            Disposal(),
            self.expiry,
            ChangeFeed(),
            records=True,
        )
        self._loop = Loop()
        self._threads: WorkerThreads | None = None
        if by_workers or self.storage.blocking:
            self._threads = WorkerThreads(WORKER_THREADS)
            self._opened.callback(self._threads.close)
            if not lazy:
                self.expiry.sweep_on(self._threads.run)
                self.expiry.when_swept(lambda: self._loop.post(lambda: None))
        self._open: dict[int, tuple[PortSession, WorkerExecutor | None]] = {}

    @staticmethod
    @override
    def can(call: Call) -> bool:
        return call.method in METHODS

    @override
    def execute_many(self, session: int, calls: Sequence[Call]) -> list[Outcome]:
        opened, executor = self._session(session)
        outcomes: list[Outcome] = []
        self._run(executor, lambda: outcomes.extend(call.outcome(opened) for call in calls))
        self._end_tick()
        return outcomes

    @override
    def pass_time(self, passed_ms: int) -> None:
        self.clock.now_s += passed_ms / 1000
        self.expiry.begin_tick()
        while self.expiry.sweeping:
            self._loop.run_until(lambda: not self.expiry.sweeping)
            self.expiry.end_tick()
            self.expiry.begin_tick()
        self._end_tick()

    @override
    def expected(self, call: Call, outcome: Outcome) -> Outcome:  # whatever the call is
        return outcome

    @override
    def disconnect(self, session: int) -> None:
        if session in self._open:
            opened, executor = self._open.pop(session)
            self._run(executor, opened.session.abort)
            opened.session.close()

    @override
    def leave(self, session: int) -> None:
        self.disconnect(session)  # without a protocol there is no other way

    @override
    def check(self, snapshots: int) -> None:
        assert self.storage.open_snapshots == snapshots
        assert self.storage.misuses == []
        assert (self.budget.used_bytes > 0) == (snapshots > 0)
        assert self.log.getvalue() == ""

    @override
    def close(self) -> None:
        with self._opened:
            for session in list(self._open):
                self.disconnect(session)
            self.check(0)

    def _end_tick(self) -> None:
        if not self.storage.blocking:
            self.storage.sync()
        self.expiry.end_tick()

    def _session(self, number: int) -> tuple[PortSession, WorkerExecutor | None]:
        if number not in self._open:
            executor = None
            if self._threads is not None:
                executor = WorkerExecutor(self._threads, self._loop.post, self.budget)
            budget = self.budget if executor is None else executor.budget
            self._open[number] = PortSession(self._sessions.open(budget)), executor
        return self._open[number]

    def _run(self, executor: WorkerExecutor | None, job: Job) -> None:
        """Run a job, on a worker if there are any, and wait for its end."""
        if executor is None:
            job()
            return
        done: list[bool] = []
        executor.run(job, lambda: done.append(True))
        self._loop.run_until(lambda: len(done) > 0)

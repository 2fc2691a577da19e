"""Sessions that tests make calls on: of the inbound port, over an engine of the caller's choice, in this process."""

import io
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from queue import SimpleQueue
from typing import Final, Protocol

from kvs.application.disposal import Disposal
from kvs.application.executor import Job, WorkerExecutor, WorkerThreads
from kvs.application.memory_budget import MemoryBudget
from kvs.application.registry import SessionRegistry
from kvs.application.slot import SessionLimits
from kvs.domain import updates
from kvs.domain.commit import Conflict
from kvs.domain.values import Key, Value
from kvs.logs import make_logger
from kvs.override import override
from kvs.ports.session import Session, Steps, run_to_end
from kvs.ports.storage import Storage
from kvs.testing.calls import CONFLICT, METHODS, Call, Outcome, Update
from kvs.testing.counted_storage import CountedStorage

TIMEOUT_S: Final = 20.0
WORKER_THREADS: Final = 2


class Driver(Protocol):
    """**Protocol:** Sessions by number; one that is new, or was disconnected, is opened when it is first used."""

    @staticmethod
    def can(call: Call) -> bool:
        """Return whether there is a way to say this call."""

    def execute_many(self, session: int, calls: Sequence[Call]) -> Sequence[object]:
        """Make calls, in one round trip where there are any; return what came of each."""

    def shown(self, call: Call, outcome: Outcome) -> object:
        """Return what :meth:`execute_many` has to return for a call that comes to this outcome."""

    def disconnect(self, session: int) -> None:
        """Cut the connection of a session, without a word."""

    def leave(self, session: int) -> None:
        """Have a session say that it leaves, and leave."""

    def check(self, snapshots: int) -> None:
        """Assert what can be seen from here, and must hold between any two calls, if so many snapshots are needed."""

    def close(self) -> None:
        """Cut all connections."""


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


class Loop:
    """Jobs that worker threads have posted, run by the test when it says so."""

    def __init__(self) -> None:
        self._tasks: SimpleQueue[Job] = SimpleQueue()

    def post(self, task: Job) -> None:
        """Take a task. By any thread."""
        self._tasks.put(task)

    def run_until(self, there: Callable[[], bool]) -> None:
        """Run what is posted until it has come to something."""
        while not there():
            self._tasks.get(timeout=TIMEOUT_S)()


def domain_update(update: Update) -> updates.Update:
    """Return the update that the session takes."""
    operand = update.operand
    makers: dict[str, Callable[[], updates.Update]] = {
        "append": lambda: updates.Append(operand, 1 << 20),
        "add": lambda: updates.Add(int(operand)),
        "replace": lambda: updates.Replace(operand),
        "put_if_absent": lambda: updates.PutIfAbsent(operand),
        "remove": updates.Remove,
    }
    return makers[update.kind]()


class PortSession:
    """A session of the port, run without making way for others; see :class:`kvs.testing.calls.SessionDriver`."""

    def __init__(self, session: Session) -> None:
        self.session: Final = session

    def get(self, key: Key) -> Value | None:
        return self.session.get(key)

    def put(self, key: Key, value: Value) -> None:
        self.session.put(key, value)

    def delete(self, key: Key) -> bool:
        return self.session.delete(key)

    def update(self, key: Key, update: Update) -> tuple[Value | None, Value | None]:
        return self.session.update(key, domain_update(update))

    def put_all(self, entries: tuple[tuple[Key, Value], ...]) -> None:
        self.session.put_all(dict(entries))

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
        self.session.watch(keys)

    def unwatch(self) -> None:
        self.session.unwatch()

    def execute(self, calls: tuple[Call, ...]) -> Outcome:
        outcome = run_to_end(self.session.execute(partial(_each, calls)))
        return CONFLICT if isinstance(outcome, Conflict) else outcome

    def start(self, read_only: bool) -> None:
        self.session.start(read_only=read_only)

    def commit(self) -> Outcome:
        return CONFLICT if isinstance(self.session.commit(), Conflict) else None

    def rollback(self) -> None:
        self.session.rollback()

    def reset(self) -> None:
        self.session.reset()

    def depth(self) -> int:
        return self.session.depth


def _all(calls: tuple[Call, ...], session: Session) -> Steps[list[Outcome]]:
    """An operation: calls, up to the first that fails."""
    outcomes = []
    for call in calls:
        yield
        outcomes.append(call.on(PortSession(session)))
    return outcomes


def _each(calls: tuple[Call, ...], session: Session) -> Steps[list[Outcome]]:
    """An operation: calls, whatever comes of each."""
    outcomes = []
    for call in calls:
        yield
        outcomes.append(call.outcome(PortSession(session)))
    return outcomes


class InProcessDriver(Driver):
    """Sessions over an engine, without any protocol.

    Args:
        opening: Opens the engine, and closes it with the driver.
        by_workers: Whether worker threads call it, as they do if it is a blocking one.

    Attributes:
        storage: The engine, counted.
        budget: What the clients hold.
        log: What was logged.
    """

    def __init__(self, opening: AbstractContextManager[Storage], *, by_workers: bool = False) -> None:
        self._opened = ExitStack()
        self.storage = CountedStorage(self._opened.enter_context(opening))
        self.budget = MemoryBudget(1 << 40)
        self.log = io.StringIO()
        logger = make_logger("info", "json", self.log)
        about = {"version": "0", "build": "test", "engine": "test"}
        limits = SessionLimits(1 << 40, 1 << 20)
        self._sessions = SessionRegistry(self.storage, limits, self.budget, Clock(), about, logger, Disposal())
        self._loop = Loop()
        self._threads: WorkerThreads | None = None
        if by_workers or self.storage.blocking:
            self._threads = WorkerThreads(WORKER_THREADS)
            self._opened.callback(self._threads.close)
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
        if not self.storage.blocking:
            self.storage.sync()
        return outcomes

    @override
    def shown(self, call: Call, outcome: Outcome) -> Outcome:  # whatever the call is
        return outcome

    @override
    def disconnect(self, session: int) -> None:
        if session in self._open:
            opened, executor = self._open.pop(session)
            self._run(executor, opened.session.abort)
            opened.session.close()

    @override
    def leave(self, session: int) -> None:
        self.disconnect(session)  # only protocols have a word for it

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

    def _session(self, number: int) -> tuple[PortSession, WorkerExecutor | None]:
        if number not in self._open:
            executor = None
            if self._threads is not None:
                executor = WorkerExecutor(self._threads, self._loop.post, self.budget)
            budget = self.budget if executor is None else executor.budget
            self._open[number] = PortSession(self._sessions.open(budget)), executor
        return self._open[number]

    def _run(self, executor: WorkerExecutor | None, job: Job) -> None:
        """Run a job, by a worker if there are any, and wait for its end."""
        if executor is None:
            job()
            return
        done: list[bool] = []
        executor.run(job, lambda: done.append(True))
        self._loop.run_until(lambda: len(done) > 0)

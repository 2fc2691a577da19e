"""Sessions that tests make calls on: of the inbound port, over an engine of the caller's choice, in this process."""

import io
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from queue import SimpleQueue
from typing import Final, Protocol, TypeVar

from kvs.application.executor import Job, WorkerExecutor, WorkerThreads
from kvs.application.memory_budget import MemoryBudget
from kvs.application.registry import SessionRegistry
from kvs.application.slot import SessionLimits
from kvs.domain.commit import Conflict
from kvs.domain.updates import Add, Append, PutIfAbsent, Remove, Replace
from kvs.domain.updates import Update as DomainUpdate
from kvs.domain.values import Key, Value
from kvs.logs import make_logger
from kvs.override import override
from kvs.ports.session import Session, Steps, run_to_end
from kvs.ports.storage import Storage
from kvs.testing.calls import CONFLICT, METHODS, Call, Outcome, SessionDriver, Update
from kvs.testing.counted_storage import CountedStorage

TIMEOUT_S: Final = 20.0
WORKER_THREADS: Final = 2

T = TypeVar("T")


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


def domain_update(update: Update) -> DomainUpdate:
    """Return the update that the session takes."""
    operand = update.operand
    updates: dict[str, Callable[[], DomainUpdate]] = {
        "append": lambda: Append(operand, 1 << 20),
        "add": lambda: Add(int(operand)),
        "replace": lambda: Replace(operand),
        "put_if_absent": lambda: PutIfAbsent(operand),
        "remove": Remove,
    }
    return updates[update.kind]()


class Runner(Protocol):
    """**Protocol:** Runs a question to its end, by whatever thread."""

    def __call__(self, question: Callable[[], T]) -> T:
        """Return the answer, or raise what was raised."""


def run_here(question: Callable[[], T]) -> T:
    """Run a question by this thread."""
    return question()


class PortSession:
    """A session of the port; see :class:`kvs.testing.calls.SessionDriver` for its calls.

    Args:
        session: The session.
        run: Runs each call.
    """

    def __init__(self, session: Session, run: Runner = run_here) -> None:
        self.session: Final = session
        self._run = run

    def get(self, key: Key) -> Value | None:
        return self._run(partial(self.session.get, key))

    def put(self, key: Key, value: Value) -> None:
        self._run(partial(self.session.put, key, value))

    def delete(self, key: Key) -> bool:
        return self._run(partial(self.session.delete, key))

    def update(self, key: Key, update: Update) -> tuple[Value | None, Value | None]:
        return self._run(partial(self.session.update, key, domain_update(update)))

    def put_all(self, entries: tuple[tuple[Key, Value], ...]) -> None:
        self._run(partial(self.session.put_all, dict(entries)))

    def keys(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        return self._run(lambda: run_to_end(self.session.keys(prefix, after, limit)))

    def count(self, prefix: Key) -> int:
        return self._run(lambda: run_to_end(self.session.count(prefix)))

    def clear(self) -> None:
        self._run(self.session.clear)

    def view(self, calls: tuple[Call, ...]) -> list[Outcome]:
        return self._run(lambda: run_to_end(self.session.view(partial(self._all, calls))))

    def transact(self, calls: tuple[Call, ...]) -> list[Outcome]:
        return self._run(lambda: run_to_end(self.session.transact(partial(self._all, calls))))

    def watch(self, keys: tuple[Key, ...]) -> None:
        self._run(partial(self.session.watch, keys))

    def unwatch(self) -> None:
        self._run(self.session.unwatch)

    def execute(self, calls: tuple[Call, ...]) -> Outcome:
        outcome = self._run(lambda: run_to_end(self.session.execute(partial(self._each, calls))))
        return CONFLICT if isinstance(outcome, Conflict) else outcome

    def start(self, read_only: bool) -> None:
        self._run(partial(self.session.start, read_only=read_only))

    def commit(self) -> Outcome:
        return CONFLICT if isinstance(self._run(self.session.commit), Conflict) else None

    def rollback(self) -> None:
        self._run(self.session.rollback)

    def reset(self) -> None:
        self._run(self.session.reset)

    def depth(self) -> int:
        return self.session.depth

    def close(self) -> None:
        """End the session."""
        self._run(self.session.abort)
        self.session.close()

    def _all(self, calls: tuple[Call, ...], session: Session) -> Steps[list[Outcome]]:
        outcomes = []
        for call in calls:
            outcomes.append(call.on(PortSession(session)))
            yield
        return outcomes

    def _each(self, calls: tuple[Call, ...], session: Session) -> Steps[list[Outcome]]:
        outcomes = []
        for call in calls:
            outcomes.append(call.outcome(PortSession(session)))
            yield
        return outcomes


class Workers:
    """Worker threads and the loop that they post to, for calls one after the other."""

    def __init__(self, threads: WorkerThreads, loop: Loop, budget: MemoryBudget) -> None:
        self._loop = loop
        self._executor = WorkerExecutor(threads, loop.post, budget)
        self.budget: Final = self._executor.budget

    def run(self, question: Callable[[], T]) -> T:
        """Have a worker run a question, and wait for the answer."""
        answers: list[T] = []
        errors: list[BaseException] = []
        ended: list[bool] = []

        def job() -> None:
            try:
                answers.append(question())
            except BaseException as error:  # noqa: BLE001  # raised where it was asked
                errors.append(error)

        self._executor.run(job, lambda: ended.append(True))
        self._loop.run_until(lambda: len(ended) > 0)
        if errors:
            raise errors[0]
        return answers[0]


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
        self._sessions = SessionRegistry(self.storage, limits, self.budget, Clock(), about, logger)
        self._loop = Loop()
        self._threads: WorkerThreads | None = None
        if by_workers or self.storage.blocking:
            self._threads = WorkerThreads(WORKER_THREADS)
            self._opened.callback(self._threads.close)
        self._open: dict[int, PortSession] = {}

    @staticmethod
    @override
    def can(call: Call) -> bool:
        return call.method in METHODS

    @override
    def execute_many(self, session: int, calls: Sequence[Call]) -> list[Outcome]:
        outcomes = [call.outcome(self._session(session)) for call in calls]
        if not self.storage.blocking:
            self.storage.sync()
        return outcomes

    @override
    def shown(self, call: Call, outcome: Outcome) -> Outcome:  # whatever the call is
        return outcome

    @override
    def disconnect(self, session: int) -> None:
        opened = self._open.pop(session, None)
        if opened is not None:
            opened.close()

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

    def _session(self, number: int) -> SessionDriver:
        if number not in self._open:
            if self._threads is None:
                self._open[number] = PortSession(self._sessions.open())
            else:
                workers = Workers(self._threads, self._loop, self.budget)
                self._open[number] = PortSession(self._sessions.open(workers.budget), workers.run)
        return self._open[number]

"""How a line is handed to kvs and its reply is had; here in this process, over an engine of the caller's choice."""

import io
import json
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from queue import SimpleQueue
from typing import Final, Protocol

from kvs.adapters.inbound.line.commands import LineLimits
from kvs.adapters.inbound.line.connection import LineProtocol
from kvs.adapters.inbound.protocol.connection import Connection
from kvs.application.executor import Job, WorkerExecutor, WorkerThreads
from kvs.application.memory_budget import MemoryBudget
from kvs.application.registry import SessionRegistry
from kvs.application.slot import SessionLimits
from kvs.logs import make_logger
from kvs.ports.storage import Storage
from kvs.testing.counted_storage import CountedStorage
from kvs.testing.model import Reply

TIMEOUT_S: Final = 20.0
WORKER_THREADS: Final = 2
QUOTA: Final = 1 << 20


class Driver(Protocol):
    """Sessions by number; one that is new, or was disconnected, is connected when it is first used."""

    def execute(self, session: int, line: str) -> Reply:
        """Send one line and return its reply."""

    def disconnect(self, session: int) -> None:
        """Cut the connection of a session, without a word."""

    def check(self, open_transactions: int) -> None:
        """Assert what can be seen from here and must hold between any two commands."""

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


class InProcessDriver:
    """Line connections over sessions over an engine, without any transport.

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
        sessions = SessionRegistry(self.storage, SessionLimits(1 << 40, 1 << 20), self.budget, Clock(), about, logger)
        self._loop = Loop()
        self._sessions = sessions
        self._threads: WorkerThreads | None = None
        if by_workers or self.storage.blocking:
            self._threads = WorkerThreads(WORKER_THREADS)
            self._opened.callback(self._threads.close)
        self._protocol = LineProtocol(LineLimits(1 << 10, 1 << 20, 1 << 20, 1 << 30), self.budget, logger)
        self._connections: dict[int, Connection] = {}

    def execute(self, session: int, line: str) -> Reply:
        """See :class:`Driver`."""
        connection = self._connections.get(session)
        if connection is None:
            connection = self._connections[session] = self._connect()
        connection.receive(line.encode() + b"\n", QUOTA)
        while connection.backlog:
            self._wait_for_worker(connection)
            connection.resume(QUOTA)
        if not self.storage.blocking:
            self.storage.sync()
        output = connection.take_output()
        assert output.count(b"\n") == 1, output
        assert output.endswith(b"\n")
        reply: Reply = json.loads(output)
        return reply

    def disconnect(self, session: int) -> None:
        """See :class:`Driver`."""
        connection = self._connections.pop(session, None)
        if connection is not None:
            connection.close()
            closed: list[bool] = []
            connection.when_closed(lambda: closed.append(True))
            self._loop.run_until(lambda: len(closed) > 0)

    def _connect(self) -> Connection:
        if self._threads is None:
            return self._protocol.open(self._sessions.open(), None)
        executor = WorkerExecutor(self._threads, self._loop.post, self.budget)
        return self._protocol.open(self._sessions.open(executor.budget), executor)

    def _wait_for_worker(self, connection: Connection) -> None:
        self._loop.run_until(lambda: not connection.busy)

    def check(self, open_transactions: int) -> None:
        """See :class:`Driver`."""
        assert self.storage.open_snapshots == open_transactions
        assert self.storage.misuses == []
        assert (self.budget.used_bytes > 0) == (open_transactions > 0)
        assert self.log.getvalue() == ""

    def close(self) -> None:
        """See :class:`Driver`."""
        with self._opened:
            for session in list(self._connections):
                self.disconnect(session)
            self.check(0)

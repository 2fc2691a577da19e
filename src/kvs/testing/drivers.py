"""How a line is handed to kvs and its reply is had; here in this process, over an engine of the caller's choice."""

import io
import json
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from queue import SimpleQueue
from typing import Final, Protocol

from kvs.adapters.inbound.line.commands import LineLimits
from kvs.adapters.inbound.line.connection import LineConnection
from kvs.application.executor import Task, WorkerSessions, WorkerThreads
from kvs.application.memory_budget import ClientsBudget
from kvs.application.registry import EngineSessions, SessionLimits
from kvs.logs import make_logger
from kvs.ports.storage import Storage
from kvs.testing.counted_storage import CountedStorage
from kvs.testing.model import Reply

TIMEOUT_S: Final = 20.0
WORKER_THREADS: Final = 2


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
    """Tasks that worker threads have posted, run by the test when it says so."""

    def __init__(self) -> None:
        self._tasks: SimpleQueue[Task] = SimpleQueue()

    def post(self, task: Task) -> None:
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
        self.budget = ClientsBudget(1 << 40)
        self.log = io.StringIO()
        logger = make_logger("info", "json", self.log)
        about = {"version": "0", "build": "test", "engine": "test"}
        sessions = EngineSessions(self.storage, SessionLimits(1 << 40, 1 << 20), self.budget, Clock(), about, logger)
        self._loop = Loop()
        self._sessions: EngineSessions | WorkerSessions = sessions
        if by_workers or self.storage.blocking:
            threads = WorkerThreads(WORKER_THREADS)
            self._opened.callback(threads.close)
            self._sessions = WorkerSessions(sessions, threads, lambda: self._loop.post)
        self._limits = LineLimits(1 << 10, 1 << 20, 1 << 20, 1 << 30)
        self._logger = logger
        self._connections: dict[int, LineConnection] = {}

    def execute(self, session: int, line: str) -> Reply:
        """See :class:`Driver`."""
        connection = self._connections.get(session)
        if connection is None:
            connection = LineConnection(self._sessions.open(), self._limits, self.budget, self._logger)
            self._connections[session] = connection
        connection.receive(line.encode() + b"\n")
        while connection.backlog:
            self._see_call_end(connection)
            connection.resume()
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
            self._see_call_end(connection)

    def _see_call_end(self, connection: LineConnection) -> None:
        self._loop.run_until(lambda: not connection.session.in_flight)

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

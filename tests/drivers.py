"""Two ways to hand a line to the server and get its reply: in this process, and over a socket to a real one."""

import io
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from queue import SimpleQueue
from typing import IO, Protocol

from kvs.adapters.inbound.line import LineConnection
from kvs.adapters.inbound.line_commands import LineLimits
from kvs.application.budget import ClientsBudget
from kvs.application.session import EngineSessions, SessionLimits
from kvs.application.workers import Task, WorkerSessions, WorkerThreads
from kvs.logs import make_logger
from kvs.ports.storage import Storage
from tests.counted_storage import CountedStorage
from tests.model import Reply

TIMEOUT_S = 20.0


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
        storage: The engine.
        worker_threads: How many threads call it; none by default.

    Attributes:
        storage: The engine, counted.
        budget: What the clients hold.
        log: What was logged.
    """

    def __init__(self, storage: Storage, worker_threads: int = 0) -> None:
        self.storage = CountedStorage(storage)
        self.budget = ClientsBudget(1 << 40)
        self.log = io.StringIO()
        logger = make_logger("info", "json", self.log)
        about = {"version": "0", "build": "test", "engine": "test"}
        sessions = EngineSessions(self.storage, SessionLimits(1 << 40, 1 << 20), self.budget, Clock(), about, logger)
        self._loop = Loop()
        self._threads = WorkerThreads(worker_threads)
        self._sessions: EngineSessions | WorkerSessions = sessions
        if worker_threads:
            self._sessions = WorkerSessions(sessions, self._threads, lambda: self._loop.post)
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
        for session in list(self._connections):
            self.disconnect(session)
        self.check(0)
        self._threads.close()
        self.storage.close()


class SocketDriver:
    """Connections to a server on this machine; starts from an empty data set."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: dict[int, tuple[socket.socket, IO[bytes]]] = {}
        self._cuts = 0
        for key in self.execute(0, "KEYS")["result"]:
            self.execute(0, f"DEL {key}")

    def execute(self, session: int, line: str) -> Reply:
        """See :class:`Driver`."""
        if session not in self._streams:
            sock = socket.create_connection(("127.0.0.1", self._port), timeout=TIMEOUT_S)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._streams[session] = sock, sock.makefile("rb")
        sock, stream = self._streams[session]
        sock.sendall(line.encode() + b"\n")
        reply: Reply = json.loads(stream.readline())
        return reply

    def disconnect(self, session: int) -> None:
        """See :class:`Driver`. By turns with FIN and with RST, as when a client is killed."""
        if session in self._streams:
            sock, stream = self._streams.pop(session)
            self._cuts += 1
            if self._cuts % 2:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            stream.close()
            sock.close()

    def check(self, open_transactions: int) -> None:
        """See :class:`Driver`. Nothing of it can be seen from outside at a moment that is certain."""

    def close(self) -> None:
        """See :class:`Driver`."""
        for session in list(self._streams):
            self.disconnect(session)


@contextmanager
def server_process(*arguments: str, env: Mapping[str, str] | None = None) -> Iterator[int]:
    """Run a real server on a free port; yield the port, then stop it and see it stop cleanly."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KVS_")} | dict(env or {})
    command = [sys.executable, "-m", "kvs", "--port", "0", "--log-format", "json", *arguments]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                event = json.loads(line)
                if event["event"] == "listening":
                    break
            else:
                raise AssertionError(f"the server ended with {process.wait()} before it listened")
            threading.Thread(target=process.stderr.read, daemon=True).start()  # or the pipe fills
            yield event["port"]
            process.send_signal(signal.SIGTERM)
            assert process.wait(TIMEOUT_S) == 0
        finally:
            process.kill()

"""What tests of worker threads share: the threads, a loop that the test runs, and clients of an engine with a gate."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue

from kvs.adapters.inbound.line.connection import line_protocol
from kvs.adapters.inbound.line.limits import LineLimits
from kvs.adapters.inbound.protocol.clients import ClientDescription, ClientRegistry
from kvs.adapters.inbound.protocol.connection import Connection
from kvs.adapters.inbound.protocol.observation import Observation
from kvs.adapters.inbound.resp.connection import resp_protocol
from kvs.adapters.inbound.resp.context import ServerContext
from kvs.adapters.inbound.resp.limits import RespLimits
from kvs.application.disposal import Disposal
from kvs.application.executor import Job, WorkerExecutor, WorkerThreads
from kvs.logs import make_logger
from kvs.override import override
from kvs.testing.drivers import Loop
from tests.support.gated_storage import TIMEOUT_S, GatedStorage
from tests.support.resp_wire import request
from tests.support.sessions import UNLIMITED, Bench, output_of
from tests.support.users import open_to_all

MAX_KEY_BYTES = 16
MAX_VALUE_BYTES = 1 << 16
QUOTA = 1 << 20


class NotedClients(ClientRegistry):
    """The clients of a bench.

    Attributes:
        connections: By the numbers of their sessions.
        threads: Which threads have asked for them.
        killed: Whom somebody has killed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.connections: dict[int, Connection] = {}
        self.threads: list[int] = []
        self.killed: list[int] = []

    @override
    def ids(self) -> list[int]:
        self.threads.append(threading.get_ident())
        return list(self.connections)

    @override
    def describe(self, session_id: int) -> ClientDescription | None:
        self.threads.append(threading.get_ident())
        return ClientDescription(self.connections[session_id], "peer", "here", 5, 0.0, 0.0, 0, "r")

    @override
    def kill(self, session_id: int) -> bool:
        self.threads.append(threading.get_ident())
        self.killed.append(session_id)
        return True

    @override
    def requests(self) -> int:
        return 0


class WorkerBench(Bench):
    """Clients whose requests are run by worker threads, over an engine with a gate.

    Attributes:
        gate: Where its calls wait, if they are to.
        data: What is stored, for the test to look at and to change past the gate.
        loop: Runs what the workers post, when the test says so.
        threads: The workers.
        hops: For each job that a worker has done, its thread.
        passes_s: How much time passes whenever a worker looks at the clock.
        clients: All of them.
    """

    def __init__(self, worker_threads: int, max_transaction_depth: int = UNLIMITED) -> None:
        engine = GatedStorage()
        super().__init__(engine, max_transaction_depth=max_transaction_depth)
        self.gate = engine.gate
        self.data = engine.inner
        self.loop = Loop()
        self.threads = WorkerThreads(worker_threads)
        self.hops: list[int] = []
        self.passes_s = 0.0
        self.changes.use_workers()
        self.tracking.use_workers()
        self._hop_now_s = 0.0
        self.clients = NotedClients()
        self._posted: SimpleQueue[None] = SimpleQueue()

    def line(self, max_share: int = QUOTA, room_bytes: int = UNLIMITED) -> "LineClient":
        """Return a client that speaks the line protocol."""
        limits = LineLimits(MAX_KEY_BYTES, MAX_VALUE_BYTES, max_share, room_bytes)
        executor = WorkerExecutor(self.threads, self._post, self.budget, self._hop_clock)
        protocol = line_protocol(
            limits, self.budget, Observation(), open_to_all(), make_logger("info", "json", self.log)
        )
        return LineClient(self, protocol(self.sessions.open(executor.budget), executor))

    def resp(self, max_share: int = QUOTA) -> "RespClient":
        """Return a client that speaks RESP."""
        limits = RespLimits(MAX_KEY_BYTES, MAX_VALUE_BYTES, 1000, UNLIMITED, UNLIMITED, UNLIMITED, max_share, UNLIMITED)
        executor = WorkerExecutor(self.threads, self._post, self.budget, self._hop_clock)
        shared = ServerContext(
            self.clients, {}, self.clock, self.clock, Disposal(), Observation(), self.tracking, open_to_all()
        )
        protocol = resp_protocol(limits, shared, self.budget, make_logger("info", "json", self.log))
        return RespClient(self, protocol(self.sessions.open(executor.budget), executor))

    def _hop_clock(self) -> float:
        self._hop_now_s += self.passes_s
        return self._hop_now_s

    def wait_for_post(self) -> None:
        """Wait until a worker has done a job. The loop does not know yet."""
        self._posted.get(timeout=TIMEOUT_S)

    def assert_workers_alone_called(self) -> None:
        """Assert that no call of the engine came from this thread, the loop."""
        assert threading.get_ident() not in {thread for _, thread in self.gate.calls}

    def _post(self, job: Job) -> None:
        self.hops.append(threading.get_ident())
        self.loop.post(job)
        self._posted.put(None)


class WorkerClient:
    """A client whose connection is driven by the test.

    Attributes:
        bench: What it is a client of.
        connection: Its connection.
        session: Its session.
        wakes: How often its channel was woken.
    """

    def __init__(self, bench: WorkerBench, connection: Connection) -> None:
        self.bench = bench
        self.connection = connection
        self.session = connection.session
        self.wakes = 0
        bench.clients.connections[connection.session.id] = connection
        connection.wake = self._woken

    def receive(self, data: bytes, quota: int = QUOTA) -> int:
        """Hand over what came; return the units used."""
        return self.connection.receive(data, quota)

    def wait(self) -> None:
        """Let the loop run until no worker has the connection."""
        self.bench.loop.run_until(lambda: not self.connection.busy)

    def run(self) -> bytes:
        """Go on until nothing waits any more; return the output."""
        while self.connection.busy or self.connection.backlog:
            self.wait()
            if self.connection.backlog:
                self.connection.resume(QUOTA)
        return output_of(self.connection)

    def wait_until_closed(self) -> None:
        """Let the loop run until the session of a connection that was closed has ended."""
        ended: list[bool] = []
        self.connection.when_closed(lambda: ended.append(True))
        self.bench.loop.run_until(lambda: len(ended) > 0)
        assert ended == [True]

    def _woken(self) -> None:
        self.wakes += 1


class LineClient(WorkerClient):
    """A client that speaks the line protocol."""

    def ask(self, data: bytes) -> list[object]:
        """Send lines; return what comes of each: its code, or its result."""
        self.receive(data)
        return results(self.run())


class RespClient(WorkerClient):
    """A client that speaks RESP."""

    def ask(self, *requests: str) -> bytes:
        """Send requests in one packet; return all that comes of them."""
        self.receive(packet(*requests))
        return self.run()


def packet(*requests: str) -> bytes:
    """Return requests in RESP, given as words with blanks between them."""
    return b"".join([request(*each.encode().split(b" ")) for each in requests])


def results(output: bytes) -> list[object]:
    """Return what lines of replies say: the code of each, or its result."""
    replies = [json.loads(line) for line in output.splitlines()]
    return [reply.get("code", reply.get("result")) for reply in replies]


@contextmanager
def worker_bench(worker_threads: int = 2, max_transaction_depth: int = UNLIMITED) -> Iterator[WorkerBench]:
    """Return a bench whose threads end with the test."""
    bench = WorkerBench(worker_threads, max_transaction_depth)
    try:
        yield bench
    finally:
        bench.gate.open()
        bench.threads.close()

"""Connections whose requests are run by a worker: what comes, what leaves and what ends meanwhile."""

from collections.abc import Iterator
from threading import get_ident

import pytest

from kvs.adapters.inbound.line.connection import line_protocol
from kvs.adapters.inbound.line.limits import LineLimits
from kvs.adapters.inbound.net.registry import ChannelRegistry
from kvs.adapters.inbound.protocol.connection import WORKER_STEP_BYTES, Connection
from kvs.adapters.inbound.protocol.observation import Observation
from kvs.adapters.inbound.resp.connection import resp_protocol
from kvs.adapters.inbound.resp.context import ServerContext
from kvs.adapters.inbound.resp.limits import SLACK_BYTES, RespLimits
from kvs.application.disposal import Disposal
from kvs.application.executor import WorkerExecutor, WorkerThreads
from kvs.logs import make_logger
from kvs.testing.drivers import Loop
from tests.support.gated_storage import GatedStorage
from tests.support.resp_wire import request
from tests.support.sessions import UNLIMITED, Bench, output_of
from tests.support.users import open_to_all


class Works:
    """Connections over an engine whose calls wait at a gate, and one worker."""

    def __init__(self) -> None:
        engine = GatedStorage()
        self.gate = engine.gate
        self.bench = Bench(engine)
        self.loop = Loop()
        self.threads = WorkerThreads(1)
        self.now_s = 0.0
        log = make_logger("info", "json", self.bench.log)
        shared = ServerContext(
            ChannelRegistry(),
            {},
            self.bench.clock,
            self.bench.clock,
            Disposal(),
            Observation(),
            self.bench.tracking,
            open_to_all(),
        )
        resp_limits = RespLimits(100, 4000, 100, 1, UNLIMITED, UNLIMITED, 1000, UNLIMITED)
        self._resp = resp_protocol(resp_limits, shared, self.bench.budget, log)
        self._line = line_protocol(
            LineLimits(100, 4000, 1000, UNLIMITED), self.bench.budget, Observation(), open_to_all(), log
        )

    def connect(self, *, resp: bool = False) -> Connection:
        """Return a connection."""
        executor = WorkerExecutor(self.threads, self.loop.post, self.bench.budget, lambda: self.now_s)
        return (self._resp if resp else self._line)(self.bench.sessions.open(executor.budget), executor)

    def wait(self, connection: Connection) -> None:
        """Wait until no worker has a connection."""
        self.loop.run_until(lambda: not connection.busy)


@pytest.fixture
def works() -> Iterator[Works]:
    """Return connections, whose worker ends with the test."""
    works = Works()
    yield works
    works.gate.open()
    works.threads.close()


def test_worker_takes_a_packet_in_one_hop(works: Works) -> None:
    """Ten requests that came together are answered together, and need no second hand-over."""
    connection = works.connect()
    connection.receive(b"GET a\n" * 10)
    assert connection.busy
    works.wait(connection)
    assert not connection.backlog
    assert output_of(connection).count(b"\n") == 10


def test_worker_hands_a_connection_back_when_its_time_is_up(works: Works) -> None:
    """Others have their turn; the replies so far can be taken while it is busy with the rest."""
    connection = works.connect()
    works.gate.shut()
    connection.receive(b"PUT a 1\nPUT b 2\n" * 50)
    works.gate.wait_for_calls(1)
    works.now_s += 1  # each call is slow
    works.gate.open()
    works.wait(connection)
    assert connection.backlog
    works.gate.shut()
    connection.resume()
    works.gate.wait_for_calls(1)
    assert connection.busy
    assert 1 <= output_of(connection).count(b"\n") < 100
    assert output_of(connection) == b""
    works.gate.open()
    works.wait(connection)


def test_worker_runs_what_it_was_given_though_its_client_has_left(works: Works) -> None:
    """A call that was asked for is made; nothing behind it is."""
    busy, gone = works.connect(), works.connect()
    works.gate.shut()
    busy.receive(b"PUT a 1\n")
    works.gate.wait_for_calls(1)
    gone.receive(b"PUT b 2\nPUT c 3\n")
    gone.close()
    ended: list[bool] = []
    gone.when_closed(lambda: ended.append(True))
    assert not ended
    works.gate.open()
    works.loop.run_until(lambda: bool(ended))
    works.wait(busy)
    assert works.bench.storage.get(b"b") == b"2"
    assert works.bench.storage.get(b"c") is None


def test_worker_ends_a_long_command_whose_client_has_left(works: Works) -> None:
    """It goes on to nowhere, and its snapshot is closed by the worker."""
    for number in range(5000):
        works.bench.storage.put(b"%05d" % number, b"")
    connection = works.connect(resp=True)
    works.gate.shut()
    connection.receive(request("KEYS", "*9"))
    works.gate.wait_for_calls(1)
    connection.close()
    ended: list[bool] = []
    connection.when_closed(lambda: ended.append(True))
    works.gate.open()
    works.loop.run_until(lambda: bool(ended))
    works.bench.assert_nothing_is_held()
    other = works.connect()
    other.receive(b"PUT a 1\n")
    works.wait(other)
    assert output_of(other) == b'{"status": "Ok"}\n'


def test_worker_returns_to_a_dropped_request(works: Works) -> None:
    """Its rest comes while the worker still runs what was before it, and is skipped all the same."""
    connection = works.connect(resp=True)
    data = request("SET", "k", b"v" * 3000)
    works.gate.shut()
    connection.receive(request("GET", "a") + data[: SLACK_BYTES + 100])
    works.gate.wait_for_calls(1)
    works.bench.budget.limit_bytes = 0
    connection.receive(data[SLACK_BYTES + 100 : 2000])
    works.gate.open()
    works.wait(connection)
    works.bench.budget.limit_bytes = UNLIMITED
    connection.receive(data[2000:] + request("PING"))
    while connection.backlog:
        works.wait(connection)
        connection.resume()
    first, second, third = output_of(connection).splitlines()
    assert (first, third) == (b"$-1", b"+PONG")
    assert second.startswith(b"-LIMIT ")


def test_what_a_request_on_the_loop_holds_is_charged_at_once(works: Works) -> None:
    """Though no worker had anything to do with it."""
    connection = works.connect()
    connection.receive(b"START\n")
    works.wait(connection)
    before = works.bench.budget.used_bytes
    connection.receive(b"PUT k " + b"v" * 3000 + b"\n")
    assert not connection.busy
    assert works.bench.budget.used_bytes >= before + 3000
    connection.close()
    ended: list[bool] = []
    connection.when_closed(lambda: ended.append(True))
    works.loop.run_until(lambda: bool(ended))
    works.bench.assert_nothing_is_held()


def test_who_a_client_is_is_told_by_the_loop(works: Works) -> None:
    """RESET is the end of a user, and is run by a worker if a snapshot has to be closed."""
    works.gate.open()
    connection = works.connect(resp=True)
    told: list[int] = []
    connection.peer.changed = lambda: told.append(get_ident())
    connection.receive(request(b"WATCH", b"k") + request(b"RESET"))
    assert connection.busy
    works.wait(connection)
    assert told == [get_ident()]


def test_what_a_worker_finds_counts_before_it_hands_the_connection_back(works: Works) -> None:
    """A command may take it long, and there are many workers."""
    works.bench.storage.put(b"k", bytes(100_000))
    connection = works.connect(resp=True)
    connection.receive(request("MGET", *[b"k"] * 40))
    counted: list[int] = []
    while connection.busy:
        counted.append(works.bench.budget.used_bytes)
        works.loop.run_until(lambda: works.bench.budget.used_bytes != counted[-1] or not connection.busy)
    assert len(counted) > 1
    assert max(counted) >= WORKER_STEP_BYTES
    assert len(output_of(connection)) > 4_000_000
    assert works.bench.budget.used_bytes == 0


def test_worker_refuses_who_finds_more_than_clients_may_hold(works: Works) -> None:
    """As the loop does."""
    works.bench.storage.put(b"k", bytes(100_000))
    connection = works.connect(resp=True)
    works.gate.shut()
    connection.receive(request("MGET", *[b"k"] * 40))
    works.gate.wait_for_calls(1)
    works.bench.budget.limit_bytes = 0
    works.gate.open()
    works.wait(connection)
    assert output_of(connection).startswith(b"-LIMIT The clients together hold max_clients_bytes")
    assert works.bench.budget.used_bytes == 0


def test_long_replies_of_lines_count_while_they_are_made(works: Works) -> None:
    """And no more of one is made than clients may hold."""
    works.bench.storage.put(b"k", b"v" * 1_000_000)
    connection = works.connect()
    works.gate.shut()
    connection.receive(b"GET k\n")
    works.gate.wait_for_calls(1)
    works.bench.budget.limit_bytes = 0
    works.gate.open()
    works.wait(connection)
    assert b"The clients together hold max_clients_bytes" in output_of(connection)

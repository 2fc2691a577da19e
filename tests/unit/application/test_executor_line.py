"""Line connections over sessions on worker threads: a line whose call is in flight waits, and so does all behind it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kvs.adapters.inbound.line.commands import LineLimits
from kvs.adapters.inbound.line.connection import LineConnection
from kvs.domain.errors import LimitError
from kvs.logs import make_logger
from tests.support.executor import WorkerBench, worker_bench
from tests.support.sessions import UNLIMITED

MAX_KEY_BYTES = 16
MAX_VALUE_BYTES = 32


class WorkerWire:
    """A connection, and all it has answered: the code of each reply, or its result."""

    def __init__(self, bench: WorkerBench, max_tick_requests: int = 1 << 20) -> None:
        limits = LineLimits(MAX_KEY_BYTES, MAX_VALUE_BYTES, max_tick_requests, UNLIMITED)
        self.bench = bench
        self.session = bench.open_worker()
        self.connection = LineConnection(self.session, limits, bench.budget, make_logger("info", "json", bench.log))
        self.answers: list[object] = []

    def receive(self, data: bytes) -> list[object]:
        """Hand over what came; return what was answered in this tick."""
        self.connection.receive(data)
        return self.take()

    def resume(self) -> list[object]:
        """Go on when the call has ended; return what was answered in this tick."""
        self.bench.run_until_ended(self.session)
        self.connection.resume()
        return self.take()

    def finish(self) -> list[object]:
        """Go on until nothing waits any more; return everything that was answered."""
        while self.connection.backlog:
            self.resume()
        self.bench.run_until_ended(self.session)
        return self.answers

    def take(self) -> list[object]:
        """Take what has been answered."""
        replies = [json.loads(line) for line in self.connection.take_output().splitlines()]
        answers = [reply.get("code", reply.get("result")) for reply in replies]
        self.answers += answers
        return answers


@pytest.fixture
def bench() -> Iterator[WorkerBench]:
    """Return sessions over an engine whose gate is open."""
    with worker_bench() as bench:
        yield bench


@contextmanager
def in_flight(bench: WorkerBench, wire: WorkerWire, data: bytes) -> Iterator[None]:
    """Have a call wait at the gate meanwhile."""
    bench.gate.shut()
    assert wire.receive(data) == []
    bench.gate.wait_for_calls(1)
    yield
    bench.gate.open()


greeted = pytest.mark.parametrize("greeting", [b"", b"PING\n"], ids=["first of all", "behind a first line"])
"""Behind a first line the compiled build goes the short way."""


@greeted
def test_a_line_waits_for_its_call_and_others_behind_it(bench: WorkerBench, greeting: bytes) -> None:
    """Each is run once, whatever comes meanwhile."""
    wire = WorkerWire(bench)
    wire.receive(greeting)
    wire.answers.clear()
    with in_flight(bench, wire, b"PUT a 1\nPING\nGET a\nPI"):
        assert wire.connection.backlog
        assert wire.connection.mid_request
        assert wire.receive(b"NG\nDEL a\n") == []
        assert wire.receive(b"GET a\n") == []
        wire.connection.resume()  # nothing comes of asking too early
        assert wire.take() == []
    assert wire.resume() == [None, "PONG"]
    assert wire.finish() == [None, "PONG", "1", "PONG", True, None]
    assert bench.gate.names() == ["put", "get", "delete", "get"]
    assert wire.connection.requests == 6 + len(greeting.splitlines())


@greeted
def test_what_takes_no_call_is_answered_up_to_the_first_that_does(bench: WorkerBench, greeting: bytes) -> None:
    """In a transaction PUT and GET of what was PUT are among that."""
    wire = WorkerWire(bench)
    wire.receive(greeting + b"START\n")
    wire.finish()
    lines = b"PUT a 1\nGET a\nSTART\nPING\nCOMMIT\nGET b\nPUT c 1\nGET c\n"
    assert wire.receive(lines) == [None, "1", None, "PONG", None]
    assert wire.resume() == [None, None, "1"]


@greeted
def test_a_tick_runs_so_many_requests_and_the_rest_waits(bench: WorkerBench, greeting: bytes) -> None:
    """When a call has ended there is a new share, with its own answer the first of it."""
    wire = WorkerWire(bench, max_tick_requests=2)
    wire.receive(greeting)
    assert wire.receive(b"PING\n" * 3 + b"PUT a 1\n" + b"PING\n" * 3) == ["PONG"] * 2
    assert wire.resume() == ["PONG"]
    assert wire.resume() == [None, "PONG"]
    assert wire.resume() == ["PONG"] * 2
    assert not wire.connection.backlog


@pytest.mark.parametrize("line", [b"PUT a 1\n", b"put a 1\n", b"PUT a 1\r\n"])
@greeted
def test_memory_that_is_used_up_meanwhile_does_not_refuse_what_has_been_done(
    bench: WorkerBench, greeting: bytes, line: bytes
) -> None:
    """The line has its answer; the next one is refused, and not given the answer of another."""
    wire = WorkerWire(bench)
    wire.receive(greeting)
    wire.answers.clear()
    with in_flight(bench, wire, line + b"GET b\nPING\nGET a\n"):
        bench.budget.limit_bytes = 0
    assert wire.finish() == [None, "limit", "PONG", "limit"]
    bench.budget.limit_bytes = UNLIMITED
    wire.receive(b"GET a\n")
    assert wire.finish()[-1] == "1"


def test_the_end_of_input_waits_for_the_call(bench: WorkerBench) -> None:
    """Every complete line is answered, the transaction is aborted, and the snapshot closed."""
    wire = WorkerWire(bench)
    with in_flight(bench, wire, b"START\nGET a\nGET"):
        wire.connection.end_of_input()
        assert not wire.connection.closing
    assert wire.finish() == [None, None, "usage"]
    assert wire.connection.closing
    assert wire.session.totals.aborted == 1
    bench.assert_nothing_is_held()


@pytest.mark.parametrize("way", ["fail", "close"])
def test_what_ends_the_conversation_does_not_wait_for_the_call(bench: WorkerBench, way: str) -> None:
    """Its answer is dropped, and nothing behind it runs."""
    wire = WorkerWire(bench)
    with in_flight(bench, wire, b"PUT a 1\nPUT b 1\n"):
        if way == "fail":
            wire.connection.fail(LimitError("too many"))
        else:
            wire.connection.close()
        assert wire.take() == (["limit"] if way == "fail" else [])
        assert wire.session.in_flight
    assert wire.finish() == (["limit"] if way == "fail" else [])
    assert wire.receive(b"PUT c 1\n") == []
    assert bench.gate.names() == ["put"]
    assert bench.sessions.info()["clients"] == 0
    bench.assert_nothing_is_held()


def test_exit_waits_for_its_turn(bench: WorkerBench) -> None:
    """And runs nothing behind it."""
    wire = WorkerWire(bench)
    with in_flight(bench, wire, b"PUT a 1\nSTART\nEXIT\nPUT b 1\n"):
        pass
    assert wire.finish() == [None, None, None]
    assert bench.gate.names() == ["put", "snapshot", "snapshot.close"]
    bench.assert_nothing_is_held()


def test_a_search_among_keys_that_cannot_be_shown_is_one_call(bench: WorkerBench) -> None:
    """The worker makes it to its end, though it takes several shares, and lets go of what it looked at."""
    for number in range(10_000):
        bench.storage.put(b"%05d\xff" % number, b"")
    bench.storage.put(b"z", b"")
    wire = WorkerWire(bench)
    assert wire.receive(b"KEYS\nKEYS z\nPING\n") == []
    assert wire.finish() == [["z"], ["z"], "PONG"]
    bench.assert_nothing_is_held()

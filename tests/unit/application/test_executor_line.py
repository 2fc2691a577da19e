"""Line connections whose requests workers run: how often they change threads, in which order, and how they end."""

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from kvs.adapters.inbound.line import replies
from kvs.adapters.inbound.line.connection import MAY_BE_CUT
from kvs.adapters.inbound.protocol.base_connection import no_wake
from kvs.adapters.inbound.protocol.connection import HOP_S
from kvs.domain.errors import KvsError, LimitError, OutcomeUnknownError, StorageUnavailableError
from kvs.ports.session import Session
from tests.support.executor import LineClient, WorkerBench, results, worker_bench
from tests.support.sessions import UNLIMITED, output_of

CALLS: dict[str, bytes] = {
    "get": b"GET k\n",
    "put": b"PUT k v\n",
    "delete": b"DEL k\n",
    "scan": b"KEYS\n",
    "count": b"COUNT c\n",
    "snapshot": b"START\n",
    "stats": b"INFO\n",
}
"""What is run outside a transaction, by the call of the engine that it takes."""

CALLS_INSIDE: dict[str, bytes] = {
    "snapshot.get": b"GET k\n",
    "snapshot.scan": b"KEYS\n",
    "snapshot.count": b"COUNT c\n",
    "commit": b"COMMIT\n",
    "snapshot.close": b"ROLLBACK\n",
    "stats": b"INFO\n",
}
"""The same inside a transaction that writes ``w``."""

calls = pytest.mark.parametrize(
    ("inside", "name"), [*((False, name) for name in CALLS), *((True, name) for name in CALLS_INSIDE)]
)

greeted = pytest.mark.parametrize("greeting", [b"", b"PING\n"], ids=["first of all", "behind a first line"])
"""Behind a first line the compiled build goes the short way."""


@pytest.fixture
def bench() -> Iterator[WorkerBench]:
    """Return an engine whose gate is open, and two workers."""
    with worker_bench() as bench:
        yield bench


def begun(bench: WorkerBench) -> LineClient:
    """Return a client in a transaction that writes ``w`` and has read nothing."""
    client = bench.line()
    assert client.ask(b"START\nPUT w 1\n") == [None, None]
    return client


def lines(inside: bool, name: str) -> bytes:
    """Return the line that takes a call."""
    return (CALLS_INSIDE if inside else CALLS)[name]


@contextmanager
def in_flight(bench: WorkerBench, client: LineClient, data: bytes) -> Iterator[None]:
    """Have a call wait at the gate meanwhile."""
    bench.gate.shut()
    client.receive(data)
    bench.gate.wait_for_calls(1)
    assert client.connection.busy
    yield
    bench.gate.open()


class TestHops:
    """How often a connection goes to a worker."""

    @greeted
    def test_ten_gets_in_one_packet_are_one(self, bench: WorkerBench, greeting: bytes) -> None:
        """The replies come in the order of the requests."""
        client = bench.line()
        client.ask(greeting)
        for number in range(10):
            bench.data.put(b"%d" % number, b"v%d" % number)
        assert client.ask(b"".join([b"GET %d\n" % number for number in range(10)])) == [f"v{at}" for at in range(10)]
        assert len(bench.hops) == 1
        assert bench.gate.names()[-10:] == ["get"] * 10

    @greeted
    def test_a_transaction_in_one_packet_is_one(self, bench: WorkerBench, greeting: bytes) -> None:
        """From START to COMMIT."""
        client = bench.line()
        client.ask(greeting)
        assert client.ask(b"START\nPUT a 1\nGET a\nGET b\nSTART\nDEL a\nROLLBACK\nCOUNT\nCOMMIT\n") == [
            *(None, None, "1", None, None, True, None, 1, None)
        ]
        assert len(bench.hops) == 1
        assert bench.data.get(b"a") == b"1"
        assert bench.gate.names().count("snapshot.close") == 1
        bench.assert_workers_alone_called()
        bench.assert_nothing_is_held()

    def test_a_transaction_by_single_requests_is_one_for_each_call(self, bench: WorkerBench) -> None:
        """What takes no call of the engine stays on the loop, though every worker is busy."""
        client = begun(bench)
        client.ask(b"PUT d 1\nDEL d\n")
        busy = [bench.line(), bench.line()]
        bench.gate.shut()
        for other in busy:
            other.receive(b"GET k\n")
        bench.gate.wait_for_calls(2)
        hops = len(bench.hops)
        for line in (b"START", b"PUT k v", b"GET w", b"GET d", b"DEL w", b"DEL d", b"PING", b"HELP", b"nonsense"):
            client.receive(line + b"\n")
            assert not client.connection.busy
        client.receive(b"COMMIT\nSTART\nROLLBACK\n")
        assert not client.connection.busy
        assert len(results(output_of(client.connection))) == 12
        assert (len(bench.hops), client.session.depth) == (hops, 1)

    @pytest.mark.parametrize("line", [b"COMMIT\n", b"ROLLBACK\n"])
    def test_the_end_of_no_transaction_is_one_and_no_call(self, bench: WorkerBench, line: bytes) -> None:
        """It is refused."""
        assert bench.line().ask(line) == ["no_transaction"]
        assert bench.gate.calls == []

    @pytest.mark.parametrize(("passes_s", "hops"), [(0.0, 1), (HOP_S / 4, 3), (HOP_S, 6)])
    def test_time_that_is_used_up_is_another(self, bench: WorkerBench, passes_s: float, hops: int) -> None:
        """What is done is sent then, and other connections have their turn at the worker."""
        bench.passes_s = passes_s
        client = bench.line(max_share=4)
        assert client.ask(b"GET a\n" * 12) == [None] * 12
        assert len(bench.hops) == hops

    def test_a_long_command_is_one(self, bench: WorkerBench) -> None:
        """A worker need not make way for others, and lets go of what it looked at."""
        for number in range(10_000):
            bench.data.put(b"%05d\xff" % number, b"")
        bench.data.put(b"z", b"")
        client = bench.line(max_share=100)
        assert client.ask(b"KEYS\n") == [["z"]]
        assert len(bench.hops) == 1
        assert client.connection.requests == 1
        bench.assert_nothing_is_held()

    def test_the_units_of_a_share_are_counted_before_a_worker_goes_on(self, bench: WorkerBench) -> None:
        """What the worker uses is not the loop's."""
        client = bench.line()
        bench.gate.shut()
        assert client.receive(b"PING\nGET a\n" + b"GET a\n" * 100) == 2
        bench.gate.open()
        client.run()


class TestBusyConnection:
    """A connection whose requests a worker is running."""

    @greeted
    def test_runs_input_that_comes_meanwhile_afterwards(self, bench: WorkerBench, greeting: bytes) -> None:
        """Each request is run once, in order."""
        client = bench.line()
        client.ask(greeting)
        with in_flight(bench, client, b"PUT a 1\nPING\nGET a\nPI"):
            assert client.receive(b"NG\nDEL a\n") == 0
            client.receive(b"GET a\n")
            assert client.connection.resume() == 0
            assert output_of(client.connection) == b""
        assert results(client.run()) == [None, "PONG", "1", "PONG", True, None]
        assert bench.gate.names() == ["put", "get", "delete", "get"]
        assert client.connection.requests == 6 + len(greeting.splitlines())

    def test_wakes_its_channel_when_the_worker_is_done(self, bench: WorkerBench) -> None:
        """And not before."""
        client = bench.line()
        with in_flight(bench, client, b"GET a\n"):
            assert client.wakes == 0
        client.wait()
        assert client.wakes == 1
        assert results(output_of(client.connection)) == [None]

    @calls
    def test_calls_the_engine_by_workers_alone(self, bench: WorkerBench, inside: bool, name: str) -> None:
        """Whatever the command."""
        client = begun(bench) if inside else bench.line()
        client.ask(lines(inside, name))
        assert name in bench.gate.names()
        client.connection.close()
        client.wait_until_closed()
        bench.assert_workers_alone_called()
        bench.assert_nothing_is_held()

    def test_does_not_make_others_wait(self, bench: WorkerBench) -> None:
        """INFO counts one that is busy."""
        busy, client = bench.line(), bench.line()
        with in_flight(bench, busy, b"START\n"):
            client.receive(b"INFO\n")
            bench.gate.wait_for_calls(2)
        client.wait()
        assert output_of(client.connection).count(b'"clients": 2') == 1

    def test_sends_what_is_pushed_behind_the_replies(self, bench: WorkerBench) -> None:
        """It is kept until the worker is done."""
        client = bench.line()
        with in_flight(bench, client, b"GET a\nPING\n"):
            client.connection.push(b"pushed\n")
            assert output_of(client.connection) == b""
        client.wait()
        output = output_of(client.connection)
        assert output.endswith(b"pushed\n")
        assert results(output[: -len(b"pushed\n")]) == [None, "PONG"]

    def test_does_not_refuse_what_has_been_done_when_memory_is_used_up(self, bench: WorkerBench) -> None:
        """The request has its reply, and the next one is refused."""
        client = bench.line()
        with in_flight(bench, client, b"PUT a 1\n"):
            client.receive(b"GET b\nPING\nGET a\n")
            bench.budget.limit_bytes = 0
        client.wait()
        client.connection.resume()
        bench.budget.limit_bytes = UNLIMITED
        assert results(client.run())[:1] == [None]
        assert client.ask(b"GET a\n") == ["1"]

    def test_charges_the_budget_when_the_loop_has_it_back(self, bench: WorkerBench) -> None:
        """A worker never touches what all clients share."""
        client = begun(bench)
        before = bench.budget.used_bytes
        client.receive(b"GET key\n")
        bench.wait_for_post()  # of the START
        bench.wait_for_post()
        assert client.session.held_bytes > before
        assert bench.budget.used_bytes == before
        client.wait()
        assert bench.budget.used_bytes == client.session.held_bytes

    def test_warns_of_a_line_that_a_terminal_may_have_cut(self, bench: WorkerBench) -> None:
        """In the reply to that line, and to no other."""
        client = bench.line(max_share=2)
        cut = b"PUT k " + b"v" * 4089 + b"\n"
        client.receive(cut)
        assert client.run() == MAY_BE_CUT
        client.receive(b"PUT k v\n" * 5)
        assert client.run() == replies.OK * 5
        with in_flight(bench, client, cut):
            client.receive(b"PUT k v\n")
        assert client.run() == MAY_BE_CUT + replies.OK


class TestEngineFailure:
    """What an engine raises in a worker."""

    @pytest.mark.parametrize(
        ("raised", "code"),
        [
            (StorageUnavailableError("away"), "unavailable"),
            (LimitError("full"), "limit"),
            (OutcomeUnknownError("who knows"), "outcome_unknown"),
            (ValueError("a bug"), "outcome_unknown"),
        ],
    )
    def test_in_a_commit_is_replied_once(self, bench: WorkerBench, raised: KvsError, code: str) -> None:
        """A transaction that it leaves open can be committed."""
        client = begun(bench)
        bench.gate.raises = lambda: raised
        assert client.ask(b"COMMIT\n") == [code]
        stays_open = code in ("unavailable", "limit")
        assert client.session.depth == int(stays_open)
        assert client.ask(b"COMMIT\n") == ([None] if stays_open else ["no_transaction"])
        assert ("engine_failed" in bench.log.getvalue()) == isinstance(raised, ValueError)
        bench.assert_nothing_is_held()

    def test_in_a_read_ends_the_transaction(self, bench: WorkerBench) -> None:
        """And its snapshot is closed by a worker."""
        client = begun(bench)
        bench.gate.raises = lambda: ValueError("a bug")
        assert client.ask(b"GET k\nPUT a 1\n") == ["internal", None]
        assert client.session.depth == 0
        bench.assert_nothing_is_held()
        bench.assert_workers_alone_called()


class TestBug:
    """What is no error of a command."""

    @pytest.mark.parametrize("error", [RuntimeError, SystemExit])
    def test_comes_out_of_resume(self, error: type[BaseException]) -> None:
        """On the loop, once; and the worker lives on."""
        with worker_bench(worker_threads=1) as bench:
            client, other = bench.line(), bench.line()
            bench.clients.connections.clear()
            broken(client.session, error)
            client.receive(b"PING\nGET a\nINFO\n")
            client.wait()
            assert client.connection.backlog
            with pytest.raises(error):
                client.connection.resume()
            client.connection.close()
            client.wait_until_closed()
            assert other.ask(b"GET a\n") == [None]
            bench.assert_nothing_is_held()

    def test_is_raised_on_the_loop_when_its_client_has_gone(self, bench: WorkerBench) -> None:
        """When everything has been cleared up."""
        client = begun(bench)
        with in_flight(bench, client, b"GET k\n"):
            client.connection.close()
            bench.gate.raises = SystemExit
        with pytest.raises(SystemExit):
            client.wait()
        client.wait_until_closed()
        assert bench.sessions.info()["clients"] == 0
        bench.assert_nothing_is_held()


def broken(session: Session, error: type[BaseException]) -> None:
    """Have INFO meet a bug: the figures of the server cannot be had."""

    def fail() -> dict[str, object]:
        raise error

    session._context.server_info = fail  # type: ignore[attr-defined]


class TestEnd:
    """How a connection ends."""

    def test_of_an_idle_client_takes_no_worker(self, bench: WorkerBench) -> None:
        """There is nothing that the engine has to do."""
        client = bench.line()
        client.connection.close()
        client.connection.close()
        client.wait_until_closed()
        assert bench.sessions.info()["clients"] == 0
        assert (bench.hops, bench.gate.calls) == ([], [])

    def test_aborts_an_open_transaction_by_a_worker(self, bench: WorkerBench) -> None:
        """To close a snapshot is a call of the engine. The session has ended when that has."""
        client = begun(bench)
        client.ask(b"START\n")
        bench.gate.shut()
        client.connection.close()
        client.connection.close()
        assert bench.sessions.info()["clients"] == 1
        bench.gate.wait_for_calls(1)
        bench.gate.open()
        client.wait_until_closed()
        assert client.session.counters.aborted == 1
        assert bench.sessions.info()["clients"] == 0
        assert bench.gate.names() == ["snapshot", "snapshot.close"]
        bench.assert_workers_alone_called()
        bench.assert_nothing_is_held()

    @calls
    @pytest.mark.parametrize("done", [False, True], ids=["in flight", "done"])
    def test_waits_for_the_call(self, bench: WorkerBench, inside: bool, name: str, done: bool) -> None:
        """It runs to its end though the client has gone: once, without a reply, and nothing is left behind."""
        client = begun(bench) if inside else bench.line()
        with in_flight(bench, client, lines(inside, name) + b"PUT not-run 1\n" * (not done)):
            if not done:
                client.connection.close()
        if done:
            client.run()
            client.connection.close()
        client.connection.close()
        client.wait_until_closed()
        committed = name == "commit"
        begun_and_aborted = (name == "snapshot") or (inside and name not in ("commit", "snapshot.close"))
        counters = client.session.counters
        assert (counters.committed, counters.aborted) == (int(committed), int(begun_and_aborted))
        assert bench.sessions.info()["clients"] == 0
        bench.assert_nothing_is_held()
        bench.assert_workers_alone_called()
        assert bench.gate.names().count(name) == 1
        assert output_of(client.connection) == b""
        assert bench.data.get(b"k") == (b"v" if name == "put" else None)
        assert bench.data.get(b"w") == (b"1" if committed else None)
        assert bench.data.get(b"not-run") is None

    def test_in_the_middle_of_a_long_command_gives_it_up(self, bench: WorkerBench) -> None:
        """The worker stops after the step that it is at, and closes the snapshot."""
        for number in range(10_000):
            bench.data.put(b"%05d\xff" % number, b"")
        client = bench.line(max_share=100)
        with in_flight(bench, client, b"KEYS\n"):
            client.connection.close()
        client.wait_until_closed()
        assert bench.gate.names() == ["scan", "snapshot", "snapshot.scan", "snapshot.close"]
        bench.assert_workers_alone_called()
        bench.assert_nothing_is_held()

    def test_by_an_error_comes_behind_the_reply_to_what_is_run(self, bench: WorkerBench) -> None:
        """Nothing behind that runs."""
        client = bench.line()
        with in_flight(bench, client, b"PUT a 1\nPUT b 1\n"):
            client.connection.fail(LimitError("too many"))
            assert output_of(client.connection) == b""
        assert results(client.run()) == [None, "limit"]
        assert client.receive(b"PUT c 1\n") == 0
        assert bench.gate.names() == ["put"]
        assert bench.sessions.info()["clients"] == 0
        bench.assert_nothing_is_held()

    def test_of_input_waits_for_the_call(self, bench: WorkerBench) -> None:
        """Every complete line is replied to, the transaction is aborted, and the snapshot closed."""
        client = bench.line()
        with in_flight(bench, client, b"START\nGET a\nGET"):
            client.connection.end_of_input()
            assert not client.connection.closing
        assert results(client.run()) == [None, None, "usage"]
        assert client.connection.closing
        client.connection.close()
        client.wait_until_closed()
        assert client.session.counters.aborted == 1
        bench.assert_workers_alone_called()
        bench.assert_nothing_is_held()

    def test_by_exit_comes_in_its_turn(self, bench: WorkerBench) -> None:
        """And nothing behind it runs."""
        client = bench.line()
        assert client.ask(b"PUT a 1\nSTART\nEXIT\nPUT b 1\n") == [None, None, None]
        assert client.connection.closing
        client.connection.close()
        client.wait_until_closed()
        assert bench.gate.names() == ["put", "snapshot", "snapshot.close"]
        bench.assert_workers_alone_called()
        bench.assert_nothing_is_held()

    @pytest.mark.parametrize("raised", [StorageUnavailableError("away"), ValueError("a bug")])
    def test_hides_what_fails_meanwhile(self, bench: WorkerBench, raised: Exception) -> None:
        """But for the log, where it is a bug of the engine's."""
        client = begun(bench)
        with in_flight(bench, client, b"COMMIT\n"):
            client.connection.close()
            bench.gate.raises = lambda: raised
        client.wait_until_closed()
        bench.assert_nothing_is_held()
        assert client.session.counters.aborted == 1
        assert bench.log.getvalue().count("engine_failed") == int(isinstance(raised, ValueError))

    def test_does_not_depend_on_the_snapshot_that_cannot_be_closed(self, bench: WorkerBench) -> None:
        """It is logged, and tried once."""
        client = begun(bench)
        bench.gate.raises = lambda: ValueError("cannot close")
        client.connection.close()
        client.wait_until_closed()
        assert bench.sessions.info()["clients"] == 0
        assert bench.gate.names().count("snapshot.close") == 1
        assert "Snapshot.close" in bench.log.getvalue()

    def test_is_called_back_once(self, bench: WorkerBench) -> None:
        """On the loop, whether the session has ended by then or not."""
        client = begun(bench)
        threads: list[int] = []
        client.connection.close()
        client.connection.when_closed(lambda: threads.append(threading.get_ident()))
        assert threads == []
        bench.loop.run_until(lambda: len(threads) > 0)
        client.connection.close()
        assert threads == [threading.get_ident()]

    @pytest.mark.parametrize(
        "raises",
        [None, lambda: StorageUnavailableError("away"), lambda: ValueError("a bug"), SystemExit],
        ids=["nothing", "unavailable", "bug of the engine", "bug"],
    )
    def test_leaves_no_cycle_behind(self, bench: WorkerBench, raises: Callable[[], BaseException] | None) -> None:
        """Errors have tracebacks, these have frames, and those have sessions; reference counts are to free it all."""
        gc.collect()
        gc.disable()
        try:
            before = sessions_in_memory()
            use_and_leave(bench, raises)
            bench.threads.close()
            assert sessions_in_memory() == before
        finally:
            gc.enable()


def sessions_in_memory() -> int:
    """Return how many sessions there are.

    By their bases: of compiled abstract classes ``isinstance`` remembers what it has said of any of them.
    """
    return sum(Session in type(thing).__mro__ for thing in gc.get_objects())


def use_and_leave(bench: WorkerBench, raises: Callable[[], BaseException] | None) -> None:
    """Be a client whose transaction meets an error."""
    client = begun(bench)
    bench.gate.raises = raises
    client.receive(b"GET k\n")
    client.wait()
    with suppress(SystemExit):
        client.connection.resume()
    client.connection.close()
    client.wait_until_closed()
    client.connection.wake = no_wake  # it holds the client, which holds the connection
    bench.clients.connections.clear()

"""RESP connections whose requests workers run: what runs on which thread, above all in EXEC, and what is watched."""

import threading
from collections.abc import Iterator

import pytest

from kvs.application.watch import WATCH_OVERHEAD_BYTES
from kvs.domain.errors import KvsError, LimitError, StorageUnavailableError
from tests.support.executor import RespClient, WorkerBench, packet, worker_bench
from tests.support.sessions import is_watching, output_of

CALLS: dict[str, str] = {
    "update": "INCR n",
    "put_all": "MSET n 1 m 2",
    "clear": "FLUSHDB",
    "transact": "MSETNX n 1 m 2",
    "view": "MGET n m",
    "search": "KEYS *n",
    "random": "RANDOMKEY",
    "scan": "SCAN 0",
    "watch": "WATCH k l",
    "info": "INFO",
}
"""Commands that take calls of the engine."""


@pytest.fixture
def bench() -> Iterator[WorkerBench]:
    """Return an engine whose gate is open, and two workers."""
    with worker_bench() as bench:
        yield bench


def watching(bench: WorkerBench) -> RespClient:
    """Return a client that watches ``k``."""
    client = bench.resp()
    assert client.ask("WATCH k") == b"+OK\r\n"
    return client


class TestCommand:
    """A command that takes calls of the engine."""

    @pytest.mark.parametrize("name", CALLS)
    def test_is_run_by_workers_alone(self, bench: WorkerBench, name: str) -> None:
        """In one hop, and it leaves nothing behind."""
        client = bench.resp()
        assert not client.ask(CALLS[name]).startswith(b"-")
        assert len(bench.hops) == 1
        assert bench.gate.calls
        client.connection.close()
        client.wait_until_closed()
        bench.assert_workers_alone_called()
        bench.assert_nothing_is_held()

    @pytest.mark.parametrize("watched", [False, True])
    @pytest.mark.parametrize("name", CALLS)
    def test_leaves_nothing_behind_when_its_client_has_gone(self, bench: WorkerBench, name: str, watched: bool) -> None:
        """The step that it is at runs to its end, without a reply; an operation is applied whole or not at all."""
        client = watching(bench) if watched else bench.resp()
        bench.gate.shut()
        client.receive(packet(CALLS[name], "SET not-run 1"))
        bench.gate.wait_for_calls(1)
        client.connection.close()
        bench.gate.open()
        client.wait_until_closed()
        assert bench.sessions.info()["clients"] == 0
        bench.assert_workers_alone_called()
        bench.assert_nothing_is_held()
        assert output_of(client.connection) == b""
        assert bench.data.get(b"not-run") is None
        assert bench.data.get(b"n") == (b"1" if name in ("update", "put_all") else None)
        assert bench.data.get(b"m") == (b"2" if name == "put_all" else None)

    def test_sees_what_others_before_it_in_the_packet_have_done(self, bench: WorkerBench) -> None:
        """Ten of them take one hop."""
        client = bench.resp()
        assert client.ask(*["INCR n"] * 10) == b"".join([b":%d\r\n" % number for number in range(1, 11)])
        assert len(bench.hops) == 1
        bench.assert_workers_alone_called()

    @pytest.mark.parametrize(
        ("raised", "reply"),
        [
            (StorageUnavailableError("away"), b"-UNAVAILABLE"),
            (LimitError("full"), b"-LIMIT"),
            (ValueError("a bug"), b"-"),
        ],
    )
    @pytest.mark.parametrize("name", ["update", "clear"])
    def test_replies_what_the_engine_raises(
        self, bench: WorkerBench, name: str, raised: KvsError, reply: bytes
    ) -> None:
        """Once."""
        client = bench.resp()
        bench.gate.raises = lambda: raised
        assert client.ask(CALLS[name]).startswith(reply)
        assert not client.ask(CALLS[name]).startswith(b"-")
        bench.assert_nothing_is_held()


class TestCommandOnLoop:
    """A command about clients: they belong to the loop."""

    def test_among_others_is_run_by_the_loop(self, bench: WorkerBench) -> None:
        """Replies come in order; what follows it goes to a worker again."""
        client, other = bench.resp(), bench.resp()
        output = client.ask("SET a 1", "CLIENT LIST", "GET a", f"CLIENT KILL ID {other.session.id}", "GET a")
        assert output.startswith(b"+OK\r\n$")
        assert output.endswith(b"$1\r\n1\r\n:1\r\n$1\r\n1\r\n")
        assert output.count(b"id=") == 2
        assert bench.clients.killed == [other.session.id]
        assert set(bench.clients.threads) == {threading.get_ident()}
        assert len(bench.hops) == 3
        bench.assert_workers_alone_called()

    @pytest.mark.parametrize("share", [1, 2, 1 << 20])
    def test_in_a_queue_is_run_by_the_loop(self, bench: WorkerBench, share: int) -> None:
        """And the transaction by a worker, INFO too, in shares of any size."""
        client, other = bench.resp(max_share=share), bench.resp()
        output = client.ask(
            "MULTI",
            "SET a 1",
            "CLIENT LIST",
            "GET a",
            "INFO engine",
            f"CLIENT KILL ID {other.session.id}",
            "INFO engine",
            "CLIENT ID",
            "EXEC",
            "GET a",
        )
        assert output.startswith(b"+OK\r\n" + b"+QUEUED\r\n" * 7 + b"*7\r\n+OK\r\n$")
        assert output.count(b"# Engine") == 2
        assert output.count(b"id=") == 2
        assert output.endswith(b":%d\r\n$1\r\n1\r\n" % client.session.id)
        assert bench.clients.killed == [other.session.id]
        assert set(bench.clients.threads) == {threading.get_ident()}
        assert bench.gate.names().count("stats") == 2
        bench.assert_workers_alone_called()
        client.connection.close()
        client.wait_until_closed()
        bench.assert_nothing_is_held()

    def test_in_a_queue_whose_client_goes_meanwhile_leaves_nothing_behind(self, bench: WorkerBench) -> None:
        """The transaction has been applied by then; INFO, behind it, is in flight."""
        client = watching(bench)
        client.receive(packet("MULTI", "SET a 1", "CLIENT ID", "INFO engine", "EXEC"))
        client.wait()
        bench.gate.shut()
        client.connection.resume()
        bench.gate.wait_for_calls(1)
        client.connection.close()
        bench.gate.open()
        client.wait_until_closed()
        assert bench.data.get(b"a") == b"1"
        bench.assert_workers_alone_called()
        bench.assert_nothing_is_held()


class TestWatch:
    """Keys that are watched: each WATCH has a snapshot."""

    @pytest.mark.parametrize("changed", [False, True])
    def test_is_taken_and_ended_by_workers(self, bench: WorkerBench, changed: bool) -> None:
        """And EXEC fails if somebody has changed a key; the budget is charged by the loop."""
        client, other = watching(bench), bench.resp()
        assert bench.budget.used_bytes > WATCH_OVERHEAD_BYTES
        if changed:
            other.ask("INCR k")
        output = client.ask("MULTI", "SET mine 1", "EXEC")
        assert output == b"+OK\r\n+QUEUED\r\n" + (b"*-1\r\n" if changed else b"*1\r\n+OK\r\n")
        assert bench.data.get(b"mine") == (None if changed else b"1")
        assert (client.session.counters.committed, client.session.counters.conflicted) == (
            int(not changed),
            int(changed),
        )
        assert not is_watching(client.session)
        bench.assert_workers_alone_called()
        bench.assert_nothing_is_held()

    @pytest.mark.parametrize("command", ["UNWATCH", "RESET"])
    def test_is_forgotten_by_a_worker(self, bench: WorkerBench, command: str) -> None:
        """To close a snapshot is a call of the engine; if there is none, it is no matter for a worker."""
        client = watching(bench)
        client.ask(command)
        assert not is_watching(client.session)
        bench.assert_nothing_is_held()
        bench.assert_workers_alone_called()
        hops = len(bench.hops)
        assert client.ask(command).startswith(b"+")
        assert len(bench.hops) == hops

    def test_is_forgotten_by_a_worker_when_the_client_goes(self, bench: WorkerBench) -> None:
        """The session has ended when that has."""
        client = watching(bench)
        bench.gate.shut()
        client.connection.close()
        client.connection.close()
        bench.gate.wait_for_calls(1)
        assert bench.sessions.info()["clients"] == 1
        bench.gate.open()
        client.wait_until_closed()
        assert bench.sessions.info()["clients"] == 0
        assert client.session.counters.aborted == 0
        bench.assert_nothing_is_held()
        assert bench.gate.names() == ["snapshot", "snapshot.close"]
        bench.assert_workers_alone_called()


class TestTransaction:
    """The interactive transactions of kvs, in RESP."""

    def test_in_one_packet_is_one_hop(self, bench: WorkerBench) -> None:
        """From START to COMMIT."""
        client = bench.resp()
        output = client.ask("START", "SET a 1", "GET a", "GET b", "MGET a b", "COMMIT")
        assert output == b"+OK\r\n+OK\r\n$1\r\n1\r\n$-1\r\n*2\r\n$1\r\n1\r\n$-1\r\n+OK\r\n"
        assert len(bench.hops) == 1
        bench.assert_workers_alone_called()
        bench.assert_nothing_is_held()

    def test_writes_and_queues_without_a_worker(self, bench: WorkerBench) -> None:
        """Though every worker is busy."""
        client, queueing = bench.resp(), bench.resp()
        client.ask("START", "SET w 1")
        hops = len(bench.hops)
        bench.gate.shut()
        for other in (bench.resp(), bench.resp()):
            other.receive(packet("GET k"))
        bench.gate.wait_for_calls(2)
        for command in ("SET a 1", "SET a 1 NX", "INCR w", "GET w", "START", "COMMIT", "PING", "CLIENT ID"):
            client.receive(packet(command))
            assert not client.connection.busy, command
        for command in ("MULTI", "GET k", "SET k 1", "DISCARD", "UNWATCH"):
            queueing.receive(packet(command))
            assert not queueing.connection.busy, command
        assert len(bench.hops) == hops

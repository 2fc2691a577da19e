"""What is counted of requests in RESP: by the fast path, and by the long way."""

from collections.abc import Iterator
from itertools import count

import pytest

from kvs.adapters.inbound.protocol import run_loop
from kvs.adapters.inbound.resp.connection import RespConnection
from kvs.adapters.storage.memory.storage import MemoryStorage
from tests.support.resp_connection import RespServer, ask
from tests.support.resp_wire import OK, request
from tests.support.sessions import UNLIMITED, output_of

SECOND_NS = 10**9

QUEUE = request("MULTI") + request("SET", "a", "1") + request("SET", "b", "2") + request("EXEC")


@pytest.fixture(autouse=True, params=[False, True], ids=["parsed", "fast"])
def _build(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the fast path, or not. The compiled build always takes it."""
    monkeypatch.setattr(run_loop, "HAS_FAST_PATH", request.param)


@pytest.fixture
def server() -> Iterator[RespServer]:
    """Return a server over the memory engine, whose clock advances by a second each time that it is read."""
    server = RespServer(storage=MemoryStorage(0, UNLIMITED), timer=count(1.0).__next__)
    server.limits.max_value_bytes = 100
    yield server
    server.assert_nothing_is_left()


def run(connection: RespConnection, *packets: bytes) -> bytes:
    """Run packets; return the replies."""
    out = b""
    for packet in packets:
        connection.receive(packet)
        out += output_of(connection)
        while connection.backlog:
            connection.resume()
            out += output_of(connection)
    return out


def counted(server: RespServer) -> dict[str, tuple[int, int, int]]:
    """Return calls, failed calls and refused requests by command."""
    by_name = server.shared.observation.statistics.by_name()
    return {name.decode(): (one.calls, one.failed, one.refused) for name, one in by_name.items()}


@pytest.mark.parametrize("pipelined", [False, True])
def test_every_request_is_counted_once(server: RespServer, pipelined: bool) -> None:
    """Under the name of its command, whatever the case, with the errors."""
    packets = [
        *(request("SET", "a", "1"), request("set", "b", "x"), request("SET", "c", "1", "EX", "5")),
        *(request("GET", "a"), request("get", "nope"), request("INCR", "a"), request("INCR", "b"), request("INCR")),
        *(request("WATCH", "a"), request("UNWATCH"), request("STRLEN", "a"), request("LPUSH", "a", "1"), QUEUE),
        *(request("GET", "a"), request("EXEC"), request("PING")),
        *(request("MSET", "a", "1", "b", "2"), request("mset", *["a", "1"] * 9), request("MSET", "a")),
    ]
    run(server.connect(), *([b"".join(packets)] if pipelined else packets))
    assert counted(server) == {
        "exec": (2, 1, 0),
        "get": (3, 0, 0),
        "incr": (2, 1, 1),
        "mset": (2, 0, 1),
        "multi": (1, 0, 0),
        "ping": (1, 0, 0),
        "set": (5, 0, 0),
        "strlen": (1, 0, 0),
        "unwatch": (1, 0, 0),
        "watch": (1, 0, 0),
    }
    assert server.shared.observation.statistics.errors == {b"ERR": 5}
    assert server.shared.observation.statistics.calls() == 19


def test_durations_are_the_calls_and_cover_the_time(server: RespServer) -> None:
    """There are as many durations as calls; those of a packet are its time, which the fast path divides."""
    connection = server.connect()
    run(connection, b"".join([request("SET", "a", "1"), request("GET", "a")] * 50))
    for figures in server.shared.observation.statistics.by_name().values():
        assert figures.durations.below_ns(1 << 40) == figures.calls == 50
        assert 0 < figures.total_ns <= 50 * SECOND_NS


def test_failure_of_the_engine_is_counted(server: RespServer) -> None:
    """By the code of its error."""
    connection = server.connect()
    ask(connection, b"START", b"READONLY")
    run(connection, request("SET", "a", "1") + request("GET", "a") + request("INCR", "a"))
    run(connection, request("MSET", "a", "1"))
    assert counted(server) == {
        "get": (1, 0, 0),
        "incr": (1, 1, 0),
        "mset": (1, 1, 0),
        "set": (1, 1, 0),
        "start": (1, 0, 0),
    }
    ask(connection, b"ROLLBACK")
    ask(connection, b"COMMIT")
    assert server.shared.observation.statistics.errors == {b"ERR": 3, b"NO_TRANSACTION": 1}


def test_conflict_is_a_failure(server: RespServer) -> None:
    """COMMIT is answered with an error; EXEC with nil is not, and has run nothing."""
    mine, other = server.connect(), server.connect()
    run(mine, request("START"), request("GET", "a"), request("SET", "a", "1"))
    run(other, request("SET", "a", "2"))
    run(mine, request("COMMIT"), request("WATCH", "a"))
    run(other, request("SET", "a", "2"))
    assert run(mine, request("MULTI"), request("STRLEN", "a"), request("EXEC")).endswith(b"*-1\r\n")
    assert counted(server)["commit"] == (1, 1, 0)
    assert counted(server)["exec"] == (1, 0, 0)
    assert "strlen" not in counted(server)


@pytest.mark.parametrize("length", [3, 100])
def test_queued_commands_are_counted_when_they_run(server: RespServer, length: int) -> None:
    """Each by itself, whether the queue is run in one step or in shares, and those after the transaction, too."""
    connection = server.connect()
    run(connection, request("MULTI"), *[request("INCR", "n")] * length, request("APPEND", "n", "x"), request("INCR"))
    assert "append" not in counted(server)
    run(connection, request("EXEC"))
    assert counted(server) == {"exec": (1, 1, 0), "incr": (0, 0, 1), "multi": (1, 0, 0)}
    run(connection, request("MULTI"), *[request("INCR", "n")] * length, request("APPEND", "n", "x"))
    run(connection, request("INCR", "n"), request("CLIENT", "ID"), request("KEYS", "*"), request("EXEC"))
    assert counted(server) == {
        "append": (1, 0, 0),
        "client|id": (1, 0, 0),
        "exec": (2, 1, 0),
        "incr": (length + 1, 1, 1),
        "keys": (1, 0, 0),
        "multi": (2, 0, 0),
    }
    durations = server.shared.observation.statistics.by_name()
    assert all(one.total_ns >= one.calls * SECOND_NS for one in durations.values())


def test_discarded_queue_has_run_nothing(server: RespServer) -> None:
    """Only MULTI and DISCARD are counted."""
    run(server.connect(), request("MULTI"), request("SET", "a", "1"), request("DISCARD"))
    assert counted(server) == {"discard": (1, 0, 0), "multi": (1, 0, 0)}


def test_long_command_is_counted_with_the_time_of_its_shares(server: RespServer) -> None:
    """Not with that in which others are served."""
    server.limits.max_tick_requests = 10
    connection, other = server.connect(), server.connect()
    run(connection, *[request("SET", f"key:{number}", "") for number in range(1000)])
    connection.receive(request("KEYS", "*"))
    shares = 1
    while connection.backlog:
        run(other, *[request("PING")] * 100)
        connection.resume()
        shares += 1
    figures = server.shared.observation.statistics.of(b"keys")
    assert shares > 1
    assert (figures.calls, figures.total_ns) == (1, shares * SECOND_NS)


def test_lookups_are_counted_by_key(server: RespServer) -> None:
    """Reads, and what answers an old value; not what only writes."""
    connection = server.connect()
    requests = [
        *(("SET", "a", "1"), ("GET", "a"), ("GET", "nope"), ("MGET", "a", "a", "nope"), ("EXISTS", "a", "nope")),
        *(("GETSET", "a", "2"), ("GETDEL", "nope"), ("SET", "a", "3", "GET"), ("INCR", "a"), ("DEL", "nope")),
        *(("GETEX", "a", "PERSIST"), ("START",), ("INCR", "a"), ("GET", "a"), ("ROLLBACK",)),
    ]
    run(connection, *[request(*words) for words in requests])
    lookups = connection.session.lookups
    assert (lookups.hits, lookups.misses) == (8, 4)


def test_replies_that_are_withheld_are_counted(server: RespServer) -> None:
    """CLIENT REPLY OFF changes no figure."""
    connection = server.connect()
    run(connection, request("CLIENT", "REPLY", "OFF"), request("SET", "a", "1"), request("INCR"))
    assert ask(connection, b"CLIENT", b"REPLY", b"ON") == OK
    assert counted(server) == {"client|reply": (2, 0, 0), "incr": (0, 0, 1), "set": (1, 0, 0)}

"""An engine that blocks is called by worker threads: a slow call holds up nobody else, and all else is as ever.

The engine is a small package that is found by its entry point. It tells a test of every call and waits to be told what
to do, so that it is certain what is in flight.
"""

from collections.abc import Callable
from statistics import median
from time import perf_counter

import pytest

from tests.support.engine_control import EngineControl
from tests.support.harness import OK, PONG, Client, Reply, codes, polling, slow_engine

from .conftest import TRANSPORTS_ALONE, StartServer, Watched, flags_of

LEAVE: dict[str, Callable[[Client], None]] = {"reset": Client.reset, "close": Client.close}

CALLS = {
    "GET a": "get",
    "PUT a 1": "put",
    "DEL a": "delete",
    "KEYS": "scan",
    "COUNT": "count",
    "START": "snapshot",
    "INFO": "stats",
}
"""The call of the engine that a command takes, outside a transaction."""

CALLS_INSIDE = {
    "GET a": "snapshot.get",
    "DEL a": "snapshot.get",
    "KEYS": "snapshot.scan",
    "COUNT": "snapshot.count",
    "COMMIT": "commit",
    "ROLLBACK": "snapshot.close",
    "INFO": "stats",
}
"""The same inside a transaction that has written ``w``."""


@pytest.fixture(scope="session", params=TRANSPORTS_ALONE)
def transport_flags(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Return the flags that choose the transport under test."""
    return flags_of(request.param)


@pytest.fixture(scope="session")
def engine_name() -> str:
    """Return which engine is under test."""
    return "blocking"


def result(value: object) -> Reply:
    """Return an answer with a result."""
    return {"status": "Ok", "result": value}


def begin(client: Client) -> None:
    """Open a transaction that writes ``w``."""
    client.ok("START", "PUT w 1")


# One slow call holds up nobody else.


@pytest.mark.parametrize(
    ("inside", "line"), [*((False, line) for line in CALLS), *((True, line) for line in CALLS_INSIDE)]
)
def test_one_slow_call_holds_up_nobody_else(watched: Watched, inside: bool, line: str) -> None:
    """Others are answered while it lasts, and its own client afterwards, in order."""
    server, engine = watched
    client, other = server.connect(), server.connect()
    other.ok("PUT a 1")
    if inside:
        begin(client)
    call = (CALLS_INSIDE if inside else CALLS)[line]
    engine.hold(call)
    client.send(line, "PING", "NONSENSE")
    engine.wait_held()
    others = {"GET x": "get", "PUT x 1": "put", "COUNT x": "count"}
    assert codes(other, "PING", "HELP", "nonsense") == [None, None, "unknown_command"]
    assert codes(other, *(free for free, taken in others.items() if taken != call)) == [None] * (
        3 - (call in others.values())
    )
    assert client.nothing_has_come()
    engine.let_go()
    assert [reply.get("code") for reply in client.replies(3)] == [None, None, "unknown_command"]


def test_what_takes_no_call_of_the_engine_waits_for_no_worker(start_server: StartServer, engine: EngineControl) -> None:
    """All of it is answered while every worker is busy, on a session that has nothing in flight."""
    server = start_server("--worker-threads", "1", *engine.flags, env=engine.env)
    client, busy, idle = (server.connect() for _ in range(3))
    begin(client)
    engine.hold("get")
    busy.send("GET a")
    engine.wait_held()
    lines = ("START", "PUT a 1", "GET a", "DEL a", "DEL a", "GET w", "COMMIT", "START", "ROLLBACK", "PING", "HELP")
    assert codes(client, *lines) == [None] * len(lines)
    assert codes(client, "GET", "PUT x", "nonsense", "\xff") == ["usage", "usage", "unknown_command", "unknown_command"]
    assert codes(idle, "COMMIT", "ROLLBACK", "PING") == ["no_transaction", "no_transaction", None]
    client.send("COMMIT")
    assert idle.ask("PING") == PONG
    assert client.nothing_has_come()
    engine.let_go()
    assert client.reply() == OK
    assert busy.reply()["result"] is None


def test_more_busy_clients_than_workers(start_server: StartServer, engine: EngineControl) -> None:
    """So many calls are under way as there are workers; the others wait for their turn, and nobody else does."""
    server = start_server("--worker-threads", "2", *engine.flags, env=engine.env)
    clients, other = [server.connect() for _ in range(6)], server.connect()
    engine.hold("put")
    for number, client in enumerate(clients):
        client.send(f"PUT k{number} {number}", f"GET k{number}")
        if number < 2:
            engine.wait_held(number + 1)
    for _ in range(5):
        assert other.ask("PING") == PONG
    assert engine.keys("put") == ["k0", "k1"]
    for done in range(1, 5):
        engine.step()
        engine.wait_for("put", done + 2)
    assert engine.keys("put") == [f"k{number}" for number in range(6)]
    engine.let_go()
    for number, client in enumerate(clients):
        assert client.replies(2) == [OK, result(str(number))]


def test_many_busy_clients_leave_others_their_latency(start_server: StartServer) -> None:
    """Beside 50 clients whose every call takes 20 ms, the median PING of another takes less than 5."""
    flags, env = slow_engine(0.02)
    server = start_server(*flags, env=env)
    busy, other = [server.connect() for _ in range(50)], server.connect()
    requests = 3000  # a minute's work: they are busy all the time
    for client in busy:
        client.send(*["GET a"] * requests)
    for client in busy:
        assert client.reply()["result"] is None
    took_s: list[float] = []
    for _ in range(300):
        began_s = perf_counter()
        assert other.ask("PING") == PONG
        took_s.append(perf_counter() - began_s)
    assert median(took_s) < 0.005
    for client in busy:
        client.close()
    for client in busy:
        assert 0 < server.wait_left(client)["commands"] < requests
    assert server.stop() == 0


# Order, transactions, limits: as ever.


@pytest.mark.parametrize("split", [False, True], ids=["whole", "bytewise"])
def test_replies_come_in_order(watched: Watched, split: bool) -> None:
    """Whatever takes a call of the engine and what takes none, in one stream."""
    server, engine = watched
    client = server.connect()
    script: list[tuple[str, Reply | str]] = [
        ("PUT a 1", OK),
        ("GET a", result("1")),
        ("PING", PONG),
        ("START", OK),
        ("GET a", result("1")),
        ("put b  two words ", OK),
        ("START", OK),
        ("DEL a", result(True)),
        ("KEYS", result(["b"])),
        ("ROLLBACK", OK),
        ("KEYS", result(["a", "b"])),
        ("COUNT x", result(0)),
        ("nonsense", "unknown_command"),
        ("PUT x", "usage"),
        ("COMMIT", OK),
        ("COMMIT", "no_transaction"),
        (" get b", result(" two words ")),
        ("DEL a", result(True)),
        ("DEL a", result(False)),
        ("COUNT", result(1)),
        ("EXIT", OK),
    ]
    data = "".join(f"{line}\n" for line, _ in script).encode() + b"PUT c 1\n"
    for at in range(len(data)):
        if not split:
            client.send_raw(data)
            break
        client.send_raw(data[at : at + 1])
    replies = client.rest()
    assert [reply.get("code", reply) for reply in replies] == [expected for _, expected in script]
    assert engine.keys("put") == ["a"]
    assert "sync" not in engine.names()


def test_long_pipelines_of_many_clients(start_server: StartServer) -> None:
    """Each gets its own replies, in order, though more of them are busy than there are workers."""
    flags, env = slow_engine(0)
    server = start_server("--worker-threads", "3", "--max-tick-requests", "7", *flags, env=env)
    clients = [server.connect() for _ in range(8)]
    for number, client in enumerate(clients):
        client.send_behind(b"".join(b"PUT k%d %d\nPING\nGET k%d\n" % (number, turn, number) for turn in range(300)))
    for client in clients:
        assert client.replies(900) == [reply for turn in range(300) for reply in (OK, PONG, result(str(turn)))]


def test_of_two_commits_in_flight_one_conflicts(watched: Watched) -> None:
    """Both read and write the same key, and both are asked for before either is done."""
    server, engine = watched
    one, two = server.connect(), server.connect()
    for client in (one, two):
        client.ok("START", "GET n", f"PUT n {client.name}")
    engine.hold("commit")
    for client in (one, two):
        client.send("COMMIT", "GET n")
    engine.wait_held(2)
    engine.let_go()
    answers = {client.name: client.replies(2) for client in (one, two)}
    (winner,) = (name for name, (outcome, _) in answers.items() if outcome == OK)
    (loser,) = (outcome for name, (outcome, _) in answers.items() if name != winner)
    assert loser["code"] == "conflict"
    assert one.get("n") == winner
    figures = one.info("server")
    assert (figures["open_transactions"], engine.names().count("snapshot.close")) == (0, 2)


def test_limits_of_a_transaction(start_server: StartServer, engine: EngineControl) -> None:
    """They refuse the one command that would exceed them, whether it takes a call of the engine or not."""
    server = start_server(
        *("--max-transaction-bytes", "1500", "--max-transaction-depth", "2"), *engine.flags, env=engine.env
    )
    client = server.connect()
    assert codes(client, "START", "START", "START", "COMMIT") == [None, None, "limit", None]
    assert codes(client, "PUT a " + "x" * 900, "PUT b " + "x" * 900, "PUT b 1", "PUT c 1") == [
        None,
        "limit",
        None,
        "limit",
    ]
    assert codes(client, "GET missing", "KEYS", "COMMIT", "KEYS") == ["limit", "limit", None, None]
    assert client.get("b") == "1"


@pytest.mark.parametrize(("line", "call"), [("PUT a 1", "put"), ("put a 1", "put"), ("START", "snapshot")])
def test_what_has_been_begun_is_answered_though_the_memory_is_used_up(
    start_server: StartServer, engine: EngineControl, line: str, call: str
) -> None:
    """A limit that is reached while a call is in flight is for the next request: this one has been done."""
    server = start_server("--max-clients-bytes", "100000", *engine.flags, env=engine.env)
    client, holder = server.connect(), server.connect()
    begin(holder)
    engine.hold(call)
    client.send(line, "GET a")
    engine.wait_held()
    holder.ok("PUT b " + "x" * 100_000)
    engine.let_go()
    assert [reply.get("code") for reply in client.replies(2)] == [None, "limit"]
    holder.ok("ROLLBACK")
    assert client.get("a") == (None if call == "snapshot" else "1")


def test_client_that_does_not_read(start_server: StartServer, engine: EngineControl) -> None:
    """A client that takes no replies is not served on, and gets every one of them when it does."""
    server = start_server("--max-output-bytes", "100000", *engine.flags, env=engine.env)
    client, other = server.connect(receive_buffer_bytes=4096), server.connect()
    other.ok("PUT big " + "x" * 100_000)
    client.send(*["GET big"] * 150, "PUT done 1")
    for _ in polling("the server holds replies for it"):
        if other.info("server")["clients_bytes"] > 100_000:
            break
    assert other.get("done") is None
    assert all(len(reply["result"]) == 100_000 for reply in client.replies(150))
    assert client.reply() == OK


# Leaving while a call is in flight.


@pytest.mark.parametrize("leave", LEAVE)
@pytest.mark.parametrize(
    ("inside", "line"), [*((False, line) for line in CALLS), *((True, line) for line in CALLS_INSIDE)]
)
def test_client_gone_while_a_call_is_in_flight(watched: Watched, inside: bool, line: str, leave: str) -> None:
    """The call runs to its end, its reply is dropped, and nothing of the client is left."""
    server, engine = watched
    client, other = server.connect(), server.connect()
    other.ok("PUT a 0")
    engine.clear()
    if inside:
        begin(client)
    call = (CALLS_INSIDE if inside else CALLS)[line]
    engine.hold(call)
    client.send(line)
    engine.wait_held()
    LEAVE[leave](client)
    assert other.ask("PING") == PONG  # what the kernel knew of the client by then, the server knows now
    assert not server.events("client_disconnected", peer=client.name)
    engine.let_go()
    left = server.wait_left(client)
    committed = line == "COMMIT"
    aborted = line == "START" or (inside and line not in ("COMMIT", "ROLLBACK"))
    assert (left["committed"], left["aborted"]) == (int(committed), int(aborted))
    assert engine.names().count("snapshot") == engine.names().count("snapshot.close") == int(inside or line == "START")
    assert other.get("w") == ("1" if committed else None)
    assert other.get("a") == {"PUT a 1": "1", "DEL a": "0" if inside else None}.get(line, "0")
    figures = other.info("server")
    assert (figures["clients"], figures["open_transactions"]) == (1, 0)
    assert engine.keys("misuse") == []


def test_client_gone_while_its_call_waits_for_a_worker(start_server: StartServer, engine: EngineControl) -> None:
    """A call that has been asked for is made, though it had not begun."""
    server = start_server("--worker-threads", "1", *engine.flags, env=engine.env)
    busy, gone, other = (server.connect() for _ in range(3))
    engine.hold("put")
    busy.send("PUT a 1")
    engine.wait_held()
    gone.send("PUT b 2")
    gone.wait_sent()
    assert other.ask("PING") == PONG
    gone.reset()
    assert other.ask("PING") == PONG
    assert engine.keys("put") == ["a"]
    engine.let_go()
    server.wait_left(gone)
    assert busy.reply() == OK
    assert other.get("b") == "2"


def test_client_whose_call_is_in_flight_counts_as_one(start_server: StartServer, engine: EngineControl) -> None:
    """Or clients that come, ask and go could have any number of calls wait."""
    server = start_server("--max-clients", "2", *engine.flags, env=engine.env)
    gone, other = server.connect(), server.connect()
    engine.hold("put")
    gone.send("PUT a 1")
    engine.wait_held()
    gone.reset()
    assert other.ask("PING") == PONG
    assert [reply["code"] for reply in server.connect().rest()] == ["limit"]
    engine.let_go()
    server.wait_left(gone)
    assert server.connect().get("a") == "1"


def test_exit_behind_a_call_in_flight(watched: Watched) -> None:
    """EXIT waits for its turn; nothing behind it runs."""
    server, engine = watched
    client, other = server.connect(), server.connect()
    engine.hold("put")
    client.send("PUT a 1", "EXIT", "PUT b 1")
    engine.wait_held()
    assert other.ask("PING") == PONG
    engine.let_go()
    assert client.rest() == [OK, OK]
    assert [other.get(key) for key in "ab"] == ["1", None]


def test_exit_does_not_wait_for_the_snapshot(watched: Watched) -> None:
    """The transaction is ended by a worker, once; the client has its reply and its end before that."""
    server, engine = watched
    client, other = server.connect(), server.connect()
    begin(client)
    engine.hold("snapshot.close")
    client.send("EXIT")
    assert client.rest() == [OK]
    client.close()
    engine.wait_held()
    assert other.ask("PING") == PONG
    assert not server.events("client_disconnected", peer=client.name)
    engine.let_go()
    assert server.wait_left(client)["aborted"] == 1
    assert engine.names().count("snapshot.close") == 1


def test_end_of_input_behind_a_call_in_flight(watched: Watched) -> None:
    """Every complete line is answered first, the transaction is aborted, and then the connection ends."""
    server, engine = watched
    client, other = server.connect(), server.connect()
    engine.hold("snapshot")
    client.send_raw(b"PUT a 1\nSTART\nPUT a 2\nGET a\nGET")
    client.half_close()
    engine.wait_held()
    assert other.ask("PING") == PONG
    engine.let_go()
    assert [reply.get("code") for reply in client.rest()] == [None, None, None, None, "usage"]
    client.close()
    assert server.wait_left(client)["aborted"] == 1
    assert other.get("a") == "1"


# Timeouts.


def wait_for_timeout(client: Client) -> None:
    """Open a transaction, and wait until it is ended for its age."""
    client.ok("START")
    assert client.rest()[-1]["code"] == "timeout"


@pytest.mark.parametrize("setting", ["--transaction-timeout-s", "--transaction-idle-timeout-s", "--idle-timeout-s"])
def test_a_commit_in_flight_does_not_time_out(start_server: StartServer, engine: EngineControl, setting: str) -> None:
    """Its outcome is not known yet, and will be told."""
    server = start_server(setting, "0.3", *engine.flags, env=engine.env)
    client = server.connect()
    engine.hold("commit")
    client.send("START", "PUT w 1", "COMMIT")  # at once, or it may time out before it commits
    engine.wait_held()
    wait_for_timeout(server.connect())
    engine.let_go()
    assert client.replies(3) == [OK] * 3
    assert server.connect().get("w") == "1"


def test_a_transaction_that_is_too_old_when_its_call_has_ended(
    start_server: StartServer, engine: EngineControl
) -> None:
    """It gets the answer it waits for, and then its end."""
    server = start_server("--transaction-timeout-s", "0.3", *engine.flags, env=engine.env)
    client = server.connect()
    engine.hold("snapshot.get")
    client.send("START", "PUT w 1", "GET a")  # at once, or the transaction may be ended before it calls
    engine.wait_held()
    wait_for_timeout(server.connect())
    engine.let_go()
    *begun, answer, end = client.rest()
    assert begun == [OK, OK]
    assert answer["result"] is None
    assert end["code"] == "timeout"
    assert "transaction_timeout_s" in end["mesg"]
    client.close()
    assert server.wait_left(client)["aborted"] == 1
    assert engine.names().count("snapshot") == engine.names().count("snapshot.close") == 2


def test_a_client_that_takes_no_replies_is_dropped_with_a_call_in_flight(
    start_server: StartServer, engine: EngineControl
) -> None:
    """The connection is cut when it is time, and the session ended when the call has."""
    flags = ("--output-timeout-s", "0.3", "--max-output-bytes", "64MiB")
    server = start_server(*flags, *engine.flags, env=engine.env)
    client, other = server.connect(receive_buffer_bytes=4096), server.connect()
    other.ok("PUT big " + "x" * (1 << 19))
    begin(client)
    engine.hold("snapshot.scan")
    client.send(*["GET big"] * 16, "KEYS")
    engine.wait_held()
    server.wait_for("client_dropped", peer=client.name)
    assert other.ask("PING") == PONG
    assert not server.events("client_disconnected", peer=client.name)
    engine.let_go()
    assert server.wait_left(client)["aborted"] == 1
    assert other.info("server")["clients_bytes"] < 1 << 10


def test_an_engine_that_blocks_is_found_in_the_settings(start_server: StartServer, engine: EngineControl) -> None:
    """INFO names it, and asks it for its figures."""
    server = start_server(*engine.flags, env=engine.env)
    client = server.connect()
    client.ok("PUT a 1")
    figures = client.info("server")
    assert (figures["engine"], figures["keys"], figures["clients"]) == ("blocking", 1, 1)

"""The bounds on what clients take: their number, their lines, their memory, their share of a tick, unread replies."""

import re
import sys
from collections.abc import Iterator

import pytest

from tests.support.engine_control import EngineControl
from tests.support.harness import OK, PONG, Client, Server, codes, polling

from .conftest import TRANSPORTS_OF_SLOW_TESTS, StartServer, flags_of

if sys.platform == "linux":
    import resource

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and sets the limits of another process")


@pytest.fixture(scope="session", params=TRANSPORTS_OF_SLOW_TESTS)
def transport_flags(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Return the flags that choose the transport under test."""
    return flags_of(request.param)


def ping_each(*clients: Client) -> None:
    """Ping the server from each client in turn; the last of them is served first when all send at once.

    (The kernel keeps the client that was served last at the head of those that may be ready, until it is polled again.)
    """
    for client in clients:
        assert client.ask("PING") == PONG


# Clients.


def test_max_clients(start_server: StartServer) -> None:
    """As many as max_clients are served; one more gets a ``limit`` line and the end; who leaves makes room."""
    server = start_server("--max-clients", "3")
    clients = [server.connect() for _ in range(3)]
    assert [client.ask("PING") for client in clients] == [PONG] * 3
    for _ in range(2):
        (refusal,) = server.connect().rest()
        assert refusal["code"] == "limit"
        assert "max_clients = 3" in refusal["mesg"]
    server.wait_for("client_refused", 2)
    assert [client.ask("PING") for client in clients] == [PONG] * 3
    clients[1].close()
    server.wait_left(clients[1])
    newcomer = server.connect()
    assert newcomer.ask("PING") == PONG
    assert [reply["code"] for reply in server.connect().rest()] == ["limit"]


def test_refused_client_runs_nothing(start_server: StartServer) -> None:
    """A refused client gets its ``limit`` line and an orderly end though it has sent a lot, and none of it runs."""
    server = start_server("--max-clients", "1")
    first = server.connect()
    assert first.ask("PING") == PONG
    refused = server.connect()
    refused.send_behind(b"PUT a 1\n" * 100_000)
    assert [reply["code"] for reply in refused.rest()] == ["limit"]
    assert first.get("a") is None


def test_crowd_of_refused_clients(start_server: StartServer) -> None:
    """Of a crowd at the door every one is told, and they cost the server no place."""
    server = start_server("--max-clients", "2")
    inside = [server.connect() for _ in range(2)]
    assert [client.ask("PING") for client in inside] == [PONG] * 2
    with server.paused():
        crowd = [server.connect() for _ in range(40)]
    for client in crowd:
        assert [reply["code"] for reply in client.rest()] == ["limit"]
        client.close()
    inside[0].close()
    server.wait_left(inside[0])
    assert server.connect().ask("PING") == PONG


@linux_only
def test_max_clients_lowered_to_the_open_files_there_may_be(start_server: StartServer) -> None:
    """Under a small ulimit the server says how many clients it takes, serves so many, and refuses one more."""
    server = start_server(open_files=("-n", "64"))
    lowered = server.wait_for("max_clients_lowered")
    assert lowered["wanted"] == 10_000
    assert lowered["open_files_limit"] == 64
    allowed = lowered["max_clients"]
    assert 0 < allowed < 64
    assert server.events("listening")[0]["max_clients"] == allowed
    clients = [server.connect() for _ in range(allowed)]
    assert [client.ask("PING") for client in clients] == [PONG] * allowed
    assert [reply["code"] for reply in server.connect().rest()] == ["limit"]
    assert not server.events("accept_failed")


@linux_only
def test_soft_limit_on_open_files_is_raised(start_server: StartServer) -> None:
    """A small soft limit under a sufficient hard one lowers nothing."""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 400:
        pytest.skip("the hard limit is too small")
    server = start_server("--max-clients", "200", open_files=("-S", "-n", "64"))
    assert not server.events("max_clients_lowered")
    clients = [server.connect() for _ in range(100)]
    assert [client.ask("PING") for client in clients] == [PONG] * 100


@pytest.fixture
def starved(start_server: StartServer) -> Iterator[Server]:
    """Return a server; whatever becomes of it, it can open files again when the test is over."""
    server = start_server(expect=("accept_failed",))
    limits = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    yield server
    if server.exit_code is None:
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, limits)


@linux_only
def test_running_out_of_descriptors(starved: Server) -> None:
    """When accept fails the server lives, serves who is there, logs it once, and goes on when it can."""
    server = starved
    stays = server.connect()
    leaving = [server.connect() for _ in range(20)]
    for client in (stays, *leaving):
        assert client.ask("PING") == PONG
    _, hard = limits = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (0, hard))
    waiting = [server.connect() for _ in range(5)]
    server.wait_for("accept_failed")
    for client in leaving:  # each of them makes the server try again, in vain
        client.close()
        server.wait_left(client)
        assert stays.ask("PING") == PONG
    stays.ok("START", "PUT a 1", "COMMIT")
    assert all(client.nothing_has_come() for client in waiting)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, limits)
    for client in waiting:
        assert client.get("a") == "1"
    assert server.connect().ask("PING") == PONG
    assert server.stop() == 0
    assert len(server.events("accept_failed")) == 1


# Lines.


@pytest.fixture(scope="module")
def longest_line(transport_flags: tuple[str, ...]) -> Iterator[tuple[Server, int]]:
    """Return a server with small limits, and the length of the longest line it reads."""
    with Server(*transport_flags, "--max-key-bytes", "10", "--max-value-bytes", "100") as server:
        client = server.connect()
        client.send("x" * 10_000)
        (reply,) = client.rest()
        assert reply["code"] == "too_large"
        found = re.search(r"longer than (\d+) bytes", reply["mesg"])
        assert found is not None
        assert int(found[1]) > len("ROLLBACK  ") + 10 + 100
        yield server, int(found[1])


@pytest.mark.parametrize("size", [1, 64, 1 << 20], ids=["bytewise", "pieces", "whole"])
def test_over_long_line(longest_line: tuple[Server, int], size: int) -> None:
    """A line of every length is answered; only one longer than all limits together ends the connection."""
    server, longest = longest_line
    for length in (longest - 1, longest, longest + 1):
        client = server.connect()
        data = b"PUT k " + b"v" * (length - 6) + b"\nPING\n"
        client.send("PING")
        for at in range(0, len(data) - 6, size):
            client.send_raw(data[at : min(at + size, len(data) - 6)])
        if length <= longest:
            client.send_raw(data[-6:])
            replies = client.replies(3)
            assert [reply.get("code") for reply in replies] == [None, "too_large", None]
        else:
            assert [reply.get("code") for reply in client.rest()] == [None, "too_large"]
        client.close()


def test_over_long_line_behind_others_in_one_packet(longest_line: tuple[Server, int]) -> None:
    """What precedes an over-long line is answered, what follows it is not run, and the end is orderly."""
    server, longest = longest_line
    client = server.connect()
    client.send("PUT a 1", "GET a", "x" * (longest + 1), "PUT a 2")
    assert [reply.get("code") for reply in client.rest()] == [None, None, "too_large"]
    assert server.connect().get("a") == "1"


def test_endless_line(longest_line: tuple[Server, int]) -> None:
    """A client that sends megabytes without a line's end is told, and costs no memory."""
    server, _ = longest_line
    before = server.peak_rss_bytes() if sys.platform == "linux" else 0
    client = server.connect()
    client.send_behind(b"x" * (8 << 20))
    assert [reply["code"] for reply in client.rest()] == ["too_large"]
    if sys.platform == "linux":
        assert server.peak_rss_bytes() - before < 4 << 20


# The memory of all clients.


def test_max_clients_bytes(server: Server, start_server: StartServer) -> None:
    """At max_clients_bytes new work is refused with ``limit``, what gives memory back is not; below it all is well."""
    holder = server.connect()
    holder.ok("START", "PUT a " + "1" * 100_000)
    size = holder.info("server")["clients_bytes"]
    assert size > 100_000
    server = start_server("--max-clients-bytes", str(size))
    holder, other = server.connect(), server.connect()
    for length, code in ((99_999, None), (100_000, "limit"), (100_001, "limit")):
        holder.ok("START", "PUT a " + "1" * length)
        assert codes(other, "PUT b 1", "START") == [code, code]
        assert codes(other, "PING", "INFO", "ROLLBACK" if code is None else "PING") == [None] * 3
        assert codes(holder, "GET a") == [code]
        holder.ok("COMMIT")
        assert codes(other, "GET b", "PUT b 2") == [None, None]
        assert len(other.get("a") or "") == length


def test_unfinished_input_counts_against_max_clients_bytes(start_server: StartServer) -> None:
    """A client that sends an endless value when the memory is used up gets ``limit`` for it, and may go on."""
    server = start_server("--max-clients-bytes", "200000")
    client, other = server.connect(), server.connect()
    client.send_behind(b"PUT big " + b"x" * (8 << 20) + b"\n")
    assert client.reply()["code"] == "limit"
    assert codes(client, "PUT small 1") == [None]
    assert other.info("server")["keys"] == 1
    assert other.info("server")["clients_bytes"] < 1000


def test_commit_typed_slowly_when_memory_is_used_up(start_server: StartServer) -> None:
    """What gives memory back runs when the memory is used up, however its line is cut into packets."""
    server = start_server("--max-clients-bytes", "100000")
    holder = server.connect()
    holder.ok("START", "PUT a " + "1" * 100_000)
    for byte in b"COMMIT\n":
        holder.send_raw(bytes([byte]))
        assert server.connect().ask("PING") == PONG  # the byte has been read when another client is answered
    assert holder.reply() == OK


# What one client may do in a tick, and how much it may leave unread.


def test_flood_does_not_starve_another(server: Server) -> None:
    """While one client's flood waits, another's requests run: they are behind it in time, and done before it."""
    flood, other = server.connect(), server.connect()
    ping_each(other, flood)
    with server.paused():
        flood.send(*["PING"] * 8000, "GET marker")
        flood.wait_sent()
        other.send("PUT marker overtook")
        other.wait_sent()
    assert other.reply() == OK
    assert flood.replies(8001)[-1]["result"] == "overtook"


@pytest.mark.parametrize("command", ["KEYS", "COUNT", "INFO", "NONSENSE"])
def test_flood_of_costly_commands(server: Server, command: str) -> None:
    """Commands that cost more than others count for more."""
    flood, other = server.connect(), server.connect()
    ping_each(other, flood)
    with server.paused():
        flood.send(*[command] * 200, "GET marker")
        flood.wait_sent()
        other.send("PUT marker overtook")
        other.wait_sent()
    assert other.reply() == OK
    assert flood.replies(201)[-1]["result"] == "overtook"


def test_flood_of_large_replies(start_server: StartServer) -> None:
    """Requests whose replies are large make way for others too, though they be few."""
    server = start_server("--max-tick-output-bytes", "100000")
    flood, other = server.connect(), server.connect()
    flood.ok("PUT big " + "x" * 50_000)
    ping_each(other, flood)
    with server.paused():
        flood.send(*["GET big"] * 15, "GET marker")
        flood.wait_sent()
        other.send("PUT marker overtook")
        other.wait_sent()
    assert other.reply() == OK
    assert flood.replies(16)[-1]["result"] == "overtook"


def test_max_tick_requests(start_server: StartServer, engine: EngineControl, transport_flags: tuple[str, ...]) -> None:
    """In one tick a client runs max_tick_requests and no more."""
    if "etcd" in transport_flags:
        pytest.skip("the engine under test is another one, and etcd's options are not its own")
    server = start_server("--max-tick-requests", "10", *engine.flags, env=engine.env)
    flood, other = server.connect(), server.connect()
    for requests in (9, 10, 11, 30):
        ping_each(other, flood)
        engine.clear()
        numbers = [f"flood{number}" for number in range(requests)]
        with server.paused():
            flood.send(*(f"GET {number}" for number in numbers))
            flood.wait_sent()
            other.send("GET other")
            other.wait_sent()
        assert flood.replies(requests)[-1]["result"] is None
        assert other.reply()["result"] is None
        ticks = [[key for call in tick for key in call.keys] for tick in engine.ticks()]
        expected = [[*numbers[:10], "other"], numbers[10:20], numbers[20:]]
        assert [tick for tick in ticks if tick] == [tick for tick in expected if tick]


def test_client_that_does_not_read_is_not_served_on(start_server: StartServer) -> None:
    """Beyond max_output_bytes of unread replies nothing more runs for a client, until it reads; then all does."""
    server = start_server("--max-output-bytes", "100000", "--max-tick-output-bytes", "100000")
    client, other = server.connect(receive_buffer_bytes=4096), server.connect()
    other.ok("PUT big " + "x" * 100_000)
    client.send(*["GET big"] * 200, "PUT done 1")
    for _ in polling("the server holds replies for it"):
        if other.info("server")["clients_bytes"] > 100_000:
            break
    for _ in range(300):  # as many ticks: a client that were served on would be through with its 200
        assert other.get("done") is None
    assert other.info("server")["clients_bytes"] < 400_000
    assert all(len(reply["result"]) == 100_000 for reply in client.replies(200))
    assert client.reply() == OK
    assert other.get("done") == "1"


def test_server_stops_reading_from_client_that_does_not_read(start_server: StartServer) -> None:
    """The input of a client that does not read its replies stays in the kernel, and costs the server nothing."""
    server = start_server("--max-output-bytes", "100000")
    client, other = server.connect(receive_buffer_bytes=4096), server.connect()
    other.ok("PUT big " + "x" * 100_000)
    client.send_behind(b"GET big\n" * 200 + b"PUT padding " + b"p" * (12 << 20) + b"\n")
    for _ in polling("the server holds replies for it"):
        if other.info("server")["clients_bytes"] > 100_000:
            break
    for _ in range(300):
        assert other.info("server")["clients_bytes"] < 4 << 20
    assert all(len(reply["result"]) == 100_000 for reply in client.replies(200))
    assert client.reply() == OK

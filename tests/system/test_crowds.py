"""Many clients: those that never read, those that are idle, and those that work meanwhile."""

import resource
import sys
from collections.abc import Iterator

import pytest

from tests.support.harness import OK, PONG, Client, Server, polling

from .conftest import FULL_SCALE, TRANSPORTS_OF_SLOW_TESTS, StartServer, flags_of

MIB = 1 << 20


@pytest.fixture(scope="session", params=TRANSPORTS_OF_SLOW_TESTS)
def transport_flags(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Return the flags that choose the transport under test."""
    return flags_of(request.param)


def work(clients: list[Client], rounds: int) -> None:
    """Have every client run transactions of its own, at the same time as the others, and check every reply."""
    for turn in range(rounds):
        for number, client in enumerate(clients):
            key, value = f"work.{number}", f"{number}.{turn}"
            client.send("START", f"PUT {key} {value}", f"GET {key}", "COMMIT", f"GET {key}", f"DEL {key}", f"GET {key}")
        for number, client in enumerate(clients):
            seen = {"status": "Ok", "result": f"{number}.{turn}"}
            replies = client.replies(7)
            assert replies[:6] == [OK, OK, seen, OK, seen, {"status": "Ok", "result": True}]
            assert replies[6]["result"] is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory of a process from /proc")
def test_clients_that_never_read(start_server: StartServer) -> None:
    """A hundred clients that ask for a gigabyte and read nothing cost a stated sum; ten others are served meanwhile.

    The bound: for each of the hundred max_output_bytes, what one tick adds to that, and 256 KiB for its input and
    whatever else it takes; 32 MiB for everything else.
    """
    max_output_bytes = max_tick_output_bytes = MIB // 2
    server = start_server(
        *("--max-output-bytes", str(max_output_bytes), "--max-tick-output-bytes", str(max_tick_output_bytes))
    )
    workers = [server.connect() for _ in range(10)]
    workers[0].ok("PUT big " + "x" * 100_000)
    before = server.rss_bytes()
    silent = [server.connect(receive_buffer_bytes=4096) for _ in range(100)]
    for client in silent:
        client.send("START", "PUT lost 1", *["GET big"] * 100, "COMMIT")
    for _ in polling("every one of them is owed as much as it may be"):
        work(workers, 3)
        if workers[0].info("server")["clients_bytes"] >= len(silent) * max_output_bytes:
            break
    work(workers, 30)
    used = server.peak_rss_bytes() - before
    assert used < len(silent) * (max_output_bytes + max_tick_output_bytes + MIB // 4) + 32 * MIB
    assert workers[0].get("lost") is None
    assert all(len(reply.get("result", "")) in (0, 100_000) for reply in silent[0].replies(103))
    assert workers[0].get("lost") == "1"
    for client in silent:
        client.reset()
    server.wait_for("client_disconnected", len(silent))
    assert workers[0].info("server")["clients_bytes"] < MIB
    work(workers, 3)


def test_memory_of_all_clients_is_bounded(start_server: StartServer) -> None:
    """When clients that do not read hold max_clients_bytes, others get ``limit`` until that is over, and no worse."""
    server = start_server("--max-clients-bytes", str(4 * MIB))
    other = server.connect()
    other.ok("PUT big " + "x" * 100_000)
    silent = [server.connect(receive_buffer_bytes=4096) for _ in range(20)]
    for _ in polling("the memory is used up"):
        for client in silent:  # until the kernel takes no more; some are refused on the way there
            client.send(*["GET big"] * 10)
        if other.ask("GET big").get("code") == "limit":
            break
    assert other.info("server")["clients_bytes"] < 4 * MIB + len(silent) * 2 * MIB
    for client in silent:
        client.close()
    server.wait_for("client_disconnected", len(silent))
    other.ok("PUT big 1")


@pytest.fixture
def crowd_size() -> Iterator[tuple[int, int]]:
    """Return how many idle and busy clients there are to be, with as many open files allowed as that takes."""
    idle, busy = (10_000, 200) if FULL_SCALE else (1000, 50)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = idle + busy + 200
    if hard != resource.RLIM_INFINITY and hard < needed + 1000:
        pytest.skip(f"{needed + 1000} open files are needed, and only {hard} allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    yield idle, busy
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_many_idle_and_some_busy(start_server: StartServer, crowd_size: tuple[int, int]) -> None:
    """Thousands of idle connections and many busy ones are all served (10,000 and 200 with TEST_FULL_SCALE=1)."""
    idle_count, busy_count = crowd_size
    server = start_server("--max-clients", "11000")
    idle = [server.connect() for _ in range(idle_count)]
    busy = [server.connect() for _ in range(busy_count)]
    work(busy, 20)
    assert busy[0].info("server")["clients"] == idle_count + busy_count
    for client in idle:
        client.send("PING")
    work(busy, 5)
    assert all(client.reply() == PONG for client in idle)
    for client in idle:
        client.close()
    server.wait_for("client_disconnected", idle_count)
    work(busy, 5)


def test_storm_of_connections(server: Server) -> None:
    """Many that connect at once are all served, and so is one that is there already."""
    there = server.connect()
    assert there.ask("PING") == PONG
    with server.paused():
        storm = [server.connect() for _ in range(500)]
        for client in storm:
            client.send("PING")
        there.send("PING")
    assert there.reply() == PONG
    assert all(client.reply() == PONG for client in storm)

"""Memory that nobody needs any more is given back, though no request comes."""

import time

import pytest

from kvs.allocator import memory_figures
from tests.support.harness import Client, polling
from tests.support.resp_wire import Wire

from .conftest import StartServer

MIB = 1 << 20
VALUE = "v" * 2000


@pytest.fixture(scope="session")
def transport_flags() -> tuple[str, ...]:
    """Return no flags: no transport has a say in this."""
    return ()


def put(client: Client, keys: int, prefix: str = "k") -> None:
    """Store this many values, many at a time."""
    for first in range(0, keys, 1000):
        client.ok(*(f"PUT {prefix}{number} {VALUE}" for number in range(first, min(keys, first + 1000))))


@pytest.mark.skipif("malloc_bytes" not in memory_figures(), reason="this C library gives nothing back")
def test_what_transactions_held_is_given_back(start_server: StartServer) -> None:
    """After they have been closed nothing is counted, and most of it is not resident any more."""
    server = start_server()
    server.connect().ok("PUT k v")
    before = server.rss_bytes()
    clients = [server.connect() for _ in range(3)]
    for client in clients:
        client.ok("START")
        put(client, 10_000)
    full = server.rss_bytes()
    assert full > before + 50 * MIB
    for client in clients:
        client.ok("ROLLBACK")
    figures = clients[0].info("server")
    assert figures["clients_bytes"] < MIB
    assert figures["history_bytes"] == 0
    for _ in polling("most of it is given back"):
        if server.rss_bytes() < before + (full - before) / 3:
            return


def test_history_is_collected_though_no_request_comes(start_server: StartServer) -> None:
    """After its last snapshot has closed. Each look is a tick itself, but so few would not come to an end."""
    keys, looks = 40_000, 100
    server = start_server("--max-history-bytes", "1GB")
    client, reader = server.connect(), server.connect()
    for value in ("1", "2"):
        reader.ok("START") if value == "2" else None
        for first in range(0, keys, 2000):
            client.ok(*(f"PUT k{number} {value}" for number in range(first, first + 2000)))
    assert client.info("server")["history_bytes"] > keys * 160
    reader.close()
    for _ in range(looks):
        if client.info("server")["history_bytes"] == 0:
            return
        time.sleep(0.2)
    pytest.fail("history is still there")


@pytest.mark.skipif("malloc_bytes" not in memory_figures(), reason="this C library gives nothing back")
@pytest.mark.parametrize("way", ["expire", "delete"])
def test_what_a_hundred_thousand_keys_took_is_given_back(start_server: StartServer, way: str) -> None:
    """However they go: the table of keys, their index, that of deadlines, and the objects themselves."""
    count = 100_000
    server = start_server("--slowlog-log-slower-than", "-1")
    with Wire(("127.0.0.1", server.port)) as client:
        client.ask("SET", "k", "v")
        before = server.rss_bytes()
        for lasts_ms in (2000, 20_000, 60_000):  # longer if the machine is too slow for all to be there at once
            due_ms = int(time.time() * 1000) + lasts_ms
            for first in range(0, count, 1000):
                entries = [word for number in range(first, first + 1000) for word in (f"key:{number:09}", "v" * 100)]
                options = ("PXAT", due_ms) if way == "expire" else ()
                assert client.ask("MSETEX", 1000, *entries, *options) == 1
            full = server.rss_bytes()
            if client.ask("DBSIZE") == count + 1:
                break
        assert full > before + count * 150
        for first in range(0, count if way == "delete" else 0, 1000):
            client.ask("DEL", *(f"key:{number:09}" for number in range(first, first + 1000)))
        for _ in polling("all are gone"):
            if client.ask("DBSIZE") == 1:
                break
        for _ in polling("most of it is given back"):
            if server.rss_bytes() < before + (full - before) / 3:
                return

"""The tick: what has come is executed, then made durable, then answered.

The engine is a small package that is found by its entry point. It tells a test of every call and waits to be told what
to do, so that the order of calls and replies is certain.
"""

import json
from contextlib import suppress

import pytest

from tests.support.engine_control import EngineControl
from tests.support.harness import OK, PONG, Client

from .conftest import TRANSPORTS_ALONE, StartServer, Watched, flags_of


@pytest.fixture(scope="session", params=TRANSPORTS_ALONE)
def transport_flags(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Return the flags that choose the transport under test."""
    return flags_of(request.param)


@pytest.mark.parametrize("line", ["PUT a 1", "GET a", "DEL a", "KEYS", "COUNT", "START", "PING", "NONSENSE", "EXIT"])
def test_no_reply_before_sync(watched: Watched, line: str) -> None:
    """No reply leaves before the ``sync`` of its tick, be it of a write, a read or an error."""
    server, engine = watched
    client = server.connect()
    assert client.ask("PING") == PONG
    engine.hold("sync")
    client.send(line)
    engine.wait_held()
    assert client.nothing_has_come()
    engine.let_go()
    assert client.reply()["status"] == ("Error" if line == "NONSENSE" else "Ok")


def test_no_reply_of_a_long_tick_before_sync(start_server: StartServer, engine: EngineControl) -> None:
    """No output leaves a tick early, however large it is."""
    server = start_server(
        "--max-tick-output-bytes", "16MiB", "--max-output-bytes", "64KiB", *engine.flags, env=engine.env
    )
    client = server.connect()
    client.ok("PUT big " + "x" * 5_000)
    engine.hold("sync")
    client.send(*["GET big"] * 20)
    engine.wait_held()
    assert engine.names().count("get") == 20
    assert client.nothing_has_come()
    engine.let_go()
    assert all(len(reply["result"]) == 5_000 for reply in client.replies(20))


def test_nobody_reads_what_is_not_durable(watched: Watched) -> None:
    """A read that sees another's commit is answered only after the ``sync`` that makes it durable."""
    server, engine = watched
    writer, reader = server.connect(), server.connect()
    assert [writer.ask("PING"), reader.ask("PING")] == [PONG, PONG]
    engine.clear()
    with server.paused():
        writer.send("START", "PUT a 1", "COMMIT", "PUT b 1")
        writer.wait_sent()
        reader.send("GET a", "GET b")
        reader.wait_sent()
        engine.hold("sync")
    engine.wait_held()
    assert {"commit", "put", "get"} <= set(engine.names())
    assert writer.nothing_has_come()
    assert reader.nothing_has_come()
    engine.let_go()
    assert writer.replies(4) == [OK] * 4
    assert len(reader.replies(2)) == 2


def test_one_sync_serves_many_clients(watched: Watched) -> None:
    """What many clients have sent by the beginning of a tick takes one ``sync``."""
    server, engine = watched
    clients = [server.connect() for _ in range(50)]
    assert [client.ask("PING") for client in clients] == [PONG] * 50
    engine.clear()
    with server.paused():
        for number, client in enumerate(clients):
            client.send(f"PUT k{number} 1", f"GET k{number}")
        for client in clients:
            client.wait_sent()
    for client in clients:
        assert client.replies(2) == [OK, {"status": "Ok", "result": "1"}]
    ticks = [tick for tick in engine.ticks() if tick]
    assert [len(tick) for tick in ticks] == [100]
    assert engine.names().count("sync") < 10  # one, and a few in which nothing was to be done


def test_replies_of_one_tick_do_not_wait_for_the_next(watched: Watched) -> None:
    """After its ``sync`` a tick's replies leave, though the next tick's ``sync`` takes long."""
    server, engine = watched
    one, two = server.connect(), server.connect()
    assert [one.ask("PING"), two.ask("PING")] == [PONG, PONG]
    engine.hold("sync")
    one.send("PUT a 1")
    engine.wait_held()
    two.send("PUT b 1")
    two.wait_sent()
    assert engine.keys("put") == ["a"]
    engine.step()
    assert one.reply() == OK
    engine.wait_held()
    assert engine.keys("put") == ["a", "b"]
    assert two.nothing_has_come()
    engine.let_go()
    assert two.reply() == OK


def test_failed_sync_is_the_end(watched: Watched) -> None:
    """When ``sync`` raises, who waits for a reply is told so, everybody is disconnected, and the exit code is 1."""
    server, engine = watched
    writer, reader, idle = (server.connect() for _ in range(3))
    assert [client.ask("PING") for client in (writer, reader, idle)] == [PONG] * 3
    with server.paused():
        writer.send("PUT a 1", "START", "PUT b 1", "COMMIT")
        writer.wait_sent()
        reader.send("GET a", "PING")
        reader.wait_sent()
        engine.answer("sync", "raise_bug")
    assert server.wait_exit() == 1
    for client in (writer, reader):
        assert last_words(client) == ["outcome_unknown"]
    assert last_words(idle) == []
    assert server.events("sync_failed")
    assert server.events("stopped")[0]["exit_code"] == 1
    assert engine.names().count("close") == 1


def last_words(client: Client) -> list[str]:
    """Return the codes of the replies that come before the connection ends, in whatever way."""
    output = b""
    with suppress(ConnectionError):
        while data := client.socket.recv(1 << 16):
            output += data
    return [json.loads(line).get("code", "") for line in output.splitlines()]


@pytest.mark.parametrize("answer", ["raise_limit", "raise_unavailable", "raise_outcome_unknown"])
def test_whatever_sync_raises_is_the_end(watched: Watched, answer: str) -> None:
    """A ``sync`` that raises what a command may raise is no less the end."""
    server, engine = watched
    client = server.connect()
    assert client.ask("PING") == PONG
    engine.answer("sync", answer)
    client.send("PUT a 1")
    assert server.wait_exit() == 1
    assert last_words(client) == ["outcome_unknown"]

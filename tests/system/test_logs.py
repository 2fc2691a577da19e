"""What is in the log, and what is not."""

import os
import socket
import subprocess
import sys

import pytest

from tests.support.engine_control import EngineControl
from tests.support.harness import OK, PONG, TIMEOUT_S, Server, polling

from .conftest import StartServer

MARKER = "M4RK3R-0F-A-VALUE"


@pytest.fixture(scope="session")
def transport_flags() -> tuple[str, ...]:
    """Return no flags: no transport has a say in this."""
    return ()


def test_events_of_a_life(start_server: StartServer) -> None:
    """One event each tells of listening, of a client's coming and leaving, and of stopping, with these fields."""
    server = start_server()
    client, connected = server.connect_known()
    assert connected["level"] == "info"
    other = server.connect()
    client.ok("START", "PUT a 1", "COMMIT", "START", "GET a")
    other.ok("PUT a 2")
    client.ok("PUT b 1")
    assert client.ask("COMMIT")["code"] == "conflict"
    client.ok("START", "ROLLBACK", "START", "START", "PING")
    client.close()
    left = server.wait_left(client)
    assert left["session"] == connected["session"]
    assert left["commands"] == 12
    assert (left["committed"], left["conflicted"], left["aborted"]) == (1, 1, 1)
    other.close()
    server.wait_left(other)
    assert server.stop() == 0
    assert [event["event"] for event in server.events()] == [
        "listening",
        *["client_connected"] * 2,
        *["client_disconnected"] * 2,
        *["stopping", "stopped"],
    ]
    listening = server.events("listening")[0]
    assert (listening["host"], listening["port"]) == ("127.0.0.1", server.port)
    for event in server.events():
        assert event["timestamp"].endswith("Z")


def test_sessions_have_numbers_of_their_own(server: Server) -> None:
    """No two clients have the same session id, and INFO tells it."""
    numbers = set()
    for _ in range(5):
        client, connected = server.connect_known()
        assert client.info("session")["id"] == connected["session"]
        numbers.add(connected["session"])
        client.close()
    assert len(numbers) == 5


def test_nothing_is_logged_per_command(server: Server) -> None:
    """Requests of every kind, errors and conflicts included, leave no trace in the log."""
    client, _ = server.connect_known()
    other, _ = server.connect_known()
    before = server.log
    for _ in range(200):
        client.send("PUT a 1", "GET a", "DEL a", "KEYS", "COUNT", "INFO", "HELP", "NONSENSE", "", b"\xff", "COMMIT")
        client.send("START", "START", "PUT b 1", "ROLLBACK", "GET c", "PUT d 1")
        client.replies(17)
        other.ok("PUT c 1")
        assert client.ask("COMMIT")["code"] == "conflict"
    client.close()
    server.wait_left(client)
    assert len(server.log.splitlines()) == len(before.splitlines()) + 1


HOSTILE = [
    b"GET /\x1b[31mred\x07\x08\x7f HTTP/1.1\n",
    b"GET /\xc2\x9b2J\xe2\x80\xae\xe2\x80\xa8forged HTTP/1.1\n",
    b'GET\r{"event":"forged"} /x HTTP/1.1\n',
    b'\x16\x03\x01\n{"event": "forged"}\n\x1b]0;title\x07',
    b"X\x1b[2J\x0b\x0c\xc2\x85: y\n",
    b"\xe2\x80\xa8forged:\n",
]
"""What would drive a terminal, or forge a line, if it came into the log as it is."""


@pytest.mark.one_build
@pytest.mark.parametrize("form", ["json", "console"])
def test_hostile_bytes_are_escaped(start_server: StartServer, form: str) -> None:
    """Whatever a client sends, in either format, nothing of it can forge a line or drive a terminal."""
    server = start_server("--log-format", form, json_log=form == "json")
    for hostile in HOSTILE:
        client = server.connect()
        client.send_raw(hostile)
        client.half_close()
        client.rest()
        client.close()
    assert server.stop() == 0
    assert server.log.count(b"protocol_refused") == len(HOSTILE)
    for line in server.log.decode().split("\n"):
        assert line.isprintable(), line
        assert not line.lstrip().startswith(("forged", '{"event"'))
    assert not server.events("forged")


def test_values_are_never_logged(start_server: StartServer) -> None:
    """No part of a value is in the log, whatever is wrong with the request that brings it."""
    server = start_server("--max-value-bytes", "100", "--max-transaction-bytes", "3000", "--log-level", "debug")
    client, other = server.connect(), server.connect()
    client.ok(f"PUT a {MARKER}", "GET a", "START", "GET a", f"PUT b {MARKER}")
    other.ok(f"PUT a {MARKER}")
    assert client.ask("COMMIT")["code"] == "conflict"
    for line in (f"PUT a {MARKER * 20}", f"PUTT a {MARKER}", f"PUT  {MARKER}", f"PUT a {MARKER}\xff".encode("latin1")):
        assert client.ask(line)["status"] == "Error"
    client.send_raw(f"PUT a {MARKER}".encode())
    client.half_close()
    client.rest()
    for opening in (f"POST / HTTP/1.1\r\nHost: x\r\n\r\nPUT a {MARKER}\r\n", f"PUT a {MARKER}" * 200):
        client = server.connect()
        client.send_raw(opening.encode())
        client.half_close()
        assert client.rest()[-1]["status"] == "Error"
    other.close()
    assert server.stop() == 0
    assert MARKER.encode() not in server.log


def test_value_that_ends_like_http_is_not_logged(server: Server) -> None:
    """A first line that is refused because its value looks like HTTP does not bring the value into the log."""
    client = server.connect()
    client.send(f"PUT note {MARKER} HTTP/1.1")
    assert [reply["code"] for reply in client.rest()] == ["protocol"]
    server.wait_for("protocol_refused")
    assert MARKER.encode() not in server.log


def test_values_are_not_logged_when_an_engine_fails(start_server: StartServer, engine: EngineControl) -> None:
    """The report of an engine's failure names no value."""
    server = start_server(*engine.flags, env=engine.env, expect=("engine_failed",))
    client = server.connect()
    engine.answer("put", "raise_bug")
    engine.answer("commit", "raise_bug")
    assert client.ask(f"PUT a {MARKER}")["code"] == "outcome_unknown"
    client.ok("START", f"PUT a {MARKER}")
    assert client.ask("COMMIT")["code"] == "outcome_unknown"
    server.wait_for("engine_failed", 2)
    assert MARKER.encode() not in server.log


def test_refusals_are_logged(start_server: StartServer) -> None:
    """One event each tells of a client that found no place and of one that spoke another protocol."""
    server = start_server("--max-clients", "1")
    inside = server.connect()
    assert inside.ask("PING") == PONG
    outside = server.connect()
    outside.rest()
    assert server.wait_for("client_refused")["peer"] == outside.name
    outside.close()
    inside.send("Host: localhost")
    inside.rest()
    session = server.wait_for_one("client_connected")["session"]
    refused = server.wait_for_one("protocol_refused")
    assert (refused["session"], refused["peer"]) == (session, inside.name)
    assert len(server.events("client_refused")) == 1


@pytest.mark.one_build
def test_log_level(start_server: StartServer) -> None:
    """What is less severe than the level is left out."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = start_server("--log-level", "warning", "--max-clients", "1", "--port", str(port), listens=False)
    server.port = port
    for _ in polling("the server listens"):
        try:
            inside = server.connect()
            break
        except ConnectionRefusedError:
            pass
    assert inside.ask("PING") == PONG
    server.connect().rest()
    server.wait_for("client_refused")
    server.close_clients()
    assert server.stop() == 0
    assert [event["level"] for event in server.events()] == ["warning"]


@pytest.mark.one_build
def test_console_on_a_terminal_and_json_elsewhere() -> None:
    """Without a choice of format a terminal gets text, anything else JSON (which every other test here relies on)."""
    pty = pytest.importorskip("pty")
    leader, follower = pty.openpty()
    with os.fdopen(leader, "rb", buffering=0) as terminal:
        process = subprocess.Popen(
            [sys.executable, "-m", "kvs", "--port", "0"],
            env={name: value for name, value in os.environ.items() if not name.startswith("KVS_")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=follower,
        )
        try:
            os.close(follower)
            shown = terminal.read(1000)
            assert b"listening" in shown
            assert not shown.startswith(b"{")
        finally:
            process.terminate()
            assert process.wait(TIMEOUT_S) == 0


@pytest.mark.one_build
def test_unknown_environment_variable_is_reported(start_server: StartServer) -> None:
    """A variable that looks like a setting and is none gets a warning that names it."""
    server = start_server(env={"KVS_MAX_CLIENT": "5"})
    assert server.wait_for_one("unknown_environment_variable")["variable"] == "KVS_MAX_CLIENT"
    assert server.connect().ask("PUT a 1") == OK

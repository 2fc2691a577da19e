"""A socket in the file system: who may connect, what is there at the start, and what is left at the stop."""

import os
import signal
import socket
import stat
from pathlib import Path

import pytest

from tests.support.harness import Server, run_to_end
from tests.support.resp_wire import OK, Wire
from tests.support.resp_wire import PONG as WIRE_PONG

from .conftest import StartServer, flags_of


@pytest.fixture(scope="session", params=["default", pytest.param("asyncio", marks=pytest.mark.variant)])
def transport_flags(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Return the flags that choose the transport."""
    return flags_of(request.param)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the socket is."""
    return tmp_path / "kvs.sock"


def test_clients_at_a_socket(start_server: StartServer, path: Path) -> None:
    """They are shown as Redis shows them, beside those at the port; the socket goes with the server."""
    server = start_server("--unix-socket", str(path), "--unix-socket-mode", "660")
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    with Wire(path) as wire:
        assert wire.ask("SET", "a", "1") == OK
        line = str(wire.ask("CLIENT", "LIST"))
        assert f" addr={path}:0 laddr={path}:0 " in line
        assert " flags=U " in line
        assert server.connect().get("a") == "1"
    server.wait_for("listening", 2)
    assert server.stop() == 0
    assert not path.exists()


@pytest.mark.one_build
def test_what_is_at_the_path(path: Path) -> None:
    """A socket that nobody answers at is replaced; one of a server, or anything else, is not touched."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with Server("--unix-socket", str(path)) as server:
        with Wire(path) as wire:
            assert wire.ask("PING") == WIRE_PONG
        refused = run_to_end("--port", "0", "--unix-socket", str(path))
        assert refused.returncode == 1
        assert f"cannot listen on {path}: address already in use" in refused.stderr
        with server.paused():
            refused = run_to_end("--port", "0", "--unix-socket", str(path))
            assert refused.returncode == 1
        server.send_signal(signal.SIGKILL)
        server.wait_exit()
    assert path.exists()
    with Server("--unix-socket", str(path)), Wire(path) as wire:
        assert wire.ask("PING") == WIRE_PONG
    path.write_text("mine")
    refused = run_to_end("--port", "0", "--unix-socket", str(path))
    assert f"cannot listen on {path}: it is there, and no socket" in refused.stderr
    assert path.read_text() == "mine"


@pytest.mark.one_build
def test_a_socket_of_another_server_is_left(path: Path) -> None:
    """Whoever has replaced it."""
    with Server("--unix-socket", str(path)) as server:
        os.unlink(path)  # noqa: PTH108
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
            assert server.stop() == 0
            assert path.exists()


@pytest.mark.one_build
def test_where_no_socket_can_be(tmp_path: Path) -> None:
    """It is told in a line."""
    for path in (tmp_path / "none" / "kvs.sock", tmp_path / ("x" * 200)):
        refused = run_to_end("--port", "0", "--unix-socket", str(path))
        assert refused.returncode == 1
        assert refused.stderr.startswith(f"kvs: cannot listen on {path}: ")
        assert refused.stderr.count("\n") == 1


def test_the_own_user_needs_no_secret(start_server: StartServer, path: Path, tmp_path: Path) -> None:
    """At the socket; everyone does at the port."""
    password = tmp_path / "password"
    password.write_text("secret")
    password.chmod(0o600)
    server = start_server("--unix-socket", str(path), "--password-file", str(password))
    with Wire(path) as wire:
        assert wire.ask("DEL", *(f"k{number}" for number in range(12))) == 0
        assert wire.ask("SET", "a", "1" * 20_000) == OK
    with Wire(path) as wire:  # what strangers may not send, as the first request
        assert wire.ask("SET", "a", "1" * 20_000) == OK
    client = server.connect()
    client.send("GET a", "EXIT")
    assert b'"unauthenticated"' in client.raw_rest()

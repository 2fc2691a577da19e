"""Why a client has left: what ``client_disconnected`` says."""

from collections.abc import Callable

import pytest

from tests.support.harness import PONG, Client, Server
from tests.support.resp_wire import request

from .conftest import StartServer


def close(client: Client, _: Server) -> None:
    """The client closes its socket."""
    client.close()


def half_close(client: Client, _: Server) -> None:
    """It shuts down its side, in the middle of a request."""
    client.send_raw(b"PUT a")
    client.half_close()


def reset(client: Client, _: Server) -> None:
    """It vanishes."""
    client.reset()


def say(*data: bytes) -> Callable[[Client, Server], None]:
    """Return what sends bytes."""

    def act(client: Client, _: Server) -> None:
        client.send_raw(b"".join(data))

    return act


def kill(client: Client, server: Server) -> None:
    """Another client kills it."""
    with server.connect() as other:
        other.send_raw(request("CLIENT", "KILL", client.name))
        other.socket.recv(5)


WAYS = {
    "closed": (close, "closed by client"),
    "half closed": (half_close, "closed by client"),
    "reset": (reset, "connection lost"),
    "EXIT": (say(b"EXIT\n"), "EXIT"),
    "EXIT among others": (say(b"PUT a 1\nexit\nPUT b 1\n"), "EXIT"),
    "killed": (kill, "killed"),
    "too long a line": (say(b"x" * (17 << 20)), "too_large"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_line_client_leaves(server: Server, way: str) -> None:
    """One that has been served before."""
    act, reason = WAYS[way]
    client = server.connect()
    assert client.ask("PING") == PONG
    act(client, server)
    client.wait_ended() if way not in ("closed", "reset") else None
    client.close()
    assert server.wait_left(client)["reason"] == reason


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "closed by client"),
        (b"EXIT\n", "EXIT"),
        (b"GET / HTTP/1.1\r\n", "protocol"),
        (b"\x16\x03\x01", "protocol"),
        (request("QUIT"), "QUIT"),
        (b"*1\r\n$x\r\n", "protocol"),
        (request("CLIENT", "KILL", "SKIPME", "no"), "CLIENT KILL"),
    ],
)
def test_the_first_bytes_are_the_last(server: Server, data: bytes, reason: str) -> None:
    """Whatever protocol they are in."""
    client = server.connect()
    client.send_raw(data)
    client.half_close() if not data else None
    client.wait_ended()
    client.close()
    assert server.wait_left(client)["reason"] == reason


def test_the_server_ends_it(start_server: StartServer) -> None:
    """For a timeout, and for unread output."""
    server = start_server("--idle-timeout-s", "0.3")
    idle = server.connect()
    assert idle.rest()[0]["code"] == "timeout"
    idle.close()
    assert server.wait_left(idle)["reason"] == "timeout"

    server = start_server("--output-timeout-s", "0.3")
    stalled = server.connect(receive_buffer_bytes=4096)
    stalled.send("PUT big " + "x" * (8 << 20), *["GET big"] * 2)
    assert server.wait_left(stalled)["reason"] == "too slow"


def test_the_server_stops(start_server: StartServer) -> None:
    """A connected client is drained, and its reason says that the server stopped."""
    server = start_server()
    client = server.connect()
    assert client.ask("PING") == PONG
    assert server.stop() == 0
    assert server.wait_left(client)["reason"] == "server stopping"


def test_listening_tells_what_is_served(start_server: StartServer) -> None:
    """Engine, version, build, process; and the directory, if the engine keeps data."""
    server = start_server()
    event = server.wait_for("listening")
    assert event["pid"] == server.pid
    assert event["build"] in ("pure", "compiled")
    assert event["version"]
    assert (event["engine"] == "sqlite") == ("data_dir" in event)

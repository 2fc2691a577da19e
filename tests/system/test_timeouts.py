"""Clients that stay too long: idle ones, slow ones, busy ones, and those that take no replies.

A test waits for what has to happen. What must not happen is shown by a second client that does the same but for the one
thing the timeout is about, and is still served when the first has been ended.
"""

import sys
from pathlib import Path

import pytest

from tests.support.harness import OK, PONG, Client, Server, parse_reply, polling
from tests.support.resp_wire import Wire

from .conftest import TRANSPORTS_OF_SLOW_TESTS, StartServer, flags_of

SOON = "0.3"


@pytest.fixture(scope="session", params=TRANSPORTS_OF_SLOW_TESTS)
def transport_flags(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Return the flags that choose the transport under test."""
    return flags_of(request.param)


def timed_out(client: Client, setting: str) -> None:
    """Wait for the ``timeout`` line that names the setting, and for the orderly end behind it."""
    last = client.rest()[-1]
    assert last["code"] == "timeout"
    assert setting in last["mesg"]


def test_idle_timeout(start_server: StartServer) -> None:
    """A client that sends nothing gets a ``timeout`` line and the end; one that sends now and then does not."""
    server = start_server("--idle-timeout-s", "1")
    idle, busy = server.connect(), server.connect()
    assert idle.ask("PING") == PONG
    while idle.nothing_has_come():
        assert busy.ask("PING") == PONG
    timed_out(idle, "idle_timeout_s")
    assert busy.ask("PING") == PONG


@pytest.mark.parametrize(
    ("setting", "sent"), [("idle_timeout_s", b"PING\r\n"), ("input_timeout_s", b"PING\r\nSET k v")]
)
def test_a_client_whose_protocol_is_not_known(start_server: StartServer, setting: str, sent: bytes) -> None:
    """It may be as long silent as any other, between lines and in the middle of one, and gets a line of JSON."""
    server = start_server(f"--{setting.replace('_', '-')}", SOON)
    with Wire((server.host, server.port)) as wire:
        wire.send(sent)
        pong, refusal = wire.rest().splitlines(keepends=True)
    assert pong == b"+PONG\r\n"
    assert parse_reply(refusal)["code"] == "timeout"
    assert setting in parse_reply(refusal)["mesg"]


def test_idle_clients_stay_by_default(start_server: StartServer) -> None:
    """Other timeouts do not end a client that is idle outside a transaction and between requests."""
    server = start_server(
        *("--transaction-idle-timeout-s", SOON, "--transaction-timeout-s", SOON),
        *("--input-timeout-s", SOON, "--output-timeout-s", SOON),
    )
    never_spoke, spoke, been_in_transaction, ended = (server.connect() for _ in range(4))
    assert spoke.ask("PING") == PONG
    been_in_transaction.ok("START", "PUT a 1", "COMMIT")
    for request in (b"START\n", b"PUT b"):
        ended.send_raw(request)
        ended.wait_ended()
        ended = server.connect()
    assert [client.get("a") for client in (never_spoke, spoke, been_in_transaction)] == ["1"] * 3


def test_transaction_idle_timeout(start_server: StartServer) -> None:
    """A client that sends nothing in mid-transaction gets a ``timeout`` line and the end; its transaction is undone."""
    server = start_server("--transaction-idle-timeout-s", "1")
    idle, busy, outside = (server.connect() for _ in range(3))
    idle.ok("START", "START", "PUT a 1")
    busy.ok("START", "PUT b 1")
    while idle.nothing_has_come():
        assert busy.ask("PING") == PONG
    timed_out(idle, "transaction_idle_timeout_s")
    busy.ok("COMMIT")
    assert [outside.get(key) for key in "ab"] == [None, "1"]
    idle.close()
    assert server.wait_left(idle)["aborted"] == 1
    assert outside.info("server")["open_transactions"] == 0


def test_transaction_timeout_however_busy(start_server: StartServer) -> None:
    """A transaction is ended when it has lasted too long though its client never pauses."""
    server = start_server("--transaction-timeout-s", SOON)
    client, outside = server.connect(), server.connect()
    client.ok("START", "PUT a 1")
    while (reply := client.ask("GET a"))["status"] == "Ok":
        pass
    assert reply["code"] == "timeout"
    assert "transaction_timeout_s" in reply["mesg"]
    assert client.rest() == []
    assert outside.get("a") is None
    client.close()
    assert server.wait_left(client)["aborted"] == 1


def ended_amidst(client: Client, requests: int) -> None:
    """Wait for the ``timeout`` line that comes before so many requests have been answered, and for the orderly end."""
    replies = client.raw_rest()
    assert replies.count(b"\n") < requests
    last = parse_reply(replies[replies.rfind(b"\n", 0, -1) + 1 :])
    assert last["code"] == "timeout"
    assert "transaction_timeout_s" in last["mesg"]


def test_transaction_timeout_within_a_stream(start_server: StartServer) -> None:
    """A stream of requests without a pause does not put off the end of the transaction."""
    server = start_server("--transaction-timeout-s", SOON)
    client, outside = server.connect(), server.connect()
    client.ok("START", "PUT a 1")
    client.send_behind(b"GET a\n" * 100_000, times=200)  # seconds of work for the fastest machine
    ended_amidst(client, 200 * 100_000)
    assert outside.get("a") is None


def test_transaction_timeout_within_a_backlog(start_server: StartServer) -> None:
    """Requests that have been read and wait for their turn do not put off the end of the transaction."""
    server = start_server("--transaction-timeout-s", "0.1", "--max-tick-requests", "1")
    client, outside = server.connect(), server.connect()
    with server.paused():  # so that they are read in one go, and take far longer than the transaction may
        client.send("START", "PUT a 1", *["INFO"] * 12_000)
        client.wait_sent()
    ended_amidst(client, 12_000)
    assert outside.get("a") is None


def test_transaction_timeout_spares_those_outside(start_server: StartServer) -> None:
    """The time runs from START, not from the beginning of the connection."""
    server = start_server("--transaction-timeout-s", "1")
    first, second = server.connect(), server.connect()
    assert second.ask("PING") == PONG
    first.ok("START")
    timed_out(first, "transaction_timeout_s")
    second.ok("START", "PUT a 1", "COMMIT")


def test_input_timeout(start_server: StartServer) -> None:
    """A client that stops within a request gets a ``timeout`` line and the end, and the request does not run."""
    server = start_server("--input-timeout-s", SOON)
    unfinished, idle = server.connect(), server.connect()
    unfinished.send_raw(b"PUT b 1\nPUT a 1")
    assert unfinished.reply() == OK
    timed_out(unfinished, "input_timeout_s")
    assert [idle.get(key) for key in "ab"] == [None, "1"]


def test_output_timeout(start_server: StartServer) -> None:
    """A client that takes none of its replies is dropped, and its transaction undone; one that takes some is not."""
    server = start_server("--output-timeout-s", "1", "--max-output-bytes", "100000")
    stuck, reading, outside = server.connect(receive_buffer_bytes=4096), server.connect(), server.connect()
    outside.ok("PUT big " + "x" * 100_000)
    stuck.send("START", "PUT a 1", *["GET big"] * 200)
    while not server.events("client_dropped"):
        reading.send(*["GET big"] * 20)
        assert all(len(reply["result"]) == 100_000 for reply in reading.replies(20))
    (dropped,) = server.events("client_dropped")
    assert dropped["peer"] == stuck.name
    left = server.wait_left(stuck)
    assert left["aborted"] == 1
    assert left["commands"] < 202
    assert outside.get("a") is None
    assert reading.ask("PING") == PONG


def test_output_timeout_of_a_client_that_has_said_exit(start_server: StartServer) -> None:
    """A client that leaves its last replies unread does not stay for ever either."""
    server = start_server("--output-timeout-s", SOON)
    stuck, other = server.connect(receive_buffer_bytes=4096), server.connect()
    other.ok("PUT big " + "x" * (8 << 20))
    stuck.send("GET big", "EXIT")
    server.wait_for("client_dropped", peer=stuck.name)
    server.wait_left(stuck)
    assert other.info("server")["clients_bytes"] < 1 << 10


def test_output_timeout_of_a_client_that_has_half_closed(start_server: StartServer) -> None:
    """A client that has ended its input and takes no replies does not stay for ever either."""
    server = start_server("--output-timeout-s", SOON)
    stuck, other = server.connect(receive_buffer_bytes=4096), server.connect()
    other.ok("PUT big " + "x" * (1 << 20))
    stuck.send(*["GET big"] * 8)
    stuck.half_close()
    server.wait_for("client_dropped", peer=stuck.name)
    server.wait_left(stuck)
    assert other.info("server")["clients_bytes"] < 1 << 10


def test_slow_reader_gets_everything(start_server: StartServer) -> None:
    """A client that reads little at a time, though always something, gets every reply in the end."""
    server = start_server("--output-timeout-s", "5", "--max-output-bytes", "100000")
    slow, other = server.connect(receive_buffer_bytes=4096), server.connect()
    other.ok("PUT big " + "x" * 50_000)
    slow.send(*["GET big"] * 100, "EXIT")
    received = bytearray()
    while data := slow.socket.recv(2048):
        received += data
        assert other.ask("PING") == PONG
    assert received == (b'{"status": "Ok", "result": "' + b"x" * 50_000 + b'"}\n') * 100 + b'{"status": "Ok"}\n'
    assert not server.events("client_dropped")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/net/tcp")
def test_keepalive_is_on(server: Server) -> None:
    """The kernel probes peers that have been silent for long, so that those that vanished are found out."""
    client = server.connect()
    assert client.ask("PING") == PONG
    own_port = client.socket.getsockname()[1]
    for _ in polling("the keepalive timer is the one that runs"):
        for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
            _, local, remote, _, _, timer, *_ = line.split()
            if local.endswith(f":{server.port:04X}") and remote.endswith(f":{own_port:04X}"):
                break
        else:
            raise AssertionError("the server's end is not listed")
        if timer.startswith("02:"):
            return

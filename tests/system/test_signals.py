"""How the server stops: the drain, the second signal, and the exit code."""

import contextlib
import signal

import pytest

from tests.support.harness import OK, PONG, Client, Server, polling

from .conftest import TRANSPORTS_AND_ENGINES, StartServer, flags_of

SIGNALS = [signal.SIGTERM, signal.SIGINT]
both_signals = pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)


@pytest.fixture(scope="session", params=TRANSPORTS_AND_ENGINES)
def transport_flags(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Return the flags that choose the transport under test, or an engine that blocks."""
    return flags_of(request.param)


def stall(server: Server) -> Client:
    """Return a client that has been sent more than it takes, so that the drain cannot end before its timeout."""
    other = server.connect()
    other.ok("PUT big " + "x" * (8 << 20))
    client = server.connect(receive_buffer_bytes=4096)
    client.send("GET big", "GET big")
    for _ in polling("the server holds replies for it"):
        if other.info("server")["clients_bytes"] > 1 << 20:
            break
    other.close()
    server.wait_left(other)
    return client


@both_signals
def test_stop_without_clients(server: Server, number: signal.Signals) -> None:
    """With nobody there the server stops at once, with code 0, and says so."""
    assert server.stop(number) == 0
    assert server.events("stopping")[0]["signal"] == number.name
    assert server.events("stopped")[0]["exit_code"] == 0


def test_idle_clients_are_seen_off(server: Server) -> None:
    """Idle clients get an orderly end and no line."""
    clients = [server.connect() for _ in range(5)]
    assert [client.ask("PING") for client in clients] == [PONG] * 5
    server.send_signal(signal.SIGTERM)
    assert [client.rest() for client in clients] == [[]] * 5
    for client in clients:
        client.close()
    assert server.wait_exit() == 0
    assert server.events("stopping")[0]["clients"] == 5


def test_clients_that_do_not_leave_do_not_hold_up_the_stop(server: Server) -> None:
    """A client that has got its end and stays connected is left behind; the server stops with code 0."""
    client = server.connect()
    assert client.ask("PING") == PONG
    assert server.stop() == 0
    assert client.rest() == []


def test_open_transaction_is_aborted(server: Server) -> None:
    """A transaction that is open when the server stops is aborted, after every reply that was due."""
    client = server.connect()
    client.ok("START", "PUT a 1")
    server.send_signal(signal.SIGTERM)
    assert client.rest() == []
    client.close()
    assert server.wait_exit() == 0
    (left,) = server.events("client_disconnected")
    assert (left["committed"], left["aborted"]) == (0, 1)


def test_unfinished_line_does_not_run(server: Server) -> None:
    """The beginning of a request gets ``usage`` when the server stops, as at any end of input."""
    client = server.connect()
    client.send_raw(b"PING\nPUT a 1")
    assert client.reply() == PONG
    client.wait_sent()
    server.send_signal(signal.SIGTERM)
    assert [reply["code"] for reply in client.rest()] == ["usage"]
    client.close()
    assert server.wait_exit() == 0


@pytest.mark.parametrize(("number", "tick_requests"), [(signal.SIGTERM, 1000), (signal.SIGINT, 7)])
def test_pipeline_already_sent_is_answered(
    start_server: StartServer, number: signal.Signals, tick_requests: int
) -> None:
    """Requests that had come when the signal came are all answered, however many ticks that takes."""
    server = start_server("--max-tick-requests", str(tick_requests))
    clients = [server.connect() for _ in range(3)]
    assert [client.ask("PING") for client in clients] == [PONG] * 3
    with server.paused():
        for client in clients:
            client.send("START", *["PING"] * 5000, "PUT a 1", "COMMIT", "GET a")
            client.wait_sent()
        server.send_signal(number)
    for client in clients:
        assert client.rest() == [OK, *[PONG] * 5000, OK, OK, {"status": "Ok", "result": "1"}]
        client.close()
    assert server.wait_exit() == 0
    assert sum(event["committed"] for event in server.events("client_disconnected")) == 3


def test_signal_while_a_pipeline_is_being_answered(start_server: StartServer) -> None:
    """A backlog that is being worked off when the signal comes is worked off, and what waits behind it too."""
    server = start_server("--max-tick-requests", "2")
    client = server.connect()
    client.send(*["PING"] * 8000)
    assert client.reply() == PONG
    client.send(*["PING"] * 8000)  # not read before the backlog is done, which takes 4000 ticks
    client.wait_sent()
    server.send_signal(signal.SIGTERM)
    assert client.rest() == [PONG] * 15_999
    client.close()
    assert server.wait_exit() == 0


def test_replies_are_fetched_during_the_drain(start_server: StartServer) -> None:
    """A client that begins to read only when the server stops gets everything it is owed."""
    server = start_server("--drain-timeout-s", "30", "--max-output-bytes", "100000")
    client, other = server.connect(receive_buffer_bytes=4096), server.connect()
    other.ok("PUT big " + "x" * 60_000)
    client.send(*["GET big"] * 100, "PUT a 1")
    for _ in polling("the server holds replies for it"):
        if other.info("server")["clients_bytes"] > 100_000:
            break
    other.close()
    server.send_signal(signal.SIGTERM)
    server.wait_for("stopping")
    assert all(len(reply["result"]) == 60_000 for reply in client.replies(100))
    assert client.rest() == [OK]
    client.close()
    assert server.wait_exit() == 0
    assert not server.events("drain_interrupted")


def test_client_that_never_reads_does_not_hold_up_the_stop(start_server: StartServer) -> None:
    """The drain ends at drain_timeout_s whoever is still there, with code 0."""
    server = start_server("--drain-timeout-s", "0.3")
    stalled = stall(server)
    assert server.stop() == 0
    assert server.events("drain_interrupted")[0]["clients"] == 1
    assert len(server.events("client_disconnected", peer=stalled.name)) == 1


def test_client_that_never_stops_sending_does_not_hold_up_the_stop(server: Server) -> None:
    """Requests that come after the signal do not put off the end."""
    client = server.connect()
    client.send_behind(b"PING\n" * (8 << 20))
    assert client.reply() == PONG
    server.send_signal(signal.SIGTERM)
    client.wait_ended()
    assert server.wait_exit() == 0


def test_new_clients_are_refused_during_the_drain(start_server: StartServer) -> None:
    """Nobody can connect any more when the drain has begun."""
    server = start_server("--drain-timeout-s", "60")
    stalled = stall(server)
    server.send_signal(signal.SIGTERM)
    server.wait_for("stopping")
    for _ in polling("the port is closed"):
        try:
            server.connect().close()
        except OSError:
            break
    with pytest.raises(ConnectionRefusedError):
        server.connect()
    assert server.exit_code is None
    stalled.close()
    assert server.wait_exit() == 0


def test_client_that_came_just_before_the_signal(server: Server) -> None:
    """A client that had connected and sent its request before the signal is answered."""
    with server.paused():
        client = server.connect()
        client.send("PUT a 1", "GET a")
        client.wait_sent()
        server.send_signal(signal.SIGTERM)
    assert client.rest() == [OK, {"status": "Ok", "result": "1"}]
    client.close()
    assert server.wait_exit() == 0


@pytest.mark.parametrize(
    ("number", "second"),
    [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGINT)],
    ids=lambda number: number.name,
)
def test_second_signal_ends_it_at_once(
    start_server: StartServer, number: signal.Signals, second: signal.Signals
) -> None:
    """A second signal ends the drain, with code 1."""
    server = start_server("--drain-timeout-s", "1000", "--output-timeout-s", "0")
    stall(server)
    server.send_signal(number)
    server.wait_for("stopping")
    assert server.stop(second) == 1
    assert server.events("stopping_immediately")[0]["signal"] == second.name
    assert server.events("stopped")[0]["exit_code"] == 1


def test_reset_clients_during_the_drain(start_server: StartServer) -> None:
    """Clients that are reset just when the server sees them off do not disturb the others."""
    server = start_server("--drain-timeout-s", "30")
    leaving = [server.connect() for _ in range(500)]
    staying = [server.connect() for _ in range(20)]
    assert [client.ask("PING") for client in (*leaving, *staying)] == [PONG] * 520
    server.send_signal(signal.SIGTERM)
    server.wait_for("stopping")
    for client in reversed(leaving):  # the server goes the other way, so that they meet
        with contextlib.suppress(OSError):
            client.reset()
    assert [client.rest() for client in staying] == [[]] * 20
    for client in staying:
        client.close()
    assert server.wait_exit() == 0
    assert not server.events("drain_interrupted")

"""How the server stops over an engine that blocks: calls in flight end first, and one that hangs holds nothing up."""

import signal

import pytest

from tests.support.engine_control import EngineControl
from tests.support.harness import OK, PONG, Client, Server

from .conftest import TRANSPORTS_ALONE, StartServer, Watched, flags_of


@pytest.fixture(scope="session", params=TRANSPORTS_ALONE)
def transport_flags(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Return the flags that choose the transport under test."""
    return flags_of(request.param)


@pytest.fixture(scope="session")
def engine_name() -> str:
    """Return which engine is under test."""
    return "blocking"


def hand_over(server: Server, engine: EngineControl) -> Client:
    """Return a client whose PUT is in flight, with a GET behind it."""
    client = server.connect()
    engine.hold("put")
    client.send("PUT a 1", "GET a")
    engine.wait_held()
    return client


def test_a_call_in_flight_is_answered(watched: Watched) -> None:
    """So is what has come behind it; the engine is closed after the last call."""
    server, engine = watched
    client = hand_over(server, engine)
    server.send_signal(signal.SIGTERM)
    server.wait_for("stopping")
    engine.let_go()
    assert client.rest() == [OK, {"status": "Ok", "result": "1"}]
    client.close()
    assert server.wait_exit() == 0
    engine.wait_closed()
    assert not server.events("drain_interrupted")


def test_a_call_in_flight_whose_client_has_left_ends_first(watched: Watched) -> None:
    """Nobody is there any more, and still the server does not stop before the call has ended."""
    server, engine = watched
    other = server.connect()
    client = server.connect()
    client.ok("START", "PUT a 1")
    engine.hold("commit")
    client.send("COMMIT")
    engine.wait_held()
    client.reset()
    assert other.ask("PING") == PONG
    other.close()
    server.wait_left(other)
    server.send_signal(signal.SIGTERM)
    server.wait_for("stopping")
    engine.let_go()
    assert server.wait_exit() == 0
    engine.wait_closed()
    assert server.wait_left(client)["committed"] == 1
    assert not server.events("drain_interrupted")


def test_open_transactions_are_aborted_before_the_engine_is_closed(watched: Watched) -> None:
    """Each by a worker."""
    server, engine = watched
    clients = [server.connect() for _ in range(20)]
    for client in clients:
        client.ok("START", "GET a")
    server.send_signal(signal.SIGTERM)
    for client in clients:
        assert client.rest() == []
        client.close()
    assert server.wait_exit() == 0
    engine.wait_closed()
    assert [event["aborted"] for event in server.events("client_disconnected")[-20:]] == [1] * 20


def test_a_call_that_ends_just_after_the_drain(start_server: StartServer, engine: EngineControl) -> None:
    """Its client is being cut off; the engine is closed when it has ended, and the stop is an orderly one."""
    server = start_server("--drain-timeout-s", "0.1", *engine.flags, env=engine.env)
    client = hand_over(server, engine)
    server.send_signal(signal.SIGTERM)
    server.wait_for("drain_interrupted")
    engine.let_go()
    client.wait_ended()
    assert server.wait_exit() == 0
    engine.wait_closed()


@pytest.mark.parametrize("leaves", [False, True], ids=["its client is there", "its client has left"])
def test_an_engine_that_hangs(start_server: StartServer, engine: EngineControl, leaves: bool) -> None:
    """The stop does not wait for ever, says why, fails, and does not close the engine under its call."""
    server = start_server("--drain-timeout-s", "0.1", *engine.flags, env=engine.env, expect=("engine_hung",))
    client = hand_over(server, engine)
    if leaves:
        client.reset()
    assert server.stop() == 1
    (event,) = server.events("engine_hung")
    assert (event["level"], event["calls"]) == ("critical", 1)
    assert server.events("stopped")[0]["exit_code"] == 1
    assert "close" not in engine.names()


def test_calls_that_wait_behind_those_that_hang(start_server: StartServer, engine: EngineControl) -> None:
    """They have not begun, and never do."""
    server = start_server(
        *("--drain-timeout-s", "0.1", "--worker-threads", "1"),
        *engine.flags,
        env=engine.env,
        expect=("engine_hung",),
    )
    hand_over(server, engine)
    for number in range(3):
        server.connect().send(f"PUT k{number} 1")
    assert server.connect().ask("PING") == PONG
    assert server.stop() == 1
    assert server.events("engine_hung")[0]["calls"] == 4
    assert engine.keys("put") == ["a"]
    assert "close" not in engine.names()


def test_second_signal_does_not_wait_for_an_engine_that_hangs(start_server: StartServer, engine: EngineControl) -> None:
    """It ends the drain, with code 1."""
    server = start_server("--drain-timeout-s", "1000", *engine.flags, env=engine.env, expect=("engine_hung",))
    hand_over(server, engine)
    server.send_signal(signal.SIGTERM)
    server.wait_for("stopping")
    assert server.stop(signal.SIGINT) == 1
    server.wait_for_one("stopping_immediately")
    server.wait_for_one("engine_hung")
    assert "close" not in engine.names()


def test_second_signal_leaves_an_engine_that_answers_time_to_close(
    start_server: StartServer, engine: EngineControl
) -> None:
    """What is in flight ends, open transactions are aborted, and the engine is closed, with code 1."""
    server = start_server("--drain-timeout-s", "1000", *engine.flags, env=engine.env)
    client, other = hand_over(server, engine), server.connect()
    other.ok("START")
    server.send_signal(signal.SIGTERM)
    server.wait_for("stopping")
    server.send_signal(signal.SIGTERM)
    server.wait_for("stopping_immediately")
    engine.let_go()
    client.wait_ended()
    assert server.wait_exit() == 1
    engine.wait_closed()
    assert not server.events("engine_hung")

"""Expiry over an engine that blocks, which stores records and knows nothing of deadlines."""

import pytest

from tests.support.engine_control import EngineControl
from tests.support.harness import OK, Client, polling

from .conftest import TRANSPORTS_ALONE, StartServer, Watched, flags_of

TRUE = {"status": "Ok", "result": True}


@pytest.fixture(scope="session", params=TRANSPORTS_ALONE)
def transport_flags(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Return the flags that choose the transport under test."""
    return flags_of(request.param)


@pytest.fixture(scope="session")
def engine_name() -> str:
    """Return which engine is under test."""
    return "expiring"


def is_absent(client: Client, key: str) -> bool:
    """Return whether a key is not there."""
    return client.ask(f"GET {key}") == {"status": "Ok", "result": None, "mesg": f"{key} was not found."}


def hold_the_deletion(client: Client, engine: EngineControl, key: str) -> None:
    """Have a key expire, and the commit that deletes it held up."""
    assert client.ask(f"PUT {key} 1") == OK
    engine.hold("commit")
    client.send(f"EXPIRE {key} 1")
    engine.wait_held()
    engine.step()
    assert client.reply() == TRUE
    engine.wait_held()


def test_what_is_due_is_deleted_while_no_request_arrives(watched: Watched) -> None:
    """A timer has it deleted by a worker."""
    server, engine = watched
    client = server.connect()
    assert client.ask("PUT a 1") == client.ask("PUT b 1") == OK
    assert client.ask("EXPIRE a 0.5") == client.ask("EXPIRE b 0.5") == TRUE
    for _ in polling("both are deleted, in one commit or, if the second is due later, in two"):
        if {*engine.keys("commit")[2:]} == {"a", "b"}:
            break
    assert client.ask("COUNT") == {"status": "Ok", "result": 0}
    assert is_absent(client, "a")
    assert client.ask("INFO")["result"]["server"]["expired_keys"] >= 2


def test_what_is_due_is_absent_while_it_is_being_deleted(watched: Watched) -> None:
    """However long the engine takes; the connection whose read meets it deletes it, too."""
    server, engine = watched
    client = server.connect()
    hold_the_deletion(client, engine, "c")
    client.send("GET c")
    engine.wait_held(2)
    assert server.connect().ask("PING") == {"status": "Ok", "result": "PONG"}
    engine.let_go()
    assert client.reply()["result"] is None


def test_a_deletion_that_hangs_does_not_keep_the_server_from_stopping(
    start_server: StartServer, engine: EngineControl
) -> None:
    """It is told like any call that hangs."""
    server = start_server("--drain-timeout-s", "0.1", *engine.flags, env=engine.env, expect=("engine_hung",))
    client = server.connect()
    hold_the_deletion(client, engine, "a")
    client.close()
    assert server.stop() == 1
    assert server.events("engine_hung")[0]["calls"] == 1
    assert "close" not in engine.names()

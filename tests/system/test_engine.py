"""Engines of other packages: how they are found, and what their failures do to clients.

The engine is a small package that is found by its entry point. It tells a test of every call and waits to be told what
to do, so that the order of calls and replies is certain.
"""

from pathlib import Path

import pytest

from tests.support.engine_control import EngineControl
from tests.support.harness import PONG, Server, run_to_end

from .conftest import StartServer, Watched


@pytest.fixture(scope="session")
def transport_flags() -> tuple[str, ...]:
    """Return no flags: no transport has a say in this."""
    return ()


@pytest.fixture(scope="session", params=["watched", "blocking"])
def engine_name(request: pytest.FixtureRequest) -> str:
    """Return which engine is under test: one that is called by the loop, and one that is called by workers."""
    name: str = request.param
    return name


def test_engine_of_another_package(watched: Watched) -> None:
    """An engine is found by its entry point and serves like the built-in one."""
    server, engine = watched
    one, two = server.connect(), server.connect()
    one.ok("PUT a 1", "START", "GET a", "PUT a 2", "KEYS", "COUNT")
    assert two.get("a") == "1"
    two.ok("PUT b 1")
    assert one.ask("COMMIT")["code"] == "conflict"
    assert one.info("server")["engine"] == engine.name
    server.close_clients()
    assert server.stop() == 0
    assert engine.names().count("snapshot") == engine.names().count("snapshot.close") == 1
    assert engine.names().count("close") == 1


READS = {"GET a": "get", "KEYS": "scan", "COUNT": "count"}


@pytest.mark.parametrize("answer", ["raise_bug", "return_nonsense"])
@pytest.mark.parametrize("line", READS)
def test_read_that_fails(watched: Watched, line: str, answer: str) -> None:
    """A read in which the engine breaks its contract gets ``internal``, is logged, and leaves the connection open."""
    server, engine = watched
    client = server.connect()
    engine.answer(READS[line], answer)
    assert client.ask(line)["code"] == "internal"
    engine.answer(READS[line], "go")
    assert client.ask(line)["status"] == "Ok"
    server.wait_for_one("engine_failed")


@pytest.mark.parametrize("answer", ["raise_bug", "return_nonsense"])
@pytest.mark.parametrize("line", READS)
def test_read_that_fails_in_a_transaction(watched: Watched, line: str, answer: str) -> None:
    """A read of a snapshot that fails gets ``internal`` and ends that transaction, and no other."""
    server, engine = watched
    client, other = server.connect(), server.connect()
    session = client.info("session")["id"]
    client.ok("START", "PUT b 1")
    other.ok("START", "PUT c 1")
    engine.answer(f"snapshot.{READS[line]}", answer)
    assert client.ask(line)["code"] == "internal"
    assert client.ask("COMMIT")["code"] == "no_transaction"
    other.ok("COMMIT", "START", "ROLLBACK")
    assert [client.get(key) for key in "bc"] == [None, "1"]
    client.close()
    assert server.wait_left(client)["aborted"] == 1
    server.wait_for_one("engine_failed", session=session)
    assert engine.names().count("snapshot") == engine.names().count("snapshot.close")


@pytest.mark.parametrize("answer", ["raise_bug", "raise_outcome_unknown"])
@pytest.mark.parametrize(
    "lines", [["PUT a 1"], ["DEL a"], ["START", "PUT a 1", "COMMIT"]], ids=["put", "del", "commit"]
)
def test_write_that_fails(watched: Watched, lines: list[str], answer: str) -> None:
    """A write in which the engine fails gets ``outcome_unknown``; the transaction is over, the connection is not."""
    server, engine = watched
    client, other = server.connect(), server.connect()
    other.ok("START", "PUT other 1")
    call = {"PUT a 1": "put", "DEL a": "delete", "COMMIT": "commit"}[lines[-1]]
    engine.answer(call, answer)
    client.send(*lines)
    replies = client.replies(len(lines))
    assert [reply.get("code") for reply in replies] == [*[None] * (len(lines) - 1), "outcome_unknown"]
    engine.answer(call, "go")
    assert client.ask("ROLLBACK")["code"] == "no_transaction"
    client.ok(*lines)
    other.ok("COMMIT")
    assert client.get("other") == "1"
    server.close_clients()
    assert server.stop() == 0
    assert len(server.events("engine_failed")) == (1 if answer == "raise_bug" else 0)


def test_commit_that_answers_nonsense(watched: Watched) -> None:
    """A commit that returns neither Committed nor Conflict gets ``outcome_unknown``, for it may have been applied."""
    server, engine = watched
    client = server.connect()
    engine.answer("commit", "return_nonsense")
    client.ok("START", "PUT a 1")
    assert client.ask("COMMIT")["code"] == "outcome_unknown"
    assert client.ask("COMMIT")["code"] == "no_transaction"
    server.wait_for_one("engine_failed")


@pytest.mark.parametrize("code", ["unavailable", "limit"])
def test_engine_that_refuses(watched: Watched, code: str) -> None:
    """After ``unavailable`` and ``limit`` from an engine the transaction is still open, and a retry may succeed."""
    server, engine = watched
    client = server.connect()
    client.ok("START", "PUT a 1")
    for call, line in (("snapshot.get", "GET x"), ("snapshot.scan", "KEYS x"), ("commit", "COMMIT")):
        engine.answer(call, f"raise_{code}")
        assert client.ask(line)["code"] == code
        engine.answer(call, "go")
        assert client.info("session")["depth"] == 1
    client.ok("COMMIT")
    engine.answer("put", f"raise_{code}")
    assert client.ask("PUT a 2")["code"] == code
    assert client.get("a") == "1"
    server.close_clients()
    assert server.stop() == 0
    assert not server.events("engine_failed")


@pytest.mark.parametrize(("answer", "code"), [("raise_bug", "internal"), ("raise_unavailable", "unavailable")])
def test_start_that_fails(watched: Watched, answer: str, code: str) -> None:
    """A START that gets no snapshot opens no transaction."""
    server, engine = watched
    client = server.connect()
    engine.answer("snapshot", answer)
    assert client.ask("START")["code"] == code
    assert client.ask("COMMIT")["code"] == "no_transaction"
    engine.answer("snapshot", "go")
    client.ok("START", "PUT a 1", "COMMIT")


def test_snapshot_that_cannot_be_closed(watched: Watched) -> None:
    """A failure to close a snapshot is logged, and is no business of the client's."""
    server, engine = watched
    client = server.connect()
    engine.answer("snapshot.close", "raise_bug")
    client.ok("START", "PUT a 1", "COMMIT", "START", "ROLLBACK", "START")
    client.close()
    assert server.wait_left(client)["aborted"] == 1
    server.wait_for("engine_failed", 3)
    assert server.connect().get("a") == "1"


def test_disconnect_closes_the_snapshot(watched: Watched) -> None:
    """Each way out of a transaction closes its snapshot exactly once."""
    server, engine = watched
    ways = [["COMMIT"], ["PUT a 1", "COMMIT"], ["ROLLBACK"], ["START", "ROLLBACK", "COMMIT"], ["EXIT"]]
    for lines in ways:
        server.connect().ok("START", *lines)
    lost = server.connect()
    lost.ok("START", "START", "GET a")
    lost.reset()
    server.wait_left(lost)
    ended = server.connect()
    ended.ok("START")
    ended.half_close()
    assert ended.rest() == []
    engine.wait_for("snapshot.close", len(ways) + 2)
    assert server.connect().ask("PING") == PONG
    assert engine.names().count("snapshot") == engine.names().count("snapshot.close") == len(ways) + 2


def test_engine_is_closed_when_the_server_stops(watched: Watched) -> None:
    """When the server stops, the engine is closed once, after the last of its other calls."""
    server, engine = watched
    client = server.connect()
    client.ok("START", "PUT a 1")
    assert server.stop() == 0
    engine.wait_for("close")
    assert engine.names().count("close") == 1
    assert engine.names()[-1] == "close"
    assert engine.names().count("snapshot.close") == 1


def test_engine_is_closed_when_the_port_is_taken(server: Server, engine: EngineControl) -> None:
    """An engine that was opened for nothing is closed."""
    ran = run_to_end(*engine.flags, "--port", str(server.port), env=engine.env)
    assert ran.returncode == 1
    assert engine.names().count("close") <= 1
    assert "Traceback" not in ran.stderr


@pytest.mark.one_build
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing", ["nothing", "memory", "watched"]),
        ("missing-dependency", ["missing-dependency", "kvs_test_engines_missing"]),
        ("missing-attribute", ["missing-attribute", "there_is_none"]),
        ("picky --storage-option mode=shy", ["storage.picky.mode", "'shy'", "--storage-option", "one of loud, quiet"]),
        ("picky --storage-option moed=loud", ["storage.picky.moed", "unknown option", "did you mean mode"]),
        ("picky --storage-option mode", ["storage_option", "'mode'", "name=value"]),
        ("picky --storage-option mode=loud --storage-option careful=true", ["storage.picky.mode", "careful = true"]),
        ("underived", ["underived", "not derived from kvs.ports.storage.Storage"]),
    ],
)
def test_engine_that_cannot_be_had(engine: EngineControl, name: str, said: list[str]) -> None:
    """An engine that is unknown, cannot be imported or refuses its settings gets one line that says so, and code 2."""
    ran = run_to_end("--port", "0", "--storage", *name.split(), env=engine.env)
    assert ran.returncode == 2
    assert len(ran.stderr.splitlines()) == 1, ran.stderr
    for word in said:
        assert word in ran.stderr


@pytest.mark.one_build
def test_options_come_from_the_flag_over_the_environment_over_the_file(engine: EngineControl, tmp_path: Path) -> None:
    """As settings do; a variable or a table for another engine is none of this one's business."""
    file = tmp_path / "kvs.toml"
    file.write_text(
        '[storage]\nengine = "picky"\n[storage.picky]\nsize_bytes = 7\nmode = "loud"\n[storage.other]\nx = 1\n'
    )
    env = {**engine.env, "KVS_STORAGE_PICKY_SIZE_BYTES": "8KiB", "KVS_STORAGE_PICKY_MODE": "quiet"}
    ran = run_to_end("--port", "0", "--config", str(file), "--storage-option", "mode=loud", env=env)
    assert ran.returncode == 1
    assert ran.stderr == "kvs: picky: cannot be opened with PickyOptions(size_bytes=8192, mode='loud', careful=False)\n"


@pytest.mark.one_build
def test_built_in_engine_is_not_shadowed(start_server: StartServer, engine: EngineControl) -> None:
    """A package that claims the name of a built-in engine does not get it."""
    server = start_server("--storage", "memory", env=engine.env)
    assert server.connect().info("server")["engine"] == "memory"

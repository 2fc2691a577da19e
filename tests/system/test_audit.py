"""The audit log of a server: what is in it, how it is rotated, and what its failure means."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.harness import OK, Server, polling, run_to_end
from tests.support.resp_wire import OK as RESP_OK
from tests.support.resp_wire import Typed, Wire

from .conftest import StartServer


@pytest.fixture(scope="session")
def transport_flags() -> tuple[str, ...]:
    """Return no flags: no transport has a say in this."""
    return ()


def told(path: Path) -> list[dict[str, Any]]:
    """Return the complete lines of an audit log."""
    return [json.loads(line) for line in path.read_text(encoding="ascii").splitlines(keepends=True) if line[-1] == "\n"]


def wait_for(path: Path, event: str) -> dict[str, Any]:
    """Wait until an audit log has an event; return the first."""
    for _ in polling(f"{event} is told"):
        if path.exists():
            for line in told(path):
                if line["event"] == event:
                    return line
    raise AssertionError


def test_a_life(start_server: StartServer, tmp_path: Path) -> None:
    """Of a server and its clients; a renamed file is followed by a new one, at either signal."""
    path = tmp_path / "audit"
    server = start_server("--audit-log", str(path))
    client = server.connect()
    assert client.ask("PUT secret value") == OK
    with Wire((server.host, server.port)) as other:
        assert other.ask("CONFIG", "SET", "slowlog-max-len", "5") == RESP_OK
    wait_for(path, "disconnected")
    for number, former in ((signal.SIGUSR1, "first"), (signal.SIGHUP, "second")):
        path.rename(tmp_path / former)
        server.send_signal(number)
        for _ in polling("there is a new file"):
            if path.exists():
                break
    client.close()
    assert wait_for(path, "disconnected")["peer"] == client.name
    assert server.stop() == 0
    lines = told(tmp_path / "first")
    assert [line["event"] for line in lines] == ["started", "connected", "connected", "command", "disconnected"]
    assert lines[0]["pid"] == server.pid
    assert lines[1]["peer"] == client.name
    assert (lines[3]["command"], lines[3]["session"], lines[3]["code"]) == ("CONFIG SET", lines[2]["session"], "OK")
    assert lines[4]["reason"] == "closed by client"
    assert told(tmp_path / "second") == []
    assert [line["event"] for line in told(path)] == ["disconnected", "stopped"]
    server.wait_for("audit_log_reopened", signal="SIGUSR1")
    assert "secret" not in (tmp_path / "first").read_text()


def test_all_commands(start_server: StartServer, tmp_path: Path) -> None:
    """By key, in either protocol, also those that a fast path would run."""
    path = tmp_path / "audit"
    server = start_server("--audit-log", str(path), "--audit-commands", "all")
    client = server.connect()
    client.ok("PUT a value", "PUT b value", "START", "DEL a", "COMMIT")
    with Wire((server.host, server.port)) as other:
        other.ask("SET", "c", "value")
        other.ask("GET", "c")
    client.close()
    assert server.stop() == 0
    commands = [(line["command"], line["keys"]) for line in told(path) if line["event"] == "command"]
    assert commands == [
        *(("PUT", ["a"]), ("PUT", ["b"]), ("START", []), ("DEL", ["a"]), ("COMMIT", [])),
        *(("SET", ["c"]), ("GET", ["c"])),
    ]
    assert "value" not in path.read_text()


def test_required(start_server: StartServer, tmp_path: Path) -> None:
    """While the disk is full nobody administers, and all else goes on; what happened is told when there is room."""
    path, real = tmp_path / "audit", tmp_path / "real"
    path.symlink_to("/dev/full")
    server = start_server("--audit-log", str(path), "--audit-required", "true")
    server.wait_for("audit_log_failed", reason="No space left on device", path=str(path))
    with Wire((server.host, server.port)) as client:
        refusal = client.ask("CONFIG", "RESETSTAT")
        assert isinstance(refusal, Typed)
        assert refusal.value == (
            b"UNAVAILABLE The audit log cannot be written (No space left on device), and audit_required is set."
        )
        assert client.ask("SET", "k", "v") == RESP_OK
        link = tmp_path / "link"
        link.symlink_to(real)
        link.replace(path)
        server.send_signal(signal.SIGUSR1)
        server.wait_for("audit_log_works")
        assert client.ask("CONFIG", "RESETSTAT") == RESP_OK
    assert server.stop() == 0
    commands = [(line["event"], line["code"]) for line in told(real) if line.get("command") == "CONFIG RESETSTAT"]
    assert commands == [("refused", "UNAVAILABLE"), ("command", "OK")]
    assert told(real)[0]["event"] == "started"


@pytest.mark.one_build
def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    """A server that needs it does not start; any other does, and says so."""
    flags = ("--audit-log", str(tmp_path))
    ended = run_to_end(*flags, "--audit-required", "true")
    assert ended.returncode == 2
    assert ended.stderr == f"kvs: audit_log: cannot open {tmp_path}: Is a directory; and audit_required is set\n"
    assert run_to_end("--audit-required", "yes").returncode == 2
    with Server(*flags) as server:
        server.wait_for("audit_log_failed", reason="Is a directory")
        assert server.connect().ask("PUT a 1") == OK


def test_authentications(start_server: StartServer, tmp_path: Path) -> None:
    """Who says who it is, in either protocol; and what is refused before and after."""
    path, password = tmp_path / "audit", tmp_path / "password"
    password.write_text("hunter2\n")
    password.chmod(0o600)
    server = start_server("--audit-log", str(path), "--password-file", str(password))
    with Wire((server.host, server.port)) as first:
        first.ask("GET", "key")
        first.ask("AUTH", "wrong")
        first.ask("AUTH", "hunter2")
    with Wire((server.host, server.port)) as second:
        second.ask("AUTH", "hunter2", "default")
        second.ask("HELLO", "2", "AUTH", "default", "hunter2")
    server.connect().ok("AUTH default hunter2")
    assert server.stop() == 0
    seen = [(line["event"], line["user"]) for line in told(path) if "user" in line]
    assert [each for each in seen if each[0] not in ("connected", "disconnected")] == [
        ("refused", None),
        ("authentication_failed", "default"),
        ("authenticated", "default"),
        ("authentication_failed", None),
        ("authenticated", "default"),
        ("authenticated", "default"),
    ]
    assert [each for each in seen if each[0] == "disconnected"] == [("disconnected", "default")] * 3
    (refused,) = [line for line in told(path) if line["event"] == "refused"]
    assert (refused["command"], refused["keys"]) == ("GET", ["key"])
    assert "hunter2" not in path.read_text()

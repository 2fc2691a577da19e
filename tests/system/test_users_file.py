"""SIGHUP and commands: a server reads its files again, says what has changed or what is wrong, and replaces them."""

import signal
from pathlib import Path

import pytest

from tests.support.harness import PONG
from tests.support.resp_wire import OK, Wire
from tests.system.conftest import StartServer


@pytest.fixture(scope="session")
def transport_flags() -> tuple[str, ...]:
    """Return no flags: over etcd users are kept there, and no other transport has a say in this."""
    return ()


def test_users_are_read_again(start_server: StartServer, tmp_path: Path) -> None:
    """What is wrong changes nothing, and the server goes on."""
    users, password = tmp_path / "users.toml", tmp_path / "password"
    for path in (users, password):
        path.touch(0o600)
    users.write_text("[users.default]\nnopass = true\ngrants = [{ allow = ['@all'], all_keys = true }]\n")
    server = start_server("--users-file", str(users), expect=("reload_failed",))
    server.send_signal(signal.SIGHUP)
    assert server.wait_for("reloaded")["changed"] == []
    valid = users.read_text()
    users.write_text(valid + "[users.tom]\n")
    server.send_signal(signal.SIGHUP)
    assert server.wait_for("reloaded", 2)["changed"] == ["user tom"]
    users.write_text(valid + "[users.tom]\nenabled = 1\n")
    server.send_signal(signal.SIGHUP)
    failed = server.wait_for("reload_failed")
    assert failed["what"] == "users"
    assert failed["reason"] == f"users_file: {users}: user 'tom': Expected `bool`, got `int` at `enabled`"
    assert server.connect().ask("PING") == PONG
    assert len(server.events("reloaded")) == 2
    assert server.stop() == 0


def test_a_change_by_command_survives_a_restart(start_server: StartServer, tmp_path: Path) -> None:
    """It is in the file before it is acknowledged; if it cannot be, it is refused and has not happened."""
    users, password = tmp_path / "users.toml", tmp_path / "password"
    for path in (users, password):
        path.touch(0o600)
    password.write_text("secret\n")
    flags = ("--users-file", str(users), "--password-file", str(password))
    server = start_server(*flags)
    with Wire((server.host, server.port)) as wire:
        assert wire.ask("AUTH", "secret") == OK
        assert wire.ask("ACL", "SETUSER", "tom", "on", ">tomato", "+@read", "%R~a:*", "+acl|whoami") == OK
        users.write_text(users.read_text() + "# a remark\n")
        refused = wire.ask("ACL", "SETUSER", "tom", "off")
        assert "has been changed since it was read" in str(refused)
        assert wire.ask("ACL", "WHOAMI") == b"default"
    assert "tomato" not in users.read_text()
    assert "secret" not in users.read_text()
    assert server.stop() == 0
    server = start_server(*flags)
    with Wire((server.host, server.port)) as wire:
        assert wire.ask("AUTH", "tom", "tomato") == OK
        assert wire.ask("ACL", "WHOAMI") == b"tom"
        assert wire.ask("STRLEN", "a:1") == 0
        assert "NOPERM" in str(wire.ask("STRLEN", "b:1"))
    assert server.stop() == 0

"""SIGHUP: a server reads its files again, and says what has changed or what is wrong."""

import signal
from pathlib import Path

from tests.support.harness import PONG
from tests.system.conftest import StartServer


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
    assert server.wait_for("reloaded", 3)["changed"] == []
    assert server.connect().ask("PING") == PONG
    assert server.stop() == 0

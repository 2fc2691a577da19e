"""What makes the admin port: its settings, its tokens, and its packages, which may be missing."""

import asyncio
import io
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kvs.adapters.inbound.net.health import Health
from kvs.config import ConfigError, Settings
from kvs.logs import make_logger
from kvs.watching import INSTALL, AdminTokens, admin_port
from tests.support.admin import token_file

pytestmark = pytest.mark.one_build


def opened(settings: Settings, log: io.StringIO) -> Any:
    """Return a port, to be entered."""
    users = cast("Any", SimpleNamespace(needs_no_secret=True))
    return admin_port(settings, AdminTokens(settings), users, Health(), {}, make_logger("info", "json", log))


def test_there_is_none_unless_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then its package is not even imported."""
    monkeypatch.setitem(sys.modules, "h11", None)
    with opened(Settings(admin_token_file="/nowhere"), io.StringIO()):  # noqa: S106  # the path of a file
        pass


def test_a_missing_package_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it."""
    for module in [*sys.modules]:
        if module.startswith("kvs.adapters.inbound.admin."):
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "h11", None)
    with pytest.raises(ConfigError, match=f"^admin_port: the package h11 is not installed; try {INSTALL}$"):
        opened(Settings(admin_port=0), io.StringIO()).__enter__()


@pytest.mark.parametrize("has_token", [False, True])
def test_beyond_loopback_it_takes_more(tmp_path: Path, has_token: bool) -> None:
    """Or nobody who protects."""
    path = token_file(tmp_path) if has_token else ""
    with pytest.raises(ConfigError, match=r"^admin_host: 0\.0\.0\.0 can be reached from other machines"):
        opened(Settings(admin_port=0, admin_host=("0.0.0.0",), admin_token_file=path), io.StringIO()).__enter__()
    log = io.StringIO()
    with opened(Settings(admin_port=0, admin_host=("0.0.0.0",), protected_mode=False), log):
        assert "admin_listening" in log.getvalue()


def test_tokens_are_read_again(tmp_path: Path) -> None:
    """And told if they have changed; a file that cannot be used changes nothing."""
    path = Path(token_file(tmp_path, "first"))
    tokens = AdminTokens(Settings(admin_port=0, admin_token_file=str(path)))
    assert (tokens.admin, tokens.metrics) == (b"first", b"")
    told: list[tuple[bytes, bytes]] = []
    tokens.tell(lambda admin, metrics: told.append((admin, metrics)))
    assert asyncio.run(tokens.reload()) == []
    path.write_text("second\n")
    assert asyncio.run(tokens.reload()) == ["admin_token_file"]
    path.write_text("")
    with pytest.raises(ConfigError):
        asyncio.run(tokens.reload())
    assert told == [(b"second", b"")]

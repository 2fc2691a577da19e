"""What CONFIG GET tells of settings."""

import os

import pytest

from kvs.adapters.inbound.net.timeouts import ServerLimits
from kvs.config import Settings
from kvs.domain.accounts import Account
from kvs.limits import from_settings
from kvs.logs import LogLevel
from kvs.parameters import changeable, parameters
from tests.support.resp_connection import RespServer, ask
from tests.support.resp_wire import OK, Reply
from tests.support.users import security_of


class Configured:
    """A client of a server with some parameters, and what has changed."""

    def __init__(self) -> None:
        server = RespServer()
        self.limits = from_settings(ServerLimits, Settings())
        self.log_level = LogLevel("error")
        self.shared = shared = server.shared
        shared.parameters = parameters(Settings(log_level="error"), durable=True, durability="full")
        shared.changeable = changeable(shared.observation, self.limits, server.bench.tracking, self.log_level)
        self.client = server.connect()

    def set(self, *pairs: bytes) -> str:
        """Return the reply of CONFIG SET."""
        return str(ask(self.client, b"CONFIG", b"SET", *pairs))

    def get(self, name: bytes) -> Reply:
        """Return the value of a parameter."""
        reply = ask(self.client, b"CONFIG", b"GET", name)
        assert isinstance(reply, list)
        return reply[1]


def test_every_value_of_now_is_accepted_and_changes_nothing() -> None:
    """Also of what cannot change, and of what Redis has fewer values for; a secret that is not shown is none."""
    server = Configured()
    pairs = ask(server.client, b"CONFIG", b"GET", b"*")
    assert isinstance(pairs, list)
    for name, value in zip(pairs[::2], pairs[1::2], strict=True):
        assert isinstance(name, bytes)
        assert isinstance(value, bytes)
        assert server.set(name, value) == str(OK)
    assert not server.log_level.admits("warning")
    server.shared.security = security_of({"default": Account(enabled=True, tokens=("0" * 64,))})
    assert server.get(b"requirepass") == b"(redacted)"
    assert "immutable" in server.set(b"requirepass", b"(redacted)")
    assert "immutable" in server.set(b"requirepass", b"")


def test_no_other_value_of_what_is_fixed() -> None:
    """Paths, addresses, secrets and protection stay as they were at the start, and what comes with them, too."""
    server = Configured()
    fixed = [name for name in server.shared.parameters if name not in server.shared.changeable]
    assert {b"dir", b"bind", b"port", b"requirepass", b"protected-mode", b"maxmemory", b"appendonly"} < set(fixed)
    for name in fixed:
        assert "can't set immutable config" in server.set(b"timeout", b"7", name, b"/else")
    assert server.limits.idle_timeout_s == 0


def test_what_changes_while_the_server_runs() -> None:
    """All of a request or nothing, within the bounds of the start."""
    server = Configured()
    assert server.set(b"maxclients", b"7", b"loglevel", b"Verbose") == str(OK)
    assert (server.limits.max_clients, server.log_level.admits("info"), server.log_level.admits("debug")) == (
        7,
        True,
        False,
    )
    assert (server.get(b"maxclients"), server.get(b"loglevel")) == (b"7", b"verbose")
    assert "between 1 and 1000000" in server.set(b"loglevel", b"debug", b"maxclients", b"0")
    assert not server.log_level.admits("debug")
    assert server.limits.max_clients == 7


@pytest.mark.parametrize(
    ("durability", "syncs"), [("full", b"always"), ("normal", b"everysec"), ("off", b"no"), ("", b"no")]
)
def test_durability(durability: str, syncs: bytes) -> None:
    """In the words of Redis; an engine in memory never syncs."""
    told = parameters(Settings(), durable=True, durability=durability)
    assert (told[b"appendonly"], told[b"appendfsync"]) == (b"yes", syncs)
    told = parameters(Settings(), durable=False, durability=durability)
    assert (told[b"appendonly"], told[b"appendfsync"], told[b"dir"]) == (b"no", b"no", b"")


def test_names_in_no_encoding() -> None:
    """The name of a directory may be any bytes, and CONFIG GET returns the same bytes."""
    settings = Settings(host=(os.fsdecode(b"\xff"),), data_dir=os.fsdecode(b"/data/\xff"))
    told = parameters(settings, durable=True, durability="full")
    assert (told[b"dir"], told[b"bind"]) == (b"/data/\xff", b"\xff")


def test_settings() -> None:
    """By the names that Redis has for them."""
    settings = Settings(
        host=("127.0.0.1", "::1"),
        port=5,
        data_dir="data",
        max_value_bytes=7,
        max_data_bytes=8,
        max_clients=9,
        max_request_bytes=10,
        idle_timeout_s=1.5,
        log_level="error",
    )
    told = parameters(settings, durable=True, durability="full")
    names = ("bind", "port", "proto-max-bulk-len", "maxmemory", "maxclients", "client-query-buffer-limit", "timeout")
    assert [told[name.encode()] for name in names] == [b"127.0.0.1 ::1", b"5", b"7", b"8", b"9", b"10", b"1"]
    assert told[b"loglevel"] == b"warning"
    assert told[b"dir"].endswith(b"/data")
    assert told[b"save"] == b""

"""Clients of Redis that authenticate: they give names and passwords as they would there, and tell what is refused."""

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest
import redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError
from redis.retry import Retry

from tests.interop.conftest import program
from tests.interop.test_node import talk
from tests.support.harness import TIMEOUT_S, Server
from tests.support.resp_wire import OK, Wire, error

Address: TypeAlias = tuple[str, int]

PASSWORD: Final = "of the default user"  # noqa: S105
APP: Final = "of the application"
NODE_USERS: Final = Path(__file__).with_name("node_users.js")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """Return where a server is whose default user has a password, and that has another user with a prefix."""
    directory = tmp_path_factory.mktemp("users")
    password, users = directory / "password", directory / "users.toml"
    password.write_text(PASSWORD)
    users.write_text("")
    users.chmod(0o600)
    with Server("--password-file", str(password), "--users-file", str(users)) as server:
        with Wire((server.host, server.port)) as wire:
            assert wire.ask("GET", "k") == error("NOAUTH Authentication required.")
            assert wire.ask("AUTH", PASSWORD) == OK
            rules = ("on", f">{APP}", "~app:*", "+@read", "+@write", "+@transaction", "+@connection")
            assert wire.ask("ACL", "SETUSER", "app", *rules) == OK
        assert 'keys = ["app:"]' in users.read_text()
        yield server.host, server.port
        for event in server.events("authentication_failed"):
            assert event["user"] in ("app", "default", "(unknown)")


def cli(address: Address, *arguments: str, **variables: str) -> str:
    """Return what redis-cli says."""
    done = subprocess.run(
        [program("redis-cli"), "-h", address[0], "-p", str(address[1]), *arguments],
        env=os.environ | variables,
        capture_output=True,
        timeout=TIMEOUT_S,
        check=True,
        text=True,
    )
    return str(done.stdout).strip()


@pytest.mark.parametrize("version", ["-2", "-3"])
def test_redis_cli(address: Address, version: str) -> None:
    """By options, and by a variable."""
    assert "NOAUTH" in cli(address, version, "GET", "app:1")
    assert cli(address, version, "SET", "app:1", "one", REDISCLI_AUTH=PASSWORD) == "OK"
    options = (version, "--no-auth-warning", "--user", "app", "--pass", APP)
    assert cli(address, *options, "GET", "app:1") == "one"
    assert cli(address, *options, "ACL", "WHOAMI") == "app"
    assert "NOPERM" in cli(address, *options, "GET", "other")
    assert "NOPERM" in cli(address, *options, "DBSIZE")


@pytest.mark.parametrize("version", [2, 3])
def test_redis_py(address: Address, version: int) -> None:
    """By AUTH in version 2, by HELLO in version 3; its exceptions are those that it has for these errors."""

    def client(**names: Any) -> Any:
        once = Retry(NoBackoff(), 0)  # a wrong password gets no better by trying again, and each time it takes longer
        return redis.Redis(*address, protocol=version, socket_timeout=TIMEOUT_S, retry=once, **names)

    with closing(client(username="app", password=APP)) as app:
        assert app.set("app:1", "one")
        assert app.get("app:1") == b"one"
        assert app.acl_whoami() in (b"app", "app")
        with pytest.raises(NoPermissionError):
            app.get("other")
        with app.pipeline() as pipe, pytest.raises(NoPermissionError):
            pipe.set("app:2", 1).set("other", 1).execute()
        assert app.exists("app:2") == 0
        assert list(app.scan_iter("app:*")) == [b"app:1"]
    with closing(client(password="wrong")) as stranger, pytest.raises(AuthenticationError):  # noqa: S106
        stranger.ping()
    with closing(client(password=PASSWORD, decode_responses=True)) as admin:
        admin.acl_setuser("temporary", enabled=True, nopass=True, keys=["t:*"], commands=["+get"])
        assert "temporary" in admin.acl_users()
        assert admin.acl_getuser("temporary")["commands"] == ["+get"]
        assert any(entry["username"] == "app" for entry in admin.acl_log())
        assert admin.acl_deluser("temporary") == 1


@pytest.mark.parametrize("version", ["2", "3"])
@pytest.mark.parametrize("conversation", ["redis", "ioredis"])
def test_node(node_packages: Path, address: Address, conversation: str, version: str) -> None:
    """By AUTH, and with the errors of Redis."""
    talk(NODE_USERS, node_packages, address, version, conversation)


def test_nc(address: Address) -> None:
    """The line protocol, typed."""
    with socket.create_connection(address, TIMEOUT_S) as client, client.makefile("rb") as stream:
        client.sendall(b"GET app:1\nAUTH app %b\nGET other\nPUT app:1 two\nKEYS app:\nEXIT\n" % APP.encode())
        replies = stream.read().splitlines()
    assert [b'"code": "unauthenticated"' in replies[0], b'"code": "forbidden"' in replies[2]] == [True, True]
    assert rb"begin with \"app:\"" in replies[2]
    assert replies[1] == replies[3] == replies[5] == b'{"status": "Ok"}'
    assert b'"app:1"' in replies[4]

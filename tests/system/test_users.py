"""Clients that have to authenticate, as sockets see it: how many there may be, for how long, and who is closed."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from kvs.adapters.inbound.protocol.security import STRANGER_OUTPUT_BYTES
from tests.support.harness import OK, Client, Server, polling
from tests.support.resp_wire import OK as RESP_OK
from tests.support.resp_wire import PONG, Wire

SECRET: Final = "cd" * 32
"""A token, which is checked at once."""


@pytest.fixture
def flags(tmp_path: Path) -> tuple[str, ...]:
    """Return what gives the default user a secret."""
    path = tmp_path / "password"
    path.write_text(SECRET)
    return "--password-file", str(path)


def known(server: Server) -> Client:
    """Return a client that has authenticated."""
    client = server.connect()
    assert client.ask(f"AUTH default {SECRET}") == OK
    return client


def test_who_does_not_authenticate_in_time_is_closed(flags: tuple[str, ...]) -> None:
    """However busy it is with other things; who has authenticated stays, and no setting is told."""
    with Server(*flags, "--auth-timeout-s", "0.3", "--input-timeout-s", "0") as server:
        client = known(server)
        silent, busy = server.connect(), server.connect()
        for _ in polling("the busy one is closed"):
            busy.send("HELP")
            if busy.reply().get("code") == "timeout":
                break
        (told,) = silent.rest()
        assert told["mesg"] == "The client has not authenticated in time."
        assert client.ask("PING")["result"] == "PONG"


def test_strangers_keep_nobody_out(flags: tuple[str, ...]) -> None:
    """They get half of the places, and the oldest gives way to the newest; a client that authenticates stays."""
    with Server(*flags, "--max-clients", "8") as server:
        users = [known(server)]
        for _ in range(5):
            strangers = [server.connect() for _ in range(6)]
            assert strangers[-1].ask("HELP")["status"] == "Ok"
            users += [known(server)] if len(users) < 4 else []
        server.wait_for("client_disconnected", 20, reason="stranger displaced")
        assert [client.ask("PING")["result"] for client in users] == ["PONG"] * 4
        users += [known(server) for _ in range(4)]
        (refusal,) = server.connect().rest()
        assert (refusal["code"], refusal["mesg"]) == ("limit", "There are too many clients already.")
        assert [client.ask("PING")["result"] for client in users] == ["PONG"] * 8


def test_strangers_whose_secrets_are_being_checked_are_spared(tmp_path: Path) -> None:
    """They are about to be none; but they cannot keep others out, either."""
    path = tmp_path / "password"
    path.write_text("a password, which takes a while to check")
    with Server("--password-file", str(path), "--max-clients", "4") as server:
        checking, silent = server.connect(), server.connect()
        assert checking.ask("AUTH nobody wrong")["code"] == "unauthenticated"
        checking.send(*["AUTH nobody wrong"] * 20)  # now it is slowed down
        assert silent.ask("HELP")["status"] == "Ok"
        assert server.connect().ask("HELP")["status"] == "Ok"
        assert server.wait_for("client_disconnected", reason="stranger displaced")["peer"] == silent.name
        third = [server.connect() for _ in range(3)]
        assert third[-1].ask("HELP")["status"] == "Ok"


def test_who_leaves_much_unread_is_closed(flags: tuple[str, ...]) -> None:
    """Sooner than others are; what the kernel takes does not count."""
    with Server(*flags) as server:
        stranger, client = server.connect(receive_buffer_bytes=4096), known(server)
        stranger.send_behind(b"HELP\n", 50_000)
        event = server.wait_for("client_disconnected", peer=stranger.name)
        assert event["reason"] == "too slow"
        assert client.ask("PING")["result"] == "PONG"
        assert STRANGER_OUTPUT_BYTES < 1 << 20


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Return a server without users."""
    with Server() as server:
        yield server


@pytest.fixture
def admin(server: Server) -> Iterator[Wire]:
    """Return a connection of the default user; a user u is made for the test."""
    with Wire((server.host, server.port)) as admin:
        assert admin.ask("ACL", "SETUSER", "u", "reset", "on", f">{SECRET}", "allkeys", "allcommands") == RESP_OK
        yield admin
        admin.ask("ACL", "DELUSER", "u")


def user_of(server: Server) -> Wire:
    """Return a connection of the user u."""
    wire = Wire((server.host, server.port))
    assert wire.ask("AUTH", "u", SECRET) == RESP_OK
    return wire


@pytest.mark.parametrize("words", [("DELUSER", "u"), ("SETUSER", "u", "off")])
def test_who_is_removed_or_switched_off_is_closed(server: Server, admin: Wire, words: tuple[str, ...]) -> None:
    """At once, with the transaction; a changed secret, or another user's removal, closes nobody."""
    with closing(user_of(server)) as wire:
        for line in (("SETUSER", "u", "resetpass", f">{'ef' * 32}"), ("SETUSER", "v", "on"), ("DELUSER", "v")):
            admin.ask("ACL", *line)
            assert wire.ask("PING") == PONG
        assert wire.ask("START") == RESP_OK
        assert wire.ask("SET", "k", "1") == RESP_OK
        admin.ask("ACL", *words)
        assert wire.socket.recv(100) == b""
        assert admin.ask("EXISTS", "k") == 0
    for _ in polling("the server tells why"):
        if server.events("client_disconnected", reason="access changed"):
            break


def test_who_is_told_of_others_is_closed_when_it_may_do_less(server: Server, admin: Wire) -> None:
    """MONITOR and CLIENT TRACKING; the user's other connections stay, with what it may do now."""
    with closing(user_of(server)) as monitor, closing(user_of(server)) as tracker, closing(user_of(server)) as plain:
        monitor.ask("MONITOR")
        tracker.ask("HELLO", 3)
        assert tracker.ask("CLIENT", "TRACKING", "ON", "BCAST") == RESP_OK
        admin.ask("ACL", "SETUSER", "u", "resetkeys", "~a:*")
        for wire in (monitor, tracker):
            while wire.socket.recv(1 << 16):
                pass
        assert plain.ask("SET", "a:1", "") == RESP_OK
        assert "NOPERM" in str(plain.ask("SET", "b:1", ""))

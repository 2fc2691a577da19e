"""MONITOR: the commands of all clients, as Redis shows them."""

import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Final

import pytest

from tests.interop.test_hostile_arguments import Speaker, speakers
from tests.support.harness import Server
from tests.support.resp_wire import OK, PONG, Reply, Typed, Wire, error, words
from tests.system.conftest import Reused, flags_of

__all__ = ["speakers"]

KEYSPACE: Final = error("ERR Replica can't interact with the keyspace")


@pytest.fixture(scope="module", params=["default", "blocking"])
def reused_server(request: pytest.FixtureRequest) -> Iterator[Reused]:
    """Return what lends a server, also with an engine that workers call: they leave lines for the loop."""
    reused = Reused(lambda: Server(*flags_of(request.param)))
    yield reused
    reused.end()


def shown(reply: Reply) -> bytes:
    """Return the words in a line; it has the form of Redis."""
    assert isinstance(reply, Typed)
    assert reply.kind == "+"
    assert isinstance(reply.value, bytes)
    found = re.fullmatch(rb"\d{10,}\.\d{6} \[0 [^ \]]+\] (.*)", reply.value)
    assert found is not None, reply
    return found[1]


@pytest.mark.parametrize("version", [b"2", b"3"])
def test_lines_are_those_of_redis(speakers: Mapping[str, Speaker], version: bytes) -> None:
    """With values and escapes; of what EXEC runs, too; and nothing about the server."""
    watcher, speaker = speakers["B"], speakers["A"]
    watcher.say(b"HELLO", version)
    assert watcher.say(b"MONITOR") == [OK, OK]
    said = (
        r'SET a "x\r\n\t\\\"\x00\x01\x7f\xff é" | GET a | INCR a | NOPE | GET | CONFIG GET port | CLIENT KILL ID 9999'
    )
    said += " | SLOWLOG LEN | MULTI | INCR n | STRLEN a | EXEC | MULTI | SET a 1 | DISCARD | WATCH a | PING | CLIENT ID"
    for line in said.split(" | "):
        speaker.say(*words(line))
    speaker.say(b"ECHO", b"end")
    ours, theirs = (lines(wire) for wire in watcher.wires)
    assert ours == theirs
    assert ours[0] == rb'"SET" "a" "x\r\n\t\\\"\x00\x01\x7f\xff \xc3\xa9"'
    assert watcher.say(b"RESET") == [Typed("+", b"RESET")] * 2
    speaker.say(b"SET", b"a", b"1")
    assert watcher.say(b"PING") == [PONG, PONG]


def lines(wire: Wire) -> list[bytes]:
    """Return what is shown, up to the ECHO at the end."""
    found: list[bytes] = []
    while not found or found[-1] != b'"ECHO" "end"':
        found.append(shown(wire.reply()))
    return found


def test_listener_touches_no_keys(speakers: Mapping[str, Speaker]) -> None:
    """It may ask for other things, and is shown them; a second MONITOR has no reply."""
    watcher = speakers["B"]
    assert watcher.say(b"MONITOR") == [OK, OK]
    for wire in watcher.wires:
        wire.send(b"*1\r\n$7\r\nMONITOR\r\n")
    for line in ("GET a", "SET a 1", "KEYS *"):
        assert watcher.say(*words(line)) == [KEYSPACE, KEYSPACE]
    assert watcher.say(b"PING") == [PONG, PONG]
    assert [shown(wire.reply()) for wire in watcher.wires] == [b'"PING"'] * 2
    assert [reply for reply in watcher.say(b"CONFIG", b"GET", b"databases") if reply != 1] != []
    watcher.say(b"RESET")


def test_secrets_and_what_is_about_the_server_are_not_shown(server: Server) -> None:
    """Nor what is refused; commands of the line protocol are."""
    client = server.connect()
    with Wire((server.host, server.port)) as watcher, Wire((server.host, server.port)) as wire:
        assert watcher.ask("MONITOR") == OK
        wire.ask("HELLO", 2, "AUTH", "default", "hunter2")
        wire.ask("CONFIG", "SET", "requirepass", "hunter2")
        wire.ask("AUTH", "hunter2")
        wire.ask("SLOWLOG", "GET")
        client.ok("PUT k some value")
        client.ok("GET k")
        wire.ask("DEL", *["k"] * 100)
        wire.ask("ECHO", "x" * 1030)
        assert [shown(watcher.reply()) for _ in range(2)] == [b'"PUT" "k" "some value"', b'"GET" "k"']
        assert shown(watcher.reply()).endswith(b'"k" "... (38 more arguments)"')
        assert shown(watcher.reply()) == b'"ECHO" "%b... (6 more bytes)"' % (b"x" * 1024)
        host, port = watcher.socket.getsockname()
        assert f"addr={host}:{port} " in str(wire.ask("CLIENT", "LIST"))
        assert " flags=O " in str(wire.ask("CLIENT", "LIST"))


def test_listener_that_does_not_read_is_disconnected() -> None:
    """At the output bound; the others go on, on the fast path again."""
    flags = ("--max-tick-output-bytes", "64KiB", "--max-output-bytes", "64KiB")
    with Server(*flags) as server, Wire((server.host, server.port)) as wire, closing(connected(server)) as watcher:
        assert watcher.ask("MONITOR") == OK
        while " flags=O " in str(wire.ask("CLIENT", "LIST")):
            for _ in range(100):
                assert wire.ask("ECHO", "x" * 1000) == b"x" * 1000
        assert wire.ask("PING") == PONG


def connected(server: Server) -> Wire:
    """Return another connection."""
    return Wire((server.host, server.port))


def test_monitor_is_refused_in_transactions(server: Server) -> None:
    """Of both kinds."""
    with Wire((server.host, server.port)) as wire:
        wire.ask("START")
        assert str(wire.ask("MONITOR")).startswith("-b'ERR MONITOR inside a transaction")
        wire.ask("ROLLBACK")
        wire.ask("MULTI")
        assert wire.ask("MONITOR") == error("ERR MONITOR is not allowed between MULTI and EXEC")
        assert wire.ask("DISCARD") == OK

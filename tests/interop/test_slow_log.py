"""SLOWLOG: as in Redis, but for values."""

from collections.abc import Iterator, Mapping

import pytest

from tests.interop.test_hostile_arguments import Speaker, speakers
from tests.support.harness import Server
from tests.support.resp_wire import OK, QUEUED, Reply, Wire, request, words

__all__ = ["speakers"]

EVERYTHING = (b"CONFIG", b"SET", b"slowlog-log-slower-than", b"0")
USUAL = (b"CONFIG", b"SET", b"slowlog-log-slower-than", b"10000", b"slowlog-max-len", b"128")


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    """Return a connection to a server that logs all commands from now on."""
    with Wire((server.host, server.port)) as wire:
        assert wire.ask("SLOWLOG", "RESET") == OK
        assert wire.ask(*EVERYTHING) == OK
        yield wire
        assert wire.ask(*USUAL) == OK


def entries(reply: Reply) -> list[list[Reply]]:
    """Return the entries of a slow log."""
    assert isinstance(reply, list)
    assert all(isinstance(entry, list) and len(entry) == 6 for entry in reply)
    return [entry for entry in reply if isinstance(entry, list)]


def arguments(wire: Wire) -> list[Reply]:
    """Return the commands of a slow log, the oldest first, without those that look at it."""
    shown = [entry[3] for entry in entries(wire.ask("SLOWLOG", "GET", "-1"))]
    return [words for words in reversed(shown) if isinstance(words, list) and words[0] not in (b"SLOWLOG", b"CONFIG")]


def test_entries_are_those_of_redis(speakers: Mapping[str, Speaker]) -> None:
    """Their arguments, their client's name, their numbers' order; also of what EXEC runs, and of what fails."""
    speaker = speakers["A"]
    try:
        for line in ("CLIENT SETNAME me", "SLOWLOG RESET"):
            speaker.say(*words(line))
        speaker.say(*EVERYTHING)
        said = f"GET a | INCR n x | INCR n | EXISTS {' a' * 40} | GET {'k' * 200} | MULTI | INCR n | STRLEN n"
        for line in [*said.split("|"), "EXEC", "NOPE", "SLOWLOG LEN", "HELLO 3", "SLOWLOG GET 2", "HELLO 2"]:
            speaker.say(*words(line.strip()))
        kvs, redis = (entries(reply) for reply in speaker.say(b"SLOWLOG", b"GET", b"100"))
        assert [entry[3] for entry in kvs[:-1]] == [entry[3] for entry in redis[:-1]]  # the last is CONFIG SET
        for ours, theirs in ((kvs, redis), (redis, kvs)):
            numbers = [entry[0] for entry in ours]
            assert isinstance(numbers[0], int)
            assert numbers == [*range(numbers[0], numbers[0] - len(numbers), -1)]
            assert {entry[5] for entry in ours} == {entry[5] for entry in theirs} == {b"me"}
    finally:
        speaker.say(*USUAL)
        speaker.say(b"CLIENT", b"SETNAME", b"")


def test_values_are_not_shown(wire: Wire, server: Server) -> None:
    """Of either protocol; keys are."""
    said = "SET k hunter2|MSET a hunter2 b hunter2|SET k x IFEQ hunter2|SETEX k 100 hunter2|APPEND k hunter2"
    for line in said.split("|"):
        wire.asked(line)
    client = server.connect()
    client.ok("PUT p hunter2")
    client.ok("GET p")
    assert arguments(wire) == [
        [b"SET", b"k", b"(7 bytes)"],
        [b"MSET", b"a", b"(7 bytes)", b"b", b"(7 bytes)"],
        [b"SET", b"k", b"(1 bytes)", b"IFEQ", b"(7 bytes)"],
        [b"SETEX", b"k", b"100", b"(7 bytes)"],
        [b"APPEND", b"k", b"(7 bytes)"],
        [b"PUT", b"p", b"(7 bytes)"],
        [b"GET", b"p"],
    ]


def test_entry_tells_the_client(wire: Wire) -> None:
    """By the address and the name that CLIENT LIST has, and when and how long."""
    assert wire.ask("CLIENT", "SETNAME", "me") == OK
    now = wire.ask("TIME")
    assert wire.ask("GET", "k") is not None
    latest = entries(wire.ask("SLOWLOG", "GET", "1"))[0]
    assert latest[3] == [b"GET", b"k"]
    assert isinstance(now, list)
    assert isinstance(now[0], bytes)
    assert isinstance(latest[1], int)
    assert isinstance(latest[2], int)
    assert int(now[0]) <= latest[1] <= int(now[0]) + 60
    assert latest[2] >= 0
    host, port = wire.socket.getsockname()
    assert latest[4:] == [f"{host}:{port}".encode(), b"me"]


def test_length_and_threshold_change(wire: Wire) -> None:
    """At once: the oldest are dropped, and with -1 nothing is added."""
    for _ in range(10):
        wire.ask("GET", "k")
    assert wire.ask("CONFIG", "SET", "slowlog-max-len", 3) == OK
    assert wire.ask("SLOWLOG", "LEN") == 3
    assert wire.ask("CONFIG", "SET", "slowlog-log-slower-than", -1) == OK
    before = entries(wire.ask("SLOWLOG", "GET"))
    wire.ask("GET", "k")
    assert entries(wire.ask("SLOWLOG", "GET")) == before
    assert wire.ask("CONFIG", "SET", "slowlog-max-len", 0, "slowlog-log-slower-than", 0) == OK
    wire.ask("GET", "k")
    assert wire.ask("SLOWLOG", "GET") == []


def test_queued_commands_are_there_when_they_have_run(wire: Wire, server: Server) -> None:
    """Those of a queue that arrives whole, which the compiled build runs as one, too; EXEC itself is not."""
    with Wire((server.host, server.port)) as other:
        assert [other.asked("MULTI"), other.asked("SET k v")] == [OK, QUEUED]
        assert arguments(wire) == [[b"MULTI"]]
        assert other.asked("EXEC") == [OK]
        assert arguments(wire) == [[b"MULTI"], [b"SET", b"k", b"(1 bytes)"]]
        other.send(request("MULTI") + request("SET", "k", "v") + request("EXEC"))
        assert [other.reply() for _ in range(3)] == [OK, QUEUED, [OK]]
        assert arguments(wire) == [[b"MULTI"], [b"SET", b"k", b"(1 bytes)"]] * 2


def test_settings_are_those_of_the_start() -> None:
    """They are what CONFIG GET shows."""
    flags = ("--slowlog-log-slower-than", "0", "--slowlog-max-len", "2")
    with Server(*flags) as server, Wire((server.host, server.port)) as wire:
        told = wire.ask("CONFIG", "GET", "slowlog-*")
        assert told == [b"slowlog-log-slower-than", b"0", b"slowlog-max-len", b"2"]
        for _ in range(3):
            wire.ask("GET", "k")
        assert wire.ask("SLOWLOG", "LEN") == 2

"""LATENCY: events of a real server that are made to take long, and durations of commands."""

from collections.abc import Mapping

from tests.interop.test_hostile_arguments import Speaker, speakers
from tests.support.harness import Server
from tests.support.resp_wire import OK, Reply, Wire, request

__all__ = ["speakers"]

MANY = 200_000


def names(reply: Reply) -> set[Reply]:
    """Return the names of the events that LATENCY LATEST shows."""
    assert isinstance(reply, list)
    assert all(isinstance(event, list) and len(event) == 4 for event in reply)
    return {event[0] for event in reply if isinstance(event, list) and isinstance(event[0], bytes)}


def test_slow_events_are_noted(server: Server) -> None:
    """A command, and the tick that it is in; a fast one if it is slow."""
    with Wire((server.host, server.port)) as wire:
        wire.send(b"".join([request("SET", "k", "v" * (1 << 20))] + [request("APPEND", "k", "v")] * 50))
        for _ in range(51):
            wire.reply()
        wire.ask("BITCOUNT", "k")
        assert wire.ask("LATENCY", "LATEST") == []
        assert wire.ask("CONFIG", "SET", "latency-monitor-threshold", 1) == OK
        while not {b"command", b"tick"} <= names(latest := wire.ask("LATENCY", "LATEST")):
            wire.ask("BITOP", "NOT", "to", "k")
        assert isinstance(latest, list)
        for name, _, duration_ms, longest_ms in (event for event in latest if isinstance(event, list)):
            assert isinstance(duration_ms, int)
            assert isinstance(longest_ms, int)
            assert 1 <= duration_ms <= longest_ms
            assert isinstance(name, bytes)
            assert wire.ask("LATENCY", "HISTORY", name) != []
        assert wire.ask("CONFIG", "SET", "latency-monitor-threshold", 0) == OK
        assert wire.ask("LATENCY", "RESET", "command", "nope") == 1
        assert b"command" not in names(wire.ask("LATENCY", "LATEST"))
        assert wire.ask("LATENCY", "RESET") in (1, 2)
        assert wire.ask("LATENCY", "LATEST") == []


def test_syncs_are_noted(tmp_path: object) -> None:
    """Those of an engine that has to sync."""
    with (
        Server("--storage", "sqlite", "--data-dir", str(tmp_path)) as server,
        Wire((server.host, server.port)) as wire,
    ):
        assert wire.ask("CONFIG", "SET", "latency-monitor-threshold", 1) == OK
        while b"sync" not in names(wire.ask("LATENCY", "LATEST")):
            assert wire.ask("SET", "k", "v" * (1 << 20)) == OK


def test_histogram_has_the_form_of_redis(speakers: Mapping[str, Speaker]) -> None:
    """In both versions of the protocol: calls of each command, and how many took at most so long."""
    speaker = speakers["A"]
    for version in (b"2", b"3"):
        speaker.say(b"HELLO", version)
        assert speaker.say(b"CONFIG", b"RESETSTAT") == [OK, OK]
        for _ in range(5):
            speaker.say(b"GET", b"k")
        for reply in speaker.say(b"LATENCY", b"HISTOGRAM", b"GET", b"nope", b"config"):
            items = reply if isinstance(reply, list) else reply.value if not isinstance(reply, (int, bytes)) else None
            assert isinstance(items, list)
            assert items[::2] == [b"get", b"config|resetstat"]
            get = items[1] if isinstance(items[1], list) else getattr(items[1], "value", None)
            assert isinstance(get, list)
            assert get[:3] == [b"calls", 5, b"histogram_usec"]
            counts = get[3] if isinstance(get[3], list) else getattr(get[3], "value", None)
            assert isinstance(counts, list)
            assert counts[-1] == 5
            assert counts[::2] == sorted(counts[::2])

"""Deadlines in dumps: they survive, what has expired is skipped, and a dump outlives what falls due meanwhile."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from kvs.adapters.storage.sqlite.engine import SQLITE
from kvs.cli.endpoints import open_source
from kvs.config import load as load_configuration
from kvs.domain.values import Record, Value
from kvs.dump.format import clock_line, entry_line
from kvs.testing import open_engine
from tests.support.dumps import at, dump_from, dump_of, run_kvs
from tests.support.harness import Server, polling
from tests.support.resp_wire import NULL, OK, Wire, request

from .conftest import StartServer

pytestmark = pytest.mark.one_build

DAY_MS: Final = 86_400_000
LATE_MS: Final = 1 << 45
"""A time in the future."""

LONG_AGO_MS: Final = 1_700_000_000_000

DEADLINES: Final = {b"plain": -1, b"late": LATE_MS, b"later": LATE_MS + 1, b"\xff\0": LATE_MS, b"\xff\xff": -1}


@pytest.fixture(scope="session")
def transport_flags() -> tuple[str, ...]:
    """Return no flags: no transport has a say in this."""
    return ()


def wire_to(server: Server) -> Wire:
    """Return a connection in RESP."""
    return Wire(("127.0.0.1", server.port))


def set_all(server: Server) -> None:
    """Store a key with each of the deadlines."""
    with wire_to(server) as client:
        for key, deadline_ms in DEADLINES.items():
            options = () if deadline_ms < 0 else ("PXAT", deadline_ms)
            assert client.ask("SET", key, b"value of " + key, *options) == OK


def assert_all_is_there(server: Server) -> None:
    """Assert that each of them has its value and its deadline."""
    with wire_to(server) as client:
        assert client.ask("DBSIZE") == len(DEADLINES)
        assert {key: client.ask("PEXPIRETIME", key) for key in DEADLINES} == DEADLINES
        assert all(client.ask("GET", key) == b"value of " + key for key in DEADLINES)


def test_deadlines_survive(start_server: StartServer, tmp_path: Path) -> None:
    """From a server into a data directory, from there into another server, and the dumps are the same but for time."""
    source, target = start_server(), start_server()
    set_all(source)
    dumps = [dump_from(source)]
    directory = str(tmp_path / "data")
    assert run_kvs("load", "--data-dir", directory, given=dumps[0]).returncode == 0
    dumps.append(run_kvs("dump", "--data-dir", directory).stdout)
    assert run_kvs("load", *at(target), given=dumps[1]).stderr == b"kvs: loaded 5 entries\n"
    dumps.append(dump_from(target))
    assert_all_is_there(target)
    served = start_server("--data-dir", directory)
    assert_all_is_there(served)
    for dump in dumps:
        lines = dump.splitlines()
        assert sum(b"time_ms" in line for line in lines) == 1
        assert [line for line in lines if b"time_ms" not in line] == [
            line for line in dumps[0].splitlines() if b"time_ms" not in line
        ]


def test_a_dump_without_deadlines_has_no_time(server: Server) -> None:
    """It is one that version 0.1.0 can read."""
    with wire_to(server) as client:
        assert client.ask("SET", "k", "v", "EX", 1000) == OK
        assert b"time_ms" in dump_from(server)
        assert client.ask("PERSIST", "k") == 1
        assert dump_from(server) == b'{"kvs_dump":1}\n{"key":"k","value":"v"}\n{"entries":1}\n'


def test_what_has_expired_is_skipped_and_told_of(start_server: StartServer, tmp_path: Path) -> None:
    """In a server and in a directory; extended, it has the time left that it had."""
    lines = [
        clock_line(LONG_AGO_MS),
        entry_line(b"expired", Record(b"1", LONG_AGO_MS + DAY_MS)),
        entry_line(b"late", Record(b"2", LATE_MS)),
        entry_line(b"plain", b"3"),
    ]
    dump = tmp_path / "dump"
    dump.write_bytes(b"".join(lines))
    server = start_server()
    for target in (at(server), ("--data-dir", str(tmp_path / "data"))):
        ran = run_kvs("load", *target, str(dump))
        assert (ran.returncode, ran.stderr) == (0, b"kvs: loaded 2 entries; skipped 1 that had expired\n")
        ran = run_kvs("load", "--extend", *target, str(dump))
        assert (ran.returncode, ran.stderr) == (0, b"kvs: loaded 3 entries\n")
    served = start_server("--data-dir", str(tmp_path / "data"))
    for each in (server, served):
        with wire_to(each) as client:
            left_ms = client.ask("PTTL", "expired")
            assert isinstance(left_ms, int)
            assert 0 < left_ms <= DAY_MS


def test_a_directory_may_hold_what_is_due(start_server: StartServer, tmp_path: Path) -> None:
    """It has fallen due since the server stopped: a dump leaves out both it and the deletion, a start deletes it."""
    directory = tmp_path / "data"
    with open_engine(SQLITE, directory) as storage:
        storage.put(b"due", Record(b"1", LONG_AGO_MS))
        storage.put(b"plain", b"1")
        storage.sync()
    verified = run_kvs("verify", str(directory)).stdout
    assert b"2 keys" in verified
    assert run_kvs("dump", "--data-dir", str(directory)).stdout == dump_of({b"plain": b"1"})
    assert run_kvs("verify", str(directory)).stdout == verified
    served = start_server("--data-dir", str(directory))
    assert dump_from(served) == dump_of({b"plain": b"1"})


COUNT: Final = 5000
LASTS_MS: Final = (500, 3000, 20_000, 60_000)
"""How long the keys last: longer if the machine is too slow for the dump to begin before they are due."""


@contextmanager
def begun_dump(server: Server, client: Wire) -> Iterator[tuple[list[bytes], Iterator[tuple[bytes, Value]]]]:
    """Begin a dump of keys that fall due while it goes on; yield the keys, and its entries."""
    configuration = load_configuration({"host": [server.host], "port": server.port}, {})
    keys = [b"%06d" % number for number in range(COUNT)]
    for lasts_ms in LASTS_MS:
        client.send(b"".join(request("SET", key, "v", "PX", lasts_ms) for key in keys))
        assert [client.reply() for _ in keys] == [OK] * COUNT
        with open_source(configuration, {}) as source:
            if source.total == COUNT:
                yield keys, source.entries()
                return
    pytest.fail("no dump began in time")


@pytest.mark.parametrize("flags", [(), ("--storage", "sqlite")], ids=["memory", "sqlite"])
def test_a_dump_is_as_of_its_beginning_though_everything_falls_due(
    start_server: StartServer, flags: tuple[str, ...]
) -> None:
    """The keys are gone for everybody else."""
    server = start_server(*flags)
    with wire_to(server) as client, begun_dump(server, client) as (keys, entries):
        found = [next(entries)]
        for _ in polling("all have expired"):
            if client.ask("DBSIZE") == 0:
                break
        assert client.ask("GET", keys[-1]) == NULL
        found += entries
        assert [key for key, _ in found] == keys
        assert all(isinstance(value, Record) and value.payload == b"v" for _, value in found)


def figures(client: Wire) -> dict[bytes, float]:
    """Return those of INFO about expiry."""
    info = client.ask("INFO")
    assert isinstance(info, bytes)
    pairs = (line.split(b":") for line in info.split() if line.startswith((b"deadlines:", b"expiry_lag_s:")))
    return {name: float(value) for name, value in pairs}


@pytest.mark.parametrize("flags", [(), ("--storage", "sqlite")], ids=["memory", "sqlite"])
def test_what_is_due_waits_for_a_dump_that_needs_all_of_history(
    start_server: StartServer, flags: tuple[str, ...]
) -> None:
    """The dump goes on; for others the keys are gone all the same, and when it has ended they are deleted."""
    server = start_server(*flags, "--max-history-bytes", "200kB")
    with wire_to(server) as client:
        with begun_dump(server, client) as (keys, entries):
            found = [next(entries)]
            left = 0.0
            for _ in polling("expiry waits"):
                before, now = left, figures(client)
                left = now[b"deadlines"]
                if now[b"expiry_lag_s"] > 0 and left == before and client.ask("EXISTS", *keys[-20:]) == 0:
                    break
            found += entries
        assert [key for key, _ in found] == keys
        for _ in polling("all are deleted"):
            if figures(client)[b"deadlines"] == 0:
                break


def test_lines_are_json_with_numbers(start_server: StartServer) -> None:
    """So that other programs can compute with them."""
    server = start_server()
    set_all(server)
    lines = [json.loads(line) for line in dump_from(server).splitlines()]
    deadlines = {line["key"]: line.get("deadline_ms") for line in lines if "key" in line}
    assert deadlines == {"plain": None, "late": LATE_MS, "later": LATE_MS + 1}

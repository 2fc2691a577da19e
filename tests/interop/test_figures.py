"""What is counted of commands, as Redis counts it; and the tools that read it."""

import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing
from http.client import HTTPConnection
from typing import Final

import pytest

from tests.interop.conftest import program
from tests.interop.test_clients import sections_of, text_of
from tests.interop.test_hostile_arguments import Speaker, speakers
from tests.interop.test_redis_cli import cli
from tests.support.harness import Server, polling
from tests.support.resp_wire import OK, Wire, words

__all__ = ["speakers"]

Address = tuple[str, int]

SAID: Final = """
    SET a 1 | set b x | GET a | get nope | MGET a b nope | INCR a | INCR b | INCR | GETSET a 2 | GETDEL nope
    SET a 3 GET | SET a 4 FOO | EXISTS a nope | STRLEN a | TTL nope | TYPE a | GETRANGE a 0 1 | BITCOUNT a
    NOPE | NOPE x | CLIENT FOO | CLIENT ID x | SELECT 0 | SELECT 77 | PING | ECHO | DEL nope | HELLO 9
    MULTI | INCR a | GET a | EXEC | MULTI | SET | EXEC | MULTI | SET a 1 | DISCARD | EXEC | WATCH a | SET a 9 | MULTI
    SET a 2 | EXEC | EXPIRE a x | SETRANGE a -1 x | GETEX a PERSIST | LCS a b | TOUCH a | APPEND a x | PERSIST nope
"""
"""Commands that both servers have to count alike."""

OWN: Final = ("info", "config|resetstat", "config|get", "hello")
"""Commands that differ, or that this test uses."""


def figures(speaker: Speaker) -> tuple[dict[str, dict[str, str]], dict[str, dict[str, str]]]:
    """Return all figures, of kvs and of Redis."""
    kvs, redis = (sections_of(text_of(reply)) for reply in speaker.say(b"INFO", b"ALL"))
    return kvs, redis


def counts(section: dict[str, str]) -> dict[str, dict[str, str]]:
    """Return what Commandstats counts, without times."""
    found = {}
    for name, text in section.items():
        fields = dict(field.split("=") for field in text.split(","))
        if name.removeprefix("cmdstat_") not in OWN:
            found[name] = {field: fields[field] for field in ("calls", "rejected_calls", "failed_calls")}
    return found


def test_counts_are_those_of_redis(speakers: Mapping[str, Speaker]) -> None:
    """Calls, failed calls, rejected calls, codes of errors, hits and misses."""
    speaker = speakers["A"]
    assert speaker.say(b"CONFIG", b"RESETSTAT") == [OK, OK]
    for line in re.split(r"[|\n]", SAID.strip()):
        speaker.say(*words(line.strip()))
    kvs, redis = figures(speaker)
    assert counts(kvs["Commandstats"]) == counts(redis["Commandstats"])
    assert kvs["Errorstats"] == redis["Errorstats"]
    for name in ("keyspace_hits", "keyspace_misses", "total_error_replies", "total_commands_processed"):
        assert kvs["Stats"][name] == redis["Stats"][name], name
    assert [name for name in kvs["Latencystats"] if name not in redis["Latencystats"]] == []
    quantile = r"p50=\d+\.\d{3},p99=\d+\.\d{3},p99\.9=\d+\.\d{3}"
    assert all(re.fullmatch(quantile, text) for text in kvs["Latencystats"].values())


def test_calls_are_of_both_protocols(server: Server) -> None:
    """Each is counted once, and all of them are the commands processed; after RESETSTAT nothing is left."""
    client = server.connect()
    with Wire((server.host, server.port)) as wire:
        assert wire.ask("CONFIG", "RESETSTAT") == OK
        for line in ["PUT a 1", "GET a", "GET nope", "NONSENSE", "COMMIT", "START", "PUT a 2", "COMMIT", "PING"]:
            client.ask(line)
        assert wire.ask("GET", "a") == b"2"
        told = sections_of(text_of(wire.ask("INFO", "commandstats", "stats", "errorstats")))
        calls = {
            name.removeprefix("cmdstat_"): int(re.findall(r"calls=(\d+),usec", text)[0])
            for name, text in told["Commandstats"].items()
        }
        assert calls == {"get": 3, "put": 2, "commit": 2, "start": 1, "ping": 1, "config|resetstat": 1}
        assert int(told["Stats"]["total_commands_processed"]) == sum(calls.values())
        assert told["Errorstats"] == {"errorstat_NO_TRANSACTION": "count=1", "errorstat_UNKNOWN_COMMAND": "count=1"}
        assert (told["Stats"]["keyspace_hits"], told["Stats"]["keyspace_misses"]) == ("2", "1")
        assert wire.ask("CONFIG", "RESETSTAT") == OK
        told = sections_of(text_of(wire.ask("INFO", "everything")))
        assert list(told["Commandstats"]) == ["cmdstat_config|resetstat"]
        assert told["Stats"]["keyspace_hits"] == told["Stats"]["total_connections_received"] == "0"


def test_large_keys_are_found(address: Address) -> None:
    """``--bigkeys`` and ``--memkeys`` find the largest, and tell its size."""
    with Wire(address) as wire:
        for number in range(100):
            assert wire.ask("SET", f"k:{number}", "v" * (10 + number)) == OK
        memory = wire.ask("MEMORY", "USAGE", "k:99")
    assert isinstance(memory, int)
    assert "Biggest string found '\"k:99\"' has 109 bytes" in cli(address, "--bigkeys")
    assert f"Biggest string found '\"k:99\"' has {memory} bytes" in cli(address, "--memkeys")


@pytest.fixture
def exporter(address: Address) -> Iterator[Address]:
    """Run Prometheus's exporter for Redis against the server; return where it is."""
    command = program("prometheus-redis-exporter")
    with subprocess.Popen(
        [command, "-redis.addr", f"redis://{address[0]}:{address[1]}", "-web.listen-address", "127.0.0.1:0"],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield _listening(process)
        finally:
            process.terminate()


def _listening(process: "subprocess.Popen[str]") -> Address:
    """Return where a process listens, once it does: it does not say."""
    for _ in polling("the exporter listens"):
        assert process.poll() is None, "the exporter has ended"
        found = subprocess.run([program("ss"), "-ltnpH"], capture_output=True, text=True, check=True).stdout
        ports = re.findall(rf"127\.0\.0\.1:(\d+) .*pid={process.pid},", found)
        if ports:
            return "127.0.0.1", int(ports[0])
    raise AssertionError


def test_exporter_of_prometheus_finds_its_figures(address: Address, exporter: Address) -> None:
    """Memory, commands, connections and the keyspace, with true values."""
    with Wire(address) as wire:
        assert wire.ask("CONFIG", "RESETSTAT") == OK
        for number in range(10):
            assert wire.ask("SET", f"k:{number}", "v") == OK
        wire.asked("SET k:0 v EX 1000")
        wire.asked("GET k:1")
        wire.asked("GET nope")
        wire.asked("INCR k:1")
    with closing(HTTPConnection(*exporter)) as http:
        http.request("GET", "/metrics")
        text = http.getresponse().read().decode()
    metrics = dict(re.findall(r"^(redis_\S+(?:\{.*?\})?) (\S+)$", text, re.MULTILINE))
    assert metrics["redis_up"] == "1"
    assert float(metrics["redis_memory_used_bytes"]) > 1 << 20
    assert metrics['redis_db_keys{db="db0"}'] == "10"
    assert metrics['redis_db_keys_expiring{db="db0"}'] == "1"
    assert metrics["redis_keyspace_hits_total"] == metrics["redis_keyspace_misses_total"] == "1"
    assert metrics["redis_expired_keys_total"] == "0"
    assert metrics['redis_commands_total{cmd="set"}'] == "11"
    assert metrics['redis_commands_failed_calls_total{cmd="incr"}'] == "1"
    assert float(metrics['redis_commands_duration_seconds_total{cmd="set"}']) > 0
    assert metrics['redis_errors_total{err="ERR"}'] == "1"
    assert float(metrics["redis_commands_processed_total"]) >= 14
    assert float(metrics["redis_connected_clients"]) >= 1
    assert float(metrics["redis_connections_received_total"]) >= 1
    assert {"redis_cpu_sys_seconds_total", "redis_cpu_user_seconds_total"} <= metrics.keys()

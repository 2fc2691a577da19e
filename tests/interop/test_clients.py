"""CLIENT and INFO: the fields of Redis under their names and in their order, with values that are true."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.interop.conftest import program
from tests.interop.test_hostile_arguments import Speaker, speakers
from tests.support.harness import Server, polling
from tests.support.resp_wire import OK, PONG, QUEUED, Reply, Typed, Wire, request

__all__ = ["speakers"]

OF_KVS: Final = ["depth", "tot-cmds", "lib-name", "lib-ver"]
"""Fields of CLIENT LIST that stand behind those of Redis 7.0."""

SECTIONS_OF_KVS: Final = ["Engine", "Session"]


def text_of(reply: Reply) -> str:
    """Return a reply that is text for people, in either version of the protocol."""
    text = reply.value if isinstance(reply, Typed) else reply
    assert isinstance(text, bytes)
    return text.decode().removeprefix("txt:")


def fields_of(line: str) -> dict[str, str]:
    """Return the fields of a line of CLIENT LIST by name, in their order."""
    return dict(field.split("=", 1) for field in line.split(" "))


def about(wire: Wire, number: Reply) -> dict[str, str]:
    """Return what another client is told of one."""
    assert isinstance(number, int)
    return fields_of(text_of(wire.ask("CLIENT", "LIST", "ID", number)).rstrip("\n"))


def described(speakers: Mapping[str, Speaker]) -> tuple[dict[str, str], dict[str, str]]:
    """Return what B is told of A, by kvs and by Redis."""
    kvs, redis = (about(other, one.ask("CLIENT", "ID")) for one, other in zip(*both(speakers), strict=True))
    redis["flags"] = redis["flags"].replace("U", "") or "N"  # which comes by a socket in the file system
    return kvs, redis


def both(speakers: Mapping[str, Speaker]) -> tuple[list[Wire], list[Wire]]:
    """Return the connections of A and of B."""
    return speakers["A"].wires, speakers["B"].wires


ALIKE: Final = ("name", "flags", "db", "sub", "psub", "ssub", "multi", "cmd", "user", "redir", "resp")


@pytest.mark.parametrize(
    "said",
    [
        [],
        ["CLIENT SETNAME me"],
        ["HELLO 3 SETNAME you"],
        ["CLIENT NO-EVICT ON"],
        ["CLIENT NO-EVICT ON", "CLIENT NO-EVICT OFF"],
        ["SET a 1"],
        ["GET a"],
        ["get a", "SET a 1", "GET a"],
        ["PING"],
        ["CLIENT GETNAME"],
        ["CONFIG GET save"],
    ],
    ids=" ".join,
)
def test_fields_of_a_client(speakers: Mapping[str, Speaker], said: list[str]) -> None:
    """All fields of Redis come first, in its order, and those that do not depend on the server have the same values."""
    for line in said:
        speakers["A"].say(*line.encode().split())
    kvs, redis = described(speakers)
    assert list(kvs) == [*redis, *OF_KVS]
    assert {name: kvs[name] for name in ALIKE} == {name: redis[name] for name in ALIKE}


@pytest.mark.parametrize("line", ["SET a 1", "GET a", "get a", "PING", "CLIENT GETNAME", "INCR n", "FOO", "SET a"])
def test_the_last_command(speakers: Mapping[str, Speaker], line: str) -> None:
    """It is told by its full name, whichever way it was run; one that does not exist changes nothing."""
    numbers = [wire.ask("CLIENT", "ID") for wire in speakers["A"].wires]
    speakers["A"].say(*line.encode().split())
    kvs, redis = (about(wire, number)["cmd"] for wire, number in zip(speakers["B"].wires, numbers, strict=True))
    assert (kvs, redis) in {(redis, redis), ("client|id", "NULL"), ("client|id", "set")}


def test_a_queue(speakers: Mapping[str, Speaker]) -> None:
    """What is queued is counted, and so is its memory."""
    numbers = [wire.ask("CLIENT", "ID") for wire in speakers["A"].wires]
    assert speakers["A"].say(b"MULTI") == [OK, OK]
    for length in (1, 2):
        assert speakers["A"].say(b"SET", b"a", b"x" * 1000) == [QUEUED, QUEUED]
        kvs, redis = (about(wire, number) for wire, number in zip(speakers["B"].wires, numbers, strict=True))
        assert (kvs["multi"], redis["multi"]) == (str(length),) * 2
        assert "x" in kvs["flags"]
        assert "x" in redis["flags"]
        assert int(kvs["multi-mem"]) >= 1000 * length
        assert int(redis["multi-mem"]) >= 1000 * length


def test_what_a_client_holds(server: Server) -> None:
    """Of a request that is not complete, of a transaction, and of its socket."""
    address = server.host, server.port
    with Wire(address) as one, Wire(address) as other:
        number = one.ask("CLIENT", "ID")
        own = fields_of(text_of(one.ask("CLIENT", "INFO")).rstrip("\n"))
        assert own["addr"] == "{}:{}".format(*one.socket.getsockname())
        assert own["laddr"] == "{}:{}".format(*one.socket.getpeername())
        assert Path(f"/proc/{server.pid}/fd/{own['fd']}").readlink().name.startswith("socket:")
        assert (own["events"], own["qbuf"], own["argv-mem"], own["multi-mem"]) == ("r", "0", "0", "0")
        one.send(request("SET", "k", "v" * 1000)[:-100])
        for _ in polling("the request has come"):
            held = about(other, number)
            if held["qbuf"] != "0":
                break
        assert int(held["qbuf"]) == 902
        assert int(held["argv-mem"]) >= 4
        assert int(held["tot-mem"]) >= 906
        one.send(request("SET", "k", "v" * 1000)[-100:] + request("START") + request("SET", "k", "v" * 5000))
        assert [one.reply() for _ in range(3)] == [OK] * 3
        held = about(other, number)
        assert (held["depth"], held["qbuf"]) == ("1", "0")
        assert int(held["tot-mem"]) > 5000


def test_clients_of_the_line_protocol_are_listed(server: Server) -> None:
    """With resp=0."""
    with Wire((server.host, server.port)) as wire:
        client = server.connect()
        assert client.ask("PING")["status"] == "Ok"
        (line,) = [
            fields_of(line)
            for line in text_of(wire.ask("CLIENT", "LIST")).splitlines()
            if f"addr={client.name} " in line
        ]
        assert (line["resp"], line["cmd"], line["tot-cmds"]) == ("0", "NULL", "1")


def test_clients_are_listed_in_the_order_of_their_numbers_as_given(speakers: Mapping[str, Speaker]) -> None:
    """One that is named twice is listed twice."""
    for one, other in zip(*both(speakers), strict=True):
        first, second = one.ask("CLIENT", "ID"), other.ask("CLIENT", "ID")
        assert isinstance(first, int)
        assert isinstance(second, int)
        lines = text_of(one.ask("CLIENT", "LIST", "ID", second, first, 99999, second)).splitlines()
        assert [int(fields_of(line)["id"]) for line in lines] == [second, first, second]


# KILL.


def test_killing_by_the_address_that_was_connected_to() -> None:
    """LADDR, alone and with the other filters, of which all have to hold, and of two of a kind the last."""
    with Server("--host", "127.0.0.1", "--host", "127.0.0.2", "--port", "0") as server:
        here, there = f"127.0.0.1:{server.port}", f"127.0.0.2:{server.port}"
        with Wire(("127.0.0.1", server.port)) as one, Wire(("127.0.0.2", server.port)) as other:
            assert (one.ask("PING"), other.ask("PING")) == (PONG, PONG)
            number = other.ask("CLIENT", "ID")
            assert isinstance(number, int)
            assert one.ask("CLIENT", "KILL", "LADDR", here, "ID", number) == 0
            assert one.ask("CLIENT", "KILL", "LADDR", there, "TYPE", "pubsub") == 0
            assert one.ask("CLIENT", "KILL", "LADDR", there, "LADDR", here) == 0
            assert one.ask("CLIENT", "KILL", "LADDR", "127.0.0.3:1") == 0
            assert other.ask("PING") == PONG
            assert one.ask("CLIENT", "KILL", "ID", 99999, "ID", number, "LADDR", there, "USER", "default") == 1
            assert other.rest() == b""
            assert one.ask("CLIENT", "KILL", "LADDR", here, "SKIPME", "no") == 1
            assert one.rest() == b""


# REPLY.

SAID: Final = st.lists(
    st.sampled_from(
        [
            *("CLIENT REPLY ON", "CLIENT REPLY OFF", "CLIENT REPLY SKIP", "client reply skip", "CLIENT REPLY x"),
            *("CLIENT REPLY", "SET a 1", "GET a", "GET nope", "FOO", "SET a", "RESET", "HELLO 3", "INCR n", "ECHO hi"),
            *("MULTI", "EXEC", "DISCARD", "WATCH a", "CLIENT GETNAME"),
        ]
    ),
    max_size=15,
)


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(said=SAID, one_packet=st.booleans())
@example(said=["CLIENT REPLY SKIP", "CLIENT REPLY SKIP", "GET a", "GET a"], one_packet=True)
@example(said=["CLIENT REPLY OFF", "CLIENT REPLY SKIP", "GET a", "CLIENT REPLY ON", "GET a"], one_packet=False)
def test_replies_off_and_on(address: tuple[str, int], redis_path: Path, said: list[str], one_packet: bool) -> None:
    """All that is answered is the same, to the byte; CLIENT REPLY in a queue, which kvs refuses, is left out."""
    queued = False
    requests = []
    for line in [*said, "CLIENT REPLY ON", "GET a"]:
        if line.lower().startswith("client reply") and queued:
            continue
        queued = line == "MULTI" or (queued and line not in ("EXEC", "DISCARD", "RESET"))
        requests.append(request(*line.split()))
    requests.append(request("DISCARD") + request("CLIENT", "REPLY", "ON") + request("QUIT"))
    answers = []
    for server in (address, redis_path):
        with Wire(server) as wire:
            wire.send(request("FLUSHALL"))
            assert wire.reply() == OK
            for data in [b"".join(requests)] if one_packet else requests:
                wire.send(data)
            answers.append(without_hello(wire.rest()))
    assert answers[0] == answers[1]


def without_hello(data: bytes) -> bytes:
    """Return what was answered, but for what HELLO says of the server and of the number of the client."""
    begin, *rest = data.split(b"%7\r\n")
    return begin + b"".join(part.partition(b"$7\r\nmodules\r\n*0\r\n")[2] for part in rest)


# INFO.


def sections_of(info: str) -> dict[str, dict[str, str]]:
    """Return figures by section and name."""
    sections: dict[str, dict[str, str]] = {}
    for line in info.splitlines():
        if line.startswith("# "):
            sections[line[2:]] = figures = {}
        elif line:
            name, colon, value = line.partition(":")
            assert colon
            figures[name] = value
    return sections


def test_figures_have_the_names_and_places_of_redis(speakers: Mapping[str, Speaker]) -> None:
    """Sections, and those figures in them that Redis has, too, are in its order; none is in another section."""
    speakers["A"].say(b"SET", b"a", b"1")
    kvs, redis = (sections_of(text_of(reply)) for reply in speakers["A"].say(b"INFO"))
    assert list(kvs) == [*redis, *SECTIONS_OF_KVS]
    places = {figure: name for name, figures in redis.items() for figure in figures}
    for name, figures in kvs.items():
        common = [figure for figure in figures if figure in places]
        assert common == [figure for figure in redis.get(name, {}) if figure in figures]
    assert kvs["Keyspace"] == {"db0": "keys=1,expires=0"}
    for section in (b"server", b"MEMORY", b"nope", b"commandstats", b"keyspace", b"default", b"all", b"everything"):
        ours, theirs = (sections_of(text_of(reply)) for reply in speakers["A"].say(b"INFO", section))
        assert [name for name in ours if name not in SECTIONS_OF_KVS] == list(theirs)


def test_figures_are_true(server: Server) -> None:
    """What can be known from outside is what is told."""
    with Wire((server.host, server.port)) as wire:
        before = sections_of(text_of(wire.ask("INFO")))
        assert int(before["Server"]["process_id"]) == server.pid
        assert int(before["Clients"]["connected_clients"]) == 1
        with Wire((server.host, server.port)) as other:
            for _ in range(10):
                assert other.ask("PING") == PONG
            after = sections_of(text_of(wire.ask("INFO", "clients", "stats", "memory", "server")))
        assert int(after["Clients"]["connected_clients"]) == 2
        assert difference(before, after, "total_connections_received") == 1
        assert difference(before, after, "total_commands_processed") == 11
        assert 0 < int(after["Memory"]["used_memory"]) <= int(after["Memory"]["used_memory_peak"])
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
        assert int(after["Memory"]["total_system_memory"]) == pages * size
        assert before["Server"]["run_id"] == after["Server"]["run_id"]


def difference(before: dict[str, dict[str, str]], after: dict[str, dict[str, str]], name: str) -> int:
    """Return by how much a figure has grown."""
    return int(after["Stats"][name]) - int(before["Stats"][name])


def test_figures_line_by_line(address: tuple[str, int]) -> None:
    """``redis-cli --stat`` finds the figures it needs, and shows what has been done."""
    command = [program("redis-cli"), "-h", address[0], "-p", str(address[1]), "--stat", "-i", "0.01"]
    with Wire(address) as wire:
        assert wire.ask("SET", "a", "1") == OK
        before = sections_of(text_of(wire.ask("INFO")))["Stats"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            _, titles, *lines = (process.stdout.readline().split() for _ in range(5))
            process.terminate()
    assert titles == ["keys", "mem", "clients", "blocked", "requests", "connections"]
    requests = int(before["total_commands_processed"]) + 1  # that INFO
    connections = int(before["total_connections_received"]) + 1  # that of redis-cli
    for number, (keys, memory, clients, blocked, *load) in enumerate(lines):
        assert (keys, clients, blocked) == ("1", "2", "0")
        assert float(memory.rstrip("KMG")) > 0
        grown = number > 0  # by the INFO of the line before
        assert load == [str(requests + number), f"(+{grown:d})", str(connections)]

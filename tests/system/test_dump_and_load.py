"""``kvs dump`` and ``kvs load`` with a running server: all of it survives, and a dump is of one moment."""

import io
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvs.cli.endpoints import open_sink, open_source
from kvs.config import Configuration
from kvs.config import load as load_configuration
from kvs.domain.values import string_of
from kvs.dump.format import HEADER, entry_line, trailer_line
from kvs.dump.loader import load as read_dump
from kvs.dump.writer import dump as write_dump
from kvs.testing.cases.base import EDGE_CASE_KEYS, EDGE_CASE_VALUES
from tests.support.dumps import at, dump_from, dump_of, environment, fill, load_into, run_kvs, running_kvs
from tests.support.harness import OK, TIMEOUT_S, Server, polling
from tests.support.resp_wire import OK as RESP_OK
from tests.support.resp_wire import Wire

from .conftest import StartServer

pytestmark = pytest.mark.one_build

KEYS = [
    *(
        "a",
        "key:1",
        '"quoted"',
        "back\\slash",
        "{",
        "ключ",
        "漢字",
        "🐢",
        "\u2028",
        "é",
        "e\u0301",
        "\x00",
        "\x01\x1f\x7f",
    ),
    *("tab\tinside", "\ttab", "carriage\rreturn", "return_at_the_end\r", "\r", "\r\r"),
    *("null", "true", "1", "-", "--port", "PUT", "key:", "%s%b", "\ufeff", "k" * 8192),
]
VALUES = [
    *(
        "",
        " ",
        "  two  spaces  ",
        "\t",
        "\r",
        "ends in a return\r",
        "two\r\r",
        "HTTP/1.1",
        "x HTTP/1.1",
        "null",
        '"',
        "\\",
    ),
    *("\x00\x01\x1f\x7f", "żółw ЖК 漢字 🐢 \u2028", "{" * 1000, "v" * 100_000, '\\"' * 10_000),
]


@pytest.fixture(scope="session")
def transport_flags() -> tuple[str, ...]:
    """Return no flags: no transport has a say in this."""
    return ()


def test_every_key_and_every_value_that_a_client_can_store_survives(server: Server) -> None:
    """Dumped, loaded and dumped again, it is the same to the byte; and what was loaded is what was put."""
    data = {f"{key}/{number}".encode(): value.encode() for key in KEYS[:-1] for number, value in enumerate(VALUES)}
    data |= {key.encode(): key.encode() for key in KEYS}
    dump = dump_of(data)
    load_into(server, dump)
    client = server.connect()
    for key, value in data.items():
        assert client.ask(b"GET " + key + b"\r")["result"] == value.decode()  # the server drops that one CR
    assert dump_from(server) == dump
    client.close()
    server.clear()
    load_into(server, dump)
    assert dump_from(server) == dump


ENGINES = {"memory": (), "sqlite": ("--storage", "sqlite")}

BYTES = {
    **{key: b"value of " + key for key in EDGE_CASE_KEYS},
    **{b"v%d" % number: string_of(value) for number, value in enumerate(EDGE_CASE_VALUES)},
    **{bytes((code,)): bytes((code,)) for code in range(256)},
    **{b"key%c" % code: b"%cvalue\r\n" % code for code in range(256)},
    **{
        key: key
        for key in (b"\r\n", b"two words", b"*1\r\n$4\r\nPING\r\n", b"$-1", b"a\nPUT evil 1", b"tab\t", b"end\r")
    },
    b"\xff" * 8192: bytes(range(256)) * 4096,
}
"""What the line protocol cannot carry, and all else that may be taken for something else."""


@pytest.mark.parametrize(("engine", "other"), list(zip(ENGINES, reversed(ENGINES), strict=True)))
def test_any_bytes_survive(start_server: StartServer, engine: str, other: str) -> None:
    """From a server that has got them over RESP into another with another engine, where they are the very same."""
    source, target = start_server(*ENGINES[engine]), start_server(*ENGINES[other])
    with Wire(("127.0.0.1", source.port)) as client:
        for key, value in BYTES.items():
            assert client.ask(b"SET", key, value) == RESP_OK
    dumped = dump_from(source)
    assert dumped == dump_of(BYTES)
    load_into(target, dumped)
    with Wire(("127.0.0.1", target.port)) as client:
        assert client.ask(b"DBSIZE") == len(BYTES)
        assert {key: client.ask(b"GET", key) for key in BYTES} == BYTES
    assert dump_from(target) == dumped


@pytest.fixture(scope="module")
def lasting_server() -> Iterator[Configuration]:
    """Return where a server is that stays for a while."""
    with Server() as server:
        yield load_configuration({"host": [server.host], "port": server.port}, {})


@given(data=st.dictionaries(st.binary(min_size=1, max_size=100), st.binary(max_size=1000), max_size=20))
def test_any_data_survives(lasting_server: Configuration, data: dict[bytes, bytes]) -> None:
    """What was loaded is what is dumped."""
    with Wire(("127.0.0.1", lasting_server.settings.port)) as client:
        client.ask(b"FLUSHALL")
    with open_sink(lasting_server, {}) as sink:
        read_dump(io.BytesIO(dump_of(data)), sink, 1 << 20)
    output = io.BytesIO()
    with open_source(lasting_server, {}) as source:
        write_dump(source, output)
    assert output.getvalue() == dump_of(data)


def test_a_dump_of_nothing_is_a_dump(server: Server) -> None:
    """And can be loaded."""
    assert dump_from(server) == HEADER + trailer_line(0)
    load_into(server, HEADER + trailer_line(0))


@pytest.mark.parametrize("count", [999, 1000, 1001, 2000, 12_345])
def test_pages_of_keys(server: Server, count: int) -> None:
    """However many there are, each is there once."""
    data = {b"%07d" % number: b"%d" % number for number in range(count)}
    load_into(server, dump_of(data))
    assert server.connect().ask("COUNT")["result"] == count
    assert dump_from(server) == dump_of(data)


def test_huge_keys_and_values(server: Server) -> None:
    """Many of them at once, so that neither side can hold all that is under way; and the longest to write in JSON."""
    data = {b"big/%03d" % number: b"%d" % number * 300_000 for number in range(30)}
    data |= {(b"%04d" % number) * 2048: b"" for number in range(2000)}
    data |= {b"longest": b"\x01" * (16 << 20), b"small": b"1"}
    load_into(server, dump_of(data))
    assert dump_from(server) == dump_of(data)


def test_keys_as_huge_as_values(start_server: StartServer) -> None:
    """More than fits between the two, of requests and of replies, so that one could wait for the other."""
    flags = ("--max-key-bytes", "100000")
    server = start_server("--max-output-bytes", "1", *flags)
    data = {b"%03d" % number + b"k" * 90_000: b"v" * 100_000 for number in range(250)}
    assert run_kvs("load", *at(server), *flags, given=dump_of(data)).returncode == 0
    assert run_kvs("dump", *at(server), *flags).stdout == dump_of(data)


def test_memory_is_bounded(server: Server, tmp_path: Path) -> None:
    """A command holds a few values, not all of them."""
    path = tmp_path / "dump"
    with path.open("wb") as file:
        file.write(HEADER)
        for number in range(300):
            file.write(entry_line(b"%d" % number, b"x" * (1 << 20)))
        file.write(trailer_line(300))
    # Measured by a small process in between: what the system says of a child includes what its parent held.
    measure = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    for command in ("load", "dump"):
        ran = subprocess.run(
            [sys.executable, "-c", measure, sys.executable, "-m", "kvs", command, *at(server), str(path)],
            env=environment(),
            capture_output=True,
            check=True,
            timeout=TIMEOUT_S,
        )
        assert int(ran.stdout) << (10 if sys.platform == "linux" else 0) < 100 << 20  # a start alone takes 30 MiB


def test_a_dump_is_consistent_among_writers(server: Server) -> None:
    """While others move amounts between accounts, and open and close accounts, the sum is the same in every dump."""
    with server.connect() as client:
        fill(client, ((f"account/{number:04}", "100") for number in range(2500)))
    stop = threading.Event()
    moves = [0, 0]

    def move(writer: int) -> None:
        client = server.connect()
        number = writer
        while not stop.is_set():
            number += 2
            one, two = f"account/{number % 2500:04}", f"account/{(number * 7 + 1) % 2500:04}"
            client.send("START", f"GET {one}", f"GET {two}", f"GET new/{writer}")
            amounts = [int(reply["result"] or 0) for reply in client.replies(4)[1:]]
            client.send(f"PUT {one} {amounts[0] - 3}", f"PUT {two} {amounts[1] + 2}")
            client.send(f"PUT new/{writer} {amounts[2] + 1}" if one != two else "ROLLBACK", "COMMIT")
            moves[writer] += client.replies(4)[3] == OK

    threads = [threading.Thread(target=move, args=[writer]) for writer in range(len(moves))]
    for thread in threads:
        thread.start()
    try:
        dumps = []
        for _ in range(4):
            before = sum(moves)
            dumps.append(dump_from(server))
            for _ in polling("the writers get on"):
                if sum(moves) > before:
                    break
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    for dump in dumps:
        assert sum(int(json.loads(line)["value"]) for line in dump.splitlines()[1:-1]) == 250_000
    assert len(set(dumps)) == len(dumps)


def test_a_dump_made_by_hand(server: Server, tmp_path: Path) -> None:
    """Lines of entries alone, spelled as one likes."""
    path = tmp_path / "by hand"
    path.write_text(' { "value" : "Z\\u00fcrich", "key" : "city" }\r\n{"key_base64": "YQ==", "value_base64": ""}')
    assert run_kvs("load", *at(server), str(path)).returncode == 0
    client = server.connect()
    assert (client.get("city"), client.get("a"), client.ask("COUNT")["result"]) == ("Zürich", "", 2)


def test_from_one_server_into_another(server: Server, start_server: StartServer) -> None:
    """Through a pipe, with nothing in between."""
    other = start_server()
    data = {b"%05d" % number: b"v" * 100 for number in range(5000)}
    load_into(server, dump_of(data))
    with (
        running_kvs("dump", *at(server), stdin=subprocess.DEVNULL) as dump,
        running_kvs("load", *at(other), stdin=dump.stdout) as load,
    ):
        assert (dump.wait(TIMEOUT_S), load.wait(TIMEOUT_S)) == (0, 0)
    assert dump_from(other) == dump_of(data)

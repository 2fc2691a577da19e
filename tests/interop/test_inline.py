"""Commands as lines: the replies are those of Redis, and programs that send them take kvs for one."""

import random
import signal
import socket
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvs.adapters.inbound.line.commands import COMMANDS as LINE_COMMANDS
from kvs.adapters.inbound.resp.verbs import VERBS
from tests.interop.conftest import program
from tests.support.harness import TIMEOUT_S, Server, parse_reply
from tests.support.resp_wire import NULL, OK, PONG, Address, Typed, Wire, request
from tests.system.conftest import TRANSPORTS_AND_ENGINES, flags_of

FIRST: Final = b"SELECT 0\r\n"
"""A first line that is of Redis in either server."""


@pytest.fixture
def wires(address: Address, redis_path: Path) -> Iterator[tuple[Wire, Wire]]:
    """Return a connection to kvs and one to Redis, both of which have begun with a line and are empty."""
    with Wire(address) as kvs, Wire(redis_path) as redis:
        for wire in (kvs, redis):
            wire.send(FIRST + b"FLUSHALL\r\n")
            assert [wire.reply(), wire.reply()] == [OK, OK]
        yield kvs, redis


CONVERSATIONS: Final = [
    b"PING|ping|PiNg hello|  PING\t|PING 'a b'",
    b'SET k v|GET k|SET "a key" "two words"|GET "a key"|GET \'a key\'|STRLEN "a key"|TYPE k',
    b"SET k \"\"|GET k|SET k ''|GET k|EXISTS k nope",
    rb"SET k '\n'|GET k|SET k '\''|GET k|SET k \n|GET k",
    rb'SET k "\n\r\t\b\a\x00\xFf\q\"\\"|GET k|STRLEN k',
    rb'SET k "\x4"|GET k|SET k "\xg1"|GET k|SET k "\x"|GET k',
    b"SET k \xff\xfe|GET k|ECHO \xc5\xbc",
    b"SET \vk \fv\f|GET \vk|SET a\vb c|GET a\vb|EXISTS a b",
    b'GET|SET a|SET k v NX|SET k v XX GET|NOPE a "b c"|"" a|\'GET\' k',
    b"MULTI|SET k 1|INCR k|GET k|EXEC|MULTI|NOPE|EXEC|DISCARD",
    b"WATCH k|MULTI|GET k|EXEC|RESET|PING",
    b'MSET a 1 b "2 3" c \'\'|MGET a b c d|DEL a b|DBSIZE|APPEND k "\\x00"|GETRANGE k 0 -1',
    b"CLIENT SETNAME 'a'|CLIENT GETNAME|CLIENT|CLIENT NOPE|CONFIG GET databases",
]


@pytest.mark.parametrize("lines", CONVERSATIONS)
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_conversations(wires: tuple[Wire, Wire], lines: bytes, end: bytes) -> None:
    """Reply by reply, with arrays and empty lines in between."""
    for line in lines.split(b"|"):
        replies = []
        for wire in wires:
            wire.send(line + end + end + b"  " + end + request("PING"))
            replies.append((wire.reply(), wire.reply()))
        assert replies[0] == replies[1], line
        assert replies[0][1] in (PONG, Typed("+", b"QUEUED"))


PARTS: Final = st.sampled_from(
    [
        *(b" ", b" ", b"\t", b"\v", b"\f", b"\r", b'"', b'"', b"'", b"'", b"\\", b"\\", b"\\x4", b"\\x41", b"\\\\"),
        *(b'" "', b"' '", b"a", b"n", b"x", b"41", b"\xff", b"*", b"$3"),
    ]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(PARTS, max_size=16), cuts=st.lists(st.integers(0, 40), max_size=3))
def test_any_words(address: Address, redis_path: Path, parts: list[bytes], cuts: list[int]) -> None:
    """Both find the same words, or both refuse the line and close."""
    line = b"MGET " + b"".join(parts) + b"\n"
    places = sorted({cut % len(line) for cut in cuts})
    answers = []
    for server in (address, redis_path):
        with Wire(server) as wire:
            wire.send(FIRST)
            assert wire.reply() == OK
            for first, last in pairwise([0, *places]):
                wire.send(line[first:last])
            wire.send(line[[0, *places][-1] :] + line.replace(b"MGET", b"NOPE", 1) + request("QUIT"))
            answers.append(wire.rest())
    # Only kvs refuses the empty key; an empty word counts as one of NOPE in both.
    kvs, redis = (answer.partition(b"-ERR unknown")[1:] for answer in answers)
    assert kvs == redis
    if not redis[0]:
        assert answers[0] == answers[1]


@pytest.mark.parametrize("size", [60_000, (1 << 16) - 1, 1 << 16, (1 << 16) + 1, 1 << 17])
@pytest.mark.parametrize("ended", [False, True])
def test_long_lines(address: Address, redis_path: Path, size: int, ended: bool) -> None:
    """Up to 64 KiB in either; beyond, Redis takes what its packets happen to bring with the end, and kvs nothing."""
    line = (b"ECHO " + b"x" * size)[:size]
    too_long = size > 1 << 16
    answers = []
    for server in (address,) if too_long and ended else (address, redis_path):
        with Wire(server) as wire:
            wire.send(FIRST + line + b"\n" * ended + b"QUIT\n" * (ended and not too_long))
            if not (ended or too_long):
                wire.send(b"\nQUIT\n")
            answers.append(wire.rest())
    assert answers[0] == answers[-1]
    assert (b"too big inline request" in answers[0]) == too_long


def test_every_command_of_redis_can_be_the_first(redis_path: Path) -> None:
    """The verbs that make a first line RESP are all those of a real Redis, without those of the line protocol."""
    with Wire(redis_path) as wire:
        names = wire.ask("COMMAND", "LIST")
    assert isinstance(names, list)
    verbs = {name.upper() for name in names if isinstance(name, bytes) and b"|" not in name}
    assert verbs <= VERBS
    shared = {b"GET", b"DEL", b"INCR", b"EXPIRE", b"PERSIST", b"TTL", b"KEYS", b"PING", b"INFO", b"AUTH", b"QUIT"}
    assert verbs & set(LINE_COMMANDS) == shared


def converse(address: tuple[str, int], *exchanges: tuple[bytes, bytes]) -> bytes:
    """Send each request and take its reply, as a program that knows what it expects; return the rest."""
    with socket.create_connection(address, TIMEOUT_S) as client, client.makefile("rb") as stream:
        for sent, expected in exchanges:
            client.sendall(sent)
            assert stream.read(len(expected)) == expected
        client.shutdown(socket.SHUT_WR)
        return stream.read()


PONG_LINE: Final = b"+PONG\r\n"
OK_LINE: Final = b"+OK\r\n"
FIGURES: Final = (
    b"# Replication\r\nrole:master\r\nconnected_slaves:0\r\nmaster_failover_state:no-failover\r\n"
    b"master_repl_offset:0\r\nsecond_repl_offset:-1\r\nrepl_backlog_active:0\r\n"
)
MASTER: Final = b"$%d\r\n%b\r\n" % (len(FIGURES), FIGURES)


def test_health_checks_of_haproxy(address: tuple[str, int]) -> None:
    """``option redis-check`` sends an array, and the ``tcp-check`` of its manual lines, which end with QUIT."""
    array = b"*1\r\n$4\r\nPING\r\n"
    assert converse(address, (array, PONG_LINE)) == b""
    check = (b"PING\r\n", PONG_LINE), (b"info replication\r\n", MASTER), (b"QUIT\r\n", OK_LINE)
    assert converse(address, *check) == b""
    assert converse(address, (b"PING\r\n", PONG_LINE), (array, PONG_LINE), *check[1:]) == b""
    assert converse(address, (b"PING\r\n", PONG_LINE), (b"QUIT\r\n", OK_LINE)) == b""
    assert converse(address, check[1], check[2]) == b""
    refused = (
        b"-ERR AUTH <password> called without any password configured for the default user. Are you sure your "
        b"configuration is correct?\r\n"
    )
    assert converse(address, (b"AUTH secret\r\n", refused), *check) == b""


def test_a_client_like_telnet_has_the_line_protocol(address: tuple[str, int]) -> None:
    """Its lines end in CRLF: all it notices is the answer to PINGs that come first, and that of QUIT behind them."""
    ok, one = b'{"status": "Ok"}\n', b'{"status": "Ok", "result": "1"}\n'
    put = (b"PUT a 1\r\n", ok), (b"GET a\r\n", one)
    pong = b'{"status": "Ok", "result": "PONG"}\n'
    assert converse(address, *put, (b"PING\r\n", pong), (b"QUIT\r\n", ok)) == b""
    assert converse(address, (b"PING\r\n", PONG_LINE), *put, (b"PING\r\n", pong), (b"EXIT\r\n", ok)) == b""
    unknown = b'{"status": "Error", "code": "unknown_command"'
    assert b"Did you mean PUT?" in converse(address, (b"PTU a 1\r\n", unknown))


@pytest.mark.parametrize("options", [("-N",), ("-N", "-C")])
def test_nc(address: tuple[str, int], options: tuple[str, ...]) -> None:
    """With ``-C`` it makes CRLFs of LFs, and so a first SET is Redis's."""
    host, port = address
    done = subprocess.run(
        [program("nc"), *options, host, str(port)],
        input=b"SET k 'a b'\nGET k\n",
        capture_output=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    if "-C" in options:
        assert done.stdout == b"+OK\r\n$3\r\na b\r\n"
    else:
        set_reply, get_reply = map(parse_reply, done.stdout.splitlines(keepends=True))
        assert "Did you mean PUT?" in set_reply["mesg"]
        assert (get_reply["status"], get_reply["result"]) == ("Ok", None)


HTTP: Final = [
    b"SET k HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n",
    b"PING / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"FLUSHALL / HTTP/1.0\r\nUser-Agent: x\r\n\r\n",
]
BEFORE: Final = {
    "at the beginning": b"",
    "behind a PING": b"PING\r\n",
    "in lines": b"GET k\r\n",
    "in RESP": request("PING"),
    "in RESP, of lines": b"SELECT 0\r\n",
    "behind MULTI": request("MULTI"),
    "behind START": b"SELECT 0\r\nSTART\r\n",
    "behind REPLY OFF": request("CLIENT", "REPLY", "OFF"),
}
BODY: Final = b"SET k 1\r\nPUT k 1\r\nEXEC\r\nCOMMIT\r\n" + request("SET", "k", "1") + request("EXEC")


@pytest.mark.parametrize("opening", HTTP)
@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_http_runs_nothing(server: Server, opening: bytes, before: str, seed: int) -> None:
    """In no state, and however it is cut into packets; the connection ends."""
    data = opening + BODY * 10
    draw = random.Random(seed)
    places = [0, *sorted(draw.sample(range(1, len(data)), 20 * bool(seed))), len(data)]
    with Wire((server.host, server.port)) as wire, Wire((server.host, server.port)) as other:
        wire.send(BEFORE[before])
        for first, last in pairwise(places):
            try:
                wire.send(data[first:last])
            except ConnectionError:
                break
        wire.rest()
        assert other.ask("GET", "k") == NULL


@pytest.mark.parametrize("transport", TRANSPORTS_AND_ENGINES)
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "bytewise"])
def test_the_first_lines_on_every_engine(transport: str, whole: bool) -> None:
    """PINGs that tell nothing, the line that tells, and what comes behind it, on any transport."""
    data = b"PING\r\n" * 3 + b"SET k 'a b'\r\nGET k\n" + request("INCR", "n") + b"QUIT\r\n"
    with Server(*flags_of(transport)) as server, Wire((server.host, server.port)) as wire:
        for piece in [data] if whole else [bytes([byte]) for byte in data]:
            wire.send(piece)
        assert wire.rest() == PONG_LINE * 3 + b"+OK\r\n$3\r\na b\r\n:1\r\n+OK\r\n"


@pytest.mark.parametrize("pings", [0, 1, 5000])
def test_what_has_come_before_the_end_is_run_in_its_protocol(pings: int) -> None:
    """When a server stops, what it has been sent is answered, though not a byte of it has been read."""
    with Server() as server:
        with Wire((server.host, server.port)) as wire:
            with server.paused():
                wire.send(b"PING\r\n" * pings + b"SET k v\r\n" + b"GET k\r\n" * 5000 + b"GET")
                server.send_signal(signal.SIGTERM)
            end = b"-ERR The last request was not complete, so it was not run.\r\n"
            assert wire.rest() == PONG_LINE * pings + OK_LINE + b"$1\r\nv\r\n" * 5000 + end
        assert server.wait_exit() == 0

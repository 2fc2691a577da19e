"""What is no request is refused, with the words of Redis, and holds neither memory nor anybody up."""

import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

import pytest

from tests.support.harness import PONG as LINE_PONG
from tests.support.harness import Client, Server, polling
from tests.support.open_files import open_files_allowed
from tests.support.resp_wire import NULL, OK, PONG, QUEUED, Typed, Wire, error, request

MIB: Final = 1 << 20

PING: Final = request("PING")

MULTIBULK: Final = b"-ERR Protocol error: invalid multibulk length\r\n"
BULK: Final = b"-ERR Protocol error: invalid bulk length\r\n"


def expected(wanted: str, got: str) -> bytes:
    """Return what is said when a byte is another than it has to be."""
    return f"-ERR Protocol error: expected '{wanted}', got '{got}'\r\n".encode()


LIKE_REDIS: Final[dict[bytes, bytes]] = {
    b"*2147483648\r\n": MULTIBULK,
    b"*9223372036854775807\r\n": MULTIBULK,
    b"*9223372036854775808\r\n": MULTIBULK,
    b"*-99999999999999999999\r\n": MULTIBULK,
    b"*x\r\n": MULTIBULK,
    b"*\r\n": MULTIBULK,
    b"*-\r\n": MULTIBULK,
    b"*-0\r\n" + PING: MULTIBULK,
    b"*01\r\n$4\r\nPING\r\n": MULTIBULK,
    b"*+1\r\n$4\r\nPING\r\n": MULTIBULK,
    b"* 1\r\n$4\r\nPING\r\n": MULTIBULK,
    b"*1 \r\n$4\r\nPING\r\n": MULTIBULK,
    b"*1\r\n$-1\r\n": BULK,
    b"*1\r\n$-2\r\n": BULK,
    b"*1\r\n$9223372036854775807\r\n": BULK,
    b"*1\r\n$9223372036854775808\r\n": BULK,
    b"*1\r\n$1073741824\r\n": BULK,
    b"*1\r\n$\r\nPING\r\n": BULK,
    b"*1\r\n$x\r\nPING\r\n": BULK,
    b"*1\r\n$04\r\nPING\r\n": BULK,
    b"*1\r\n$+4\r\nPING\r\n": BULK,
    b"*1\r\n*1\r\n$4\r\nPING\r\n": expected("$", "*"),
    b"*2\r\n$3\r\nGET\r\n*1\r\n": expected("$", "*"),
    b"*1\r\n:1\r\n": expected("$", ":"),
    b"*1\r\n+PING\r\n": expected("$", "+"),
    b"*1\r\n-PING\r\n": expected("$", "-"),
    b"*1\r\n_\r\n": expected("$", "_"),
    b"*1\r\n\r\n": expected("$", " "),
    b"*1\r\n\n\r\n": expected("$", " "),
    b"*1\r\n\xff\r\n": b"-ERR Protocol error: expected '$', got '\xff'\r\n",
    b"*1\r\nPING\r\n": expected("$", "P"),
    PING + b"*2\r\n$4\r\nECHO\r\n,1.5\r\n": b"+PONG\r\n" + expected("$", ","),
    PING + PING + b"*1\r\n$-7\r\n" + PING: b"+PONG\r\n+PONG\r\n" + BULK,
    PING + b'ECHO "\r\n' + PING: b"+PONG\r\n-ERR Protocol error: unbalanced quotes in request\r\n",
    PING + b'ECHO "a"b\n' + PING: b"+PONG\r\n-ERR Protocol error: unbalanced quotes in request\r\n",
    PING + b"x" * 100_000: b"+PONG\r\n-ERR Protocol error: too big inline request\r\n",
}
"""Input that ends the conversation, and all that is answered to it, by both servers."""

UNLIKE_REDIS: Final[dict[bytes, bytes]] = {
    # Redis takes so many arguments, and says nothing until they have come; here max_arguments are all.
    b"*1000000\r\n": MULTIBULK,
    b"*65537\r\n$4\r\nPING\r\n": MULTIBULK,
    # A line ends in CRLF, and so does a bulk string. Redis looks at neither LF.
    b"*1\n$4\nPING\n": MULTIBULK,
    b"*1\r$4\r\nPING\r\n": MULTIBULK,
    b"*1\r\n$4\nPING\r\n": BULK,
    b"*1\r\n$4\r\nPING\n\n" + PING: b"-ERR Protocol error: expected CRLF behind a bulk string\r\n",
    b"*1\r\n$4\r\nPINGPONG\r\n": b"-ERR Protocol error: expected CRLF behind a bulk string\r\n",
    # A byte is seen at once, and not at the end of its line.
    b"*1\r\nPING": expected("$", "P"),
    b"*1\r\n\xff": b"-ERR Protocol error: expected '$', got '\xff'\r\n",
    # HTTP is refused without a word, for a browser may have been made to send it. Redis looks for POST and Host: only.
    PING + b"GET / HTTP/1.1\r\n\r\n": b"+PONG\r\n",
    PING + b"POST /\r\n" + PING: b"+PONG\r\n",  # and Redis drops the reply to what came before
    PING + b"hOsT: localhost\r\n" + PING: b"+PONG\r\n",
    PING + b"Accept: *\r\n" + PING: b"+PONG\r\n",
    PING + b'"Accept:" *\r\n' + PING: b"+PONG\r\n",
    # Redis does not see the end of a line behind a zero byte, and waits.
    PING + b"ECHO a\0b\r\n" + PING: b"+PONG\r\n-ERR Protocol error: zero byte in inline request\r\n",
    PING + b"\x16\x03\x01\0\n": b"+PONG\r\n-ERR Protocol error: zero byte in inline request\r\n",
}
"""The same, where Redis answers something else, or waits for more; with the reason."""

OTHER_OPENINGS: Final[dict[bytes, bytes]] = {
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n": b"This port does not speak HTTP.",
    b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n*1\r\n$8\r\nFLUSHALL\r\n": b"This port does not speak HTTP.",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n": b"This port speaks plain text, not TLS.",
}


def answered(address: Path | tuple[str, int], data: bytes) -> bytes:
    """Return all that a server answers before it closes."""
    with Wire(address) as wire:
        wire.send(data)
        return wire.rest()


@pytest.fixture
def witness(address: tuple[str, int]) -> Iterator[Wire]:
    """Return a client that is to notice nothing of it all."""
    with Wire(address) as wire:
        assert wire.ask("SET", "seen", "1") == OK
        yield wire
        assert wire.ask("GET", "seen") == b"1"
        assert wire.ask("DBSIZE") == 1


@pytest.mark.parametrize("data", LIKE_REDIS)
def test_refused_as_redis_does(address: tuple[str, int], redis_path: Path, witness: Wire, data: bytes) -> None:
    """What came before is answered, then comes the error, then the end; nothing behind it runs."""
    assert answered(redis_path, data) == LIKE_REDIS[data]
    assert answered(address, data) == LIKE_REDIS[data]
    assert witness.ask("PING") == PONG


@pytest.mark.parametrize("data", UNLIKE_REDIS)
def test_refused_more_strictly(address: tuple[str, int], witness: Wire, data: bytes) -> None:
    """Where Redis would guess what is meant, or wait."""
    assert answered(address, data) == UNLIKE_REDIS[data]
    assert witness.ask("PING") == PONG


@pytest.mark.parametrize("data", OTHER_OPENINGS)
def test_other_protocols_are_refused(address: tuple[str, int], witness: Wire, data: bytes) -> None:
    """By a line, for it is not RESP."""
    assert OTHER_OPENINGS[data] in answered(address, data)
    assert witness.ask("PING") == PONG


@pytest.mark.parametrize("data", [b"*0\r\n", b"*-1\r\n", b"*-9223372036854775808\r\n", b"\r\n", b"\n"])
def test_empty_requests_have_no_reply(address: tuple[str, int], redis_path: Path, data: bytes) -> None:
    """In either server. An empty line is one, too, whether it ends in CRLF or in LF."""
    for server in (address, redis_path):
        with Wire(server) as wire:
            wire.send(PING + data * 3 + PING)
            assert [wire.reply(), wire.reply()] == [PONG, PONG]
            for byte in data + PING:
                wire.send(bytes([byte]))
            assert wire.reply() == PONG


def test_a_request_that_was_cut_short_is_not_run(address: tuple[str, int], witness: Wire) -> None:
    """At the end of input it is told so."""
    whole = request("DEL", "seen")
    for cut in range(1, len(whole)):
        with Wire(address) as wire:
            wire.send(PING + whole[:cut])
            wire.socket.shutdown(socket.SHUT_WR)
            assert wire.rest() == b"+PONG\r\n-ERR The last request was not complete, so it was not run.\r\n"


@pytest.mark.parametrize(
    "head", [("CONFIG", "GET"), ("COMMAND", "LIST", "FILTERBY", "PATTERN"), ("KEYS",), ("SCAN", 0, "MATCH")]
)
def test_patterns_cost_what_they_may(address: tuple[str, int], witness: Wire, head: tuple[str | int, ...]) -> None:
    """A pattern of a megabyte would stop the server for minutes."""
    with Wire(address) as wire:
        for length in (1025, MIB):
            refused = error(f"ERR The patterns have {length} bytes; 1024 are allowed.")
            assert wire.ask(*head, (b"*[a-z]" * MIB)[:length]) == refused
        assert wire.ask(*head, b"none" * 256) in ([], [b"0", []])


def test_many_patterns_cost_no_more(address: tuple[str, int], witness: Wire) -> None:
    """All of one request are allowed as much as one."""
    with Wire(address) as wire:
        refused = error("ERR The patterns have 1025 bytes; 1024 are allowed.")
        assert wire.ask("CONFIG", "GET", *["*"] * 1025) == refused
        assert wire.ask("CONFIG", "GET", *["none"] * 256) == []


def test_of_several_patterns_one_is_read(address: tuple[str, int], witness: Wire) -> None:
    """The last one of SCAN counts; thousands of others would stop the server as one that is too long."""
    with Wire(address) as wire:
        assert wire.ask("SCAN", 0, "MATCH", b"*[a-z]" * MIB, "MATCH", "none") == [b"0", []]


@pytest.mark.parametrize("line", ["COMMAND INFO client", "COMMAND DOCS client", "CLIENT LIST ID {}"])
def test_what_is_asked_for_many_times(line: str) -> None:
    """A few bytes stand for a long description, and thousands of them for no longer a reply than others may be."""
    with (
        Server("--max-key-bytes=100", "--max-value-bytes=100", "--max-reply-bytes=20000") as server,
        Wire((server.host, server.port)) as wire,
    ):
        *head, word = line.format(wire.ask("CLIENT", "ID")).split()
        once, twice = wire.ask(*head, word), wire.ask(*head, word, word)
        assert not isinstance(once, Typed | int)
        assert not isinstance(twice, Typed | int)
        assert len(twice) == 2 * len(once)
        refused = Typed("-", b"LIMIT The reply would hold more than max_reply_bytes = 20000.")
        assert wire.ask(*head, *[word] * 100) == refused
        assert wire.ask("PING") == PONG


# Memory.


def test_half_a_request_times_out() -> None:
    """It gets an error of its own, and the connection ends."""
    with Server("--input-timeout-s", "0.3") as server, Wire((server.host, server.port)) as wire:
        wire.send(PING + b"*2\r\n$3\r\nGE")
        assert wire.reply() == PONG
        end = wire.rest()
        assert end.startswith(b"-TIMEOUT ")
        assert b"input_timeout_s" in end


def test_a_request_holds_what_it_may() -> None:
    """The sum of its arguments is refused by its first header that is too much, with nothing reserved before."""
    most = 4 * MIB - 1
    with Server("--max-value-bytes", str(MIB), "--max-request-bytes", str(most)) as server, ExitStack() as stack:
        address = server.host, server.port
        before = server.rss_bytes()
        part = b"$%d\r\n%b\r\n" % (MIB, b"x" * MIB)
        refused = b"-ERR Protocol error: request of more than %d bytes\r\n" % most
        assert answered(address, b"*1000\r\n" + part * 3 + b"$%d\r\n" % MIB) == refused
        assert answered(address, b"*65536\r\n" + b"$0\r\n\r\n" * 65_536) == refused  # each is charged with 64 bytes
        for _ in range(200):
            stack.enter_context(Wire(address)).send(b"*65536\r\n$%d\r\n" % MIB)
        assert stack.enter_context(Wire(address)).ask("PING") == PONG
        assert server.peak_rss_bytes() - before < 32 * MIB


def test_bulk_strings_that_never_end() -> None:
    """They hold max_clients_bytes and no more. What is over is read and dropped, and refused when it is complete."""
    limit, size, count = 8 * MIB, MIB, 50
    begun = request("SET", "k", b"x" * size)[:-2]
    with Server("--max-value-bytes", str(size), "--max-clients-bytes", str(limit)) as server, ExitStack() as stack:
        address = server.host, server.port
        other, line = stack.enter_context(Wire(address)), server.connect()
        assert other.ask("SET", "seen", "1") == OK
        before = server.rss_bytes()
        holders = hold(stack, address, line, begun, limit)
        refused = other.ask("GET", "seen")
        assert isinstance(refused, Typed)
        assert isinstance(refused.value, bytes)
        assert refused.value.startswith(b"LIMIT The clients together hold max_clients_bytes")
        assert line.ask("GET seen")["code"] == "limit"
        assert (other.ask("PING"), line.ask("PING")) == (PONG, LINE_PONG)
        late = [stack.enter_context(Wire(address)) for _ in range(count)]
        for wire in late:
            wire.send(begun + b"\r\n" + PING)
        assert [(wire.reply(), wire.reply()) for wire in late] == [(refused, PONG)] * count
        assert server.peak_rss_bytes() - before < limit + count * MIB // 4 + 16 * MIB
        for wire in holders:
            wire.close()
        for _ in polling("the memory is given back"):
            if other.ask("GET", "seen") == b"1":
                break
        assert line.get("seen") == "1"
        assert line.get("k") is None


def hold(stack: ExitStack, address: tuple[str, int], line: Client, begun: bytes, limit: int) -> list[Wire]:
    """Have as many clients begin the same request as memory allows, all but its end; return them."""
    holders, step = [], 32 << 10
    while True:
        holders.append(stack.enter_context(Wire(address)))
        for at in range(0, len(begun), step):
            used = line.info("server")["clients_bytes"]
            if used >= limit:
                return holders
            holders[-1].send(begun[at : at + step])
            for _ in polling("it has been taken"):
                if line.info("server")["clients_bytes"] > used or len(begun) - at < step:
                    break


def test_a_queue_that_never_ends() -> None:
    """It holds max_transaction_bytes; what is over is refused, and so is its EXEC."""
    with Server("--max-transaction-bytes", str(MIB)) as server, Wire((server.host, server.port)) as wire:
        before = server.rss_bytes()
        assert wire.ask("MULTI") == OK
        last: object = None
        for _ in range(100):
            last = wire.ask("SET", "k", b"x" * (MIB // 10))
        assert isinstance(last, Typed)
        assert isinstance(last.value, bytes)
        assert last.value.startswith(b"LIMIT The queue would hold")
        assert wire.ask("EXEC") == error("EXECABORT Transaction discarded because of previous errors.")
        assert wire.ask("GET", "k") == NULL
        assert server.peak_rss_bytes() - before < 16 * MIB


def test_replies_that_nobody_reads(server: Server) -> None:
    """A client that asks for a gigabyte and reads nothing costs max_output_bytes, and what one tick adds to it."""
    address = server.host, server.port
    with ExitStack() as stack, Wire(address) as other:
        assert other.ask("SET", "big", b"x" * (MIB // 10)) == OK
        before = server.rss_bytes()
        silent = [stack.enter_context(Wire(address)) for _ in range(10)]
        for wire in silent:
            wire.send(request("GET", "big") * 1000 + request("MULTI") + request("GET", "big") * 100 + request("EXEC"))
        for _ in range(1000):
            assert other.ask("GET", "nope") == NULL
        assert server.peak_rss_bytes() - before < len(silent) * 3 * MIB + 16 * MIB
        for wire in silent:
            assert [wire.reply() == b"x" * (MIB // 10) for _ in range(1000)] == [True] * 1000
            assert [wire.reply() for _ in range(101)] == [OK, *[QUEUED] * 100]
            assert wire.reply() == [b"x" * (MIB // 10)] * 100


def test_what_was_sent_before_the_end_is_answered() -> None:
    """A server that is told to stop runs what it has been sent, and says so, before it closes."""
    with Server() as server:
        with Wire((server.host, server.port)) as wire:
            assert wire.ask("PING") == PONG
            with server.paused():
                wire.send(request("INCR", "n") * 5000 + request("GET", "n") + request("START") + b"*2\r\n$3\r\nGET")
                server.send_signal(signal.SIGTERM)
            assert [wire.reply() for _ in range(5002)] == [*range(1, 5001), b"5000", OK]
            assert wire.rest() == b"-ERR The last request was not complete, so it was not run.\r\n"
        assert server.wait_exit() == 0


CROWD: Final = 10_000

GET_SEEN: Final = request("GET", "seen")
HALVES: Final = (1, 2, 3, 5, 6, 11, len(GET_SEEN) - 9, len(GET_SEEN) - 3, len(GET_SEEN) - 1)
"""Where it is cut: in every header, and in a bulk string."""


@pytest.fixture
def open_files() -> Iterator[None]:
    """Allow as many open files as a crowd takes."""
    with open_files_allowed(CROWD + 500):
        yield


def test_a_crowd_that_sends_half_a_header(open_files: None) -> None:
    """Ten thousand of them cost 8 KiB each at most, and one that asks for something is served all the while."""
    with Server("--max-clients", str(CROWD + 10)) as server, ExitStack() as stack:
        address = server.host, server.port
        served = stack.enter_context(Wire(address))
        assert served.ask("SET", "seen", "0") == OK
        before = server.rss_bytes()
        crowd = []
        for number in range(CROWD):
            wire = stack.enter_context(Wire(address))
            wire.send(GET_SEEN[: HALVES[number % len(HALVES)]])
            crowd.append(wire)
            if number % 100 == 0:
                assert served.ask("INCR", "seen") == number // 100 + 1
        for _ in polling("all of them have been accepted"):
            clients = served.ask("CLIENT", "LIST")
            assert isinstance(clients, bytes)
            if clients.count(b"\n") == CROWD + 1:
                break
        assert server.peak_rss_bytes() - before < CROWD * 8192 + 16 * MIB
        for number, wire in enumerate(crowd):
            wire.send(GET_SEEN[HALVES[number % len(HALVES)] :])
        assert all(wire.reply() == b"100" for wire in crowd)
        for wire in crowd:
            with suppress(OSError):
                wire.close()
        server.wait_for("client_disconnected", CROWD)
        assert served.ask("INCR", "seen") == 101

"""The RESP client of dumps and loads: how much is under way, and what it makes of the end."""

import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from kvs.dump.access import Access
from kvs.dump.errors import DumpError
from kvs.dump.resp_client import (
    BATCHES,
    ITEM_BYTES,
    MAX_LINE_BYTES,
    OK,
    SHORT_BYTES,
    WINDOW_BYTES,
    Reply,
    RespClient,
    ServerError,
    encode,
)
from tests.support.harness import TIMEOUT_S, Server

from .conftest import StartServer

pytestmark = pytest.mark.one_build

HELLO = b"*2\r\n$6\r\nserver\r\n$3\r\nkvs\r\n"
LONGEST = 1 << 20


@pytest.fixture(scope="session")
def transport_flags() -> tuple[str, ...]:
    """Return no flags: no transport has a say in this."""
    return ()


@pytest.fixture
def client(server: Server) -> Iterator[RespClient]:
    """Return a client of a real server."""
    with RespClient(server.host, server.port, LONGEST) as connected:
        yield connected


@contextmanager
def scripted(serve: Callable[[socket.socket], object]) -> Iterator[RespClient]:
    """Connect to a server that tells that it is kvs, and then does what the test says."""

    def run() -> None:
        sock, _ = listening.accept()
        with sock, suppress(ConnectionError):  # it may hang up before it has heard all
            assert sock.recv(100) == encode(b"HELLO", b"2")
            sock.sendall(HELLO)
            serve(sock)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=run)
        thread.start()
        try:
            with RespClient("127.0.0.1", listening.getsockname()[1], LONGEST) as connected:
                yield connected
        finally:
            thread.join()


def answering(reply: bytes) -> Callable[[socket.socket], object]:
    """Return a script: one request, and this reply."""

    def serve(sock: socket.socket) -> None:
        sock.recv(100)
        with suppress(ConnectionError):  # there may be more of it than is waited for
            sock.sendall(reply)

    return serve


def puts(count: int, value_bytes: int) -> list[bytes]:
    """Return requests."""
    return [encode(b"SET", b"%d" % number, b"v" * value_bytes) for number in range(count)]


BATCH_BYTES = WINDOW_BYTES // BATCHES


@pytest.mark.parametrize("value_bytes", [1, 1000, BATCH_BYTES - 50, BATCH_BYTES, WINDOW_BYTES, 5 * WINDOW_BYTES])
def test_a_window_of_requests_is_under_way(client: RespClient, value_bytes: int) -> None:
    """No more than that has been sent before its replies are read, and one batch in the making.

    Of requests that are longer: one has been sent, one waits, and one has been drawn to see whether it fits.
    """
    requests = puts(3_000_000 // (value_bytes + 100), value_bytes)
    drawn = answered = 0

    def draw() -> Iterator[bytes]:
        nonlocal drawn
        for request in requests:
            drawn += len(request)
            assert drawn - answered <= max(WINDOW_BYTES + BATCH_BYTES + len(request), 3 * len(request))
            yield request

    replies = client.pipelined(draw())
    for request, reply in zip(requests, replies, strict=True):
        assert reply == OK
        answered += len(request)
    assert client.ask(b"DBSIZE") == len(requests)


def test_neither_waits_for_the_other(start_server: StartServer) -> None:
    """Many long replies to short requests, and long requests in between, with a server that holds no output."""
    server = start_server("--max-output-bytes", "1")
    with RespClient(server.host, server.port, LONGEST) as client:
        gets = [encode(b"GET", b"%d" % number) for number in range(100)]
        requests = [*puts(100, 100_000), *gets, *puts(20, 500_000)] * 2
        replies = list(client.pipelined(requests))
        values = [b"v" * 100_000] * 100
        again = [b"v" * 100_000] * 100
        assert replies == [OK] * 100 + values + [OK] * 120 + again + [OK] * 20


def test_nothing_to_ask(client: RespClient) -> None:
    """Is answered by nothing."""
    assert list(client.pipelined([])) == []


def test_the_last_words_of_a_server_are_heard() -> None:
    """They are the reply to whatever was to be answered next, though more was sent after them."""

    def serve(sock: socket.socket) -> None:
        sock.recv(100)
        sock.sendall(b"+OK\r\n" * 3 + b"-TIMEOUT Enough.\r\n")
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(1 << 16):
            pass

    with scripted(serve) as client:
        replies = client.pipelined(puts(1000, 1000))
        assert [next(replies) for _ in range(3)] == [OK] * 3
        said = next(replies)
        assert isinstance(said, ServerError)
        assert (said.code, str(said)) == ("timeout", "timeout: Enough.")
        with pytest.raises(DumpError, match="is lost: the server has closed it"):
            next(replies)


def test_the_last_words_of_a_server_are_heard_by_who_cannot_send() -> None:
    """It had gone before anything was sent."""
    gone = threading.Event()

    def serve(sock: socket.socket) -> None:
        sock.sendall(b"+OK\r\n-TIMEOUT Enough.\r\n")
        sock.close()
        gone.set()

    with scripted(serve) as client:
        assert gone.wait(TIMEOUT_S)
        heard: list[Reply] = []
        with pytest.raises(DumpError, match="is lost"):
            heard.extend(client.pipelined(puts(1000, 1000)))
    if sys.platform == "linux":  # elsewhere a connection that is reset may lose what had arrived
        assert list(map(str, heard)) == ["OK", "timeout: Enough."]


REPLIES: dict[str, tuple[bytes, Reply]] = {
    "a simple string": (b"+OK\r\n", OK),
    "another": (b"+QUEUED\r\n", "QUEUED"),
    "a number": (b":-12\r\n", -12),
    "nothing": (b"$-1\r\n", None),
    "no array": (b"*-1\r\n", None),
    "the empty string": (b"$0\r\n\r\n", b""),
    "any bytes": (b"$256\r\n%b\r\n" % bytes(range(256)), bytes(range(256))),
    "what looks like replies": (b"$11\r\n+OK\r\n$0\r\n\r\n\r\n", b"+OK\r\n$0\r\n\r\n"),
    "the longest short string": (
        b"$%d\r\n%b\r\n" % (SHORT_BYTES - 1, b"v" * (SHORT_BYTES - 1)),
        b"v" * (SHORT_BYTES - 1),
    ),
    "the shortest long string": (b"$%d\r\n%b\r\n" % (SHORT_BYTES, b"v" * SHORT_BYTES), b"v" * SHORT_BYTES),
    "the longest string": (b"$%d\r\n%b\r\n" % (LONGEST, b"v" * LONGEST), b"v" * LONGEST),
    "an array": (b"*3\r\n$1\r\na\r\n:1\r\n*1\r\n$-1\r\n", [b"a", 1, [None]]),
    "the empty array": (b"*0\r\n", []),
}


@pytest.mark.parametrize("name", REPLIES)
def test_every_kind_of_reply(name: str) -> None:
    """Whole, or a byte at a time; and the one behind it is not touched."""
    wire, expected = REPLIES[name]

    def serve(sock: socket.socket) -> None:
        sock.recv(100)
        sock.sendall(wire + b":1\r\n")
        sock.recv(100)
        for at in range(min(len(wire), 5000)):
            sock.sendall(wire[at : at + 1])
        sock.sendall(wire[5000:] + b":2\r\n")

    with scripted(serve) as client:
        for number in (1, 2):
            assert list(client.pipelined([encode(b"GET", b"a"), encode(b"DBSIZE")])) == [expected, number]


def test_an_error_has_a_code_and_a_message() -> None:
    """A mistake in a request has none that says anything; and whatever it holds moves no terminal's cursor."""
    for wire, code, text in (
        (b"-LIMIT The data set is full.\r\n", "limit", "limit: The data set is full."),
        (b"-ERR The key has 5 bytes.\r\n", "err", "The key has 5 bytes."),
        (b"-ERR\r\n", "err", ""),
        (b"-X\x1b[2J \xff\x07\r\n", "x\x1b[2j", "x\\x1b[2j: \ufffd\\x07"),
    ):
        with scripted(answering(wire)) as client, pytest.raises(ServerError) as said:
            client.ask(b"GET", b"a")
        assert (said.value.code, str(said.value)) == (code, text)


CUT = [wire[:size] for wire, _ in REPLIES.values() for size in sorted({1, len(wire) // 2, len(wire) - 1})]


@pytest.mark.parametrize("wire", CUT, ids=lambda wire: repr(wire[:20]))
def test_half_a_reply_is_none(wire: bytes) -> None:
    """It was cut off."""
    with scripted(answering(wire)) as client, pytest.raises(DumpError, match="is lost: the server has closed it"):
        client.ask(b"GET", b"a")


@pytest.mark.parametrize(
    "wire",
    [
        b"$%d\r\n" % (LONGEST + 1),
        b"*%d\r\n" % (LONGEST // ITEM_BYTES + 1),
        b"*2\r\n" + b"$%d\r\n%b\r\n" % (LONGEST - 1, b"v" * (LONGEST - 1)) * 2,
    ],
    ids=["string", "array", "strings in an array"],
)
def test_a_reply_that_is_too_long(wire: bytes) -> None:
    """It is not waited for, and the settings that bound it are named."""
    with scripted(answering(wire)) as client, pytest.raises(DumpError, match="max_value_bytes"):
        client.ask(b"GET", b"a")


@pytest.mark.parametrize(
    "wire",
    [
        b"+OK\n",
        b"$1\r\nab\r\n",
        b"$-2\r\n",
        b"$+1\r\na\r\n",
        b"$\xb2\r\n",
        b"*1x\r\n",
        b":1.5\r\n",
        b":" + b"1" * 1000 + b"\r\n",
        b"%1\r\n+a\r\n+b\r\n",
        b"\r\n",
        b"*1\r\n" * 1000,
        b"+" + b"x" * MAX_LINE_BYTES + b"\r\n",
        b'{"status": "Ok"}\n',
        b"{nonsense\n",
    ],
    ids=lambda wire: repr(wire[:20]),
)
def test_what_is_no_reply(wire: bytes) -> None:
    """It is told, in a line that is not too long."""
    with scripted(answering(wire)) as client, pytest.raises(DumpError, match="does not answer as kvs does") as said:
        client.ask(b"GET", b"a")
    assert str(said.value).isprintable()
    assert len(str(said.value)) < 400


GREETINGS: dict[str, tuple[bytes, str]] = {
    "a full server": (
        b'{"status": "Error", "code": "limit", "mesg": "There are max_clients = 1 clients already."}\n',
        "^limit: There are max_clients = 1 clients already.$",
    ),
    "a server of the version before RESP": (
        b'{"status": "Error", "code": "unknown_command", "mesg": "There is no command \\"*2\\"."}\n' * 5,
        "is an older kvs, which does not speak RESP$",
    ),
    "memory that is used up": (b"-LIMIT The clients hold all the memory they may.\r\n", "^limit: The clients hold"),
    "Redis": (
        b"*4\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.0.0\r\n",
        "is another kind of server: redis$",
    ),
    "Redis, before it had HELLO": (b"-ERR unknown command `HELLO`\r\n", "does not answer as kvs does: unknown command"),
    "Redis that wants a password": (b"-NOAUTH HELLO must be called with AUTH.\r\n", "^noauth: HELLO must be"),
    "an echo": (encode(b"HELLO", b"2"), "does not answer as kvs does: "),
    "HTTP": (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not answer as kvs does: HTTP/1.1 400 Bad Request"),
}


@pytest.mark.parametrize("name", GREETINGS)
def test_who_is_there(name: str) -> None:
    """A server that is not kvs is not asked for anything, and kvs may have a reason to refuse."""
    greeting, words = GREETINGS[name]
    heard: list[bytes] = []

    def run() -> None:
        sock, _ = listening.accept()
        with sock, suppress(ConnectionError):  # likewise
            sock.sendall(greeting)
            while data := sock.recv(1 << 16):
                heard.append(data)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=run)
        thread.start()
        with pytest.raises(DumpError, match=words):
            RespClient("127.0.0.1", listening.getsockname()[1], LONGEST)
        thread.join()
    assert b"".join(heard) == encode(b"HELLO", b"2")


def test_a_server_that_does_not_answer() -> None:
    """It is not waited for without end."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        pytest.raises(DumpError, match="it does not answer"),
    ):
        RespClient("127.0.0.1", listening.getsockname()[1], LONGEST, Access(connect_timeout_s=0.01))

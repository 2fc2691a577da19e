"""The line-protocol client of dumps and loads: how much is under way, and what it makes of the end."""

import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from kvs.care import line_client
from kvs.care.errors import CareError
from kvs.care.line_client import BATCHES, NUMBER, OK, TEXT, WINDOW_BYTES, LineClient, ServerError

from .conftest import StartServer
from .harness import TIMEOUT_S, Server

PONG = b'{"status": "Ok", "result": "PONG"}\n'
LONGEST = 1 << 20


@pytest.fixture(scope="session")
def transport_flags() -> tuple[str, ...]:
    """Return no flags: no transport has a say in this."""
    return ()


@pytest.fixture
def client(server: Server) -> Iterator[LineClient]:
    """Return a client of a real server."""
    with LineClient(server.host, server.port, LONGEST) as connected:
        yield connected


@contextmanager
def scripted(serve: Callable[[socket.socket], object]) -> Iterator[LineClient]:
    """Connect to a server that answers PING, and then does what the test says."""

    def run() -> None:
        sock, _ = listening.accept()
        with sock:
            assert sock.recv(100) == b"PING\n"
            sock.sendall(PONG)
            serve(sock)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=run)
        thread.start()
        try:
            with LineClient("127.0.0.1", listening.getsockname()[1], LONGEST) as connected:
                yield connected
        finally:
            thread.join()


def answering(reply: bytes) -> Callable[[socket.socket], object]:
    """Return a script: one request, and this reply."""

    def serve(sock: socket.socket) -> None:
        sock.recv(100)
        sock.sendall(reply)

    return serve


def puts(count: int, value_bytes: int) -> list[bytes]:
    """Return requests."""
    return [b"PUT %d %b\n" % (number, b"v" * value_bytes) for number in range(count)]


BATCH_BYTES = WINDOW_BYTES // BATCHES


@pytest.mark.parametrize("value_bytes", [1, 1000, BATCH_BYTES - 20, BATCH_BYTES, WINDOW_BYTES, 5 * WINDOW_BYTES])
def test_a_window_of_requests_is_under_way(client: LineClient, value_bytes: int) -> None:
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
    assert client.result(client.ask(b"COUNT\n"), NUMBER) == len(requests)


def test_neither_waits_for_the_other(start_server: StartServer) -> None:
    """Many long replies to short requests, and long requests in between, with a server that holds no output."""
    server = start_server("--max-output-bytes", "1")
    with LineClient(server.host, server.port, LONGEST) as client:
        requests = [*puts(100, 100_000), *(b"GET %d\n" % number for number in range(100)), *puts(20, 500_000)] * 2
        replies = list(client.pipelined(requests))
        assert [reply == OK for reply in replies] == [request.startswith(b"PUT") for request in requests]


def test_nothing_to_ask(client: LineClient) -> None:
    """Is answered by nothing."""
    assert list(client.pipelined([])) == []


def test_the_last_words_of_a_server_are_heard() -> None:
    """They are the reply to whatever was to be answered next, though more was sent after them."""

    def serve(sock: socket.socket) -> None:
        sock.recv(100)
        sock.sendall(OK * 3 + b'{"status": "Error", "code": "timeout", "mesg": "Enough."}\n')
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(1 << 16):
            pass

    with scripted(serve) as client:
        replies = client.pipelined(puts(1000, 1000))
        assert [next(replies) for _ in range(3)] == [OK] * 3
        with pytest.raises(ServerError, match=r"^timeout: Enough\.$") as said:
            client.done(next(replies))
        assert said.value.code == "timeout"
        with pytest.raises(CareError, match="is lost: the server has closed it"):
            next(replies)


def test_the_last_words_of_a_server_are_heard_by_who_cannot_send() -> None:
    """It had gone before anything was sent."""
    gone = threading.Event()

    def serve(sock: socket.socket) -> None:
        sock.sendall(OK + b'{"status": "Error", "code": "timeout", "mesg": "Enough."}\n')
        sock.close()
        gone.set()

    with scripted(serve) as client:
        assert gone.wait(TIMEOUT_S)
        replies = client.pipelined(puts(1000, 1000))
        with pytest.raises(CareError) as said:
            deque(map(client.done, replies))
    if sys.platform == "linux":  # elsewhere a connection that is reset may lose what had arrived
        assert str(said.value) == "timeout: Enough."


def test_half_a_reply_is_none() -> None:
    """It was cut off."""
    with scripted(answering(OK[:-1])) as client, pytest.raises(CareError, match="is lost"):
        client.ask(b"PUT a 1\n")


def test_a_reply_that_is_too_long() -> None:
    """It is not taken, and the settings that bound it are named."""
    with scripted(answering(b'"%b"\n' % (b"x" * LONGEST))) as client, pytest.raises(CareError, match="max_value_bytes"):
        client.ask(b"GET a\n")


def test_a_result_of_another_kind_is_no_result(client: LineClient) -> None:
    """An absent key where there has to be a value, and text where there has to be a number."""
    for request, decoder in ((b"GET nothing\n", TEXT), (b"COUNT\n", TEXT)):
        with pytest.raises(CareError, match="does not answer as kvs does"):
            client.result(client.ask(request), decoder)


def test_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not waited for without end."""
    monkeypatch.setattr(line_client, "CONNECT_TIMEOUT_S", 0.01)
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        pytest.raises(CareError, match="it does not answer"),
    ):
        LineClient("127.0.0.1", listening.getsockname()[1], LONGEST)

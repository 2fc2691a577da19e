"""What ends a conversation in RESP is logged, and no more of what came than a byte."""

import json

import pytest

from tests.support.resp_connection import RespServer
from tests.support.resp_wire import request
from tests.support.sessions import output_of


def refusals(server: RespServer) -> list[dict[str, str]]:
    """Return what was logged of refusals."""
    events = [json.loads(line) for line in server.bench.log.getvalue().splitlines()]
    return [event for event in events if event["event"] == "protocol_refused"]


@pytest.mark.parametrize("name", [b"POST", b"post", b"Host:", b"hOST:", b"POST\0/"])
@pytest.mark.parametrize("queue", [False, True])
def test_words_of_http_end_it_without_a_word(name: bytes, queue: bool) -> None:
    """What was due before is sent, what follows is not run, and an open transaction is aborted."""
    server = RespServer()
    connection = server.connect()
    before = request("MULTI") if queue else request("START")
    connection.receive(before + request(name, "secret") + request("SET", "k", "v"))
    assert connection.closing
    assert output_of(connection) == b"+OK\r\n"
    (refusal,) = refusals(server)
    assert refusal["reason"] == "This looks like HTTP, and this port does not speak HTTP."
    assert "secret" not in server.bench.log.getvalue()
    assert server.bench.storage.open_snapshots == 0
    server.assert_nothing_is_left()


INLINE_HTTP = [
    b"POST / HTTP/1.1\r\n",
    b"POST /secret\r\n",
    b"post\r\n",
    b'"POST" /secret\r\n',
    b"GET /secret HTTP/1.1\r\n",
    b"SET k secret HTTP/1.0\r\n",
    b"SET secret HTTP/2.0 \t\r\n",
    b"FLUSHALL / HTTP/1.1\n",
    b"Host: secret\r\n",
    b"X-Secret:secret Y: secret\r\nHost: secret\r\n",
    b"Accept:\r\n",
    b"  content-length: 5\r\n",
    b"'Content-Length:' 5\n",
]


@pytest.mark.parametrize("lines", INLINE_HTTP)
@pytest.mark.parametrize("before", [b"MULTI\r\n", b"START\r\n", request("CLIENT", "REPLY", "OFF"), b"WATCH k\n", b""])
@pytest.mark.parametrize("split", [False, True])
def test_lines_of_http_end_it_without_a_word(lines: bytes, before: bytes, split: bool) -> None:
    """A request line and a header, whatever the state; what follows is not run."""
    server = RespServer()
    server.bench.storage.put(b"k", b"v")
    connection = server.connect()
    connection.receive(before)
    output_of(connection)
    data = lines + b"SET k w\r\nEXEC\r\nCOMMIT\r\n" + request("SET", "k", "w")
    for chunk in [bytes([byte]) for byte in data] if split else [data]:
        connection.receive(chunk)
    assert connection.closing
    assert b"K" not in output_of(connection)
    assert server.bench.storage.get(b"k") == b"v"
    assert len(refusals(server)) == 1
    assert "ecret" not in server.bench.log.getvalue()
    server.assert_nothing_is_left()


@pytest.mark.parametrize("word", [b"HTTP/1.1x", b'"v HTTP/1.1"', b"xHTTP/1.1", b"HTTP/1.", b"HTTP/11", b"a:"])
def test_what_only_looks_a_little_like_http_is_run(word: bytes) -> None:
    """A version within a word or in quotes, and a colon behind another word than the first."""
    server = RespServer()
    connection = server.connect()
    connection.receive(b"ECHO " + word + b"\r\n")
    word = word.strip(b'"')
    assert output_of(connection) == b"$%d\r\n%b\r\n" % (len(word), word)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"*1\r\nxecret\r\n", "Protocol error: expected '$', got 'x'"),
        (b"*1\r\n\x16\x03secret", r"Protocol error: expected '$', got '\x16'"),
        (b"*1\r\n\xffsecret", r"Protocol error: expected '$', got '\xff'"),
        (b'SET k "secret\r\n', "Protocol error: unbalanced quotes in request"),
        (b"SET k \0secret\r\n", "Protocol error: zero byte in inline request"),
        (b"SET k " + b"secret" * 20_000, "Protocol error: too big inline request"),
        (b"*secret\r\n", "Protocol error: invalid multibulk length"),
        (b"*1\r\n$secret\r\n", "Protocol error: invalid bulk length"),
    ],
)
def test_a_refusal_is_logged_in_plain_text(data: bytes, reason: str) -> None:
    """A byte that cannot be shown is told by its number."""
    server = RespServer()
    connection = server.connect()
    connection.receive(request("PING") + data)
    assert connection.closing
    assert [event["reason"] for event in refusals(server)] == [reason]
    assert "ecret" not in server.bench.log.getvalue()

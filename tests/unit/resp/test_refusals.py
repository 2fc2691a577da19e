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


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"*1\r\nxecret\r\n", "Protocol error: expected '$', got 'x'"),
        (b"\x16\x03secret", r"Protocol error: expected '*', got '\x16'"),
        (b"\xffsecret", r"Protocol error: expected '*', got '\xff'"),
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

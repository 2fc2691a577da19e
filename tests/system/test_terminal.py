"""A terminal passes on 4,095 bytes of a line, and drops the rest without a word: the reply tells of it."""

import os
import pty
import sys

import pytest

from tests.support.harness import OK, PONG, Server

from .conftest import TRANSPORTS_AND_ENGINES, flags_of

LONGEST = 4095


@pytest.fixture(scope="session", params=TRANSPORTS_AND_ENGINES)
def transport_flags(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Return the flags that choose the transport under test, or an engine that blocks."""
    return flags_of(request.param)


def typed(line: bytes) -> bytes:
    """Return what a program reads when somebody types a line."""
    ours, theirs = pty.openpty()
    try:
        os.write(ours, line + b"\n")
        return os.read(theirs, 1 << 16)
    finally:
        os.close(ours)
        os.close(theirs)


def put(length: int, key: str = "a") -> bytes:
    """Return a PUT of so many bytes."""
    return f"PUT {key} ".encode().ljust(length, b"x")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems cut elsewhere")
@pytest.mark.parametrize("greeting", [False, True])
def test_a_line_that_a_terminal_has_cut(server: Server, greeting: bool) -> None:
    """Is stored, for it may have been meant, and the reply says that it may be part of a longer one."""
    client = server.connect()
    if greeting:
        assert client.ask("PING") == PONG
    came = typed(put(5000))
    assert len(came) == LONGEST + 1
    client.send_raw(came)
    reply = client.reply()
    assert reply["status"] == "Ok"
    assert "4,095" in reply["mesg"]
    assert client.get("a") == "x" * (LONGEST - len("PUT a "))
    client.send_raw(typed(put(LONGEST - 1)))
    assert client.reply() == OK


@pytest.mark.parametrize(
    "data",
    [
        put(LONGEST - 1) + b"\n",
        put(LONGEST + 1) + b"\n",
        put(LONGEST) + b"\r\n",
        b"PING\n" + put(LONGEST - 5) + b"\n",
        put(LONGEST - 5) + b"\nPING\n",
        put(LONGEST) + b"\nPING\n",
        put(9) + b"\n" + put(LONGEST - 10) + b"\n",
    ],
)
def test_any_other_line_is_answered_as_ever(server: Server, data: bytes) -> None:
    """A byte less or more, or another request beside it."""
    client = server.connect()
    for _ in range(2):
        client.send_raw(data)
        assert all(reply in (OK, PONG) for reply in client.replies(data.count(b"\n")))


@pytest.mark.parametrize("verb", ["GET", "DEL", "KEYS", "COUNT", "PUTS"])
def test_other_commands_of_that_length(server: Server, verb: str) -> None:
    """They store nothing, so nothing is lost by a cut."""
    client = server.connect()
    client.send_raw(f"{verb} ".encode().ljust(LONGEST, b"x") + b"\n")
    assert "4,095" not in client.reply().get("mesg", "")


def test_a_put_that_fails_says_why(server: Server) -> None:
    """And nothing else."""
    client = server.connect()
    client.ok("START READONLY")
    client.send_raw(put(LONGEST) + b"\n")
    assert client.reply()["code"] == "usage"
    client.ok("ROLLBACK")
    client.send_raw(b"put a " + b"\xff" * (LONGEST - 6) + b"\n")
    assert client.reply()["code"] == "encoding"
    client.send_raw(b" put a " + b"x" * (LONGEST - 7) + b"\n")
    assert "4,095" in client.reply()["mesg"]

"""The line protocol over a real socket: the transcript of the manual, packets cut anywhere, nc at the other end."""

import shutil
import signal
import subprocess
from collections.abc import Iterator
from typing import IO

import pytest

from tests.support.harness import OK, PONG, TIMEOUT_S, Reply, Server, parse_reply

TRANSCRIPT = b"PUT a 1\nSTART\nPUT a 2\nSTART\nDEL a\nROLLBACK\nGET a\nCOMMIT\nGET a\nEXIT\n"
EXPECTED: list[Reply] = [
    OK,
    OK,
    OK,
    OK,
    {"status": "Ok", "result": True},
    OK,
    {"status": "Ok", "result": "2"},
    OK,
    {"status": "Ok", "result": "2"},
    OK,
]


@pytest.fixture
def nc() -> str:
    """Return the path of nc."""
    path = shutil.which("nc")
    if path is None:
        pytest.skip("nc is not installed")
    return path


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    """Cut data into pieces of a size."""
    for at in range(0, len(data), size):
        yield data[at : at + size]


def test_printf_piped_through_nc(server: Server, nc: str) -> None:
    """A session piped through nc gets its ten lines, and EXIT lets nc end."""
    command = f"printf '{TRANSCRIPT.decode().encode('unicode_escape').decode()}' | {nc} 127.0.0.1 {server.port}"
    ran = subprocess.run(["/bin/sh", "-c", command], capture_output=True, timeout=TIMEOUT_S, check=True)
    assert [parse_reply(line) for line in ran.stdout.splitlines(keepends=True)] == EXPECTED


def test_replies_are_spelled_as_documented(server: Server) -> None:
    """Replies are these very bytes."""
    client = server.connect()
    client.send("PUT a 1", "GET a", "DEL b", "GET b", "COMMIT", "EXIT")
    assert client.raw_rest() == (
        b'{"status": "Ok"}\n'
        b'{"status": "Ok", "result": "1"}\n'
        b'{"status": "Ok", "result": false}\n'
        b'{"status": "Ok", "result": null, "mesg": "b was not found."}\n'
        b'{"status": "Error", "code": "no_transaction", "mesg": "There is no transaction; START opens one."}\n'
        b'{"status": "Ok"}\n'
    )


def test_nc_that_shuts_down_its_side(server: Server, nc: str) -> None:
    """With -N nc tells the server that its input has ended, and gets every reply without an EXIT."""
    usage = subprocess.run([nc, "-h"], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if "-N" not in usage.stderr + usage.stdout:
        pytest.skip("this nc has no -N")
    ran = subprocess.run(
        [nc, "-N", "127.0.0.1", str(server.port)],
        input=b"PUT a 1\nGET a\n",
        capture_output=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    assert ran.stdout == b'{"status": "Ok"}\n{"status": "Ok", "result": "1"}\n'


def test_killed_nc_leaves_nothing_behind(server: Server, nc: str) -> None:
    """SIGKILL of a client process in mid-transaction aborts the transaction."""
    process = subprocess.Popen(
        [nc, "127.0.0.1", str(server.port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )
    with process:
        try:
            stdin, stdout = _pipe(process.stdin), _pipe(process.stdout)
            stdin.write(b"START\nPUT a 1\n")
            assert parse_reply(stdout.readline()) == OK
            assert parse_reply(stdout.readline()) == OK
        finally:
            process.send_signal(signal.SIGKILL)
    assert server.wait_for("client_disconnected")["aborted"] == 1
    assert server.connect().get("a") is None


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


@pytest.mark.parametrize("size", [1, 2, 3, 7, 16, len(TRANSCRIPT)])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_any_split(server: Server, size: int, end: bytes) -> None:
    """The replies are the same however the bytes are cut into packets, and with CR LF as with LF."""
    with server.connect() as client:
        for piece in pieces(TRANSCRIPT.replace(b"\n", end), size):
            client.send_raw(piece)
        assert client.rest() == EXPECTED


SMALL, LARGE = 479, 1 << 16  # what the epoll transport reads at once


@pytest.mark.parametrize("size", [SMALL - 1, SMALL, SMALL + 1, SMALL + LARGE - 1, SMALL + LARGE, SMALL + LARGE + 1])
def test_requests_as_long_as_what_is_read_at_once(server: Server, size: int) -> None:
    """However much is read at once, nothing is lost at its end, nor between a long request and the next short one."""
    client = server.connect()
    for _ in range(3):
        value = "v" * (size - len("PUT a \n"))
        assert client.ask(f"PUT a {value}") == OK
        assert client.ask("GET a") == {"status": "Ok", "result": value}


def test_split_between_cr_and_lf(server: Server) -> None:
    """A packet that ends with the CR does not leave it in the value."""
    client = server.connect()
    client.send_raw(b"PUT a 1\r")
    client.send_raw(b"\nGET a\r")
    client.send_raw(b"\n")
    assert client.replies(2) == [OK, {"status": "Ok", "result": "1"}]


def test_one_cr_is_dropped_and_no_more(server: Server) -> None:
    """Of two CRs the value keeps one, and CRs elsewhere are data."""
    client = server.connect()
    client.send_raw(b"PUT a x\ry\r\r\nGET a\n")
    assert client.replies(2) == [OK, {"status": "Ok", "result": "x\ry\r"}]


def test_values_are_verbatim(server: Server) -> None:
    """Spaces, quotes, backslashes, controls and any script come back as they were put."""
    client = server.connect()
    for value in ("", " ", "  two  spaces  ", 'a "quoted" \\ thing', "\x00\x01\x1f\x7f\t\x0b", "żółw ЖК 漢字 🐢\u2028"):
        assert client.ask(f"PUT k {value}") == OK
        assert client.get("k") == value


def test_pipelining_in_one_packet(server: Server) -> None:
    """Any number of requests in one packet are answered in order."""
    client = server.connect()
    client.send(*(line for number in range(3000) for line in (f"PUT k{number} {number}", f"GET k{number}")))
    for number in range(3000):
        assert client.replies(2) == [OK, {"status": "Ok", "result": str(number)}]


def test_request_split_around_others(server: Server) -> None:
    """A packet may end one request, hold others, and begin another."""
    client = server.connect()
    client.send_raw(b"PUT lo")
    client.send_raw(b"ng 1\nPING\nGET long\nPI")
    assert client.replies(3) == [OK, PONG, {"status": "Ok", "result": "1"}]
    client.send_raw(b"NG\n")
    assert client.reply() == PONG


def test_nothing_runs_before_its_line_is_complete(server: Server) -> None:
    """Without the line's end a request does not run, even when the connection ends there: it gets ``usage``."""
    client, other = server.connect(), server.connect()
    client.send_raw(b"PUT a 1\nPUT b 2")
    assert client.reply() == OK
    assert other.get("b") is None
    client.half_close()
    assert [reply["code"] for reply in client.rest()] == ["usage"]
    assert other.get("a") == "1"
    assert other.get("b") is None


def test_empty_lines_get_an_answer(server: Server) -> None:
    """An empty line, or one of blanks, gets a ``usage`` error and the connection goes on."""
    client = server.connect()
    client.send("", " \t ", "\r", "PING")
    assert [reply.get("code") for reply in client.replies(4)] == ["usage", "usage", "usage", None]


def test_line_that_is_not_utf8(server: Server) -> None:
    """A line that is not UTF-8 gets ``encoding`` and nothing else happens."""
    client = server.connect()
    client.send("START", b"PUT a \xff", b"\xc3(", "PUT b 2", "COMMIT", "GET a", "GET b")
    replies = client.replies(7)
    assert [reply.get("code") for reply in replies] == [None, "encoding", "encoding", None, None, None, None]
    assert replies[5]["result"] is None
    assert replies[6]["result"] == "2"


def test_unknown_command_is_suggested(server: Server) -> None:
    """A misspelled command gets the right one in the message."""
    reply = server.connect().ask("COMIT")
    assert reply["code"] == "unknown_command"
    assert "COMMIT" in reply["mesg"]


def test_exit_with_words_is_usage_and_no_exit(server: Server) -> None:
    """EXIT with something behind it is an error, and as any error leaves the transaction and the connection."""
    client = server.connect()
    client.send("START", "PUT a 1", "EXIT now", "QUIT now", "COMMIT", "GET a")
    replies = client.replies(6)
    assert [reply.get("code") for reply in replies] == [None, None, "usage", "usage", None, None]
    assert replies[5]["result"] == "1"


def test_info_about_session_and_server(server: Server, transport_flags: tuple[str, ...]) -> None:
    """INFO tells of this session and of the server what the protocol promises."""
    client = server.connect()
    client.ok("PUT a 1", "START", "START", "PUT b 2")
    result = client.ask("INFO")["result"]
    assert result["session"]["depth"] == 2
    assert result["session"]["pending_writes"] == 1
    assert result["session"]["snapshot_age_s"] >= 0
    figures = result["server"]
    engines = [flag for flag in transport_flags if flag in ("sqlite", "etcd")] or ["memory"]
    assert [figures["engine"]] == engines
    assert figures["keys"] == 1
    assert figures["clients"] == 1
    assert figures["open_transactions"] == 1
    for name in ("version", "build", "oldest_snapshot_s", "history_bytes", "commits", "conflicts", "uptime_s"):
        assert name in figures

"""No reply that is due is lost by closing, and nothing runs that should not."""

import json
import shutil
import socket
import ssl
import subprocess
import sys

import pytest

from tests.support.harness import OK, PONG, TIMEOUT_S, Server, polling

from .conftest import TRANSPORTS_AND_ENGINES, StartServer, flags_of

MEGABYTES = 6 << 20


@pytest.fixture(scope="session", params=TRANSPORTS_AND_ENGINES)
def transport_flags(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Return the flags that choose the transport under test, or an engine that blocks."""
    return flags_of(request.param)


@pytest.mark.parametrize("word", ["EXIT", "quit", " Exit "])
def test_input_behind_exit(server: Server, word: str) -> None:
    """Megabytes behind EXIT cost none of the replies before it, the end is orderly, and none of it runs."""
    with server.connect() as client, server.connect() as other:
        other.ask("DEL b")
        client.send_behind(b"PUT a 1\nGET a\n" + word.encode() + b"\n" + b"PUT b 2\n" * (MEGABYTES // 8))
        assert client.rest() == [OK, {"status": "Ok", "result": "1"}, OK]
        client.wait_sent()
        assert other.get("b") is None


def test_large_replies_before_exit_and_input_behind_it(server: Server) -> None:
    """Replies that the client has yet to fetch when EXIT has run are not lost to the input behind it."""
    client = server.connect(receive_buffer_bytes=4096)
    server.connect().ok("PUT big " + "x" * (1 << 20))
    client.send_behind(b"GET big\n" * 12 + b"EXIT\n" + b"PUT b 2\n" * (MEGABYTES // 8))
    replies = client.rest()
    assert len(replies) == 13
    assert all(len(reply["result"]) == 1 << 20 for reply in replies[:12])
    assert replies[12] == OK


def test_half_close_behind_many_requests(server: Server) -> None:
    """A half-close behind 20,000 pipelined requests gets exactly as many replies, in order."""
    client = server.connect()
    client.send_behind(b"".join(b"PUT k%d %d\nGET k%d\n" % (n % 100, n, n % 100) for n in range(10_000)))
    client.wait_sent()
    client.half_close()
    expected = b"".join(b'{"status": "Ok"}\n{"status": "Ok", "result": "%d"}\n' % n for n in range(10_000))
    assert client.raw_rest() == expected


@pytest.mark.parametrize("ended_by", ["half-close", "EXIT"])
def test_backlog_at_the_end_of_input(start_server: StartServer, ended_by: str) -> None:
    """Requests that wait for their turn when the input ends are all answered."""
    server = start_server("--max-tick-requests", "3", "--max-output-bytes", "50000")
    client = server.connect(receive_buffer_bytes=4096)
    server.connect().ok("PUT big " + "x" * 10_000)
    with server.paused():
        client.send(*["GET big"] * 1000, *(["EXIT"] if ended_by == "EXIT" else []))
        if ended_by == "half-close":
            client.half_close()
    replies = client.rest()
    assert [len(reply["result"]) for reply in replies[:1000]] == [10_000] * 1000
    assert replies[1000:] == ([OK] if ended_by == "EXIT" else [])


def test_half_closed_client_may_read_late(server: Server) -> None:
    """A client that has ended its input finds its replies whenever it gets round to reading them."""
    client, other = server.connect(receive_buffer_bytes=4096), server.connect()
    other.ok("PUT big " + "x" * (1 << 20))
    client.send(*["GET big"] * 10, "PUT done 1")
    client.half_close()
    for _ in polling("the server holds replies for it"):
        if other.info("server")["clients_bytes"] > 1 << 20:
            break
    assert all(len(reply["result"]) == 1 << 20 for reply in client.replies(10))
    assert client.rest() == [OK]
    assert other.get("done") == "1"


def test_half_open_peer_is_served(server: Server) -> None:
    """A peer that has shut down its receiving side gets its requests run."""
    client, other = server.connect(), server.connect()
    client.socket.shutdown(socket.SHUT_RD)
    client.send("PUT a 1", "START", "PUT a 2")
    for _ in polling("the request has run"):
        if other.get("a") == "1":
            break
    client.close()
    assert server.wait_left(client)["aborted"] == 1
    assert other.get("a") == "1"


def test_connection_without_a_word(server: Server) -> None:
    """A client that connects and ends its input, or closes, gets nothing and leaves nothing."""
    client = server.connect()
    client.half_close()
    assert client.rest() == []
    client.close()
    assert server.wait_left(client)["commands"] == 0
    for _ in range(50):
        server.connect().close()
    server.wait_for("client_disconnected", 51)
    assert server.connect().info("server")["clients"] == 1


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_REPAIR is Linux's")
def test_peer_that_vanished_is_ended_by_a_timeout(start_server: StartServer) -> None:
    """Of a peer that is gone without a word (a cable was pulled) nothing is left after the timeout."""
    server = start_server("--transaction-idle-timeout-s", "0.3")
    client, other = server.connect(), server.connect()
    client.ok("START", "PUT a 1")
    try:
        client.socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, "TCP_REPAIR", 19), 1)
    except OSError as error:
        pytest.skip(f"a socket cannot be made to vanish here: {error}")
    client.close()
    assert server.wait_left(client)["aborted"] == 1
    assert other.get("a") is None


# HTTP and TLS.

HTTP_OPENINGS = {
    "get": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "get-of-a-key": b"GET x HTTP/1.0\r\n\r\n",
    "http2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "put": b"PUT x HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 7\r\n\r\nPUT x y",
    "lf-only": b"DELETE x HTTP/1.1\nHost: 127.0.0.1\n\n",
    "blank-line-first": b"\r\n\r\nGET x HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "trailing-blank": b"GET x HTTP/1.1 \r\n\r\n",
    "not-utf8": b"GET /\xff HTTP/1.1\r\n\r\n",
    "header": b"HEAD x\r\nHost: 127.0.0.1\r\n\r\n",
}
BODY = b"PUT x y\r\nPUT z y\n" * 50_000


@pytest.mark.parametrize("opening", HTTP_OPENINGS)
@pytest.mark.parametrize("split", [False, True], ids=["whole", "bytewise"])
def test_http_is_refused_and_runs_nothing(server: Server, opening: str, split: bool) -> None:
    """An HTTP opening gets a ``protocol`` line and an orderly end though more was sent, and nothing of it runs."""
    with server.connect() as client, server.connect() as other:
        data = HTTP_OPENINGS[opening]
        if split:
            for at in range(len(data)):
                client.send_raw(data[at : at + 1])
            data = b""
        client.send_behind(data + BODY)
        codes = [reply.get("code") for reply in client.rest()]
        assert codes[-1] == "protocol"
        assert codes.count("protocol") == 1
        assert None not in codes
        assert [other.get(key) for key in "xz"] == [None, None]


def test_browser_like_post(server: Server) -> None:
    """What a page can make a browser send to this port changes nothing."""
    body = b"PUT x y\nSTART\nPUT x z\nCOMMIT\n"
    client, other = server.connect(), server.connect()
    client.send_raw(
        b"POST / HTTP/1.1\r\nHost: localhost:4000\r\nContent-Length: %d\r\nUser-Agent: Mozilla/5.0\r\n"
        b"Content-Type: text/plain\r\nOrigin: null\r\n\r\n" % len(body)
    )
    client.send_raw(body)
    (refusal,) = client.rest()
    assert refusal["code"] == "protocol"
    assert other.get("x") is None
    assert other.info("server")["keys"] == 0


def test_real_http_client(server: Server) -> None:
    """A PUT by curl, with a body that is a command, is refused and changes nothing."""
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    ran = subprocess.run(
        [
            *(curl, "--silent", "--http0.9", "--noproxy", "*", "--max-time", str(TIMEOUT_S)),
            *("--request", "PUT", "--data-binary", "PUT x y\n", f"http://127.0.0.1:{server.port}/x"),
        ],
        capture_output=True,
        timeout=TIMEOUT_S * 2,
        check=False,
    )
    assert json.loads(ran.stdout)["code"] == "protocol"
    assert server.connect().info("server")["keys"] == 0


def test_later_header_line_is_refused(server: Server) -> None:
    """A line whose verb ends in a colon ends the connection even after commands that were well-formed."""
    client, other = server.connect(), server.connect()
    client.send("PUT a 1", "Content-Type: text/plain", "PUT b 2")
    assert [reply.get("code") for reply in client.rest()] == [None, "protocol"]
    assert [other.get(key) for key in "ab"] == ["1", None]


def test_only_the_first_line_may_not_look_like_http(server: Server) -> None:
    """Later on a value may end in what ends an HTTP request line."""
    client = server.connect()
    assert client.ask("PING") == PONG
    assert client.ask("PUT a GET / HTTP/1.1") == OK
    assert client.get("a") == "GET / HTTP/1.1"


@pytest.mark.parametrize("split", [False, True], ids=["whole", "bytewise"])
def test_tls_is_refused(server: Server, split: bool) -> None:
    """A TLS handshake gets a ``protocol`` line and an orderly end though more was sent."""
    with server.connect() as client:
        hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00\n\xff" * 170
        if split:
            for at in range(len(hello)):
                try:
                    client.send_raw(hello[at : at + 1])
                except OSError:  # the server has had enough
                    break
        else:
            client.send_behind(hello + b"PUT x y\n" * 100_000)
        assert [reply["code"] for reply in client.rest()] == ["protocol"]
    with server.connect() as other:
        assert other.get("x") is None


def test_real_tls_client(server: Server) -> None:
    """Python's ssl module is told, in its way, that this is no TLS; the server goes on."""
    with socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S) as sock:
        context = ssl.create_default_context()
        with pytest.raises(ssl.SSLError):
            context.wrap_socket(sock, server_hostname="localhost")
    server.wait_for("protocol_refused")
    assert server.connect().ask("PING") == PONG


def test_sixteen_in_hexadecimal_is_data_later_on(server: Server) -> None:
    """The byte that opens a TLS handshake is an ordinary one after the first."""
    client = server.connect()
    assert client.ask("PUT a \x16") == OK
    assert client.ask("\x16")["code"] == "unknown_command"
    assert client.get("a") == "\x16"

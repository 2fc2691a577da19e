"""The admin port over real sockets: what it takes, what it refuses, and whom it does not wait for."""

import gc
import io
import json
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest

from kvs.adapters.inbound.admin import exchange, port
from kvs.adapters.inbound.admin.exchange import MAX_BODY_BYTES, MAX_HEAD_BYTES
from kvs.adapters.inbound.admin.messages import RefusedError, Request, Response
from kvs.adapters.inbound.admin.pace import BURST_S, SHARE, Pace
from kvs.adapters.inbound.admin.port import MAX_CONNECTIONS, MOST_THREADS, AdminPort
from kvs.logs import make_logger
from tests.support.waiting import TIMEOUT_S, polling

pytestmark = pytest.mark.one_build

LONG_BODY = b"a" * (MAX_BODY_BYTES + 1)


class Served:
    """A port whose requests a test answers.

    Attributes:
        address: Where it is.
        requests: What has arrived.
        respond: Answers.
        log: What was logged, as JSON lines.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self.respond: Callable[[Request], Response] = lambda _: Response(200, b"ok\n")
        self.log = io.StringIO()
        listening = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = listening.getsockname()
        self.port = AdminPort([listening], lambda: context, self._respond, make_logger("info", "json", self.log))

    def _respond(self, request: Request) -> Response:
        self.requests.append(request)
        return self.respond(request)

    def connect(self) -> socket.socket:
        """Return a connected socket."""
        return socket.create_connection(self.address, TIMEOUT_S)

    def ask(self, method: str = "GET", path: str = "/", body: str | None = None) -> tuple[HTTPResponse, bytes]:
        """Return a response and its body."""
        client = HTTPConnection(self.address[0], self.address[1], timeout=TIMEOUT_S)
        client.request(method, path, body)
        response = client.getresponse()
        read = response.read()
        client.close()
        return response, read


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """Return a port that is never too busy; that is tried by itself."""
    monkeypatch.setattr(Pace, "delay_s", lambda *_: 0.0)
    served = Served()
    served.port.start()
    yield served
    served.port.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "kvs-admin"]


def rest(sock: socket.socket) -> bytes:
    """Return what comes until the end."""
    found = b""
    try:
        while data := sock.recv(1 << 16):
            found += data
    except ConnectionResetError:
        pass
    return found


def test_requests_are_answered_one_after_the_other(served: Served) -> None:
    """On one connection, also if they arrive together, with headers that keep them from others."""
    with served.connect() as sock:
        sock.sendall(b"GET /a?b HTTP/1.1\r\nHost: x\r\n\r\nPOST /c HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
        sock.shutdown(socket.SHUT_WR)
        found = rest(sock)
    assert found.count(b"HTTP/1.1 200 OK") == 2
    assert [(each.method, each.path, each.body) for each in served.requests] == [
        ("GET", "/a", b""),
        ("POST", "/c", b"{}"),
    ]
    for header in (b"Cache-Control: no-store", b"frame-ancestors 'none'", b"default-src 'none'", b"nosniff"):
        assert header in found
    assert b"Access-Control" not in found


def test_refusals_are_responses(served: Served) -> None:
    """With their status."""

    def refuse(_: Request) -> Response:
        raise RefusedError(421, "Not here.")

    served.respond = refuse
    response, body = served.ask()
    assert (response.status, body) == (421, b"Not here.\n")


def test_a_head_has_no_body(served: Served) -> None:
    """And the length of what GET has."""
    with served.connect() as sock:
        sock.sendall(b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        found = rest(sock)
    assert b"Content-Length: 3" in found
    assert found.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "sent",
    [
        b"PUT a 1\r\n\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 40,
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nBad header\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 2 * MAX_HEAD_BYTES,
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(LONG_BODY) + LONG_BODY,
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
        % (len(LONG_BODY), LONG_BODY),
    ],
    ids=lambda sent: sent[:30],
)
def test_what_is_ambiguous_or_too_long_is_refused(served: Served, sent: bytes) -> None:
    """And the connection is closed."""
    with served.connect() as sock:
        with suppress(OSError):  # it may have been refused before all of it was sent
            sock.sendall(sent)
            sock.shutdown(socket.SHUT_WR)
        found = rest(sock)
    assert found == b"" or found.startswith((b"HTTP/1.1 4", b"HTTP/1.1 501"))
    assert served.requests == []
    assert served.ask()[0].status == 200


def test_slow_requests_have_a_deadline(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """For all of it, however regularly something comes."""
    monkeypatch.setattr(exchange, "REQUEST_S", 0.3)
    with served.connect() as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n")
        for _ in polling("the connection is closed"):
            try:
                sock.sendall(b"X: y\r\n")
            except OSError:
                break
    assert served.requests == []


def test_responses_that_nobody_takes_have_a_deadline(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are answered meanwhile."""
    monkeypatch.setattr(exchange, "RESPONSE_S", 0.3)
    served.respond = lambda request: Response(200, b"x" * (32 << 20) if request.path == "/large" else b"ok\n")
    with served.connect() as sock:
        sock.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        assert served.ask()[0].status == 200
        for _ in polling("the thread has ended"):
            if not served.port._exchanges:
                break
        assert len(rest(sock)) < 32 << 20


def test_those_who_wait_give_way(served: Served) -> None:
    """So nobody keeps others out by connecting; and there are only so many threads."""
    waiting = []
    for _ in range(3 * MAX_CONNECTIONS):
        waiting.append(served.connect())
        assert served.ask()[0].status == 200
        assert len(served.port._exchanges) <= port.MOST_THREADS
    for sock in waiting:
        sock.close()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, one address of loopback is used only")
@pytest.mark.parametrize("said", [b"", b"GET /wrong HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_a_client_of_many_connections_gives_way_to_others(served: Served, said: bytes) -> None:
    """Whether it is silent or sends wrong tokens; a response that is held back ends with its connection."""
    held = [0]

    def respond(request: Request) -> Response:
        held[0] += request.path == "/wrong"
        return Response(401, delay_s=TIMEOUT_S * 10) if request.path == "/wrong" else Response(200, b"ok\n")

    served.respond = respond
    with ExitStack() as stack:
        other = HTTPConnection(*served.address, timeout=TIMEOUT_S, source_address=("127.0.0.2", 0))
        other.connect()
        stack.callback(other.close)
        for attempt in range(1, 3 * MOST_THREADS):
            sock = stack.enter_context(served.connect())
            sock.sendall(said)
            for _ in polling("the response is held back"):
                if held[0] == attempt or not said:
                    break
        other.request("GET", "/probe")
        assert other.getresponse().read() == b"ok\n"


def test_a_request_that_is_being_answered_does_not_give_way(served: Served) -> None:
    """While there are others that wait."""
    begun, go_on = threading.Event(), threading.Event()

    def respond(request: Request) -> Response:
        if request.path == "/slow":
            begun.set()
            assert go_on.wait(TIMEOUT_S)
        return Response(200, b"ok\n")

    served.respond = respond
    with served.connect() as slow:
        slow.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert begun.wait(TIMEOUT_S)
        waiting = [served.connect() for _ in range(2 * MAX_CONNECTIONS)]
        assert served.ask()[0].status == 200
        go_on.set()
        assert rest(slow).endswith(b"ok\n")
    for sock in waiting:
        sock.close()


def test_the_end_does_not_wait_for_clients() -> None:
    """Neither for those that say nothing, nor for those that read nothing."""
    served = Served()
    served.port.start()
    served.respond = lambda _: Response(200, b"x" * (32 << 20))
    silent, full = served.connect(), served.connect()
    full.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    for _ in polling("the request is there"):
        if served.requests:
            break
    served.port.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "kvs-admin"]
    for sock in (silent, full):
        sock.close()
    with pytest.raises(ConnectionRefusedError):
        served.connect()


def test_a_fault_ends_one_connection(served: Served) -> None:
    """It is logged."""

    def fail(_: Request) -> Response:
        raise ValueError("a fault")

    served.respond = fail
    with served.connect() as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert rest(sock) == b""
    served.respond = lambda _: Response(200, b"ok\n")
    assert served.ask()[0].status == 200
    for _ in polling("the fault is logged"):
        if "a fault" in served.log.getvalue():
            break


@pytest.fixture
def secured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """Return a port whose connections are encrypted."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl here")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=localhost")
    command = [openssl, "req", "-x509", *kind, "-keyout", str(key), "-out", str(cert), "-days", "2"]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    monkeypatch.setattr(Pace, "delay_s", lambda *_: 0.0)
    served = Served(context)
    served.port.start()
    yield served
    served.port.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "kvs-admin"]


def test_connections_may_be_encrypted(secured: Served) -> None:
    """Then requests say so; who does not begin with a handshake, or does not end it, keeps nobody waiting."""
    trusting = ssl._create_unverified_context()  # noqa: S323  # of this test
    silent, plain = secured.connect(), secured.connect()
    plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    for _ in range(MAX_CONNECTIONS + 2):
        with trusting.wrap_socket(secured.connect()) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert rest(sock).endswith(b"ok\n")
    assert all(request.is_tls for request in secured.requests)
    assert b"HTTP/1.1 200" not in rest(plain)
    silent.close()
    plain.close()


def test_connections_leave_no_cycles(served: Served) -> None:
    """A server never collects what is in cycles and has become old: it would be there for good."""
    for _ in range(3):
        served.ask()
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            with served.connect() as sock:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                rest(sock)
        for _ in polling("the threads have ended"):
            if not served.port._exchanges:
                break
        found = gc.collect()
    finally:
        gc.enable()
    assert found < 20, "each connection leaves something in a cycle"


def test_the_pace_bounds_processor_time() -> None:
    """To a share of the time, but for a burst."""
    now_s = [0.0]
    pace = Pace(lambda: now_s[0])
    pace.charge(BURST_S)
    assert pace.delay_s(1) == 0
    pace.charge(0.01)
    assert pace.delay_s(1) == pytest.approx(0.01 / SHARE)
    assert pace.delay_s(0.1) == 0.1
    now_s[0] += 0.01 / SHARE
    assert pace.delay_s(1) == pytest.approx(0)
    now_s[0] += 1000
    pace.charge(BURST_S)
    assert pace.delay_s(1) == pytest.approx(0)


def test_a_busy_port_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before each packet and after each response, as long as the pace says."""
    paused: list[float] = []
    monkeypatch.setattr(Pace, "delay_s", lambda _, longest_s: longest_s)
    monkeypatch.setattr(time, "sleep", paused.append)
    served = Served()
    served.port.start()
    assert served.ask()[0].status == 200
    served.port.close()
    accepting, *of_the_exchange = sorted(paused)
    assert accepting == port.LONGEST_PAUSE_S
    assert of_the_exchange == [exchange.LONGEST_PAUSE_S] * 3  # a request, a response, and the end of input


def test_json_is_none_of_its_business(served: Served) -> None:
    """A body is bytes here."""
    served.ask("POST", "/x", json.dumps({"a": 1}))
    assert served.requests[0].body == b'{"a": 1}'

"""TLS between real programs and a server: on the same port, alone, with certificates of clients, and read anew."""

import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.support.harness import PONG, TIMEOUT_S, Client, Server, polling, run_to_end
from tests.support.open_files import open_files_allowed
from tests.support.resp_wire import request
from tests.support.secured import SERVER_NAME, certificates, client_side, server_files, server_flags

from .conftest import StartServer, flags_of

SMALL_BUFFER_BYTES = 4096
SLOW_CLIENTS = 1000
PING = request("PING")


@pytest.fixture(scope="session", params=["default", pytest.param("asyncio", marks=pytest.mark.variant)])
def transport_flags(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Return the flags that choose the transport: both do TLS by themselves."""
    return flags_of(request.param)


def connect(server: Server, context: ssl.SSLContext | None = None, buffer_bytes: int | None = None) -> ssl.SSLSocket:
    """Return a client in TLS."""
    sock = socket.socket()
    if buffer_bytes is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    sock.settimeout(TIMEOUT_S)
    sock.connect((server.host, server.port))
    return (context or client_side()).wrap_socket(sock, server_hostname=SERVER_NAME, suppress_ragged_eofs=False)


def ask(client: ssl.SSLSocket, line: bytes) -> bytes:
    """Return the reply to a line."""
    client.sendall(line + b"\n")
    received = bytearray()
    while not received.endswith(b"\n"):
        data = client.recv(1 << 16)
        assert data
        received += data
    return bytes(received)


def rest(client: socket.socket) -> bytes:
    """Return all that comes up to the end, which must be an orderly one: one that is cut off raises."""
    received = bytearray()
    while data := client.recv(1 << 16):
        received += data
    return bytes(received)


def test_both_on_one_port(start_server: StartServer) -> None:
    """The first byte tells; large values go both ways; a half-close is answered, and so is the last word."""
    server = start_server(*server_flags())
    plain = server.connect()
    with connect(server) as client:
        assert ask(client, b"PUT a " + b"x" * 400_000) == b'{"status": "Ok"}\n'
        assert plain.get("a") == "x" * 400_000
        assert len(ask(client, b"GET a")) > 400_000
        client.sendall(b"GET a\n" * 5 + b"EXIT\n")
        assert rest(client).count(b"x" * 400_000) == 5
    with connect(server) as client:
        client.sendall(b"PING\n" * 1000 + b"PI")
        with pytest.raises(ssl.SSLError, match="APPLICATION_DATA_AFTER_CLOSE_NOTIFY"):
            client.unwrap()  # which says that nothing follows, and meets replies
    info = server.connect().info("server")
    assert info["tls_certificate_expires"] > 0
    assert server.stop() == 0


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_versions(start_server: StartServer, version: ssl.TLSVersion) -> None:
    """1.2 and 1.3; anything older is not spoken."""
    server = start_server(*server_flags())
    context = client_side()
    context.minimum_version = context.maximum_version = version
    with connect(server, context) as client:
        assert ask(client, b"PING") == b'{"status": "Ok", "result": "PONG"}\n'
    if version == ssl.TLSVersion.TLSv1_2:
        command = ["openssl", "s_client", "-connect", f"{server.host}:{server.port}"]
        old = ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]
        done = subprocess.run([*command, *old], input=b"", capture_output=True, timeout=TIMEOUT_S, check=False)
        assert b"alert protocol version" in done.stderr


def test_a_client_that_does_not_read(start_server: StartServer) -> None:
    """Is not served beyond the bound, holds nobody up, and gets every byte when it reads."""
    server = start_server(*server_flags(), "--max-output-bytes", "64KiB")
    other = server.connect()
    other.ok("PUT a " + "x" * 100_000)
    with connect(server, buffer_bytes=SMALL_BUFFER_BYTES) as client:
        client.sendall(b"GET a\n" * 200)
        for _ in polling("the server holds replies for it"):
            if other.info("server")["clients_bytes"] > 100_000:
                break
        assert other.info("server")["clients_bytes"] < 4_000_000
        assert other.ask("PING") == PONG
        client.sendall(b"EXIT\n")
        assert rest(client).count(b"x" * 100_000) == 200


NO_TLS_BY_LINE = b'{"status": "Error", "code": "protocol", "mesg": "This port speaks TLS only."}\n'
NO_TLS_IN_RESP = b"-ERR This port speaks TLS only.\r\n"


def test_nothing_is_spoken_without_tls_where_it_is_required(start_server: StartServer) -> None:
    """Who does it all the same is told, in the protocol it seems to speak."""
    server = start_server(*server_flags(), "--tls-required", "yes")
    for said, answer in (
        (b"PUT a 1\nGET a\n", NO_TLS_BY_LINE),
        (request("SET", "a", "1"), NO_TLS_IN_RESP),
        (b"SET a 1\r\n", NO_TLS_IN_RESP),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", NO_TLS_BY_LINE),
    ):
        with Client(server.host, server.port) as client:
            client.send_raw(said)
            assert client.raw_rest() == answer
    with connect(server) as secured:
        assert ask(secured, b"COUNT") == b'{"status": "Ok", "result": 0}\n'


def test_a_port_of_its_own(start_server: StartServer) -> None:
    """The other one speaks no TLS."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = start_server(*server_flags(), "--tls-port", str(port))
    plain = server.connect()
    assert plain.ask("PING") == PONG
    server.wait_for("listening", 2)
    assert [event["port"] for event in server.events("listening")] == [server.port, port]
    server.port = port
    with connect(server) as client:
        assert ask(client, b"PING") == b'{"status": "Ok", "result": "PONG"}\n'
    with Client(server.host, port) as client:
        client.send("PING")
        assert b"TLS only" in client.raw_rest()


def output(command: list[str]) -> str:
    """Return what a program writes."""
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False).stdout


def test_redis_cli_and_redis_py(start_server: StartServer) -> None:
    """With what they need to know, and nothing else."""
    if shutil.which("redis-cli") is None:
        pytest.skip("redis-cli is not installed")
    files = server_files()
    server = start_server(*server_flags(), "--tls-ca-file", files.ca_file, "--tls-client-certs", "required")
    cert = certificates().client_cert
    shown = ["--cert", str(cert), "--key", str(certificates().key_of(cert))]
    command = ["redis-cli", "-p", str(server.port), "--tls", "--cacert", files.ca_file]
    assert output([*command, *shown, "SET", "a", "1"]) == "OK\n"
    assert "1" not in output([*command, "GET", "a"]).split()
    server.wait_for("client_not_secured", reason="peer did not return a certificate")
    with redis.Redis(
        host=server.host,
        port=server.port,
        ssl=True,
        ssl_ca_certs=files.ca_file,
        ssl_certfile=str(cert),
        ssl_keyfile=str(certificates().key_of(cert)),
    ) as client:
        assert client.get("a") == b"1"
        client.mset({f"k{number}": "v" * 1000 for number in range(1000)})
        assert client.mget([f"k{number}" for number in range(1000)]) == [b"v" * 1000] * 1000


def test_the_name_in_a_certificate_is_a_user(start_server: StartServer, tmp_path: Path) -> None:
    """In either protocol, and without a secret; a client without a certificate has to give one."""
    users, password = tmp_path / "users.toml", tmp_path / "password"
    users.write_text(
        '[users.kvs-test-client]\n\n[[users.kvs-test-client.grants]]\nallow = ["@read", "@connection"]\nkeys = ["a:"]\n'
    )
    password.write_text("secret")
    for path in (users, password):
        path.chmod(0o600)
    certs = ("--tls-ca-file", server_files().ca_file, "--tls-client-certs", "optional")
    secrets = ("--users-file", str(users), "--password-file", str(password))
    server = start_server(*server_flags(), *certs, *secrets, "--audit-log", str(tmp_path / "audit"))
    with connect(server, client_side(shows_certificate=True)) as client:
        assert ask(client, b"GET a:1").startswith(b'{"status": "Ok", "result": null')
        assert b'"forbidden"' in ask(client, b"GET b:1")
    with connect(server, client_side(shows_certificate=True)) as client:
        client.sendall(request("ACL", "WHOAMI") + request("QUIT"))
        assert b"kvs-test-client" in rest(client)
    with connect(server) as client:
        assert b'"unauthenticated"' in ask(client, b"GET a:1")
    assert server.stop() == 0
    lines = [json.loads(line) for line in (tmp_path / "audit").read_text("ascii").splitlines()]
    assert [line["user"] for line in lines if line["event"] == "authenticated"] == ["kvs-test-client"] * 2
    assert [line["user"] for line in lines if line["event"] == "refused"] == ["kvs-test-client", None]


def test_curl_and_browsers(start_server: StartServer) -> None:
    """HTTP is refused before a handshake, and runs nothing after one."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    server = start_server(*server_flags())
    url = f"https://{server.host}:{server.port}/"
    command = ["curl", "-sS", "-m", str(TIMEOUT_S), "--cacert", server_files().ca_file, url]
    command += ["--data-binary", "PUT evil 1\n"]
    for more, code in (([], 35), (["--no-alpn", "--http0.9"], 0)):
        done = subprocess.run([*command, *more], capture_output=True, text=True, timeout=2 * TIMEOUT_S, check=False)
        assert done.returncode == code, done.stderr
    assert server.connect().ask("COUNT")["result"] == 0


def test_a_client_with_a_certificate_is_no_stranger(start_server: StartServer, tmp_path: Path) -> None:
    """So it leaves their half of the places to others."""
    users, password = tmp_path / "users.toml", tmp_path / "password"
    users.write_text('[users.kvs-test-client]\n\n[[users.kvs-test-client.grants]]\nallow = ["@all"]\nall_keys = true\n')
    password.write_text("secret")
    for path in (users, password):
        path.chmod(0o600)
    certs = ("--tls-ca-file", server_files().ca_file, "--tls-client-certs", "optional", "--max-clients", "2")
    server = start_server(*server_flags(), *certs, "--users-file", str(users), "--password-file", str(password))
    with connect(server, client_side(shows_certificate=True)) as client:
        assert ask(client, b"PING") == b'{"status": "Ok", "result": "PONG"}\n'
        with connect(server) as stranger:
            assert b'"unauthenticated"' in ask(stranger, b"GET a")


@pytest.mark.parametrize(
    "said",
    [b"\x16", b"\x16\x03\x01garbage that is no TLS", b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00", b"\x16" * 100_000],
    ids=lambda said: repr(said[:20]),
)
def test_garbage(start_server: StartServer, said: bytes) -> None:
    """Ends that connection alone; what is cut short is not waited for beyond the end."""
    server = start_server(*server_flags())
    with Client(server.host, server.port) as client:
        client.send_raw(said)
        if len(said) == 1:
            client.half_close()
        client.raw_rest()
    assert server.connect().ask("PING") == PONG


def test_records_that_are_cut_short_or_damaged(start_server: StartServer) -> None:
    """Run nothing; a transaction is rolled back."""
    server = start_server(*server_flags())
    for damaged in (False, True):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = client_side().wrap_bio(incoming, outgoing, server_hostname=SERVER_NAME)
        with Client(server.host, server.port) as client:
            while True:
                with contextlib.suppress(ssl.SSLWantReadError):
                    tls.do_handshake()
                    break
                client.send_raw(outgoing.read())
                incoming.write(client.socket.recv(1 << 16))
            tls.write(b"START\nPUT a 1\n")
            sealed = outgoing.read()
            tls.write(b"COMMIT\n")
            last = outgoing.read()
            client.send_raw(sealed + last[:-1] + bytes([last[-1] ^ 1] * damaged))
            client.half_close()
            with contextlib.suppress(ConnectionError):
                client.raw_rest()
    assert server.connect().get("a") is None


def test_handshakes_that_fail_are_counted(start_server: StartServer) -> None:
    """Also those that take too long; not what breaks behind one, and not what was none."""
    server = start_server(*server_flags(), "--auth-timeout-s", "3")
    watching = server.connect()
    for said in (b"\x16\x03\x01garbage that is no TLS", b"\x16\x03\x01"):
        with Client(server.host, server.port) as client:
            client.send_raw(said)
            client.raw_rest()
    with connect(server) as client:
        assert ask(client, b"PING") == b'{"status": "Ok", "result": "PONG"}\n'
        with socket.socket(fileno=client.detach()) as raw:
            raw.settimeout(TIMEOUT_S)
            raw.sendall(b"no record")
            while raw.recv(1 << 16):
                pass
    with Client(server.host, server.port) as client:
        client.send("PING", "EXIT")
        assert b"PONG" in client.raw_rest()
    server.wait_for("client_not_secured", 2)
    for _ in polling("all have gone"):
        if watching.info("server")["clients"] == 1:
            break
    info = watching.info("server")
    assert (info["tls_handshakes"], info["tls_handshakes_failed"]) == (1, 2)


def test_many_slow_handshakes(start_server: StartServer) -> None:
    """They keep nobody out, and cost little: beyond half of the clients, the oldest gives way; and none lasts."""
    server = start_server(*server_flags(), "--max-clients", "100")
    other = server.connect()
    assert other.ask("PING") == PONG
    before = server.rss_bytes()
    with open_files_allowed(SLOW_CLIENTS + 500), contextlib.ExitStack() as stack:
        for _ in range(SLOW_CLIENTS):
            sock = stack.enter_context(socket.create_connection((server.host, server.port), TIMEOUT_S))
            with contextlib.suppress(OSError):
                sock.sendall(b"\x16\x03\x01")
        server.wait_for("client_disconnected", SLOW_CLIENTS // 2, reason="handshake displaced")
        assert other.ask("PING") == PONG
        assert other.info("server")["clients"] <= 100
        assert server.peak_rss_bytes() - before < 16 << 20
        for _ in polling("there is room"):  # those behind are still being accepted
            with contextlib.suppress(OSError), connect(server) as client:
                if ask(client, b"PING") == b'{"status": "Ok", "result": "PONG"}\n':
                    break


def test_a_full_server(start_server: StartServer) -> None:
    """Says so in TLS, and in plain text; who says nothing is not waited for, and others are heard."""
    server = start_server(*server_flags(), "--max-clients", "1")
    first = server.connect()
    assert first.ask("PING") == PONG
    silent = [socket.create_connection((server.host, server.port), TIMEOUT_S) for _ in range(10)]
    try:
        with connect(server) as client:
            assert b"max_clients" in rest(client)
        with Client(server.host, server.port) as plain:
            plain.send("PING")
            assert b"max_clients" in plain.raw_rest()
        for sock in silent:
            assert sock.recv(1) == b""
    finally:
        for sock in silent:
            sock.close()
    assert first.ask("PING") == PONG


def test_new_certificates_lose_no_request(start_server: StartServer, tmp_path: Path) -> None:
    """Clients that are connected go on, new ones see the new certificate; a wrong file changes nothing."""
    made = certificates()
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"

    def put(certificate: Path) -> None:
        for source, path in ((certificate, cert), (made.key_of(certificate), key)):
            shutil.copy(source, tmp_path / "new")
            os.replace(tmp_path / "new", path)  # noqa: PTH105

    put(made.member_cert)
    server = start_server("--tls-cert-file", str(cert), "--tls-key-file", str(key), expect=("reload_failed",))
    stop, failures, counts = threading.Event(), list[BaseException](), [0] * 4

    def load(at: int) -> None:
        try:
            with connect(server) as client:
                while not stop.is_set():
                    assert ask(client, b"PUT k%d %d" % (at, counts[at])) == b'{"status": "Ok"}\n'
                    counts[at] += 1
        except BaseException as error:  # noqa: BLE001  # told by the test
            failures.append(error)

    threads = [threading.Thread(target=load, args=(at,)) for at in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in polling("all of them are busy"):
            if all(counts):
                break
        assert shown(server) == made.member_cert.read_text()
        put(made.client_cert)
        server.send_signal(signal.SIGHUP)
        assert server.wait_for("reloaded", 1)["changed"] == ["tls_cert_file", "tls_key_file"]
        assert shown(server) == made.client_cert.read_text()
        cert.write_text("nonsense")
        server.send_signal(signal.SIGHUP)
        assert str(cert) in server.wait_for("reload_failed")["reason"]
        assert shown(server) == made.client_cert.read_text()
        before = counts[:]
        for _ in polling("all of them go on"):
            if all(now > then for now, then in zip(counts, before, strict=True)):
                break
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures


def shown(server: Server) -> str:
    """Return the certificate that a server shows."""
    with socket.create_connection((server.host, server.port), TIMEOUT_S) as sock:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with context.wrap_socket(sock) as client:
            shown = client.getpeercert(binary_form=True)
            assert shown is not None
            return ssl.DER_cert_to_PEM_cert(shown)


@pytest.fixture
def stuck(start_server: StartServer) -> Iterator[tuple[Server, socket.socket]]:
    """Return a server, and a client in the middle of a handshake."""
    server = start_server(*server_flags())
    with socket.create_connection((server.host, server.port), TIMEOUT_S) as sock:
        sock.sendall(b"\x16\x03\x01")
        yield server, sock


def test_the_stop_waits_for_no_handshake(stuck: tuple[Server, socket.socket]) -> None:
    """And answers what has come in TLS."""
    server, sock = stuck
    with connect(server) as client:
        ask(client, b"PUT a 1")
        with server.paused():
            client.sendall(b"GET a\n" * 100)
            server.send_signal(signal.SIGTERM)
        assert rest(client).count(b'"1"') == 100
        assert sock.recv(1) == b""
    assert server.wait_exit() == 0


@pytest.mark.one_build
@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--tls-cert-file", "/nowhere/cert.pem"), "tls_cert_file: /nowhere/cert.pem: no such file"),
        (("--tls-key-file", "x"), "tls_key_file: needs tls_cert_file"),
        (("--tls-required", "true"), "tls_required: needs tls_cert_file"),
        (("--tls-port", "1"), "tls_port: needs tls_cert_file"),
        (("--tls-cert-file", "x", "--tls-client-certs", "optional"), "tls_client_certs: 'optional' needs tls_ca_file"),
        (("--tls-cert-file", "x", "--tls-port", "4000"), "tls_port: 4000 is the port"),
        (("--proxy-protocol-from", "10.0.0.0/99", "--data-dir", "/nowhere/data"), "proxy_protocol_from: '10.0.0.0/99'"),
    ],
)
def test_settings_that_cannot_be(flags: tuple[str, ...], words: str) -> None:
    """Are one line at the start."""
    ended = run_to_end(*flags)
    assert ended.returncode == 2
    assert words in ended.stderr.lower()
    assert ended.stderr.count("\n") == 1

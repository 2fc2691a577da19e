"""Starting: where the server listens, and what it says when it cannot."""

import socket
from pathlib import Path

import pytest

from kvs.dump.resp_client import RespClient
from kvs.importing import UNWANTED
from tests.support.harness import PONG, Server, run_to_end

from .conftest import StartServer

pytestmark = pytest.mark.one_build


@pytest.fixture(scope="session")
def transport_flags() -> tuple[str, ...]:
    """Return no flags: no transport has a say in this."""
    return ()


def test_free_port(start_server: StartServer) -> None:
    """With port 0 each server picks a free port and logs it, and can be connected to from that moment on."""
    servers = [start_server() for _ in range(3)]
    assert len({server.port for server in servers}) == 3
    for server in servers:
        assert 0 < server.port < 65536
        assert server.connect().ask("PING") == PONG


def test_listening_only_when_it_can_be_connected_to(start_server: StartServer) -> None:
    """The first attempt after ``listening`` succeeds, and it is the first thing a server says."""
    for _ in range(2):
        server = start_server()
        socket.create_connection((server.host, server.port)).close()
        assert server.events()[0]["event"] == "listening"
        assert len(server.events("listening")) == 1


@pytest.mark.parametrize("arguments", [("serve", "--port", "0"), ("--port", "0"), ("--port=0",)])
def test_serve_is_the_default_command(arguments: tuple[str, ...]) -> None:
    """Options without a command are those of ``serve``."""
    with Server(*arguments, *(() if "--port" in arguments else ("--port", "0"))) as server:
        assert server.connect().ask("PING") == PONG


def test_several_addresses(start_server: StartServer, ipv6_loopback: str) -> None:
    """Each --host is listened on, IPv4 and IPv6, on the same port, and each is logged."""
    server = start_server("--host", "127.0.0.1", "--host", ipv6_loopback)
    server.wait_for("listening", 2)
    assert [(event["host"], event["port"]) for event in server.events("listening")] == [
        ("127.0.0.1", server.port),
        ("::1", server.port),
    ]
    four, six = server.connect(), server.connect(host=ipv6_loopback)
    four.ok("PUT a 1")
    assert six.get("a") == "1"
    assert server.wait_for("client_connected", peer=six.name)
    assert not server.events("listening_beyond_loopback")


def test_ipv6_only(start_server: StartServer, ipv6_loopback: str) -> None:
    """An IPv6 address alone will do."""
    server = start_server("--host", ipv6_loopback)
    assert server.host == "::1"
    assert server.connect().ask("PING") == PONG


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost"])
def test_no_warning_on_loopback(start_server: StartServer, host: str) -> None:
    """Nothing warns of a server that only this machine reaches."""
    try:
        with socket.create_server((host, 0)):
            pass
    except OSError as error:
        pytest.skip(f"{host} cannot be listened on here: {error}")
    server = start_server("--host", host)
    assert server.connect().ask("PING") == PONG
    assert not server.events("listening_beyond_loopback")


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_warning_beyond_loopback(start_server: StartServer, host: str, request: pytest.FixtureRequest) -> None:
    """Listening where others reach it gets one warning that names the address."""
    if host == "::":
        request.getfixturevalue("ipv6_loopback")
    server = start_server("--host", host, "--protected-mode", "false")
    warning = server.wait_for("listening_beyond_loopback")
    assert warning["level"] == "warning"
    assert warning["host"] == host


def one_line(text: str) -> str:
    """Return what was said, having checked that it is one line and no traceback."""
    assert text.endswith("\n")
    (line,) = text.splitlines()
    assert "Traceback" not in line
    return line


def test_taken_port(server: Server) -> None:
    """A port that is taken is named with its address, in one line, and the exit code is 1."""
    ran = run_to_end("--port", str(server.port))
    assert ran.returncode == 1
    assert f"127.0.0.1:{server.port}" in one_line(ran.stderr)
    assert server.connect().ask("PING") == PONG


def test_port_taken_on_one_of_several_addresses(server: Server, ipv6_loopback: str) -> None:
    """The address that is named is the one that is taken."""
    ran = run_to_end("--port", str(server.port), "--host", ipv6_loopback, "--host", "127.0.0.1")
    assert ran.returncode == 1
    assert f"127.0.0.1:{server.port}" in one_line(ran.stderr)
    assert "listening" not in ran.stderr.split()


def test_address_of_another_machine() -> None:
    """An address that is not this machine's is named, in one line, and the exit code is 1."""
    ran = run_to_end("--port", "0", "--host", "192.0.2.1", "--protected-mode", "false")
    assert ran.returncode == 1
    assert "192.0.2.1" in one_line(ran.stderr)


def test_port_is_free_again_at_once(start_server: StartServer) -> None:
    """A server can be started on the port of one that has just stopped, though connections to that one linger."""
    first = start_server()
    client = first.connect()
    assert client.ask("PING") == PONG
    assert first.stop() == 0  # the server closes first, so its side is in TIME_WAIT
    client.close()
    second = start_server("--port", str(first.port))
    assert second.connect().ask("PING") == PONG


BAD_SETTINGS = {
    "port-text": (["--port", "abc"], ["port", "abc", "--port", "65535"]),
    "port-above": (["--port", "65536"], ["port", "65536", "--port", "65535"]),
    "zero-clients": (["--max-clients", "0"], ["max_clients", "0", "--max-clients", "1"]),
    "unit": (["--max-key-bytes", "1 parsec"], ["max_key_bytes", "1 parsec", "--max-key-bytes", "GiB"]),
    "not-a-number": (["--idle-timeout-s", "nan"], ["idle_timeout_s", "nan", "--idle-timeout-s"]),
    "negative-time": (["--drain-timeout-s", "-0.1"], ["drain_timeout_s", "-0.1", "--drain-timeout-s"]),
    "log-level": (["--log-level", "loud"], ["log_level", "loud", "--log-level", "debug", "critical"]),
    "no-host": (["--host", ""], ["host", "--host"]),
    "no-file": (["--config", "/nowhere/kvs.toml"], ["/nowhere/kvs.toml"]),
}


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_bad_flag(case: str) -> None:
    """A bad setting gets one line with its name, its value, where it came from and what is allowed, and code 2."""
    flags, said = BAD_SETTINGS[case]
    ran = run_to_end(*(() if "--port" in flags else ("--port", "0")), *flags)
    assert ran.returncode == 2
    line = one_line(ran.stderr)
    for word in said:
        assert word in line


def test_bad_environment_variable() -> None:
    """A bad value from the environment names its variable."""
    ran = run_to_end("--port", "0", env={"KVS_MAX_CLIENTS": "many"})
    assert ran.returncode == 2
    line = one_line(ran.stderr)
    for word in ("max_clients", "many", "KVS_MAX_CLIENTS", "1000000"):
        assert word in line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('max_clients = "many"', ["max_clients", "many", "1000000"]),
        ("max_clients = true", ["max_clients", "1000000"]),
        ("max_cleints = 5", ["max_cleints", "max_clients"]),
        ("max_clients = = 5", ["TOML"]),
        ("[server]\nport = 5", ["server"]),
    ],
)
def test_bad_file(tmp_path: Path, text: str, said: list[str]) -> None:
    """A bad file, or a bad value in it, names the file."""
    file = tmp_path / "kvs.toml"
    file.write_text(text, encoding="utf-8")
    ran = run_to_end("--port", "0", env={"KVS_CONFIG": str(file)})
    assert ran.returncode == 2
    line = one_line(ran.stderr)
    for word in (*said, str(file)):
        assert word in line


@pytest.mark.parametrize("arguments", [["--prot", "0"], ["srve"], ["--port"], ["config", "--prot", "0"]])
def test_bad_usage(arguments: list[str]) -> None:
    """What the command line does not know gets one line that names it, and code 2."""
    ran = run_to_end(*arguments)
    assert ran.returncode == 2
    assert arguments[-1 if len(arguments) == 1 else -2] in one_line(ran.stderr)


def test_version() -> None:
    """The version goes to standard output, with code 0."""
    ran = run_to_end("--version")
    assert ran.returncode == 0
    assert ran.stdout.startswith("kvs ")
    assert not ran.stderr


def test_the_port_that_was_free_is_told_in_resp(start_server: StartServer) -> None:
    """CONFIG GET tells where the server listens, not what was asked for."""
    server = start_server("--port", "0")
    with RespClient(server.host, server.port, 1 << 20) as client:
        assert client.ask(b"CONFIG", b"GET", b"port") == [b"port", b"%d" % server.port]


def test_it_imports_nothing_only_because_it_is_there(tmp_path: Path, start_server: StartServer) -> None:
    """Packages that the libraries of kvs import where they find them would end this server."""
    for name in UNWANTED:
        (tmp_path / f"{name}.py").write_text("raise SystemExit(__name__)\n", encoding="ascii")
    assert start_server(env={"PYTHONPATH": str(tmp_path)}).connect().ask("PING") == PONG

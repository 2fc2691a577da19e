"""How commands get at a server: at a port or a socket, in TLS, and whether it is well."""

import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.harness import PONG, TIMEOUT_S, Server
from tests.support.launcher import KVS, environment
from tests.support.secured import server_files, server_flags

pytestmark = pytest.mark.one_build

CERTS = server_files()


def kvs(*arguments: str, data: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command of kvs."""
    return subprocess.run(
        [*KVS, *arguments],
        env=environment(),
        input=data,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def test_commands_get_at_a_server(tmp_path: Path) -> None:
    """At a socket, and in TLS with a certificate of their own; health checks likewise."""
    path = tmp_path / "kvs.sock"
    certs = ("--tls-ca-file", CERTS.ca_file, "--tls-client-certs", "required", "--tls-required", "true")
    with Server(*server_flags(), *certs, "--unix-socket", str(path)) as server:
        port = ("--port", str(server.port))
        shown = ("--tls-ca-file", CERTS.ca_file, "--tls-cert-file", CERTS.cert_file, "--tls-key-file", CERTS.key_file)
        loaded = kvs("load", "--unix-socket", str(path), data='{"key": "a", "value": "1"}')
        assert (loaded.returncode, loaded.stderr) == (0, "kvs: loaded 1 entry\n")
        assert '"key":"a"' in kvs("dump", *port, *shown).stdout.replace(" ", "")
        assert kvs("ping", "--unix-socket", str(path)).stdout == "PONG\n"
        assert kvs("ping", *port, *shown).returncode == 0
        for flags, words in (
            (port, "TLS"),
            ((*port, "--tls"), "certificate verify failed"),
            ((*port, "--host", "localhost", *shown), "certificate"),
        ):
            failed = kvs("ping", *flags, "--timeout-s", str(TIMEOUT_S / 4))
            assert failed.returncode in (1, 3)
            assert words in failed.stderr
        server.stop()
    assert kvs("ping", *port).returncode == 1
    assert kvs("ping", "--port", "0").returncode == 2
    assert kvs("ping", "--unix-socket", str(path), *port).returncode == 2
    assert kvs("ping", "--unix-socket", str(path), "--tls").returncode == 2
    assert kvs("dump", "--data-dir", str(tmp_path), "--tls").returncode == 2


def test_a_server_that_is_full_or_silent_is_not_well(tmp_path: Path) -> None:
    """Each has an exit code."""
    with Server("--max-clients", "1") as server:
        first = server.connect()
        assert first.ask("PING") == PONG
        full = kvs("ping", "--port", str(server.port))
        assert full.returncode == 3
        assert "max_clients" in full.stderr
    password = tmp_path / "password"
    password.write_text("secret")
    with Server("--password-file", str(password)) as server:
        port = str(server.port)
        assert kvs("ping", "--port", port).returncode == 0  # it is well, and asks for a secret
        assert kvs("ping", "--port", port, "--password-file", str(password)).stdout == "PONG\n"
        password.write_text("another")
        refused = kvs("ping", "--port", port, "--password-file", str(password))
        assert (refused.returncode, refused.stdout) == (3, "")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = str(silent.getsockname()[1])
        assert kvs("ping", "--port", port, "--timeout-s", "0.1").returncode == 1

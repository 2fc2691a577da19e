"""The set-up of three machines that ``docs/cluster.md`` describes, word by word: three addresses of loopback."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from tests.documents.markdown import document
from tests.support.etcd import free_ports, need_etcd
from tests.support.harness import Server
from tests.support.waiting import TIMEOUT_S, polling

pytestmark = pytest.mark.one_build

MACHINES: Final = (1, 2, 3)
SECTION: Final = "Set up three machines"
DOCUMENTED: Final = {
    *("ETCD_NAME", "ETCD_LISTEN_CLIENT_URLS", "ETCD_ADVERTISE_CLIENT_URLS", "ETCD_LISTEN_PEER_URLS"),
    *("ETCD_INITIAL_ADVERTISE_PEER_URLS", "ETCD_INITIAL_CLUSTER", "ETCD_CLIENT_CERT_AUTH", "ETCD_TRUSTED_CA_FILE"),
    *("ETCD_CERT_FILE", "ETCD_KEY_FILE", "ETCD_PEER_CLIENT_CERT_AUTH", "ETCD_PEER_TRUSTED_CA_FILE"),
    *("ETCD_PEER_CERT_FILE", "ETCD_PEER_KEY_FILE"),
}
"""Variables of etcd that the document has."""


class Machines:
    """Three addresses of loopback with a directory each, in place of those of the document.

    Args:
        directory: For theirs.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.client_port, self._peer_port, self.port = free_ports(3)
        authority, wish, certificate, self._etcd, self._kvs = [
            part
            for block in document("docs/cluster.md").blocks
            if block.section == SECTION
            for part in (block.lines if "openssl" in block.text else (block.text,))
        ]
        self._run(authority, directory)
        for number in MACHINES:
            (directory / str(number)).mkdir()
            self._run(self.of(number, wish), directory)
            self._run(certificate, directory)
            for name in ("ca.pem", "server.pem", "server.key"):
                (directory / str(number) / name).write_bytes((directory / name).read_bytes())
            (directory / str(number) / "server.key").chmod(0o600)
            (directory / str(number) / "password").write_text("secret\n", encoding="ascii")
            (directory / str(number) / "password").chmod(0o600)

    def of(self, number: int, text: str) -> str:
        """Return text of the document, which is about the first machine, for one of them."""
        text = text.replace("ETCD_INITIAL_CLUSTER=", "ETCD_INITIAL_CLUSTER=\0").replace(
            "endpoints = ", "endpoints = \0"
        )
        lines = [
            line.replace("\0", "") if "\0" in line else line.replace("10.0.0.1", f"10.0.0.{number}")
            for line in text.split("\n")
        ]
        text = "\n".join(lines).replace("10.0.0.", "127.0.0.").replace("/etc/kvs", str(self._directory / str(number)))
        ports = {":2379": f":{self.client_port}", ":2380": f":{self._peer_port}"}
        return re.sub(r":23(79|80)\b", lambda found: ports[found[0]], text)  # at once: a port may begin with another

    def etcd(self, number: int) -> dict[str, str]:
        """Return the environment of a member."""
        variables = dict(line.split("=", 1) for line in self.of(number, self._etcd).splitlines())
        assert variables.keys() == DOCUMENTED
        return variables

    def kvs(self, number: int) -> Path:
        """Return the file of a server."""
        path = self._directory / str(number) / "kvs.toml"
        path.write_text(self.of(number, self._kvs), encoding="utf-8")
        return path

    def client(self, number: int, **options: Any) -> Any:
        """Return a redis-py client of a server, with TLS."""
        make: Any = Redis
        options = {"ssl": True, "ssl_ca_certs": str(self._directory / "ca.pem"), "password": "secret"} | options
        return make(host=f"127.0.0.{number}", port=self.port, socket_timeout=TIMEOUT_S, **options)

    @staticmethod
    def _run(command: str, directory: Path) -> None:
        subprocess.run(shlex.split(command), cwd=directory, capture_output=True, check=True, timeout=TIMEOUT_S)


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    """Yield machines on which everything has been started."""
    need_etcd()
    machines = Machines(tmp_path)
    with ExitStack() as stack:
        for number in MACHINES:
            directory = tmp_path / str(number)
            with (directory / "etcd.log").open("wb") as log:
                member = subprocess.Popen(
                    ["etcd", "--data-dir", str(directory / "etcd")],
                    env={"PATH": "/usr/bin:/bin"} | machines.etcd(number),
                    stdout=log,
                    stderr=log,
                )
            stack.callback(member.wait)
            stack.callback(member.kill)
        for number in MACHINES:
            flags = ("--config", str(machines.kvs(number)), "--port", str(machines.port))
            server = stack.enter_context(Server(*flags, listens=False))
            assert server.wait_for_any(("listening", "standby"))
        yield machines


def test_every_machine_serves_the_same_data(machines: Machines, tmp_path: Path) -> None:
    """Encrypted, to those that know the password; and the command that shows the cluster shows all of it."""
    for number in MACHINES:
        with closing(machines.client(number)) as client:
            assert client.incr("machines") == number
    with closing(machines.client(1, ssl=False)) as client, pytest.raises(ResponseError, match="TLS only"):
        client.ping()
    command = [sys.executable, "-m", "kvs", "cluster", "status", "--config", str(machines.kvs(1))]
    for _ in polling("all servers are registered"):
        shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=TIMEOUT_S).stdout
        if all(f"127.0.0.{number}:{machines.port}" in shown for number in MACHINES):
            break
    assert len(re.findall(rf"127\.0\.0\.\d:{machines.client_port}", shown)) >= len(MACHINES)

"""Starts real clusters of etcd on loopback, whose members can be killed, stopped and restarted."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Final

import pytest

from kvs.adapters.storage.etcd.client.endpoints import Endpoint, tls_context
from kvs.adapters.storage.etcd.client.errors import EtcdError
from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.client.wire import bytes_field, number_field
from kvs.override import override
from tests.support.launcher import Event, LoggedProcess
from tests.support.waiting import polling

HOST: Final = "127.0.0.1"
SERVING: Final = ("serving client traffic insecurely; this is strongly discouraged!", "serving client traffic securely")
"""What a member logs when it serves: there is a leader, and the member has told the others of itself."""

HEARTBEAT_MS: Final = 100
ELECTION_MS: Final = 1000
"""etcd's defaults. Shorter ones elect anew when the machine is busy."""

PORTS: Final = range(15000, 32000)
"""Below those that the kernel gives to outgoing connections: a member that restarts finds its own free."""

MEMORY: Final = Path("/dev/shm")  # noqa: S108 - not a name, but a file system
MEMORY_BYTES: Final = 1 << 30
"""A member allocates 128 MB for its log at once; where there is that much memory, its fsync takes no time."""

ROOT_PASSWORD: Final = "root's password"  # noqa: S105

shared: Final = ExitStack()
"""What lasts until the tests end, and is closed then."""

_random: Final = Random()


def why_missing(*others: str) -> str:
    """Return why there can be no cluster, or not what needs other programs; nothing if there can."""
    missing = [program for program in ("etcd", "openssl", *others) if shutil.which(program) is None]
    return f"there is no {' and no '.join(missing)}" if missing else ""


def need_etcd(*others: str) -> None:
    """Skip where there is no etcd or another program, or fail if ``TEST_ETCD`` is ``required``."""
    reason = why_missing(*others)
    if reason and os.environ.get("TEST_ETCD") == "required":
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)


class Member(LoggedProcess):
    """A member of a cluster, and its process.

    Attributes:
        name: Its name.
        client_port: Where clients reach it.
        peer_port: Where the other members reach it.
        directory: Its data.
        endpoint: The same as ``client_port``, as the client has it.
        flags: What it was started with.
    """

    def __init__(self, name: str, directory: Path, client_port: int, peer_port: int) -> None:
        self.name = name
        self.client_port = client_port
        self.peer_port = peer_port
        self.directory = directory
        self.endpoint = Endpoint(HOST, client_port)
        self.flags: list[str] = []
        self._paused = False

    def launch(self, flags: Sequence[str]) -> None:
        """Start it with these flags."""
        self.flags = list(flags)
        self._paused = False
        super().__init__(["etcd", *flags], env={"ETCD_UNSUPPORTED_ARCH": os.uname().machine})
        self.start()

    def wait_serving(self) -> bool:
        """Wait until it serves; return whether it does: it may have found its ports taken."""
        return self.wait_for_any(SERVING) is not None

    def pause(self) -> None:
        """Stop it, as a machine does that swaps or is suspended: its sockets stay open, and nobody answers."""
        if not self._paused:
            self._paused = True
            self.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, self.pid, os.WSTOPPED)  # each of its threads stops when it is looked at

    def resume(self) -> None:
        """Let it go on."""
        self._paused = False
        self.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Start it again, with its data, and wait until it serves."""
        self.end()
        self.launch(self.flags)
        assert self.wait_serving(), self.log.decode(errors="replace")

    @property
    def running(self) -> bool:
        """Whether it runs, as far as is known."""
        return self.exit_code is None

    @override
    def _event(self, line: Event) -> Event:
        return {**line, "event": line.get("msg", "")}


class Certificates:
    """A certificate authority of a test, with one certificate for members and one for clients."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.ca_file = self._make(
            "ca", [], "basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"
        )
        signed = ["-CA", str(self.ca_file), "-CAkey", str(directory / "ca.key")]
        leaf = ("basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature")
        # Both, as the gateway that a member keeps for HTTP calls itself with the certificate that it shows others.
        member = ("extendedKeyUsage=serverAuth,clientAuth", f"subjectAltName=IP:{HOST}")
        self.member_cert = self._make("member", signed, *leaf, *member)
        self.client_cert = self._make("client", signed, *leaf, "extendedKeyUsage=clientAuth")

    def key_of(self, certificate: Path) -> Path:
        """Return the key of a certificate."""
        return certificate.with_suffix(".key")

    def _make(self, name: str, signed: list[str], *extensions: str) -> Path:
        path = self.directory / f"{name}.pem"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-days", "2", "-subj", f"/CN=kvs-test-{name}", "-config", "/dev/null", *signed]
        command += ["-keyout", str(path.with_suffix(".key")), "-out", str(path)]
        for extension in extensions:
            command += ["-addext", extension]
        config = self.directory / "openssl.cnf"
        config.write_text("[req]\ndistinguished_name = name\n[name]\n", encoding="utf-8")
        command[command.index("/dev/null")] = str(config)
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr
        return path


class Cluster:
    """A cluster that runs.

    Attributes:
        members: Its members, in the order of their names.
        certificates: With which it is reached; None without TLS.
    """

    def __init__(self, members: list[Member], certificates: Certificates | None) -> None:
        self.members = members
        self.certificates = certificates

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Where its members are."""
        return tuple(member.endpoint for member in self.members)

    @property
    def addresses(self) -> str:
        """The same, as a setting."""
        return ",".join(str(endpoint) for endpoint in self.endpoints)

    def client(
        self,
        members: Sequence[Member] = (),
        *,
        user: str = "",
        password: str = "",
        with_certificate: bool = True,
        cluster_id: int = 0,
    ) -> EtcdClient:
        """Return a client of these members, or of all; the caller closes it."""
        secure = None
        certificates = self.certificates
        if certificates is not None:
            own = certificates.client_cert
            pair = (own, certificates.key_of(own)) if with_certificate else (None, None)
            secure = partial(tls_context, certificates.ca_file, *pair)
        endpoints = tuple(member.endpoint for member in members or self.members)
        return EtcdClient(endpoints, tls=secure, user=user, password=lambda: password, cluster_id=cluster_id)

    def leader(self) -> Member:
        """Return the member that leads, as soon as those that run agree on one that runs."""
        running = [member for member in self.members if member.running]
        client = self.client()
        try:
            for _ in polling("the members have a leader"):
                with suppress(EtcdError):
                    said = {member: client.status(member.endpoint) for member in running}
                    leaders = {status.leader for status in said.values()}
                    for member, status in said.items():
                        if leaders == {status.header.member_id}:
                            return member
        finally:
            client.close()
        raise AssertionError

    def followers(self) -> list[Member]:
        """Return the members that do not lead."""
        leader = self.leader()
        return [member for member in self.members if member is not leader]

    def wait_healthy(self) -> None:
        """Wait until every member that runs answers a linearizable read."""
        for member in self.members:
            if member.running:
                client = self.client([member])
                try:
                    for _ in polling(f"{member.name} answers reads"):
                        with suppress(EtcdError):
                            client.range(b"anything")
                            break
                finally:
                    client.close()

    def save(self, path: Path) -> None:
        """Save a snapshot, as an operator does."""
        etcdctl("--endpoints", str(self.members[0].endpoint), "snapshot", "save", str(path))

    def go_back(self, path: Path, token: str = "") -> None:
        """End all members, restore all from a snapshot, and start them; with another token it is another cluster."""
        for member in self.members:
            member.kill()
            member.end()
            shutil.rmtree(member.directory)
            said = dict(flag[2:].split("=", 1) for flag in member.flags if "=" in flag)
            if token:
                said["initial-cluster-token"] = token
            kept = ("name", "data-dir", "initial-cluster", "initial-cluster-token")
            flags = [f"--{name}={said[name]}" for name in kept]
            peer_url = said["initial-advertise-peer-urls"]
            etcdctl("snapshot", "restore", str(path), *flags, f"--initial-advertise-peer-urls={peer_url}")
        for member in self.members:
            member.launch(member.flags)
        assert all(member.wait_serving() for member in self.members)

    def repair(self) -> None:
        """Start again who has ended, continue who was stopped, and wait until all serve."""
        for member in self.members:
            if member.running:
                member.resume()
        for member in self.members:
            if not member.running:
                member.restart()
        self.wait_healthy()

    @contextmanager
    def lent(self) -> Iterator["Cluster"]:
        """Lend it to a test that may break it: all members serve when it begins, and none is left stopped."""
        self.repair()
        yield self
        for member in self.members:
            if member.running:
                member.resume()

    def enable_auth(self, users: dict[str, str]) -> None:
        """Turn authentication on; each of these users, by name and password, may do everything, as may ``root``."""
        client = self.client()
        try:
            call_admin(client, "UserAdd", bytes_field(1, b"root") + bytes_field(2, ROOT_PASSWORD.encode()))
            call_admin(client, "UserGrantRole", bytes_field(1, b"root") + bytes_field(2, b"root"))
            for name, password in users.items():
                call_admin(client, "UserAdd", bytes_field(1, name.encode()) + bytes_field(2, password.encode()))
                call_admin(client, "UserGrantRole", bytes_field(1, name.encode()) + bytes_field(2, b"root"))
            call_admin(client, "AuthEnable", b"")
        finally:
            client.close()


def etcdctl(*arguments: str) -> None:
    """Run what operators use."""
    done = subprocess.run(["etcdctl", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def call_admin(client: EtcdClient, method: str, message: bytes) -> bytes:
    """Make one of the calls that only administrators make, such as ``UserAdd``."""
    return client._wait(f"/etcdserverpb.Auth/{method}", [message], 10.0, lambda answer: answer)


def read_only_role(client: EtcdClient, user: str, password: str, prefix: bytes) -> None:
    """Make a user who may read what begins with a prefix, and nothing else."""
    call_admin(client, "UserAdd", bytes_field(1, user.encode()) + bytes_field(2, password.encode()))
    call_admin(client, "RoleAdd", bytes_field(1, user.encode()))
    permission = number_field(1, 0) + bytes_field(2, prefix) + bytes_field(3, prefix + b"\xff")
    call_admin(client, "RoleGrantPermission", bytes_field(1, user.encode()) + bytes_field(2, permission))
    call_admin(client, "UserGrantRole", bytes_field(1, user.encode()) + bytes_field(2, user.encode()))


@contextmanager
def running_cluster(
    size: int = 1, *, tls: bool = False, flags: Sequence[str] = (), durable: bool = False
) -> Iterator[Cluster]:
    """Start a cluster, and end it.

    Args:
        size: The number of members.
        tls: Clients need a certificate, and so do members.
        flags: More flags for each member.
        durable: Its data are on a disk, not in memory.
    """
    with _directory(size, durable=durable) as directory:
        certificates = Certificates(directory / "certificates") if tls else None
        members: list[Member] = []
        try:
            for _ in range(5):  # until the ports that were free are still so when they are taken
                members[:] = _launch(directory, size, certificates, flags)
                serving = [member.wait_serving() for member in members]
                if all(serving):
                    break
                taken = [member for member in members if b"address already in use" in member.log]
                assert taken, b"\n".join(member.log for member in members).decode(errors="replace")
                _end(members)
            yield Cluster(members, certificates)
        finally:
            _end(members)


@cache
def shared_cluster() -> Cluster:
    """Return a cluster of one member that lasts until the tests end, for servers with namespaces of their own."""
    need_etcd()
    return shared.enter_context(running_cluster())


def _launch(directory: Path, size: int, certificates: Certificates | None, flags: Sequence[str]) -> list[Member]:
    ports = free_ports(2 * size)
    scheme = "http" if certificates is None else "https"
    members = [
        Member(f"m{number}", directory / f"m{number}", ports[2 * number], ports[2 * number + 1])
        for number in range(size)
    ]
    peers = ",".join(f"{member.name}={scheme}://{HOST}:{member.peer_port}" for member in members)
    for member in members:
        shutil.rmtree(member.directory, ignore_errors=True)
        client_url = f"{scheme}://{HOST}:{member.client_port}"
        peer_url = f"{scheme}://{HOST}:{member.peer_port}"
        said = {
            "name": member.name,
            "data-dir": str(member.directory),
            "listen-client-urls": client_url,
            "advertise-client-urls": client_url,
            "listen-peer-urls": peer_url,
            "initial-advertise-peer-urls": peer_url,
            "initial-cluster": peers,
            "initial-cluster-token": directory.name,
            "heartbeat-interval": str(HEARTBEAT_MS),
            "election-timeout": str(ELECTION_MS),
            "logger": "zap",
            "log-outputs": "stderr",
        }
        if certificates is not None:
            own = certificates.member_cert
            for prefix in ("", "peer-"):
                said[f"{prefix}cert-file"] = str(own)
                said[f"{prefix}key-file"] = str(certificates.key_of(own))
                said[f"{prefix}trusted-ca-file"] = str(certificates.ca_file)
                said[f"{prefix}client-cert-auth"] = "true"
        member.launch([f"--{name}={value}" for name, value in said.items()] + list(flags))
    return members


def _end(members: list[Member]) -> None:
    for member in members:
        if member.running:
            member.kill()
    for member in members:
        member.end()


@contextmanager
def _directory(size: int, *, durable: bool) -> Iterator[Path]:
    parent: Path | None = None
    if not durable and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= size * MEMORY_BYTES:
        parent = MEMORY
    with tempfile.TemporaryDirectory(prefix="kvs-etcd-", dir=parent, ignore_cleanup_errors=True) as name:
        yield Path(name)


def free_ports(count: int) -> list[int]:
    """Return ports of loopback that nobody listens at."""
    found: list[int] = []
    while len(found) < count:
        port = _random.choice(PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                probe.bind((HOST, port))
                if port not in found:
                    found.append(port)
    return found


def free_block(count: int) -> int:
    """Return the first of so many ports of loopback in a row that nobody listens at."""
    while True:
        first = _random.choice(PORTS)
        with ExitStack() as stack, suppress(OSError):
            for port in range(first, first + count):
                probe = stack.enter_context(socket.socket())
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((HOST, port))
            return first


@contextmanager
def closing(make: Callable[[], EtcdClient]) -> Iterator[EtcdClient]:
    """Return a client that is closed at the end."""
    client = make()
    try:
        yield client
    finally:
        client.close()

"""Servers whose access to etcd is refused for a while, or whose secrets are replaced."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, suppress
from itertools import count
from pathlib import Path
from typing import Final

import pytest

from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.client.wire import bytes_field
from tests.support.etcd import ROOT_PASSWORD, Certificates, Cluster, call_admin, need_etcd, running_cluster
from tests.support.etcd import closing as closing_client
from tests.support.etcd_server import EtcdServer
from tests.support.waiting import polling

_numbers: Final = count()

PASSWORD: Final = "first"  # noqa: S105
OTHER_PASSWORD: Final = "second"  # noqa: S105


OWN_FILES: Final = {"ca": "ca.pem", "cert": "client.pem", "key": "client.key"}


@pytest.fixture(scope="module")
def guarded() -> Iterator[Cluster]:
    """Return a member that wants to know who calls."""
    need_etcd()
    with running_cluster(flags=["--bcrypt-cost", "4"]) as cluster:
        cluster.enable_auth({"app": PASSWORD})
        yield cluster


@pytest.fixture
def root(guarded: Cluster) -> Iterator[EtcdClient]:
    """Return a client that may change who may do what."""
    with closing_client(lambda: guarded.client(user="root", password=ROOT_PASSWORD)) as made:
        yield made


@pytest.fixture
def namespace() -> str:
    """Return a namespace that no other test uses."""
    return f"access-{next(_numbers)}"


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    """Return a file with the password of the servers' user."""
    path = tmp_path / "password"
    path.write_text(PASSWORD)
    return path


def role(root: EtcdClient, method: str) -> None:
    """Give the servers' user all rights, or take them."""
    call_admin(root, method, bytes_field(1, b"app") + bytes_field(2, b"root"))


def leader_and_standby(
    stack: ExitStack, cluster: Cluster, namespace: str, options: list[str]
) -> tuple[EtcdServer, EtcdServer]:
    """Start two servers, one after the other."""
    first, second = (EtcdServer(cluster, namespace, options=options) for _ in range(2))
    assert stack.enter_context(first).leads()
    stack.enter_context(second).stands_by()
    return first, second


def wait_until_served(server: EtcdServer) -> None:
    """Wait until a server, which has never ended, serves its clients: it leads, or reaches the leader."""
    for _ in polling("clients are served"):
        with closing(server.connect()) as client, suppress(ConnectionError):
            client.send("PUT served 1")
            if b'"Ok"' in client.raw_reply():
                return


def test_a_leader_that_is_refused_for_a_while_leads_again(
    guarded: Cluster, root: EtcdClient, namespace: str, password_file: Path
) -> None:
    """It stands by meanwhile, and so does a standby; a server that starts then ends."""
    options = ["user=app", f"password_file={password_file}", "commit_timeout_s=1"]
    with ExitStack() as stack:
        leader, standby = leader_and_standby(stack, guarded, namespace, options)
        role(root, "UserRevokeRole")
        try:
            with closing(leader.connect()) as client:
                assert client.ask("PUT key value")["code"] == "outcome_unknown"
            for server in (leader, standby):
                assert "permission denied" in server.wait_for("etcd_unavailable")["reason"]
            with EtcdServer(guarded, namespace, options=options) as late:
                assert late.wait_exit() == 1
                assert "permission denied" in late.other_lines[0]
        finally:
            role(root, "UserGrantRole")
        for server in (leader, standby):
            wait_until_served(server)


def change_password(root: EtcdClient, path: Path, password: str, order: str) -> None:
    """Give the servers' user another password, in etcd and in the file."""
    if order == "file first":
        path.write_text(password)
    call_admin(root, "UserChangePassword", bytes_field(1, b"app") + bytes_field(2, password.encode()))
    path.write_text(password)


def wait_until_both_have_led(servers: tuple[EtcdServer, EtcdServer]) -> None:
    """Wait until one of them leads; end it, and see the other one lead: so each of them reaches etcd."""
    leader = leader_of(servers)
    assert leader.stop() == 0
    leader_of([server for server in servers if server is not leader])


def leader_of(servers: Iterable[EtcdServer]) -> EtcdServer:
    """Wait until one of them leads, and return it."""
    for _ in polling("a server leads"):
        for server in servers:
            if server.term:
                return server
    raise AssertionError


@pytest.mark.parametrize("order", ["etcd first", "file first"])
def test_a_password_is_replaced_while_servers_run(
    guarded: Cluster, root: EtcdClient, namespace: str, password_file: Path, order: str
) -> None:
    """At the leader and at the standby, without a signal; etcd has ended all tokens of the user."""
    options = ["user=app", f"password_file={password_file}", "commit_timeout_s=1"]
    with ExitStack() as stack:
        servers = leader_and_standby(stack, guarded, namespace, options)
        try:
            change_password(root, password_file, OTHER_PASSWORD, order)
            for server in servers:
                wait_until_served(server)
            wait_until_both_have_led(servers)
        finally:
            change_password(root, password_file, PASSWORD, order)


@pytest.mark.parametrize("order", ["etcd first", "files first"])
def test_certificates_of_another_authority_are_taken_while_servers_run(
    namespace: str, tmp_path: Path, order: str
) -> None:
    """At the leader and at the standby: the authority that they trust, and what they show to etcd."""
    need_etcd()
    own = tmp_path / "own"
    names = [f"{name}_file={own / file}" for name, file in OWN_FILES.items()]
    with running_cluster(tls=True) as cluster, ExitStack() as stack:
        old = cluster.certificates
        assert old is not None
        shutil.copytree(old.directory, own)
        new = Certificates(tmp_path / "new")
        servers = leader_and_standby(stack, cluster, namespace, [*names, "commit_timeout_s=1"])
        if order == "files first":
            shutil.copytree(new.directory, own, dirs_exist_ok=True)
        member = cluster.members[0]
        member.kill()
        shutil.copytree(new.directory, old.directory, dirs_exist_ok=True)
        member.restart()
        if order == "etcd first":
            servers[1].wait_for("etcd_unavailable")
            shutil.copytree(new.directory, own, dirs_exist_ok=True)
        for server in servers:
            wait_until_served(server)
        wait_until_both_have_led(servers)

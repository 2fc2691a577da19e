"""Users, TLS and the admin port of servers that change their roles without restarting."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.support.admin import Admin, bearer, token_file
from tests.support.etcd import HOST, Cluster
from tests.support.etcd_server import EtcdServer, vacate
from tests.support.resp_wire import request
from tests.support.secured import SERVER_NAME, client_side, server_files, server_flags
from tests.support.waiting import TIMEOUT_S, polling

NAMESPACE = "exposed"
QUIT = request("QUIT")


def talk(server: EtcdServer, *requests: bytes) -> bytes:
    """Return all that a new client in TLS is answered, up to the end."""
    sock = socket.create_connection((HOST, server.port), TIMEOUT_S)
    received = bytearray()
    with client_side().wrap_socket(sock, server_hostname=SERVER_NAME) as client, suppress(ConnectionError):
        client.sendall(b"".join(requests) + QUIT)
        while data := client.recv(1 << 16):
            received += data
    return bytes(received)


def auth(user: str, secret: str) -> bytes:
    """Return the request."""
    return request("AUTH", user, secret)


@contextmanager
def exposed(cluster: Cluster, directory: Path) -> Iterator[EtcdServer]:
    """Run a server with everything."""
    password = directory / "password"
    password.touch(0o600)
    password.write_text("secret")
    with EtcdServer(
        cluster,
        NAMESPACE,
        *(*server_flags(), "--tls-required", "true", "--password-file", str(password)),
        *("--tls-ca-file", server_files().ca_file),
        *("--admin-port", "0", "--admin-token-file", token_file(directory)),
    ) as server:
        yield server


def roles(admins: list[Admin]) -> list[float]:
    """Return of each server whether it leads, as its admin port tells."""
    return [admin.metrics(bearer())["kvs_leads"] for admin in admins]


def test_roles_change_and_what_is_exposed_stays(single: Cluster, tmp_path: Path) -> None:
    """Users who are changed while a server does not run count there when it does, in either role; and so on, thrice."""
    with ExitStack() as stack:
        first = stack.enter_context(exposed(single, tmp_path))
        assert first.leads()
        second = stack.enter_context(exposed(single, tmp_path))
        second.stands_by()
        admins = [Admin(server, client_side()) for server in (first, second)]
        grants = ("+@read", "+@write", "+@connection", "~tom:*")
        leader, standby = first, second
        for turn in range(3):
            user = f"tom-{turn}"
            said = talk(standby, auth("default", "secret"), request("ACL", "SETUSER", user, "on", ">tomato", *grants))
            assert said.startswith(b"+OK\r\n+OK\r\n")
            for _ in polling("the user counts at the other, which may have taken the lead meanwhile"):
                said = talk(leader, auth(user, "tomato"), request("SET", "tom:1", str(turn)), request("GET", "other"))
                if not said.startswith(b"-WRONGPASS"):
                    break
            assert said.startswith(b"+OK\r\n+OK\r\n-NOPERM")
            lost = len(leader.events("lead_lost"))
            vacate(single, NAMESPACE)
            for _ in polling("the other leads, and this one stands by"):
                if len(leader.events("lead_lost")) > lost and sorted(roles(admins)) == [0, 1]:
                    break
            if roles(admins)[0 if leader is first else 1] == 0:
                leader, standby = standby, leader
            for server in (leader, standby):
                said = talk(server, auth(user, "tomato"), request("GET", "tom:1"), request("DBSIZE"))
                assert said.startswith(b"+OK\r\n$1\r\n%d\r\n-NOPERM" % turn)
                assert talk(server, request("GET", "tom:1")).startswith(b"-NOAUTH")
                assert b"-WRONGPASS" in talk(server, auth(user, "potato"))
            assert all(admin.ask("/readyz").status == 200 for admin in admins)
            assert all(admin.ask("/metrics").status == 401 for admin in admins)

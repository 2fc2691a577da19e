"""Relays to a leader that requires TLS, with a certificate of its own for each server."""

import socket
import ssl
from contextlib import ExitStack
from typing import Final

from tests.support.etcd import HOST, Cluster
from tests.support.etcd_server import EtcdServer
from tests.support.secured import SERVER_NAME, client_side, server_files, server_flags
from tests.support.waiting import TIMEOUT_S, polling

REQUIRED: Final = ("--tls-required", "true")
VERIFIED: Final = ("--tls-ca-file", server_files().ca_file, "--tls-client-certs", "required")
LARGE: Final = b"x" * 300_000


def connect(server: EtcdServer) -> ssl.SSLSocket:
    """Return a client that shows a certificate."""
    sock = socket.create_connection((HOST, server.port), TIMEOUT_S)
    return client_side(shows_certificate=True).wrap_socket(sock, server_hostname=SERVER_NAME)


def talk(server: EtcdServer, said: bytes) -> bytes:
    """Return all that is answered, up to the end."""
    with connect(server) as client:
        client.sendall(said)
        received = bytearray()
        while data := client.recv(1 << 16):
            received += data
        return bytes(received)


def test_relayed_in_tls(single: Cluster) -> None:
    """Much goes both ways, and the leader knows the client's address and shows no certificate of the standby's."""
    flags = (*server_flags(), *REQUIRED, *VERIFIED)
    with ExitStack() as stack:
        leader = stack.enter_context(EtcdServer(single, "secured-relays", *flags))
        assert leader.leads()
        standby = stack.enter_context(EtcdServer(single, "secured-relays", *flags))
        standby.stands_by()
        answers = talk(standby, b"".join(b"PUT k%d %b\nGET k%d\n" % (at, LARGE, at) for at in range(20)) + b"EXIT\n")
        assert answers.count(LARGE) == 20
        relayed = standby.wait_for("client_relayed")
        assert leader.wait_for("client_disconnected", peer=relayed["peer"])["commands"] == 41
        assert talk(leader, b"COUNT\nEXIT\n").startswith(b'{"status": "Ok", "result": 20}\n')


def test_a_leader_that_is_not_to_be_trusted(single: Cluster) -> None:
    """Is not relayed to: its certificate is of an authority that the standby does not know."""
    with ExitStack() as stack:
        leader = stack.enter_context(EtcdServer(single, "untrusted-leader", *server_flags(), *REQUIRED))
        assert leader.leads()
        standby = stack.enter_context(EtcdServer(single, "untrusted-leader", *server_flags()))
        standby.stands_by()
        for _ in polling("it is refused"):
            with connect(standby) as client:
                client.sendall(b"GET a\n")
                if b'"unavailable"' in client.recv(1000):
                    break
        assert "certificate verify failed" in standby.wait_for("leader_unreachable")["reason"]

"""Clients that come by a load balancer, which tells who they are: with TLS and without."""

import socket
import ssl

import pytest

from tests.support.harness import TIMEOUT_S, Client, Server
from tests.support.resp_wire import request
from tests.support.secured import SERVER_NAME, client_side, server_flags

from .conftest import StartServer, flags_of

HEADER = b"PROXY TCP4 192.0.2.1 192.0.2.2 1234 4000\r\n"
BINARY = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes([192, 0, 2, 1, 192, 0, 2, 2]) + b"\x04\xd2\x0f\xa0"


@pytest.fixture(scope="session", params=["default", pytest.param("asyncio", marks=pytest.mark.variant)])
def transport_flags(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Return the flags that choose the transport."""
    return flags_of(request.param)


@pytest.mark.parametrize("header", [HEADER, BINARY])
def test_the_address_is_the_one_in_the_header(start_server: StartServer, header: bytes) -> None:
    """In logs and in CLIENT LIST, in either protocol."""
    server = start_server("--proxy-protocol-from", "127.0.0.0/8")
    with Client(server.host, server.port) as client:
        client.send_raw(header + request("CLIENT", "LIST") + request("QUIT"))
        assert b" addr=192.0.2.1:1234 " in client.raw_rest()
        proxied = server.wait_for("client_proxied", peer="192.0.2.1:1234", balancer=client.name)
    assert server.wait_for("client_disconnected", peer="192.0.2.1:1234")["session"] == proxied["session"]


def test_before_tls(start_server: StartServer) -> None:
    """The header comes in plain text, and what is behind it is not."""
    server = start_server("--proxy-protocol-from", "127.0.0.1", *server_flags(), "--tls-required", "true")
    sock = socket.create_connection((server.host, server.port), TIMEOUT_S)
    sock.sendall(HEADER)
    with client_side().wrap_socket(sock, server_hostname=SERVER_NAME) as client:
        client.sendall(b"PING\nEXIT\n")
        assert b"PONG" in client.recv(1000)
    server.wait_for("client_disconnected", peer="192.0.2.1:1234", reason="EXIT")
    with pytest.raises((ssl.SSLError, OSError)):
        client_side().wrap_socket(
            socket.create_connection((server.host, server.port), TIMEOUT_S), server_hostname=SERVER_NAME
        )
    server.wait_for("client_not_secured", reason="no header of the PROXY protocol")


def test_who_has_no_header_is_refused(start_server: StartServer) -> None:
    """Where one must come, nothing else runs; where none may come, it is not believed."""
    server = start_server("--proxy-protocol-from", "127.0.0.0/8")
    with Client(server.host, server.port) as client:
        client.send_raw(b"PUT evil 1\n")
        assert client.raw_rest() == b""
    with Server() as other:
        client = other.connect()
        client.send_raw(HEADER + b"PUT evil 1\n")
        assert b"No header of the PROXY protocol is taken" in client.raw_rest()
        assert other.connect().get("evil") is None
        assert other.events("client_proxied") == []
    with Client(server.host, server.port) as client:
        client.send_raw(HEADER + b"COUNT\nEXIT\n")
        assert client.raw_rest().startswith(b'{"status": "Ok", "result": 0}\n')


@pytest.mark.parametrize("damaged", [BINARY[:12] + b"\x41" + BINARY[13:], BINARY[:15] + b"\x03" + BINARY[16:]])
def test_a_binary_header_that_is_none(start_server: StartServer, damaged: bytes) -> None:
    """Of another version, or too short for its addresses: nothing behind it is run, and no failed handshake counted."""
    server = start_server("--proxy-protocol-from", "127.0.0.0/8", *server_flags())
    with Client(server.host, server.port) as client:
        client.send_raw(damaged + b"PUT evil 1\n")
        assert client.raw_rest() == b""
    server.wait_for("client_not_secured", reason="malformed header of the PROXY protocol")
    with Client(server.host, server.port) as client:
        client.send_raw(BINARY + b"COUNT\nINFO\nEXIT\n")
        told = client.raw_rest()
        assert told.startswith(b'{"status": "Ok", "result": 0}\n')
        assert b'"tls_handshakes_failed": 0' in told

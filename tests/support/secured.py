"""Certificates for tests of TLS, and clients without sockets."""

import ssl
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

from kvs.adapters.inbound.net.certificates import TlsFiles
from kvs.adapters.inbound.net.guard import Guard
from kvs.adapters.inbound.net.tls import TlsStream
from tests.support.etcd import Certificates

SERVER_NAME: Final = "127.0.0.1"

_directory: Final = tempfile.TemporaryDirectory(prefix="kvs-test-tls-")


@cache
def certificates() -> Certificates:
    """Return an authority with a certificate for servers on loopback and one for clients; made once."""
    return Certificates(Path(_directory.name))


def server_files(client_certs: str = "off") -> TlsFiles:
    """Return the files of a server."""
    made = certificates()
    cert = made.member_cert
    return TlsFiles(str(cert), str(made.key_of(cert)), str(made.ca_file), client_certs)


def server_flags() -> tuple[str, ...]:
    """Return flags of a server that takes TLS."""
    files = server_files()
    return ("--tls-cert-file", files.cert_file, "--tls-key-file", files.key_file)


def client_side(*, shows_certificate: bool = False, protocols: tuple[str, ...] = ()) -> ssl.SSLContext:
    """Return how clients connect: they trust the authority."""
    made = certificates()
    context = ssl.create_default_context(cafile=str(made.ca_file))
    if shows_certificate:
        context.load_cert_chain(made.client_cert, made.key_of(made.client_cert))
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def pieces(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    """Cut bytes: the sizes are used in turn, again and again."""
    at = turn = 0
    while at < len(data):
        size = sizes[turn % len(sizes)] if sizes else len(data)
        yield data[at : at + size]
        at += size
        turn += 1


def shake_hands(client: TlsStream, guard: Guard, sizes: list[int], before: bytes = b"") -> bytes:
    """Do the handshake, cut into pieces of these sizes; return what the server has passed on meanwhile.

    Args:
        client: The client's end.
        guard: The server's end.
        sizes: Of the pieces, in either direction.
        before: What the client sends first.
    """
    passed = b""
    for _ in range(10):
        client.handshake()
        sealed, before = before + client.take_sealed(), b""
        for piece in pieces(sealed, sizes):
            passed += guard.receive(piece)
            if guard.waits:
                passed += guard.go_on()
            if guard.failure:
                return passed
        for piece in pieces(b"" if guard.tls is None else guard.tls.take_sealed(), sizes):
            client.feed(piece)
        if client.established and guard.open:
            return passed
        if client.failure:
            return passed
    raise AssertionError("the handshake does not end")

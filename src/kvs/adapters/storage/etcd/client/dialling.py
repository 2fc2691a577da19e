"""Connects to a member, without blocking: the caller chooses how to wait."""

import os
import select
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeAlias

from kvs.adapters.storage.etcd.client.endpoints import Endpoint

Await: TypeAlias = Callable[[socket.socket, int], None]
"""Returns when a socket is ready for these events of ``poll``; raises ``TimeoutError`` when it takes too long."""


def dial(endpoint: Endpoint, tls: ssl.SSLContext | None, begin: Callable[[], Await]) -> socket.socket:
    """Return a socket that is connected, does not block, and is secured if that is wanted.

    Names are looked up as the system does it, which may block for some seconds; each address of a name is tried.

    Args:
        endpoint: Where to.
        tls: How it is secured, if it is.
        begin: Called for each address; returns what waits for it.

    Raises:
        OSError: There is no connection, or the certificate is not to be trusted.
    """
    failure = OSError("the name has no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM):
        wait = begin()
        try:
            sock = _connect(socket.socket(family, kind, protocol), address, wait)
            if tls is not None:
                sock = _secure(sock, endpoint, tls, wait)
        except OSError as error:
            failure = error
        else:
            return sock
    raise failure


def _connect(sock: socket.socket, address: Any, wait: Await) -> socket.socket:
    try:
        sock.setblocking(False)  # noqa: FBT003 - its name
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        with suppress(BlockingIOError):
            sock.connect(address)
        wait(sock, select.POLLOUT)
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))
    except BaseException:
        sock.close()
        raise
    return sock


def _secure(sock: socket.socket, endpoint: Endpoint, tls: ssl.SSLContext, wait: Await) -> ssl.SSLSocket:
    secured = tls.wrap_socket(sock, server_hostname=endpoint.host, do_handshake_on_connect=False)
    try:
        while True:
            try:
                secured.do_handshake()
                break
            except ssl.SSLWantReadError:
                wait(secured, select.POLLIN)
            except ssl.SSLWantWriteError:
                wait(secured, select.POLLOUT)
        if secured.selected_alpn_protocol() != "h2":
            raise ConnectionError("the other end does not speak HTTP/2")
    except BaseException:
        secured.close()
        raise
    return secured

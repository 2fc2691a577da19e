"""Connects to a member, by steps none of which waits: a link says how to wait."""

import os
import select
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, TypeAlias, final

from kvs.adapters.storage.etcd.client.endpoints import Endpoint
from kvs.addresses import Address
from kvs.lookup import Found, Lookups

CONNECT_TIMEOUT_S: Final = 2.0
"""For looking up a name, and for each address of it."""

Sleep: TypeAlias = Callable[[socket.socket | None, int, float], bool]
"""Waits until a socket is ready for these events of ``poll``, a time, or a wake-up; returns whether it is ready."""

Secure: TypeAlias = Callable[[], ssl.SSLContext]
"""Returns how a connection is secured that is about to be made: with certificates as they are by then."""


@final
class Dialler:
    """Makes the connections of a link.

    Args:
        tls: Returns how a new one is secured; None: none is.
        sleep: Waits, and raises what ends the attempt.
        wake: Ends such a wait. By any thread.
    """

    def __init__(self, tls: Secure | None, sleep: Sleep, wake: Callable[[], None]) -> None:
        self._tls = tls
        self._sleep = sleep
        self._wake = wake
        self._lookups = Lookups()
        self._until_s = 0.0

    def dial(self, endpoint: Endpoint) -> socket.socket:
        """Return a socket that is connected, does not block, and is secured if that is wanted.

        Raises:
            OSError: There is no connection, or the certificate is not to be trusted.
        """
        failure = OSError("the name has no address")
        for family, kind, protocol, _, address in self._addresses(endpoint):
            self._until_s = time.monotonic() + CONNECT_TIMEOUT_S
            try:
                sock = self._connect(socket.socket(family, kind, protocol), address)
                return sock if self._tls is None else self._secure(sock, endpoint, self._tls())
            except OSError as error:
                failure = error
        raise failure

    def _addresses(self, endpoint: Endpoint) -> Sequence[Found]:
        """Return the addresses of a name, as the system looks it up. The next attempt goes on with what takes long."""
        found = self._lookups.begin(*endpoint)
        if not found.done():
            found.add_done_callback(lambda _: self._wake())
            self._until_s = time.monotonic() + CONNECT_TIMEOUT_S
            while not found.done():
                self._pause(None, 0, f"{endpoint.host} was not looked up in time")
        self._lookups.forget(*endpoint)
        return found.result()

    def _pause(self, sock: socket.socket | None, events: int, trouble: str) -> bool:
        ready = self._sleep(sock, events, self._until_s)
        if not ready and time.monotonic() >= self._until_s:
            raise TimeoutError(trouble)
        return ready

    def _wait(self, sock: socket.socket, events: int) -> None:
        while not self._pause(sock, events, "no connection in time"):
            pass

    def _connect(self, sock: socket.socket, address: Address) -> socket.socket:
        try:
            sock.setblocking(False)  # noqa: FBT003 - its name
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            with suppress(BlockingIOError):
                sock.connect(address)
            self._wait(sock, select.POLLOUT)
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise OSError(error, os.strerror(error))
        except BaseException:
            sock.close()
            raise
        return sock

    def _secure(self, sock: socket.socket, endpoint: Endpoint, tls: ssl.SSLContext) -> ssl.SSLSocket:
        secured = tls.wrap_socket(sock, server_hostname=endpoint.host, do_handshake_on_connect=False)
        try:
            while True:
                try:
                    secured.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    self._wait(secured, select.POLLIN)
                except ssl.SSLWantWriteError:
                    self._wait(secured, select.POLLOUT)
            if secured.selected_alpn_protocol() != "h2":
                raise ConnectionError("the other end does not speak HTTP/2")
        except BaseException:
            secured.close()
            raise
        return secured

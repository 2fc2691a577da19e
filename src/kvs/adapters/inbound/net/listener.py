"""Endpoints, their listening sockets, and the accept loop.

asyncio's server lacks two things: it cannot reply to a client that the server is full, and its ``wait_closed`` differs
between Python 3.11 and 3.13.
"""

import asyncio
import errno
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, final

from structlog.typing import FilteringBoundLogger

from kvs.adapters.inbound.protocol.connection import ConnectionFactory
from kvs.errors import CommandError

BACKLOG: Final = 4096
ACCEPTED_PER_TURN: Final = 64
"""Maximum number of clients accepted per wake-up, so that many new ones do not delay the others."""

LOG_AGAIN_S: Final = 60.0

_OUT_OF_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
WILDCARDS: Final = ("0.0.0.0", "::")

_NOT_HERE: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
_NOTHING_TO_ACCEPT: Final = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR})


Address: TypeAlias = tuple[Any, ...]
"""A socket's address: host and port, and for IPv6 the flow and the number of the interface."""

Accepted: TypeAlias = Callable[[socket.socket, str, ConnectionFactory], None]


class ListenError(CommandError):
    """Raised when an address cannot be listened on; the message names it."""


@dataclass(frozen=True)
class TcpEndpoint:
    """Addresses to listen on, and the factory of their connections.

    Attributes:
        hosts: Names or addresses to listen on.
        port: Port; 0 for any free one.
        connect: Opens the connection of an accepted client.
        bound: Called with the port as soon as it is bound.
        kept: Sockets that stay open when listening ends; None: none do.
    """

    hosts: tuple[str, ...]
    port: int
    connect: ConnectionFactory
    bound: Callable[[int], None]
    kept: "KeptSockets | None" = None

    def bind(self) -> list[socket.socket]:
        """Return bound sockets, one for each address of each host; with port 0 all of them share one free port.

        Addresses of a name that this machine does not have are skipped: ``localhost`` may have ``::1`` without IPv6. An
        address that several hosts share, or that another covers, is bound once.

        Raises:
            ListenError: An address is unknown, taken or forbidden.
        """
        sockets = _bind_all(self.hosts, self.port) if self.kept is None else self.kept.sockets()
        self.bound(sockets[0].getsockname()[1])
        return sockets

    def release(self) -> None:
        """Stop listening for good: no other server follows."""
        if self.kept is not None:
            self.kept.close()

    def set_up(self, sock: socket.socket) -> None:
        """Set the options of an accepted socket."""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


@final
class KeptSockets:
    """Listening sockets for several servers, one after the other: between them, clients wait in the kernel's backlog.

    Raises:
        ListenError: As :meth:`TcpEndpoint.bind`.
    """

    def __init__(self, hosts: tuple[str, ...], port: int) -> None:
        self._sockets = _bind_all(hosts, port)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the first."""
        address = self._sockets[0].getsockname()
        return format_host(address), address[1]

    def sockets(self) -> list[socket.socket]:
        """Return duplicates, which the caller closes."""
        return [sock.dup() for sock in self._sockets]

    def close(self) -> None:
        """Stop listening."""
        for sock in self._sockets:
            sock.close()


Endpoint: TypeAlias = TcpEndpoint
"""What a server can listen on."""


def _bind_all(hosts: tuple[str, ...], port: int) -> list[socket.socket]:
    wanted: dict[tuple[socket.AddressFamily, Address], list[str]] = {}
    for host in hosts:
        for found in _resolve(host, port):
            wanted.setdefault(found, []).append(host)
    wildcards = {(family, address[0]) for family, address in wanted if address[0] in WILDCARDS}
    sockets: list[socket.socket] = []
    bound: set[str] = set()
    refusals: dict[str, ListenError] = {}
    try:
        for (family, address), names in wanted.items():
            if not any(family == other and address[0] != wildcard for other, wildcard in wildcards):
                try:
                    sockets.append(_bind(family, address, port))
                except OSError as error:
                    refusal = _refusal(format_address(address, port), error)
                    if error.errno not in _NOT_HERE:
                        raise refusal from None
                    refusals.update((name, refusal) for name in names if name not in refusals)
                    continue
                port = port or sockets[-1].getsockname()[1]
            bound.update(names)
        for name, refusal in refusals.items():
            if name not in bound:
                raise refusal
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def format_address(address: Address, port: int | None = None) -> str:
    """Return an address as people write it."""
    host = format_host(address)
    port = address[1] if port is None else port
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def format_host(address: Address) -> str:
    """Return the host of an address, with the interface if the address is link-local."""
    host: str = address[0]
    if len(address) < 4 or not address[3] or "%" in host:
        return host
    try:
        return f"{host}%{socket.if_indextoname(address[3])}"
    except OSError:  # the interface was removed
        return f"{host}%{address[3]}"


def local_address_of(sock: socket.socket) -> str:
    """Return the local address of a connection; empty if it is closed."""
    try:
        name = sock.getsockname()
    except OSError:
        return ""
    return format_address(name)


def _bind(family: socket.AddressFamily, address: Address, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.settimeout(0)
        sock.bind((address[0], port, *address[2:]))
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _resolve(host: str, port: int) -> list[tuple[socket.AddressFamily, Address]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise _refusal(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", error) from None
    return [(family, address) for family, _, _, _, address in found]


def _refusal(name: str, error: Exception) -> ListenError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return ListenError(f"cannot listen on {name}: {reason.lower()}")


class Listener:
    """Accepts clients of all endpoints while it is not paused.

    Args:
        endpoints: Where to listen.
        accepted: Called with each accepted socket, the address of its peer, and the factory of its connection.
        retry_s: How long to wait when descriptors have run out.
        log: Bound logger.

    Raises:
        ListenError: An address is unknown, taken or forbidden.
    """

    def __init__(
        self, endpoints: Sequence[Endpoint], accepted: Accepted, retry_s: float, log: FilteringBoundLogger
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._accepted = accepted
        self._retry_s = retry_s
        self._log = log
        self._accepting = False
        self._retry: asyncio.TimerHandle | None = None
        self._logged_at_s = -LOG_AGAIN_S
        self._sockets: list[tuple[socket.socket, Endpoint]] = []
        try:
            for endpoint in endpoints:
                self._sockets += [(sock, endpoint) for sock in endpoint.bind()]
        except BaseException:
            self.close()
            raise

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of each socket, as bound."""
        addresses = [sock.getsockname() for sock, _ in self._sockets]
        return [(format_host(address), address[1]) for address in addresses]

    def resume(self) -> None:
        """Accept clients, if not yet."""
        if not self._accepting and self._sockets:
            self._accepting = True
            if self._retry is not None:
                self._retry.cancel()
                self._retry = None
            for sock, endpoint in self._sockets:
                self._loop.add_reader(sock, self._accept, sock, endpoint)

    def pause(self) -> None:
        """Leave new clients in the kernel's backlog until :meth:`resume`."""
        if self._accepting:
            self._accepting = False
            for sock, _ in self._sockets:
                self._loop.remove_reader(sock)

    def close(self) -> None:
        """Stop listening."""
        self.pause()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        for sock, _ in self._sockets:
            sock.close()
        self._sockets.clear()

    def _accept(self, listening: socket.socket, endpoint: Endpoint) -> None:
        for _ in range(ACCEPTED_PER_TURN):
            if not self._accepting:
                return
            try:
                sock, address = listening.accept()
            except OSError as error:
                if error.errno in _OUT_OF_RESOURCES:
                    self._wait(error)
                elif error.errno not in _NOTHING_TO_ACCEPT:
                    continue  # that client has disconnected; there may be others
                return
            try:
                sock.settimeout(0)
                endpoint.set_up(sock)
            except OSError:
                sock.close()
                continue
            self._accepted(sock, format_address(address), endpoint.connect)

    def _wait(self, error: OSError) -> None:
        """Pause for a while: the socket stays readable, and retrying at once would spin."""
        self.pause()
        self._retry = self._loop.call_later(self._retry_s, self.resume)
        now_s = self._loop.time()
        if now_s - self._logged_at_s >= LOG_AGAIN_S:
            self._logged_at_s = now_s
            self._log.error(
                "accept_failed", reason=error.strerror, retry_s=self._retry_s, logged_at_most_every_s=LOG_AGAIN_S
            )

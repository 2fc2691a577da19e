"""Endpoints, their listening sockets, and the accept loop.

asyncio's server lacks two things: it cannot reply to a client that the server is full, and its ``wait_closed`` differs
between Python 3.11 and 3.13.
"""

import asyncio
import errno
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, final

from kvs.adapters.inbound.protocol.connection import ConnectionFactory
from kvs.addresses import Address, format_address, format_host
from kvs.errors import CommandError
from kvs.log_type import FilteringBoundLogger

if TYPE_CHECKING:
    from kvs.adapters.inbound.net.guard import Guard

BACKLOG: Final = 4096
ACCEPTED_PER_TURN: Final = 64
"""Maximum number of clients accepted per wake-up, so that many new ones do not delay the others."""

LOG_AGAIN_S: Final = 60.0

_OUT_OF_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
WILDCARDS: Final = ("0.0.0.0", "::")

_NOT_HERE: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
_NOTHING_TO_ACCEPT: Final = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR})


Accepted: TypeAlias = "Callable[[socket.socket, str, Endpoint], None]"
"""Takes an accepted socket, the address of its peer, and where it was accepted."""


class ListenError(CommandError):
    """Raised when an address cannot be listened on; the message names it."""


def no_guard(_: str) -> None:
    """Return no guard."""


class Binding(Protocol):
    """**Protocol:** What can be listened on. Hashable."""

    def bind(self) -> list[socket.socket]:
        """Return sockets that listen.

        Raises:
            ListenError: That is not possible.
        """

    def unbind(self, sockets: Sequence[socket.socket]) -> None:
        """Close these sockets, and take away what else there is of them."""

    def set_up(self, sock: socket.socket) -> None:
        """Set the options of an accepted socket."""

    def address_of(self, address: Any) -> str:
        """Return the address of a client, as people write it, given that of its socket."""

    def is_own_user(self, sock: socket.socket) -> bool:
        """Return whether the client is known to be a process of the server's own user."""


@final
@dataclass(frozen=True)
class TcpBinding:
    """Addresses and a port.

    Attributes:
        hosts: Names or addresses to listen on.
        port: Port; 0 for any free one.
    """

    hosts: tuple[str, ...]
    port: int

    def bind(self) -> list[socket.socket]:
        """Return bound sockets, one for each address of each host; with port 0 all of them share one free port.

        Addresses of a name that this machine does not have are skipped: ``localhost`` may have ``::1`` without IPv6. An
        address that several hosts share, or that another covers, is bound once.

        Raises:
            ListenError: An address is unknown, taken or forbidden.
        """
        return _bind_all(self.hosts, self.port)

    def unbind(self, sockets: Sequence[socket.socket]) -> None:
        for sock in sockets:
            sock.close()

    def set_up(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def address_of(self, address: Address) -> str:
        return format_address(address)

    def is_own_user(self, _: socket.socket) -> bool:
        return False


@dataclass(frozen=True)
class Endpoint:
    """What a server listens on, and what is spoken there.

    Attributes:
        binding: Where.
        connect: Opens the connection of an accepted client.
        guard: Returns the guard of a client with that address; None: it needs none.
        bound: Called with the first socket as soon as it is bound.
        kept: Sockets that stay open when listening ends; None: none do.
    """

    binding: Binding
    connect: ConnectionFactory
    guard: "Callable[[str], Guard | None]" = no_guard
    bound: Callable[[socket.socket], object] = lambda _: None
    kept: "KeptSockets | None" = None

    def bind(self) -> list[socket.socket]:
        """Return listening sockets.

        Raises:
            ListenError: It cannot be listened on.
        """
        sockets = self.binding.bind() if self.kept is None else self.kept.sockets(self.binding)
        self.bound(sockets[0])
        return sockets

    def unbind(self, sockets: Sequence[socket.socket]) -> None:
        """Close what :meth:`bind` has returned."""
        if self.kept is None:
            self.binding.unbind(sockets)
        else:
            for sock in sockets:
                sock.close()

    def release(self) -> None:
        """Stop listening for good: no other server follows."""
        if self.kept is not None:
            self.kept.close()


@final
class KeptSockets:
    """Listening sockets for several servers, one after the other: between them, clients wait in the kernel's backlog.

    Args:
        bindings: What is listened on; the first of them has addresses.

    Raises:
        ListenError: Something cannot be listened on.
    """

    def __init__(self, bindings: Sequence[Binding]) -> None:
        self._sockets: dict[Binding, list[socket.socket]] = {}
        try:
            for binding in bindings:
                self._sockets[binding] = binding.bind()
        except BaseException:
            self.close()
            raise
        self.address: Final = address_of(self._sockets[bindings[0]][0])
        """Host and port of the first."""

    def sockets(self, binding: Binding) -> list[socket.socket]:
        """Return duplicates, which the caller closes."""
        return [sock.dup() for sock in self._sockets[binding]]

    def close(self) -> None:
        """Stop listening. Safe to call again."""
        while self._sockets:
            binding, sockets = self._sockets.popitem()
            binding.unbind(sockets)


def address_of(sock: socket.socket) -> tuple[str, int]:
    """Return host and port that a socket is bound to; the path and 0 if it is in the file system."""
    address = sock.getsockname()
    return (address, 0) if isinstance(address, str) else (format_host(address), address[1])


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


def local_address_of(sock: socket.socket) -> str:
    """Return the local address of a connection; empty if it is closed."""
    try:
        name = sock.getsockname()
    except OSError:
        return ""
    return f"{name}:0" if isinstance(name, str) else format_address(name)


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
        accepted: Called with each accepted socket.
        retry_s: How long to wait when descriptors have run out.
        log: Bound logger.

    Raises:
        ListenError: One cannot be listened on.
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
        self._listening: list[tuple[Endpoint, list[socket.socket]]] = []
        try:
            for endpoint in endpoints:
                self._listening.append((endpoint, endpoint.bind()))
        except BaseException:
            self.close()
            raise

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of each socket, as bound; path and 0 of one in the file system."""
        return [address_of(sock) for _, sock in self._sockets()]

    def _sockets(self) -> list[tuple[Endpoint, socket.socket]]:
        return [(endpoint, sock) for endpoint, sockets in self._listening for sock in sockets]

    def resume(self) -> None:
        """Accept clients, if not yet."""
        if not self._accepting and self._listening:
            self._accepting = True
            if self._retry is not None:
                self._retry.cancel()
                self._retry = None
            for endpoint, sock in self._sockets():
                self._loop.add_reader(sock, self._accept, sock, endpoint)

    def pause(self) -> None:
        """Leave new clients in the kernel's backlog until :meth:`resume`."""
        if self._accepting:
            self._accepting = False
            for _, sock in self._sockets():
                self._loop.remove_reader(sock)

    def close(self) -> None:
        """Stop listening."""
        self.pause()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        for endpoint, sockets in self._listening:
            endpoint.unbind(sockets)
        self._listening.clear()

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
                endpoint.binding.set_up(sock)
            except OSError:
                sock.close()
                continue
            self._accepted(sock, endpoint.binding.address_of(address), endpoint)

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

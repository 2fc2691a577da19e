"""A server that stands by: it relays its clients to the leader, byte by byte, until it leads itself."""

import asyncio
import signal
import socket
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from threading import Thread
from typing import Final, final

from structlog.typing import FilteringBoundLogger

from kvs.adapters.inbound.net.listener import Endpoint, Listener
from kvs.adapters.inbound.net.relay import PREAMBLE_MARK, preamble
from kvs.adapters.inbound.protocol.connection import ConnectionFactory
from kvs.override import override
from kvs.ports.candidate import Candidate, Leader
from kvs.signals import STOPPING, Signals

CONNECT_TIMEOUT_S: Final = 2.0
ACCEPT_RETRY_S: Final = 1.0
UNACKNOWLEDGED_MS: Final = 5000
"""Time after which a connection to the leader is given up if the machine there does not answer any more."""

Refusal = Callable[[bytes], bytes]
"""Returns the reply to a client that cannot be served, given how its input begins."""


class _End(asyncio.Protocol):
    """One end of a relayed connection.

    Attributes:
        other: The other end; None before there is one.
        transport: Its transport; None before it is connected, and when it is closed.
    """

    def __init__(self, max_buffer_bytes: int) -> None:
        self.other: _End | None = None
        self.transport: asyncio.Transport | None = None
        self._max_buffer_bytes = max_buffer_bytes

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  # for mypy
        transport.set_write_buffer_limits(high=self._max_buffer_bytes)
        self.transport = transport

    @override
    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    @override
    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    @override
    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    @override
    def eof_received(self) -> bool:
        transport = None if self.other is None else self.other.transport
        if transport is None or not transport.can_write_eof():
            return False
        transport.write_eof()
        return True

    @override
    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()  # behind what it still has to send

    def abort(self) -> None:
        """Close both ends at once."""
        for end in (self, self.other):
            if end is not None and end.transport is not None:
                end.transport.abort()


@final
class _Client(_End):
    """The end of a client.

    Args:
        standby: The server.
        address: Of the client.
    """

    def __init__(self, standby: "StandbyServer", address: str) -> None:
        super().__init__(standby.max_buffer_bytes)
        self._standby = standby
        self._address = address
        self._begun = False

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._standby.clients.add(self)
        leader = self._standby.leader
        if leader is not None and self.transport is not None:
            self.transport.pause_reading()
            self._standby.start(self._connect(leader))

    @override
    def data_received(self, data: bytes) -> None:
        begins, self._begun = not self._begun, True
        if begins and data[0] == PREAMBLE_MARK:
            self.abort()  # a standby that takes this one for the leader; its client may speak another protocol
        elif self.other is not None:
            super().data_received(data)
        else:
            self._refuse(data)

    @override
    def connection_lost(self, error: Exception | None) -> None:
        self._standby.clients.discard(self)
        super().connection_lost(error)

    def _refuse(self, opening: bytes) -> None:
        """Tell a client that there is no leader, in its protocol."""
        if self.transport is not None:
            self.transport.write(self._standby.refusal(opening))
            self.transport.close()

    async def _connect(self, leader: Leader) -> None:
        """Connect to the leader; if that fails, the client is refused by its first request."""
        loop = asyncio.get_running_loop()
        upstream = _End(self._standby.max_buffer_bytes)
        with suppress(OSError):  # TimeoutError is one
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                transport, _ = await loop.create_connection(lambda: upstream, leader.host, leader.port)
            _set_up(transport.get_extra_info("socket"))
            transport.write(preamble(self._standby.secret, leader.term, self._address))
            upstream.other = self
            if self.transport is None or self._standby.leader != leader:
                transport.abort()
            else:
                self.other = upstream
        if self.transport is not None:
            self.transport.resume_reading()


@final
class StandbyServer:
    """Listens and relays until this server leads, or is stopped.

    Args:
        endpoints: Where to listen.
        candidate: Waits for the lead.
        max_clients: Clients at a time; others are disconnected.
        max_buffer_bytes: Output of one end that the other end waits for.
        refusal: Answers clients while there is no leader.
        signals: Delivers signals.
        log: Bound logger.

    Attributes:
        clients: Those that are connected.
        leader: To whom they are relayed.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        candidate: Candidate,
        max_clients: int,
        max_buffer_bytes: int,
        refusal: Refusal,
        signals: Signals,
        log: FilteringBoundLogger,
    ) -> None:
        self.clients: Final[set[_Client]] = set()
        self.leader: Leader | None = None
        self.max_buffer_bytes: Final = max_buffer_bytes
        self.refusal: Final = refusal
        self._endpoints = endpoints
        self._candidate = candidate
        self._max_clients = max_clients
        self._signals = signals
        self._log = log
        self._tasks: Final[set[asyncio.Task[None]]] = set()
        self._failure: BaseException | None = None
        self._stopped = False

    @property
    def secret(self) -> str:
        """What the leader knows relays by."""
        return self._candidate.secret

    async def run(self) -> bool:
        """Relay until this server leads; return False if it has been stopped before.

        Raises:
            CommandError: It can never lead, or an address cannot be listened on.
        """
        loop = self._loop = asyncio.get_running_loop()
        self._done = asyncio.Event()
        listener = Listener(self._endpoints, self._accept, ACCEPT_RETRY_S, self._log)
        waiting = Thread(target=self._wait, name="kvs-candidate", daemon=True)
        try:
            self._signals.deliver_to(self._receive)
            self._candidate.when_leader_changes(lambda: self._post(self._follow))
            waiting.start()
            listener.resume()
            await self._done.wait()
        finally:
            self._signals.deliver_to(None)
            listener.close()
            for client in list(self.clients):
                client.abort()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.sleep(0)
        await loop.run_in_executor(None, waiting.join)
        if self._failure is not None:
            raise self._failure
        return not self._stopped

    def start(self, connecting: Coroutine[object, object, None]) -> None:
        """Run a task as long as the server."""
        task = self._loop.create_task(connecting)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _wait(self) -> None:
        """Wait for the lead. By a thread."""
        try:
            self._candidate.wait()
        except BaseException as error:  # noqa: BLE001  # the loop raises it
            self._failure = error
        self._post(self._done.set)

    def _post(self, callback: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(callback)

    def _follow(self) -> None:
        """Relay to another leader from now on; those that were relayed to the former one are closed."""
        leader = self._candidate.leader
        if leader != self.leader:
            self.leader = leader
            for client in list(self.clients):
                client.abort()

    def _accept(self, sock: socket.socket, address: str, _: ConnectionFactory) -> None:
        if len(self.clients) + len(self._tasks) >= self._max_clients:
            sock.close()
        else:
            self.start(self._attach(sock, address))

    async def _attach(self, sock: socket.socket, address: str) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: _Client(self, address), sock)
        except OSError:  # the peer has gone meanwhile
            sock.close()

    def _receive(self, number: signal.Signals) -> None:
        """Handle a signal: it may have arrived between any two instructions."""
        self._post(lambda: self._handle(number))

    def _handle(self, number: signal.Signals) -> None:
        if number in STOPPING and not self._stopped:
            self._stopped = True
            self._candidate.stop()
            self._done.set()
            self._log.info("stopping", signal=number.name, clients=len(self.clients))


def _set_up(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)

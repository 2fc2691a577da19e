"""The server: who is connected, the tick, the timeouts, and how it starts and stops.

The tick
    Input is executed as the transport reports it. The end of the tick follows when all the input of that turn of
    the loop has been executed, called by the transport or scheduled by the first report: one ``sync`` of the
    engine, then the replies, reads included. Nothing leaves earlier, so nobody is told of anything that is not as
    durable as the engine promises. Clients with a backlog run their next share after that, and are answered with
    the next tick. A blocking engine is not asked for a ``sync``: what its calls have returned is durable.
"""

import asyncio
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Protocol

from structlog.typing import FilteringBoundLogger

from kvs.adapters.inbound.net.channel import Client
from kvs.adapters.inbound.net.listener import Listener, bind
from kvs.adapters.inbound.net.registry import Clients
from kvs.adapters.inbound.net.timeouts import ServerLimits
from kvs.adapters.inbound.protocol.connection import Connection, ConnectionFactory
from kvs.application.memory_budget import MemoryBudget
from kvs.domain.errors import LimitError, TimedOutError
from kvs.ports.storage import Storage
from kvs.signals import STOPPING, Signals

MAX_REFUSED: Final = 8
"""Most clients at a time that are here only to be told that there are too many; more wait in the kernel's backlog."""

LAST_CALLS_S: Final = 1.0
"""Longest wait, at the stop, for calls in flight whose clients have been cut off."""

SWEPT_PER_TURN: Final = 500
"""Clients whose timeouts are looked at in one go: about 0.5 ms."""

LOOPBACK: Final = ("127.", "::1")


class Transport(Protocol):
    """**Protocol:** What makes clients of accepted sockets, and moves their bytes."""

    @property
    def leaves_cycles(self) -> bool:
        """Whether a client that has gone is left to the cyclic garbage collector."""

    def start(self, server: "Server") -> None:
        """Begin, on the running loop."""

    def open(self, sock: socket.socket, peer: str, connection: Connection) -> Client:
        """Return the client, and touch it as soon as it can be sent to; its first bytes may come from then on."""

    def stop(self) -> None:
        """End; every client has been aborted."""


class Server:
    """Serves clients of one transport over one engine, until it is told to stop.

    Args:
        hosts: Names or addresses to listen on.
        port: Port, 0 for any that is free.
        transport: Makes clients of sockets.
        connect: Makes connections for clients.
        clients: Where they are kept.
        storage: The engine, for its ``sync``.
        limits: Bounds and timeouts.
        budget: Memory of all clients together.
        signals: Where signals come from, those that stop it and others.
        bound: Called with the port that is listened on, as soon as it is known.
        log: Bound logger.

    Attributes:
        engine_hangs: The server has stopped, and there are calls in flight; the engine must not be closed under them.
    """

    def __init__(
        self,
        hosts: tuple[str, ...],
        port: int,
        transport: Transport,
        connect: ConnectionFactory,
        clients: Clients,
        storage: Storage,
        limits: ServerLimits,
        budget: MemoryBudget,
        signals: Signals,
        bound: Callable[[int], None],
        log: FilteringBoundLogger,
    ) -> None:
        self.budget: Final = budget
        self.engine_hangs = False
        self._hosts = hosts
        self._port = port
        self._transport = transport
        self._connect = connect
        self._storage = storage
        self._syncs = not storage.blocking
        self._limits = limits
        self._signals = signals
        self._bound = bound
        self._log = log
        self._tally = clients
        self._clients = clients.connected
        self._refused = 0
        self._touched: list[Client] = []
        self._waiting: list[Client] = []
        self._tick_scheduled = False
        self._draining = False
        self._failed = False
        self._exit_code = 0

    async def run(self) -> int:
        """Listen, serve and drain. To be called once.

        Returns:
            The exit code: 0 after an orderly stop, 1 if the engine failed or hangs, or a second signal cut the drain
            short.

        Raises:
            ListenError: An address cannot be listened on.
        """
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(self._unexpected)
        self._stop = asyncio.Event()
        self._empty = asyncio.Event()
        self._listener = Listener(bind(self._hosts, self._port), self._accept, self._log)
        try:
            self._bound(self._listener.addresses[0][1])
            self._signals.deliver_to(self._receive_signal)
            self._transport.start(self)
            self._listener.resume()
            self._sweep()
            self._announce()
            await self._stop.wait()
            if not self._failed:
                await self._drain()
                self._check_engine()
        finally:
            self._draining = True
            self._listener.close()
            for client in list(self._clients):
                client.abort()
            await asyncio.sleep(0)  # asyncio reports the end of an aborted socket in the next turn
            await self._see_calls_end()
            self._transport.stop()
            self._signals.deliver_to(None)
        self._log.info("stopped", exit_code=self._exit_code)
        return self._exit_code

    def stop(self) -> None:
        """Begin the drain."""
        self._stop.set()

    # What the transport reports.

    def begin_tick(self) -> None:
        """Announce that :meth:`end_tick` will be called in this very turn of the loop."""
        self._tick_scheduled = True

    def touch(self, client: Client) -> None:
        """Have a client flushed at the end of this tick."""
        if not client.touched:
            client.touched = True
            self._touched.append(client)
            if not self._tick_scheduled:
                self._schedule_tick()

    def continue_next_tick(self, client: Client) -> None:
        """Have a client run more of its backlog when this tick has ended."""
        self._waiting.append(client)
        if not self._tick_scheduled:
            self._schedule_tick()

    def resume(self, client: Client) -> None:
        """Have a client run more of its backlog."""
        try:
            client.resume()
        except Exception as error:
            self.drop(client, error)

    def now_s(self) -> float:
        """Return seconds of the loop's clock."""
        return self._loop.time()

    def drop(self, client: Client, error: Exception) -> None:
        """End a client that a mistake of ours, or want of memory, has left in an unknown state."""
        client.abort()
        self._log.error("client_failed", peer=client.peer, exc_info=error)

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> None:
        """Call back after a while."""
        self._loop.call_later(delay_s, callback)

    def left(self, client: Client) -> None:
        """Forget a client, whose session has ended."""
        del self._clients[client]
        self._tally.ended_requests += client.connection.requests
        if client.refused:
            self._refused -= 1
        if self._draining:
            if not self._clients:
                self._empty.set()
        else:
            self._listener.resume()
        if not client.refused:
            session = client.connection.session
            self._log.info(
                "client_left",
                peer=client.peer,
                session=session.id,
                commands=client.connection.requests,
                committed=session.counters.committed,
                conflicted=session.counters.conflicted,
                aborted=session.counters.aborted,
            )

    # The tick.

    def _schedule_tick(self) -> None:
        self._tick_scheduled = True
        self._loop.call_soon(self.end_tick)

    def end_tick(self) -> None:
        """Make durable what this tick has done, then send its replies."""
        self._tick_scheduled = False
        if self._failed:
            return
        if self._syncs:
            try:
                self._storage.sync()
            except Exception as error:
                self._give_up(error)
                return
        touched, self._touched = self._touched, []
        waiting, self._waiting = self._waiting, []
        for client in touched:
            client.touched = False
            try:
                client.flush()
            except Exception as error:
                self.drop(client, error)
        for client in waiting:
            self.resume(client)

    def _check_engine(self) -> None:
        """Find out about what has failed while nobody asked for anything."""
        if not self._failed:
            try:
                self._storage.check()
            except Exception as error:
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """The engine is finished: what it applied may not last, so nobody may be told of it."""
        self._failed = True
        self._exit_code = 1
        self._stop.set()
        self._log.critical("sync_failed", reason=str(error), exc_info=error)

    # Coming.

    def _announce(self) -> None:
        for host, port in self._listener.addresses:
            self._log.info("listening", host=host, port=port, max_clients=self._limits.max_clients)
            if not host.startswith(LOOPBACK):
                self._log.warning(
                    "listening_beyond_loopback",
                    host=host,
                    meaning="anyone who reaches this port can read and write everything",
                )

    def _accept(self, sock: socket.socket, peer: str) -> None:
        connection = self._connect()
        client = self._transport.open(sock, peer, connection)
        client.refused = len(self._clients) - self._refused >= self._limits.max_clients
        self._clients[client] = None
        if client.refused:
            self._refused += 1
            self._tally.refused += 1
            connection.fail(LimitError(f"There are max_clients = {self._limits.max_clients} clients already."))
            if self._refused >= MAX_REFUSED:
                self._listener.pause()
            self._log.warning("client_refused", peer=peer, max_clients=self._limits.max_clients)
        else:
            self._tally.arrived += 1
            self._log.info("client_connected", peer=peer, session=connection.session.id)

    # Staying too long.

    def _sweep(self) -> None:
        """Look at the engine, and at everybody's timeouts, some at a time."""
        self._check_engine()
        self._sweep_some(list(self._clients), 0)

    def _sweep_some(self, clients: list[Client], at: int) -> None:
        now_s = self._loop.time()
        for client in clients[at : at + SWEPT_PER_TURN]:
            if client in self._clients:
                self._check(client, now_s)
        at += SWEPT_PER_TURN
        if at < len(clients):
            self._loop.call_soon(self._sweep_some, clients, at)
        else:
            self._loop.call_later(self._limits.sweep_every_s(), self._sweep)

    def _check(self, client: Client, now_s: float) -> None:
        limits = self._limits
        stalled_s = client.output_stalled_s(now_s)
        if limits.output_timeout_s and stalled_s >= limits.output_timeout_s:
            client.abort()
            self._log.warning("client_dropped", peer=client.peer, unread_output_s=round(stalled_s, 3))
            return
        connection = client.connection
        if connection.closing:
            return
        if connection.busy:
            return  # it may be committing; and as long as it lasts it is not the client's turn
        reason = limits.overdue(connection, client.idle_s(now_s), now_s)
        if reason and client.waiting_bytes():  # it has sent, and this process was stopped, or too busy to read
            reason = limits.overdue(connection, 0.0, now_s)
        if reason:
            connection.fail(TimedOutError(reason))
            self.touch(client)

    # Going.

    def _receive_signal(self, signal_number: signal.Signals) -> None:
        """Have a signal dealt with by the loop: it may have come between any two instructions."""
        self._loop.call_soon_threadsafe(self._signalled, signal_number)

    def _signalled(self, signal_number: signal.Signals) -> None:
        if signal_number == signal.SIGHUP:
            self._log.info("reloaded", changed=[], reason="no setting can change while the server runs")
            return
        if signal_number not in STOPPING:
            self._log.info("signal_ignored", signal=signal_number.name)
            return
        if self._draining:
            self._exit_code = 1
            self._empty.set()
            self._log.warning("stopping_at_once", signal=signal_number.name)
            return
        self._draining = True
        self._stop.set()
        self._log.info("stopping", signal=signal_number.name, clients=len(self._clients))

    async def _drain(self) -> None:
        """Stop accepting, answer what has come, abort what is open, and see the clients off."""
        self._draining = True
        self._listener.close()
        if not self._clients:
            return
        for client in list(self._clients):
            client.drain()
        try:
            async with asyncio.timeout(self._limits.drain_timeout_s):
                await self._empty.wait()
        except TimeoutError:
            self._log.warning("drain_cut_short", clients=len(self._clients))

    async def _see_calls_end(self) -> None:
        """Wait, but not for ever, for the calls in flight of clients that are gone: next the engine is closed."""
        for client in list(self._clients):
            client.lost()  # asyncio does not report it of a socket that it has not taken over yet
        self._empty.clear()
        if self._clients:
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_CALLS_S):
                    await self._empty.wait()
        if self._clients:
            self.engine_hangs = True
            self._exit_code = 1
            self._log.critical("engine_hangs", calls=len(self._clients))

    def _unexpected(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log what asyncio caught; it has closed the socket concerned."""
        self._log.error("unexpected", reason=context.get("message"), exc_info=context.get("exception"))

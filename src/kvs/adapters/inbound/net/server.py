"""The server: starts, accepts clients, and stops."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any, Final

from kvs.adapters.inbound.net.backend import NetworkBackend
from kvs.adapters.inbound.net.channel import Channel
from kvs.adapters.inbound.net.channel_context import ChannelContext
from kvs.adapters.inbound.net.client_log import ClientLog
from kvs.adapters.inbound.net.collector import Collector
from kvs.adapters.inbound.net.doorkeeper import Doorkeeper
from kvs.adapters.inbound.net.handshakes import Handshakes
from kvs.adapters.inbound.net.health import Health
from kvs.adapters.inbound.net.heartbeat import Heartbeat
from kvs.adapters.inbound.net.listener import Endpoint, Listener
from kvs.adapters.inbound.net.reasons import SERVER_STOPPING
from kvs.adapters.inbound.net.registry import ChannelRegistry
from kvs.adapters.inbound.net.relay import RelayGuard
from kvs.adapters.inbound.net.reloading import Reloader, Reloading
from kvs.adapters.inbound.net.standby import Standby
from kvs.adapters.inbound.net.sweep import Sweep
from kvs.adapters.inbound.net.tick import Tick
from kvs.adapters.inbound.net.timeouts import ServerLimits
from kvs.adapters.inbound.protocol.observation import Observation
from kvs.adapters.inbound.protocol.tracking import Tracking
from kvs.addresses import is_loopback
from kvs.allocator import IdleTrimmer
from kvs.application.disposal import Disposal
from kvs.application.expiry import Expiry
from kvs.application.figures import Sources
from kvs.application.memory_budget import MemoryBudget
from kvs.application.users import Users
from kvs.log_type import FilteringBoundLogger
from kvs.notify import Notifier
from kvs.ports.candidate import LeadLostError
from kvs.ports.storage import Storage
from kvs.ports.topology import Topology
from kvs.signals import STOPPING, Signals

MAX_REFUSED: Final = 8
"""Maximum number of refused clients at a time; more wait in the kernel's backlog."""

LAST_CALLS_POLL_S: Final = 0.01
"""Time between two looks at what the engine still does, when the server stops."""

REOPENING: Final = (signal.SIGHUP, signal.SIGUSR1)
"""Signals that tell of files that have been renamed, so that new ones are to be begun."""


class Server:
    """Serves clients over one network backend and one engine, until it is stopped.

    Args:
        endpoints: Where to listen, and the connection factories.
        backend: Makes channels of sockets.
        registry: Holds the channels.
        handshakes: Bounds those of TLS.
        storage: The engine, which the ticks seal and check.
        disposal: Frees what clients have dropped.
        expiry: Deletes what is due.
        tracking: Tells clients of changes.
        limits: Bounds and timeouts.
        budget: Memory budget of all clients.
        observation: Measures the requests.
        users: Who there is; the connections of those that are removed are closed.
        signals: Delivers signals.
        notifier: Tells the service manager.
        relays: Admits relays of standbys; None: this server is the only one.
        about: Engine, version and so on, for the log.
        log: Bound logger.
        health: Where the server's state is noted.
        collector: Collects figures, on its loop.
        sources: Of further figures; those of the ticks are added.
        topology: The servers of the data set; None: there is only this one.
        standby: Relays clients to the leader; None: this server answers everything.
        cut_off: Gives up commits that are under way when the time for the stop is over.
        reloaders: What SIGHUP makes it read again.
        needs_no_secret: Tells whether anyone can be some user without a secret.
        keep_house: Called when it starts, and about once a second.

    Attributes:
        tick: Its ticks; set when it runs.
        role_ended: It has stopped since it leads no more, or does not stand by any more: the process goes on.
        engine_hung: The server has stopped with calls in flight; the engine must not be closed during them.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        backend: NetworkBackend,
        registry: ChannelRegistry,
        handshakes: Handshakes,
        storage: Storage,
        disposal: Disposal,
        expiry: Expiry,
        tracking: Tracking,
        limits: ServerLimits,
        budget: MemoryBudget,
        observation: Observation,
        users: Users,
        signals: Signals,
        notifier: Notifier,
        relays: RelayGuard | None,
        about: Mapping[str, str],
        log: FilteringBoundLogger,
        health: Health,
        collector: Collector,
        sources: Sources,
        topology: Topology | None = None,
        standby: Standby | None = None,
        cut_off: Callable[[], None] = lambda: None,
        reloaders: Mapping[str, Reloader] = MappingProxyType({}),
        needs_no_secret: Callable[[], bool] = lambda: True,
        keep_house: Callable[[], None] = lambda: None,
    ) -> None:
        self.role_ended = False
        self.engine_hung = False
        self._handshakes = handshakes
        self._endpoints = endpoints
        self._backend = backend
        self._registry = registry
        self._storage = storage
        self._disposal = disposal
        self._expiry = expiry
        self._tracking = tracking
        self._limits = limits
        self._budget = budget
        self._observation = observation
        self._doorkeeper = Doorkeeper(registry, limits, users, observation.audit)
        self._audit = observation.audit
        self._client_log = ClientLog(log, observation.audit)
        self._signals = signals
        self._notifier = notifier
        self._relays = relays
        self._about = about
        self._log = log
        self._health = health
        self._collector = collector
        self._sources = sources
        self._topology = topology
        self._standby = standby
        self._cut_off = cut_off
        self._reloading = Reloading(reloaders, log, notifier)
        self._needs_no_secret = needs_no_secret
        self.keep_house: Final = keep_house
        self._stopping: Callable[[], None] | None = None
        self._draining = False
        self._trimmer = IdleTrimmer()
        self._units_seen = 0
        self._failed = False
        self._exit_code = 0

    async def run(self) -> int:
        """Listen, serve and drain. Call it once.

        Returns:
            The exit code: 0 after an orderly stop, 1 if the engine failed or hangs, or a second signal interrupted the
            drain.

        Raises:
            ListenError: An address cannot be listened on.
        """
        loop = self._loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._unexpected)
        self._stop = asyncio.Event()
        self._empty = asyncio.Event()
        limits, log = self._limits, self._log
        self._listener = Listener(self._endpoints, self._accept, limits.accept_retry_s, log)
        tick = self.tick = Tick(
            loop,
            self._storage,
            self._disposal,
            self._expiry,
            self._tracking,
            self._observation.latency,
            self._give_up,
            limits.max_batches_in_flight,
            limits.max_held_bytes,
        )
        try:
            self._signals.deliver_to(self._receive_signal)
            self._doorkeeper.watch()
            context = ChannelContext(
                loop,
                tick,
                self._budget,
                limits,
                self._relays,
                self._handshakes,
                self._doorkeeper.certify,
                self._forget,
                log,
                self._registry.identify,
                self._standby,
            )
            self._backend.start(context)
            self._listener.resume()
            self._sources.add(tick.figures)
            self._collector.start(loop)
            self._health.begin(self._collector, self._topology)
            Sweep(loop, self._registry, limits, self._look_after_engine, log).start()
            Heartbeat(loop, self._notifier, lambda: not self._failed).start()
            self._notifier.ready()
            if self._standby is None:
                self._announce()
            await self._stop.wait()
            if not self.role_ended:
                self._notifier.stopping()
            if not self._failed:
                await self._drain()
                self.tick.check_engine()
        finally:
            self._draining = True
            if self._reloading.close() and self.role_ended:
                self._signals.keep(signal.SIGHUP)
            self._health.end(goes_on=self.role_ended)
            self._listener.close()
            for channel in self._channels():
                channel.end(SERVER_STOPPING)
            await asyncio.sleep(0)  # asyncio reports the end of an aborted socket in the next iteration
            await self._await_last_calls()
            self._backend.stop()
            self._signals.deliver_to(None)
        if not self.role_ended:
            self._log.info("stopped", exit_code=self._exit_code)
        return self._exit_code

    def stop(self) -> None:
        """Begin the drain."""
        self._stop.set()

    def end(self) -> None:
        """Stop at once, unless it is stopping already: the process goes on in another role."""
        if not self._draining:
            self.role_ended = self._failed = True
            self._listener.close()  # who connects from now on is accepted in that role
            self._stop.set()

    def when_stopping(self, stopping: Callable[[], None]) -> None:
        """Have a function called as soon as a signal begins the stop."""
        self._stopping = stopping

    def _channels(self) -> list[Channel]:
        return list(self._registry.channels.values())

    # The engine.

    def _look_after_engine(self) -> None:
        """Check the engine, do its background work, release free memory while the server is idle, and measure that."""
        self.keep_house()
        self._health.turned()
        self._observation.statistics.sample(self._loop.time())
        self._trimmer.look(self.tick.used_units - self._units_seen)
        self._units_seen = self.tick.used_units
        self.tick.check_engine()

    def _give_up(self, error: Exception) -> None:
        """Stop: the engine has failed. Its last commits may not be durable, as clients know by their replies."""
        self._failed = True
        self._exit_code = 1
        self._stop.set()
        if isinstance(error, LeadLostError):
            self.role_ended = not self._draining  # or this server is to end, and not to stand by
            self._log.warning("lead_lost", reason=str(error))
        else:
            self._log.critical("sync_failed", reason=str(error), exc_info=error)

    # Clients.

    def _announce(self) -> None:
        for host, port in self._listener.addresses:
            self._log.info(
                "listening", host=host, port=port, max_clients=self._limits.max_clients, pid=os.getpid(), **self._about
            )
            if port and not is_loopback(host) and self._needs_no_secret():
                self._log.warning(
                    "listening_beyond_loopback",
                    host=host,
                    meaning="anyone who reaches this port can be a user without a secret",
                )

    def _accept(self, sock: socket.socket, remote_address: str, endpoint: Endpoint) -> None:
        registry, connection = self._registry, endpoint.connect()
        self._doorkeeper.look_at(connection.peer, is_own_user=endpoint.binding.is_own_user(sock))
        channel = self._backend.open(sock, remote_address, connection, endpoint.guard(remote_address))
        refusal = self._doorkeeper.admit(connection)
        channel.refused = refusal is not None
        registry.add(channel)
        if refusal is not None:
            connection.fail(refusal)
            if registry.refused_now >= MAX_REFUSED:
                self._listener.pause()
            self._client_log.refused(channel, self._limits.max_clients)
        else:
            self._client_log.connected(channel)

    def _forget(self, channel: Channel) -> None:
        """Forget a channel whose session has ended."""
        self._registry.remove(channel)
        if self._draining:
            if not self._registry.channels:
                self._empty.set()
        else:
            self._listener.resume()
        if not channel.refused:
            self._client_log.disconnected(channel)

    # The stop.

    def _receive_signal(self, signal_number: signal.Signals) -> None:
        """Handle a signal on the loop: it may have arrived between any two instructions."""
        self._loop.call_soon_threadsafe(self._handle_signal, signal_number)

    def _handle_signal(self, signal_number: signal.Signals) -> None:
        if signal_number in REOPENING and self._audit is not None:
            self._audit.reopen()
            if signal_number != signal.SIGHUP:
                self._log.info("audit_log_reopened", signal=signal_number.name)
                return
        if signal_number == signal.SIGHUP:
            self._reloading.begin()
            return
        if signal_number not in STOPPING:
            self._log.info("signal_ignored", signal=signal_number.name)
            return
        if self._draining:
            self._exit_code = 1
            self._empty.set()
            self._log.warning("stopping_immediately", signal=signal_number.name)
            return
        self._draining = True
        self._health.drain()
        self._stop.set()
        if self._stopping is not None:
            self._stopping()
        self._log.info("stopping", signal=signal_number.name, clients=len(self._registry))

    async def _drain(self) -> None:
        """Stop accepting, run the requests that have arrived, abort open transactions, and close the connections."""
        self._draining = True
        self._listener.close()
        for endpoint in self._endpoints:
            endpoint.release()
        if not self._registry.channels:
            return
        for channel in self._channels():
            channel.drain()
        try:
            async with asyncio.timeout(self._limits.drain_timeout_s):
                await self._hand_over()
                await self._empty.wait()
        except TimeoutError:
            if self.tick.in_flight:
                self._cut_off()
            self._log.warning("drain_interrupted", clients=len(self._registry))

    async def _hand_over(self) -> None:
        """Let other servers take over as soon as all clients have been answered: they may take a while to close."""
        while self.tick.in_flight or not all(channel.answered for channel in self._channels()):
            if self._empty.is_set():
                return
            await asyncio.sleep(LAST_CALLS_POLL_S)
        self.tick.retire()

    async def _await_last_calls(self) -> None:
        """Wait, up to a limit, for calls in flight whose clients have disconnected, before the engine is closed."""
        for channel in self._channels():
            channel.connection_lost(None)  # asyncio does not report it for a socket without a transport
        self._empty.clear()
        self._expiry.stop_sweeping()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.last_calls_timeout_s):
                if self._registry.channels:
                    await self._empty.wait()
                while self._expiry.sweeping:  # noqa: ASYNC110  # each sweep would set an event
                    await asyncio.sleep(LAST_CALLS_POLL_S)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.drain_timeout_s):
                while self._commits():  # noqa: ASYNC110  # likewise each batch
                    await asyncio.sleep(LAST_CALLS_POLL_S)
        calls = len(self._registry) + self._expiry.sweeping + self._commits()
        if calls:
            self.engine_hung = True
            self._exit_code = 1
            self._log.critical("engine_hung", calls=calls)

    def _commits(self) -> bool:
        """Return whether the engine is making commits durable."""
        return self.tick.in_flight and not self._failed

    def _unexpected(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log an exception that asyncio caught; it has closed the socket concerned."""
        self._log.error("unexpected", reason=context.get("message"), exc_info=context.get("exception"))

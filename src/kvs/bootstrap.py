"""The composition root: the only module that knows every layer.

The container builds the object graph once, at the start; the objects hold plain references to each other. A test
replaces any part by overriding its provider.
"""

import asyncio
import os
import select
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

import msgspec
from dependency_injector import containers, providers

import kvs
from kvs import engines, security
from kvs.access import access
from kvs.adapters.inbound.line.commands import COMMANDS
from kvs.adapters.inbound.line.connection import line_protocol
from kvs.adapters.inbound.line.limits import LineLimits
from kvs.adapters.inbound.net.asyncio_backend import AsyncioBackend
from kvs.adapters.inbound.net.backend import NetworkBackend
from kvs.adapters.inbound.net.collector import Collector
from kvs.adapters.inbound.net.health import Health
from kvs.adapters.inbound.net.listener import KeptSockets
from kvs.adapters.inbound.net.registry import ChannelRegistry
from kvs.adapters.inbound.net.relay import RelayGuard
from kvs.adapters.inbound.net.server import Server
from kvs.adapters.inbound.net.standby import Standby
from kvs.adapters.inbound.net.timeouts import ServerLimits
from kvs.adapters.inbound.protocol.audit import Audit
from kvs.adapters.inbound.protocol.detection import ProtocolDetector
from kvs.adapters.inbound.resp.connection import resp_protocol
from kvs.adapters.inbound.resp.context import ServerContext
from kvs.adapters.inbound.resp.limits import RespLimits
from kvs.adapters.inbound.resp.verbs import VERBS
from kvs.allocator import memory_figures, tune_malloc
from kvs.application.authentication import THREADS, Authenticator
from kvs.application.disposal import Disposal
from kvs.application.memory_budget import MemoryBudget
from kvs.application.refusals import Refusals
from kvs.application.registry import SessionRegistry
from kvs.application.secret_hashes import ProcessKey
from kvs.application.slot import SessionLimits
from kvs.build import BUILD
from kvs.config import ConfigError, Given, Settings, read_options
from kvs.engine import StandBy
from kvs.limits import from_settings
from kvs.listening import (
    admin_tls,
    endpoints,
    make_handshakes,
    relay_tls,
    server_tls,
    tls_reloader,
    trusted_networks,
)
from kvs.log_type import FilteringBoundLogger
from kvs.logs import LogLevel, make_logger
from kvs.notify import open_notifier
from kvs.observing import audit_figures, dropped_events, make_observation, opened_audit
from kvs.parameters import changeable, parameters
from kvs.ports.storage import Storage
from kvs.ports.topology import Topology
from kvs.process import raise_fd_limit, tune_gc, tune_thread_switching
from kvs.signals import Signals, Stopped
from kvs.standard_streams import open_stderr, stderr_replaced
from kvs.timekeeping import clock_reloader, make_expiry
from kvs.watching import AdminTokens, figure_sources, make_changes, make_tracking, served_admin, tokens_reloader
from kvs.workers import open_sessions


def _opened_storage(settings: Settings, options: Mapping[str, Given], log: FilteringBoundLogger) -> Iterator[Storage]:
    with engines.open_storage(settings, options, log) as storage:
        yield storage


def _warn_of_unused_directory(settings: Settings, log: FilteringBoundLogger) -> None:
    if settings.data_dir and not engines.get(settings.storage).keeps_directory:
        log.warning("data_dir_unused", data_dir=settings.data_dir, engine=settings.storage)


def _stores_records(settings: Settings) -> bool:
    return engines.get(settings.storage).records


def _about(settings: Settings) -> dict[str, str]:
    return {"version": kvs.__version__, "build": BUILD, "engine": settings.storage}


def _parameters(settings: Settings, options: Mapping[str, Given], limits: ServerLimits) -> dict[bytes, bytes]:
    given = options.get("durability")
    durability = "full" if given is None else str(given.value)
    engine = engines.get(settings.storage)
    data_dir = settings.data_dir if engine.keeps_directory else ""
    # The system may have lowered the number of clients.
    settings = msgspec.structs.replace(settings, max_clients=limits.max_clients, data_dir=data_dir)
    return parameters(settings, durable=engine.durable, durability=durability)


def _about_listening(about: dict[str, str], settings: Settings) -> dict[str, str]:
    kept = settings.data_dir if engines.get(settings.storage).keeps_directory else ""
    return about | ({"data_dir": str(Path(kept).absolute())} if kept else {})


def _server_limits(settings: Settings, log: FilteringBoundLogger) -> ServerLimits:
    return from_settings(ServerLimits, settings, max_clients=raise_fd_limit(settings.max_clients, log))


def _backend(settings: Settings) -> NetworkBackend:
    name = settings.transport
    if name == "auto":
        name = "epoll" if hasattr(select, "epoll") else "asyncio"
    if name == "asyncio":
        return AsyncioBackend(settings.max_output_bytes)
    if not hasattr(select, "epoll"):
        raise ConfigError("transport: 'epoll' is not allowed: this system has no epoll; allowed: auto, asyncio")
    from kvs.adapters.inbound.net.epoll import EpollBackend  # noqa: PLC0415  # Linux only

    return EpollBackend(settings.max_output_bytes)


class Container(containers.DeclarativeContainer):
    """All parts of a server."""

    settings = providers.Dependency(instance_of=Settings)
    options: providers.Provider[Mapping[str, Given]] = providers.Object({})

    stderr = providers.Singleton(open_stderr, settings.provided.max_log_buffer_bytes)
    notifier = providers.Singleton(open_notifier)
    log_level = providers.Singleton(LogLevel, settings.provided.log_level)
    log = providers.Singleton(make_logger, log_level, settings.provided.log_format, stderr, notifier.provided.see)
    clock = providers.Object(time.monotonic)
    wall_clock = providers.Object(time.time)
    signals = providers.Singleton(Signals)
    budget = providers.Singleton(MemoryBudget, settings.provided.max_clients_bytes)
    health = providers.Singleton(Health)

    disposal = providers.Singleton(Disposal)

    storage = providers.Resource(_opened_storage, settings, options, log)

    changes = providers.Singleton(make_changes, storage)

    expiry = providers.Singleton(make_expiry, storage, wall_clock, clock, log, changes)

    tls = providers.Singleton(server_tls, settings)
    relay_tls = providers.Singleton(relay_tls, settings)
    admin_tls = providers.Singleton(admin_tls, settings)
    about = providers.Singleton(_about, settings)
    topology: providers.Provider[Topology | None] = providers.Object(None)

    process_key = providers.Singleton(ProcessKey)
    user_source = providers.Singleton(security.UserSource, settings)
    saving = providers.Resource(security.background, 1, polite=False)
    checking = providers.Resource(security.background, THREADS, polite=True)
    users = providers.Singleton(security.users, user_source, saving, process_key)
    authenticator = providers.Singleton(
        Authenticator, users, process_key, checking, THREADS, providers.Object(asyncio.get_running_loop), clock, log
    )
    refusals = providers.Singleton(Refusals, wall_clock)
    audit: providers.Provider[Audit | None] = providers.Resource(opened_audit, settings, kvs.__version__, log, users)

    clients = providers.Singleton(ChannelRegistry)
    server_limits = providers.Singleton(_server_limits, settings, log)
    observation = providers.Singleton(make_observation, settings, storage, audit)
    tracking = providers.Singleton(make_tracking, settings, storage, changes, budget)
    handshakes = providers.Singleton(make_handshakes, server_limits)
    sources = providers.Singleton(
        figure_sources, clients, server_limits, observation, tracking, authenticator, tls, handshakes
    )

    registry = providers.Singleton(
        SessionRegistry,
        storage=storage,
        limits=providers.Factory(from_settings, SessionLimits, settings),
        budget=budget,
        clock=clock,
        about=about,
        log_events_dropped=providers.Factory(dropped_events, stderr),
        memory_figures=providers.Object(memory_figures),
        audit_figures=providers.Factory(audit_figures, audit),
        log=log,
        topology=topology,
        records=providers.Factory(_stores_records, settings),
        disposal=disposal,
        expiry=expiry,
        changes=changes,
        sources=sources,
        wall_clock=wall_clock,
    )
    collector = providers.Singleton(
        Collector, registry, storage, clients, observation, topology=topology, log=log, clock=clock
    )

    sessions = providers.Resource(
        open_sessions, storage, registry, expiry, budget, settings.provided.worker_threads, collector
    )

    parameters = providers.Singleton(_parameters, settings, options, server_limits)

    access = providers.Singleton(access, users, authenticator, refusals, clients, clock)

    line = providers.Singleton(
        line_protocol,
        limits=providers.Factory(from_settings, LineLimits, settings),
        budget=budget,
        observation=observation,
        security=access,
        log=log,
    )

    resp = providers.Singleton(
        resp_protocol,
        limits=providers.Factory(from_settings, RespLimits, settings),
        shared=providers.Factory(
            ServerContext,
            clients=clients,
            parameters=parameters,
            clock=wall_clock,
            uptime_clock=clock,
            disposal=disposal,
            observation=observation,
            tracking=tracking,
            security=access,
            changeable=providers.Factory(changeable, observation, server_limits, tracking, log_level),
            topology=topology,
        ),
        budget=budget,
        log=log,
    )

    detector = providers.Singleton(
        ProtocolDetector, open_session=sessions, line=line, line_verbs=frozenset(COMMANDS), resp=resp, resp_verbs=VERBS
    )

    backend = providers.Singleton(_backend, settings)
    kept_sockets: providers.Provider[KeptSockets | None] = providers.Object(None)
    relays: providers.Provider[RelayGuard | None] = providers.Object(None)
    standby: providers.Provider[Standby | None] = providers.Object(None)
    cut_off: providers.Provider[Callable[[], None]] = providers.Object(lambda: None)
    admin_tokens = providers.Singleton(AdminTokens, settings)
    admin = providers.Resource(served_admin, settings, admin_tokens, users, health, about, log, audit, admin_tls)
    reloaders = providers.Dict(
        users=providers.Factory(security.users_reloader, user_source, users, process_key),
        tls=providers.Factory(tls_reloader, tls, admin_tls, relay_tls),
        admin_tokens=providers.Factory(tokens_reloader, admin_tokens),
        clock=providers.Factory(clock_reloader, expiry),
    )

    server = providers.Singleton(
        Server,
        endpoints=providers.Factory(endpoints, settings, detector.provided.connect, parameters, tls, kept_sockets),
        backend=backend,
        registry=clients,
        handshakes=handshakes,
        storage=storage,
        disposal=disposal,
        expiry=expiry,
        tracking=tracking,
        limits=server_limits,
        budget=budget,
        observation=observation,
        users=users,
        signals=signals,
        notifier=notifier,
        relays=relays,
        about=providers.Factory(_about_listening, about, settings),
        log=log,
        health=health,
        collector=collector,
        sources=sources,
        topology=topology,
        standby=standby,
        cut_off=cut_off,
        reloaders=reloaders,
        needs_no_secret=providers.Factory(security.needs_no_secret, users),
        keep_house=providers.Factory(security.adopter, user_source, users, log),
    )


def serve(container: Container) -> int:
    """Run a server until it is stopped; return the exit code.

    The engine is closed on every exit but one: when it hangs, the process ends here.

    Raises:
        ConfigError: The engine is not available, or rejects its options.
        StorageOpenError: The engine cannot be opened.
        ListenError: An address cannot be listened on.
    """
    signals = container.signals()
    signals.install()
    with ExitStack() as ending:
        ending.callback(signals.finish)
        ending.enter_context(stderr_replaced(container.stderr()))
        try:
            # These first: they may be refused, and the engine may take a while.
            settings = container.settings()
            trusted_networks(settings)
            if not _open_unless_stopped(container, lambda: (container.tls(), container.audit(), container.admin())):
                return _leave_unopened(container)
            _warn_of_unused_directory(settings, container.log())
            stand_by = engines.get(settings.storage).stand_by
            if stand_by is not None:
                return _serve_by_turns(container, stand_by)
            if not _open_unless_stopped(container, container.storage):
                return _leave_unopened(container)
            return run_server(container)
        finally:
            shut_down(container)
            signals.ignore()


def run_server(container: Container) -> int:
    """Run the server of an open engine until it is stopped, or its engine fails; return the exit code."""
    server = container.server()
    if not container.backend().needs_gc:
        tune_gc()
    tune_malloc()
    if container.storage().blocking:
        tune_thread_switching()
    try:
        return asyncio.run(server.run())
    finally:
        if server.engine_hung:
            # Anything less would close the engine under its calls, as the interpreter does with what is left over, and
            # might wait for threads of the engine's own.
            audit = container.audit()
            if audit is not None:
                audit.drain()
            _end_process(container, 1)


def _serve_by_turns(container: Container, stand_by: StandBy) -> int:
    from kvs.turns import serve_by_turns  # noqa: PLC0415  # what only some engines need

    settings = container.settings()
    options = read_options(settings.storage, engines.get(settings.storage).options, container.options())
    return serve_by_turns(container, lambda address: stand_by(settings, options, address, container.log()))


def _open_unless_stopped(container: Container, part: Callable[[], object]) -> bool:
    """Open the engine, or read what may be a pipe; return whether that was done before a signal arrived."""
    log, signals = container.log(), container.signals()
    try:
        with signals.interrupting():
            part()
    except (Stopped, Exception):
        if signals.stopping is None:
            raise
    if signals.stopping is None:
        return True
    container.notifier().stopping()
    log.info("stopping", signal=signals.stopping.name, clients=0)
    return False


def _leave_unopened(container: Container) -> NoReturn:
    """Close the engine as far as it was opened, and end the process: a half-open engine may have running threads."""
    code = 0
    try:
        shut_down(container)
    except Exception as error:  # noqa: BLE001  # whatever another package raises, this is the end
        container.log().error("engine_failed", exc_info=error)
        code = 1
    container.log().info("stopped", exit_code=code)
    _end_process(container, code)


def _end_process(container: Container, code: int) -> NoReturn:
    container.signals().ignore()
    container.stderr().drain()
    os._exit(code)


def shut_down(container: Container) -> None:
    """Close everything: the workers first, so that the engine is not closed during one of their calls."""
    container.sessions.shutdown()  # the container keeps no order where a part has been replaced
    container.shutdown_resources()

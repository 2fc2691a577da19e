"""What makes a server visible: its figures, and the admin port."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final, final

from kvs.adapters.inbound.net.handshakes import Handshakes
from kvs.adapters.inbound.net.health import Health
from kvs.adapters.inbound.net.listener import KeptSockets, TcpBinding
from kvs.adapters.inbound.net.registry import ChannelRegistry
from kvs.adapters.inbound.net.reloading import Reloader
from kvs.adapters.inbound.net.timeouts import ServerLimits
from kvs.adapters.inbound.protocol.audit import Audit
from kvs.adapters.inbound.protocol.observation import Observation
from kvs.adapters.inbound.protocol.tracking import Tracking
from kvs.adapters.inbound.resp.replies import invalidation
from kvs.allocator import memory_figures
from kvs.application.authentication import Authenticator
from kvs.application.changes import ChangeFeed
from kvs.application.figures import Sources
from kvs.application.memory_budget import MemoryBudget
from kvs.application.users import Users
from kvs.config import ConfigError, Settings
from kvs.listening import tls_figures
from kvs.log_type import FilteringBoundLogger
from kvs.ports.storage import Storage
from kvs.secret_files import read_secret
from kvs.security import beyond_loopback

if TYPE_CHECKING:
    from kvs.adapters.inbound.admin.access import Access
    from kvs.adapters.inbound.net.certificates import ServerTls

TOKEN_FILES: Final = ("admin_token_file", "metrics_token_file")
INSTALL: Final = "pip install h11"


def no_tls() -> None:
    """Return that nothing is encrypted."""


def make_changes(storage: Storage) -> ChangeFeed:
    changes = ChangeFeed()
    if storage.blocking:
        changes.use_workers()
    return changes


def make_tracking(settings: Settings, storage: Storage, changes: ChangeFeed, budget: MemoryBudget) -> Tracking:
    tracking = Tracking(changes, budget, settings.tracking_table_max_keys, invalidation, settings.max_tick_output_bytes)
    if storage.blocking:
        tracking.use_workers()
    return tracking


def figure_sources(
    clients: ChannelRegistry,
    limits: ServerLimits,
    observation: Observation,
    tracking: Tracking,
    authenticator: Authenticator,
    tls: "ServerTls | None",
    handshakes: Handshakes,
) -> Sources:
    """Return the sources of a server's figures, but for sessions, the engine and the ticks."""

    def others() -> dict[str, object]:
        return {
            "max_clients": limits.max_clients,
            "tracking_clients": len(tracking),
            "tracked_keys": len(tracking.table),
            "slow_commands": observation.slow_log.noted,
            "authentications": authenticator.succeeded,
            "authentication_failures": authenticator.failed,
            "password_checks": authenticator.checks,
        }

    sources = Sources()
    sources.add(clients.figures)
    sources.add(others)
    if tls is not None:
        sources.add(tls_figures(tls, handshakes))
    return sources


@final
class AdminTokens:
    """The tokens of the admin port, if there is one. SIGHUP has them read again.

    Args:
        settings: Tell the files.

    Attributes:
        admin: Opens everything; empty: there is none.
        metrics: Opens the metrics; empty: there is none.

    Raises:
        ConfigError: A file cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        has_port = settings.admin_port >= 0
        self._files = {name: getattr(settings, name) if has_port else "" for name in TOKEN_FILES}
        self._told: Callable[[bytes, bytes], None] | None = None
        self.admin, self.metrics = self._read()

    def _read(self) -> list[bytes]:
        return [read_secret(path, name) if path else b"" for name, path in self._files.items()]

    def tell(self, told: Callable[[bytes, bytes], None]) -> None:
        """Have a function called with tokens that have changed."""
        self._told = told

    async def reload(self) -> list[str]:
        """See :class:`kvs.adapters.inbound.net.reloading.Reloading`."""
        before = [self.admin, self.metrics]
        now = await asyncio.to_thread(self._read)
        changed = [name for name, old, new in zip(self._files, before, now, strict=True) if old != new]
        self.admin, self.metrics = now
        if changed and self._told is not None:
            self._told(self.admin, self.metrics)
        return changed


def tokens_reloader(tokens: AdminTokens) -> Reloader:
    """Return what reads the tokens again."""
    return tokens.reload


def served_admin(
    settings: Settings,
    tokens: AdminTokens,
    users: Users,
    health: Health,
    about: Mapping[str, str],
    log: FilteringBoundLogger,
    audit: Audit | None = None,
    tls: "ServerTls | None" = None,
) -> Iterator[None]:
    """Have an admin port, if the settings say so. A provider of one resource.

    Args:
        settings: The settings.
        tokens: Who may do what.
        users: Those of the server, which may need no secret.
        health: The server's.
        about: Its version, build and engine.
        log: Bound logger.
        audit: The audit log; None: there is none.
        tls: How connections are secured; None: they are not.

    Raises:
        ConfigError: Its packages are not installed, or a setting is not allowed.
        ListenError: Its address cannot be listened on.
    """
    if settings.admin_port < 0:
        yield
        return
    try:
        from kvs.adapters.inbound.admin.access import Access  # noqa: PLC0415  # of an extra
        from kvs.adapters.inbound.admin.port import AdminPort  # noqa: PLC0415
        from kvs.adapters.inbound.admin.site import Site  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(f"admin_port: the package {error.name} is not installed; try {INSTALL}") from None
    access = Access(tokens.admin, tokens.metrics, settings.admin_allowed_hosts, lambda: users.needs_no_secret)
    tokens.tell(access.set_tokens)

    def early_figures() -> dict[str, object]:
        return {**about, **memory_figures(), "cpu_s": time.process_time(), "leads": 0}

    with ExitStack() as ending:
        binding = TcpBinding(settings.admin_host, settings.admin_port)
        listening = KeptSockets([binding])
        ending.callback(listening.close)
        sockets = [ending.enter_context(sock) for sock in listening.sockets(binding)]
        _check_exposure(settings, [sock.getsockname()[0] for sock in sockets], access, has_tls=tls is not None)
        port = AdminPort(
            sockets, no_tls if tls is None else tls.now, Site(health, access, early_figures, log, audit).respond, log
        )
        port.start()
        ending.callback(port.close)
        host, number = listening.address
        log.info("admin_listening", host=host, port=number)
        yield


admin_port = contextmanager(served_admin)
"""The same, for the time of a context."""


def _check_exposure(settings: Settings, hosts: list[str], access: "Access", *, has_tls: bool) -> None:
    """Check that nobody else than users of this machine sees anything without a secret.

    Raises:
        ConfigError: Somebody might.
    """
    beyond = beyond_loopback(tuple(hosts))
    if beyond and settings.protected_mode and not (access.has_admin and has_tls):
        raise ConfigError(
            f"admin_host: {beyond} can be reached from other machines; that takes admin_token_file and "
            "tls_cert_file, or protected_mode = false"
        )

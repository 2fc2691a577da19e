"""Makes what a server listens on, and how it is secured, from the settings."""

import socket
from collections.abc import Callable, Mapping
from ipaddress import ip_network
from typing import Final

from kvs.adapters.inbound.net.certificates import ClientTls, ServerTls, TlsFiles
from kvs.adapters.inbound.net.guard import Guard, Terms
from kvs.adapters.inbound.net.handshakes import Handshakes
from kvs.adapters.inbound.net.listener import Binding, Endpoint, KeptSockets, TcpBinding
from kvs.adapters.inbound.net.proxy import Network, is_within
from kvs.adapters.inbound.net.reloading import Reloader
from kvs.adapters.inbound.net.timeouts import ServerLimits
from kvs.adapters.inbound.net.unix_socket import UnixBinding
from kvs.adapters.inbound.protocol.connection import ConnectionFactory
from kvs.config import ConfigError, Settings

OCTAL: Final = 8


def server_tls(settings: Settings) -> ServerTls | None:
    """Return how connections of clients are secured; None: they are not.

    Raises:
        ConfigError: Settings contradict each other.
        TlsFileError: A file cannot be used.
    """
    if not settings.tls_cert_file:
        for name, given in (
            ("tls_key_file", settings.tls_key_file),
            ("tls_port", settings.tls_port),
            ("tls_client_certs", settings.tls_client_certs != "off"),
            ("tls_required", settings.requires_tls),
        ):
            if given:
                raise ConfigError(f"{name}: needs tls_cert_file, which is not given")
        return None
    if settings.tls_client_certs != "off" and not settings.tls_ca_file:
        raise ConfigError(f"tls_client_certs: {settings.tls_client_certs!r} needs tls_ca_file, which is not given")
    if settings.tls_port and settings.tls_port == settings.port:
        raise ConfigError(f"tls_port: {settings.tls_port} is the port; give 0 for both on one port")
    return ServerTls(_files(settings))


def relay_tls(settings: Settings) -> ClientTls:
    """Return how connections to a leader are secured, if it requires TLS."""
    return ClientTls(_files(settings))


def admin_tls(settings: Settings) -> ServerTls | None:
    """Return how the admin port is secured, by the same certificate; None: it is not. Browsers show none of theirs.

    Raises:
        TlsFileError: A file cannot be used.
    """
    if settings.admin_port < 0 or not settings.tls_cert_file:
        return None
    return ServerTls(TlsFiles(settings.tls_cert_file, settings.tls_key_file, ""))


def tls_reloader(tls: ServerTls | None, admin: ServerTls | None, relays: ClientTls) -> Reloader:
    """Return what reads certificates again."""

    async def reload() -> list[str]:
        changed = [] if tls is None else await tls.reload()
        if admin is not None:
            await admin.reload()
        relays.forget()
        return changed

    return reload


def tls_figures(tls: ServerTls, handshakes: Handshakes) -> Callable[[], Mapping[str, int]]:
    """Return what returns the figures of TLS."""
    return lambda: {
        "tls_certificate_expires": tls.expires_s,
        "tls_handshakes": handshakes.completed,
        "tls_handshakes_failed": handshakes.failed,
    }


def make_handshakes(limits: ServerLimits) -> Handshakes:
    """Return the bound of handshakes under way: half of the clients."""
    return Handshakes(limits.max_clients // 2)


def bindings(settings: Settings) -> list[Binding]:
    """Return what is listened on; the first of them has the address at which others reach this server."""
    found: list[Binding] = [binding for binding, _ in _ports(settings)]
    if settings.unix_socket:
        found.append(UnixBinding(settings.unix_socket, int(settings.unix_socket_mode, OCTAL)))
    return found


def endpoints(
    settings: Settings,
    connect: ConnectionFactory,
    parameters: dict[bytes, bytes],
    tls: ServerTls | None,
    kept: KeptSockets | None,
) -> list[Endpoint]:
    """Return the endpoints of the server.

    Args:
        settings: The settings.
        connect: Opens connections.
        parameters: Of CONFIG GET; they get the ports that are bound, since a setting may be 0.
        tls: How connections are secured; None: they are not.
        kept: Sockets that are bound already.

    Raises:
        ConfigError: A network is none.
    """
    networks = trusted_networks(settings)
    made = []
    for binding, terms in _ports(settings, tls):
        secured_only = settings.tls_port and terms.tls is not None
        made.append(
            Endpoint(
                binding,
                connect,
                _guards(terms, networks),
                _noting(parameters, b"tls-port" if secured_only else b"port"),
                kept,
            )
        )
    return made + [Endpoint(binding, connect, kept=kept) for binding in bindings(settings)[len(made) :]]


def _ports(settings: Settings, tls: ServerTls | None = None) -> list[tuple[TcpBinding, Terms]]:
    """Return each port, with what its clients have to begin with."""
    context = None if tls is None else tls.now
    plain, both = TcpBinding(settings.host, settings.port), Terms(context, settings.requires_tls)
    if not settings.tls_port:
        return [(plain, both)]
    secured = (TcpBinding(settings.host, settings.tls_port), Terms(context, tls_required=True))
    return [secured] if settings.requires_tls else [(plain, Terms()), secured]


def _guards(terms: Terms, networks: tuple[Network, ...]) -> Callable[[str], Guard | None]:
    """Return what returns the guard of a client, given its address."""
    proxied = Terms(terms.tls, terms.tls_required, proxied=True)

    def guard(address: str) -> Guard | None:
        if networks and is_within(address, networks):
            return Guard(proxied)
        return None if terms.tls is None else Guard(terms)

    return guard


def _noting(parameters: dict[bytes, bytes], name: bytes) -> Callable[[socket.socket], None]:
    def note(sock: socket.socket) -> None:
        parameters[name] = b"%d" % sock.getsockname()[1]

    return note


def trusted_networks(settings: Settings) -> tuple[Network, ...]:
    """Return from where connections begin with a header of the PROXY protocol.

    Raises:
        ConfigError: One is no network.
    """
    networks = []
    for text in settings.proxy_protocol_from:
        try:
            networks.append(ip_network(text, strict=False))
        except ValueError:
            raise ConfigError(
                f"proxy_protocol_from: {text!r} is not allowed; allowed: a network, such as 10.0.0.0/8, or an address"
            ) from None
    return tuple(networks)


def _files(settings: Settings) -> TlsFiles:
    return TlsFiles(settings.tls_cert_file, settings.tls_key_file, settings.tls_ca_file, settings.tls_client_certs)

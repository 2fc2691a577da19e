"""Where etcd is: addresses, tried in turn, and what secures the connections."""

import random
import re
import ssl
from ipaddress import IPv6Address
from pathlib import Path
from typing import Final, NamedTuple, final

from kvs.addresses import format_address
from kvs.secret_files import has_passphrase

FIRST_DELAY_S: Final = 0.05
LONGEST_DELAY_S: Final = 1.0
DEFAULT_PORT: Final = 2379
MAX_NAMESPACE_BYTES: Final = 64

HOST_NAME: Final = re.compile(r"[\w-]{1,63}(\.[\w-]{1,63})*\.?")
"""A name or an IPv4 address. What is no letter of ASCII is encoded when the name is looked up."""


class Endpoint(NamedTuple):
    """The address of a member."""

    host: str
    port: int

    def __str__(self) -> str:
        return format_address(self)


def parse_endpoints(text: str) -> tuple[Endpoint, ...]:
    """Return the addresses of a list with commas: ``host``, ``host:port``, ``[IPv6]:port``.

    Raises:
        ValueError: The message names the address, and says what is wrong with it.
    """
    endpoints: list[Endpoint] = []
    for part in text.split(","):
        address = part.strip()
        if "://" in address:
            raise ValueError(f"{address!r}: an endpoint is host:port, without a scheme; ca_file turns TLS on")
        host, port = _split(address)
        endpoint = Endpoint(host, DEFAULT_PORT if port is None else port)
        if endpoint not in endpoints:
            endpoints.append(endpoint)
    return tuple(endpoints)


def parse_address(text: str) -> Endpoint:
    """Return one address, with a port: ``host:port``, ``[IPv6]:port``.

    Raises:
        ValueError: The message names the address, and says what is wrong with it.
    """
    host, port = _split(text)
    if port is None:
        raise ValueError(f"{text!r} has no port: an address is host:port")
    return Endpoint(host, port)


def _split(address: str) -> tuple[str, int | None]:
    """Return host and port; None: there is no port."""
    if address.startswith("["):
        host, bracket, rest = address[1:].partition("]")
        if not (bracket and _is_ipv6(host)) or (rest and not rest.startswith(":")):
            raise ValueError(f"{address!r}: an IPv6 address is [address]:port")
        colon, port = rest[:1], rest[1:]
    else:
        host, colon, port = address.partition(":")
        if _is_ipv6(address):
            raise ValueError(f"{address!r}: an IPv6 address is [address]:port")
        if not HOST_NAME.fullmatch(host):
            raise ValueError(f"{address!r}: {host!r} is not the name or the address of a host; an address is host:port")
    if not colon:
        return host, None
    if not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise ValueError(f"{address!r}: {port!r} is not a port; an address is host:port")
    return host, int(port)


def _is_ipv6(host: str) -> bool:
    try:
        IPv6Address(host)
    except ValueError:
        return False
    return True


def namespace_prefix(name: str) -> bytes:
    """Return what the keys of a namespace begin with: a name of one segment, so that none lies inside another.

    Raises:
        ValueError: The message says which names there are.
    """
    if not re.fullmatch(rf"[A-Za-z0-9._-]{{1,{MAX_NAMESPACE_BYTES}}}", name):
        raise ValueError(f"namespace: {name!r} is not 1 to {MAX_NAMESPACE_BYTES} letters, digits, dots, dashes and _")
    return name.encode() + b"/"


def tls_context(ca_file: Path, cert_file: Path | None = None, key_file: Path | None = None) -> ssl.SSLContext:
    """Return how connections are secured: the server's certificate is checked against ``ca_file`` and its name.

    Raises:
        ValueError: A file cannot be used; the message names it.
    """
    if (cert_file is None) != (key_file is None):
        raise ValueError("cert_file and key_file belong together")
    try:
        context = ssl.create_default_context(cafile=str(ca_file))
    except OSError as error:  # SSLError is one
        raise ValueError(f"ca_file: {ca_file}: {error.strerror or error}") from None
    if cert_file is not None and key_file is not None:
        _load_chain(context, cert_file, key_file)
    context.set_alpn_protocols(["h2"])
    return context


def _load_chain(context: ssl.SSLContext, cert_file: Path, key_file: Path) -> None:
    try:
        key = key_file.read_bytes()
    except OSError as error:
        raise ValueError(f"key_file: {key_file}: {error.strerror or error}") from None
    if has_passphrase(key):
        raise ValueError(f"key_file: {key_file}: it has a passphrase, which nobody can be asked for")
    try:
        context.load_cert_chain(cert_file, key_file, password=lambda: "")  # it would ask the terminal
    except OSError as error:
        raise ValueError(f"cert_file, key_file: {cert_file}, {key_file}: {error.strerror or error}") from None


@final
class Rotation:
    """Which endpoint is next, and after what delay: none within a round, longer ones from round to round.

    Args:
        endpoints: At least one.
    """

    def __init__(self, endpoints: tuple[Endpoint, ...]) -> None:
        self._endpoints = endpoints
        self._at = 0
        self._failures = 0

    @property
    def endpoint(self) -> Endpoint:
        """The one in turn."""
        return self._endpoints[self._at]

    def failed(self) -> float:
        """Turn to the next; return how many seconds to wait before it is tried."""
        self._at = (self._at + 1) % len(self._endpoints)
        self._failures += 1
        rounds, rest = divmod(self._failures, len(self._endpoints))
        if rest or not rounds:
            return 0.0
        delay_s = min(LONGEST_DELAY_S, FIRST_DELAY_S * (1 << min(rounds - 1, 10)))
        return delay_s * random.uniform(0.5, 1)  # noqa: S311 - so that servers do not come all at once

    def worked(self) -> None:
        """Forget the failures: it has answered a call."""
        self._failures = 0

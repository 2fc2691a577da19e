"""Addresses: how people write them, and what can be said of them without asking the network."""

from typing import Any, TypeAlias

Address: TypeAlias = tuple[Any, ...]
"""A socket's address: host and port, and for IPv6 the flow and the number of the interface."""


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
    import socket  # noqa: PLC0415  # 3 ms of each command

    try:
        return f"{host}%{socket.if_indextoname(address[3])}"
    except OSError:  # the interface was removed
        return f"{host}%{address[3]}"


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address; of names, only ``localhost`` is known to be such."""
    from ipaddress import ip_address  # noqa: PLC0415  # 2 ms of each command

    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"

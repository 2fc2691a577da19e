"""The header of the PROXY protocol, by which a load balancer tells whom it has connected; versions 1 and 2.

https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt
"""

import re
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, TypeAlias

from kvs.addresses import format_address

Network: TypeAlias = IPv4Network | IPv6Network

SIGNATURE_1: Final = b"PROXY "
MAX_LINE_BYTES: Final = 107
SIGNATURE_2: Final = b"\r\n\r\n\0\r\nQUIT\n"
FIXED_BYTES: Final = 16
MAX_HEADER_BYTES: Final = 4096
"""Longest header of version 2 that is accepted, with all that others add to it."""

LOCAL: Final = 0x20
PROXIED: Final = 0x21
TCP_OVER_4: Final = 0x11
TCP_OVER_6: Final = 0x21

_LINE: Final = re.compile(
    rb"PROXY (?:(TCP4|TCP6) ([0-9A-Fa-f:.]{2,39}) [0-9A-Fa-f:.]{2,39} ([0-9]{1,5}) [0-9]{1,5}|UNKNOWN.*)\r\n"
)


class ProxyError(Exception):
    """Raised for what is no header."""


class ProxyHeader:
    """A header as far as it has arrived.

    Attributes:
        complete: Whether all of it is there.
        address: Of the client, as people write it; empty: that of the connection, which is the balancer's own.
    """

    __slots__ = ("_data", "address", "complete")

    def __init__(self) -> None:
        self.complete = False
        self.address = ""
        self._data = b""

    def take(self, data: bytes) -> bytes:
        """Take input; return what is behind the header.

        Raises:
            ProxyError: It is none.
        """
        data = self._data + data
        size = _size_of(data)
        if not size:
            self._data = data
            return b""
        self.complete = True
        self._data = b""
        self.address = _address_in(data[:size])
        return data[size:]


def is_within(address: str, networks: tuple[Network, ...]) -> bool:
    """Return whether an address, with its port, is in one of these networks; IPv4 within IPv6 counts as IPv4."""
    host = address.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        found = ip_address(host)
    except ValueError:
        return False
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found in network for network in networks)


def _size_of(data: bytes) -> int:
    """Return the size of the header at the beginning; 0 while that is not known or it is incomplete."""
    if data.startswith(SIGNATURE_2):
        if len(data) < FIXED_BYTES:
            return 0
        size = FIXED_BYTES + int.from_bytes(data[14:FIXED_BYTES], "big")
        if data[12] not in (LOCAL, PROXIED) or size > MAX_HEADER_BYTES:
            raise ProxyError("malformed header of the PROXY protocol")
        return size if len(data) >= size else 0
    if data.startswith(SIGNATURE_1):
        end = data.find(b"\r\n", 0, MAX_LINE_BYTES)
        if end < 0 and len(data) >= MAX_LINE_BYTES:
            raise ProxyError("malformed header of the PROXY protocol")
        return end + 2 if end >= 0 else 0
    if SIGNATURE_2.startswith(data) or SIGNATURE_1.startswith(data):
        return 0
    raise ProxyError("no header of the PROXY protocol")


def _address_in(header: bytes) -> str:
    if header.startswith(SIGNATURE_2):
        return _address_in_block(header)
    match = _LINE.fullmatch(header)
    if match is None:
        raise ProxyError("malformed header of the PROXY protocol")
    if match[1] is None:
        return ""
    try:
        address, port = ip_address(match[2].decode()), int(match[3])
    except ValueError:
        raise ProxyError("malformed header of the PROXY protocol") from None
    if (address.version == 4) != (match[1] == b"TCP4") or port > 65_535:
        raise ProxyError("malformed header of the PROXY protocol")
    return format_address((str(address), port))


def _address_in_block(header: bytes) -> str:
    family, body = header[13], header[FIXED_BYTES:]
    if header[12] == LOCAL or family not in (TCP_OVER_4, TCP_OVER_6):
        return ""
    width = 4 if family == TCP_OVER_4 else 16
    if len(body) < 2 * width + 4:
        raise ProxyError("malformed header of the PROXY protocol")
    port = int.from_bytes(body[2 * width : 2 * width + 2], "big")
    return format_address((str(ip_address(body[:width])), port))

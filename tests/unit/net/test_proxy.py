"""Headers of the PROXY protocol: whom they name, and what is none."""

from ipaddress import ip_network
from typing import Final

import pytest

from kvs.adapters.inbound.net.proxy import MAX_HEADER_BYTES, SIGNATURE_2, ProxyError, ProxyHeader, is_within

FOUR: Final = bytes([192, 0, 2, 1, 192, 0, 2, 2]) + b"\x04\xd2\x0f\xa0"
SIX: Final = bytes(15) + b"\1" + bytes(15) + b"\2" + b"\x04\xd2\x0f\xa0"


def block(command: int, family: int, body: bytes) -> bytes:
    """Return a header of version 2."""
    return SIGNATURE_2 + bytes([command, family]) + len(body).to_bytes(2, "big") + body


ACCEPTED: Final = {
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1234 4000\r\n": "192.0.2.1:1234",
    b"PROXY TCP6 2001:db8::1 2001:db8::2 1234 4000\r\n": "[2001:db8::1]:1234",
    b"PROXY UNKNOWN\r\n": "",
    b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n": "",
    block(0x21, 0x11, FOUR): "192.0.2.1:1234",
    block(0x21, 0x11, FOUR + b"\x04\x00\x03abc"): "192.0.2.1:1234",  # with what others add
    block(0x21, 0x21, SIX): "[::1]:1234",
    block(0x20, 0x00, b""): "",  # the balancer's own check
    block(0x21, 0x31, bytes(216)): "",  # a Unix socket
}

REFUSED: Final = [
    b"GET a\n",
    b"\x16\x03\x01\x00\x00",
    b"PROXY TCP4 2001:db8::1 2001:db8::2 1234 4000\r\n",
    b"PROXY TCP6 192.0.2.1 192.0.2.2 1234 4000\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 99999 4000\r\n",
    b"PROXY TCP4 192.0.2.999 192.0.2.2 1 4000\r\n",
    b"PROXY TCP4 192.0.2.1\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1234 4000\n" + b"x" * 107,
    b"PROXY " + b"x" * 107,
    block(0x11, 0x11, FOUR),
    block(0x22, 0x11, FOUR),
    block(0x21, 0x11, FOUR[:-1]),
    block(0x21, 0x11, bytes(MAX_HEADER_BYTES)),
]


@pytest.mark.parametrize("header", ACCEPTED, ids=lambda header: repr(header[:30]))
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_header(header: bytes, size: int) -> None:
    """In any pieces; what is behind it is passed on."""
    taken, sent = ProxyHeader(), header + b"PING\n"
    behind = b"".join([taken.take(sent[at : at + size]) for at in range(0, len(header), size)])
    assert taken.complete
    assert sent.startswith(header + behind)
    assert taken.address == ACCEPTED[header]


@pytest.mark.parametrize("header", REFUSED, ids=lambda header: repr(header[:30]))
@pytest.mark.parametrize("size", [1, 1000])
def test_what_is_no_header(header: bytes, size: int) -> None:
    """Is refused as soon as that is certain, and never kept beyond the bound."""
    taken = ProxyHeader()

    def take_all() -> None:
        for at in range(0, len(header), size):
            assert taken.take(header[at : at + size]) == b""

    with pytest.raises(ProxyError):
        take_all()


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("10.1.2.3:4000", True),
        ("11.1.2.3:4000", False),
        ("[::ffff:10.1.2.3]:4000", True),
        ("[fe80::1%eth0]:4000", True),
        ("[2001:db8::1]:4000", False),
        ("/run/kvs.sock:0", False),
    ],
)
def test_networks(address: str, inside: bool) -> None:
    """Of addresses as they are written."""
    assert is_within(address, (ip_network("10.0.0.0/8"), ip_network("fe80::/10"))) is inside

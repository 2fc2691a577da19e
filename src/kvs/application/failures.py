"""Which addresses have failed to authenticate, and how long each has to wait before it may try again."""

import socket
from itertools import islice
from typing import Final, final

FREE_FAILURES: Final = 5
"""Failures of an address before it is slowed down: people mistype."""

FIRST_DELAY_S: Final = 0.25
MAX_DELAY_S: Final = 4.0
FORGET_S: Final = 900.0
"""Time without a failure after which an address is as good as new."""

MAX_ADDRESSES: Final = 10_000
"""Addresses whose failures are remembered; the one that failed longest ago makes room."""

LOG_EVERY_S: Final = 10.0
"""Least time between two events of failures of one address."""

_MAPPED: Final = bytes(10) + b"\xff\xff"


@final
class _Record:
    """What an address has failed to do."""

    __slots__ = ("count", "last_s", "logged_s", "not_before_s", "unlogged")

    def __init__(self) -> None:
        self.count = 0
        self.last_s = 0.0
        self.not_before_s = 0.0
        self.unlogged = 0
        self.logged_s = float("-inf")


@final
class Failures:
    """The failures of addresses: a bounded table that forgets."""

    __slots__ = ("_records",)

    def __init__(self) -> None:
        self._records: dict[bytes, _Record] = {}

    def __len__(self) -> int:
        return len(self._records)

    def has(self, network: bytes) -> bool:
        """Return whether there was a failure."""
        return network in self._records

    def not_before_s(self, network: bytes) -> float:
        """Return when the next check may begin."""
        record = self._records.get(network)
        return 0.0 if record is None else record.not_before_s

    def add(self, network: bytes, number: int, now_s: float) -> int:
        """Add some failures; return how many are to be logged now, 0 if it is too early for that."""
        records = self._records
        record = records.pop(network, None)
        if record is None or record.last_s + FORGET_S < now_s:
            record = _Record()
        records[network] = record  # the newest is the last
        record.count += number
        record.unlogged += number
        record.last_s = now_s
        record.not_before_s = now_s + delay_s(record.count)
        for oldest in list(islice(records, 2)):  # two for each that comes, so that they cannot pile up
            if len(records) > MAX_ADDRESSES or records[oldest].last_s + FORGET_S < now_s:
                del records[oldest]
        if now_s - record.logged_s < LOG_EVERY_S:
            return 0
        record.logged_s = now_s
        unlogged, record.unlogged = record.unlogged, 0
        return unlogged


def delay_s(failures: int) -> float:
    """Return how long an address has to wait after so many failures."""
    beyond = failures - FREE_FAILURES
    return 0.0 if beyond < 0 else min(MAX_DELAY_S, FIRST_DELAY_S * 2.0 ** min(beyond, 16))


def network_of(address: str) -> bytes:
    """Return what an address is slowed down with: of IPv4 itself, of IPv6 its network of 64 bits, else its text.

    Args:
        address: With or without a port.
    """
    host, colon, port = address.rpartition(":")
    host = host if colon and port.isdigit() and (":" not in host or host.endswith("]")) else address
    host = host.removeprefix("[").removesuffix("]").partition("%")[0]
    try:
        packed = socket.inet_pton(socket.AF_INET6, host)
    except (OSError, ValueError):
        return host.encode("utf-8", "surrogateescape")
    if packed.startswith(_MAPPED):
        return socket.inet_ntop(socket.AF_INET, packed[12:]).encode()
    return packed[:8]

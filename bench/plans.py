"""What `quick` and `full` measure, and in which order."""

from dataclasses import dataclass, replace
from itertools import product
from typing import Final

from bench.generator import Work

DEPTHS: Final = (1, 16, 64)
KEYS: Final = 100_000
HOT_KEYS: Final = 100
MAX_DATA_BYTES: Final = 256 << 20  # of one server; four or five run side by side
MAX_IN_FLIGHT_BYTES: Final = 64 << 20  # what all clients together may have under way at once
MANY_IN_FLIGHT: Final = 16_000  # so many requests, or bytes, take a server a noticeable part of a short run
MANY_IN_FLIGHT_BYTES: Final = 32 << 20


@dataclass(frozen=True, slots=True)
class Plan:
    """Cells of work, grouped by value size: each group gets fresh servers, loaded with values of that size.

    Attributes:
        rounds: How often each cell is measured on each server, in alternating order.
    """

    name: str
    rounds: int
    groups: tuple[tuple[Work, ...], ...]


def quick(rounds: int | None, seconds: float | None) -> Plan:
    """Return the plan of about three minutes: the figures that are quoted first."""
    base = Work("mixed", keys=KEYS, seconds=seconds or 0.6)
    works = [replace(base, depth=depth) for depth in DEPTHS]
    return Plan("quick", rounds or 5, ((*works, *_transactions(base, depths=(1, 16))),))


def full(rounds: int | None, seconds: float | None) -> Plan:
    """Return the plan of about half an hour: every combination."""
    base = Work("mixed", keys=KEYS, seconds=seconds or 0.6, warmup_s=0.15)
    groups = []
    for value_bytes in (32, 1 << 10, 64 << 10):
        sized = replace(base, value_bytes=value_bytes, keys=min(KEYS, MAX_DATA_BYTES // value_bytes))
        works = [
            _long_enough(replace(sized, workload=workload, connections=connections, depth=depth))
            for workload, connections, depth in product(("put", "get", "mixed"), (1, 50, 1000), DEPTHS)
            if value_bytes * connections * depth <= MAX_IN_FLIGHT_BYTES
        ]
        if value_bytes == base.value_bytes:
            works += _transactions(base, depths=DEPTHS)
        groups.append(tuple(works))
    return Plan("full", rounds or 3, tuple(groups))


def _long_enough(work: Work) -> Work:
    """Lengthen a run in which a server that answers everybody at once would answer only a few times."""
    in_flight = work.connections * work.depth
    if in_flight < MANY_IN_FLIGHT and in_flight * work.value_bytes < MANY_IN_FLIGHT_BYTES:
        return work
    return replace(work, seconds=3 * work.seconds, warmup_s=3 * work.warmup_s)


def _transactions(base: Work, *, depths: tuple[int, ...]) -> list[Work]:
    """Return the transactions: each client on its own keys, then all on the same few.

    Sent together, a transaction runs in one go and hardly ever meets another. Only the one that is split, as
    that of a client who thinks between reading and writing, conflicts.
    """
    alone = [replace(base, workload="txn", depth=depth) for depth in depths]
    contended = [replace(base, workload=workload, hot_keys=HOT_KEYS) for workload in ("txn", "txn-split")]
    return [*alone, replace(base, workload="txn-split"), *contended]

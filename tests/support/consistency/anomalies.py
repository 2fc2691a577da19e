"""What can be wrong with a history, by its names in the literature where it has one.

Source: A. Adya, Weak Consistency, 1999, for those that begin with G; K. Kingsbury and P. Alvaro, Elle, 2020, for how
they are found from what clients have seen.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from tests.support.consistency.graph import BY_CLOCK, CLOCK, RANGE_RW, RW, WR, WW, Edge

MANY: Final = 1 << 30


class Anomaly(Enum):
    """The names."""

    DIRTY_WRITE = "G0: dirty write"
    ABORTED_READ = "G1a: aborted read"
    INTERMEDIATE_READ = "G1b: intermediate read"
    CIRCULAR_FLOW = "G1c: circular information flow"
    READ_SKEW = "G-single: read skew"
    LOST_UPDATE = "lost update"
    WRITE_SKEW = "G2: write skew"
    PHANTOM = "G2: phantom"
    MISSED_CONFLICT = "missed conflict: what it had read had changed before its COMMIT"
    STALE_READ = "real-time order: stale read"
    LOST_WRITE = "real-time order: lost write"
    REAL_TIME = "real-time order"
    EXPIRED_READ = "read of what had expired"
    INTERNAL = "internal inconsistency"
    APPLIED_TWICE = "applied twice"
    INVENTED = "value that nobody wrote"


@dataclass(frozen=True)
class Finding:
    """An anomaly in a history.

    Attributes:
        anomaly: Which.
        transactions: The numbers of those that are part of it.
        text: What happened, in words.
    """

    anomaly: Anomaly
    transactions: tuple[int, ...]
    text: str

    def __str__(self) -> str:
        return f"{self.anomaly.value}\n{self.text}"


_READS = {kind | by_clock for kind in (RW, RANGE_RW) for by_clock in (0, BY_CLOCK)}
_BY_CLOCK = {WW | BY_CLOCK, WR | BY_CLOCK}

LEVELS: Final[tuple[tuple[Collection[int], int], ...]] = (
    ({WW}, MANY),
    ({WW, WR}, MANY),
    ({WW, WR, RW}, MANY),
    ({WW, WR, RW, RANGE_RW}, MANY),
    (_READS | {CLOCK}, 2),
    ({WW, WR, CLOCK} | _READS | _BY_CLOCK, MANY),
)
"""Kinds of edges of which a cycle is looked for, the worst first, and how long it may be."""


def name_of(cycle: Sequence[Edge], keys: Sequence[str]) -> Anomaly:
    """Return what a cycle is called.

    Args:
        cycle: Its edges.
        keys: The key that each edge is about; "" for none.
    """
    kinds = [edge.kind & ~BY_CLOCK for edge in cycle]
    reads = [at for at, kind in enumerate(kinds) if kind in (RW, RANGE_RW)]
    if CLOCK in kinds or any(edge.kind & BY_CLOCK for edge in cycle):
        if len(cycle) == 2 and reads and CLOCK in kinds:
            return Anomaly.STALE_READ
        return Anomaly.REAL_TIME
    if not reads:
        return Anomaly.CIRCULAR_FLOW if WR in kinds else Anomaly.DIRTY_WRITE
    if len(cycle) == 2 and len(set(keys)) == 1 and WR not in kinds:
        return Anomaly.LOST_UPDATE
    if RANGE_RW in kinds:
        return Anomaly.PHANTOM
    return Anomaly.READ_SKEW if len(reads) == 1 else Anomaly.WRITE_SKEW

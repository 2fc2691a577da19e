"""The formats of what is stored, so that a new one needs no moment at which all servers are stopped.

The key ``cluster`` has the format in use: the highest that anything may have. Who does not read it is refused. Each
server writes the highest that it knows up to the one in use, and registers which it reads and writes. So a version with
another format is installed on one server after the other, while all go on with the one in use; once none is left that
cannot read the new one, ``kvs cluster finish-upgrade`` puts that in use.
"""

from collections.abc import Iterable
from typing import Final, final

READS: Final[tuple[int, ...]] = (1,)
"""The formats that this version reads."""

WRITES: Final[tuple[int, ...]] = (1,)
"""The formats that this version writes."""


@final
class Formats:
    """The format in use, and what this version makes of it.

    Attributes:
        in_use: The highest that anything stored may have; it only grows.
    """

    def __init__(self) -> None:
        self.in_use = min(WRITES)

    @property
    def writes(self) -> int:
        """The format in which this server writes."""
        return max(each for each in WRITES if each <= self.in_use)


def refusal_of(found: int) -> str:
    """Return why a format cannot be read here; empty if it can."""
    if found in READS:
        return ""
    return f"has format {found}; this version of kvs knows format{listed(READS)}"


def refusal_to_use(in_use: int) -> str:
    """Return why this version cannot take part while a format is in use; empty if it can."""
    if min(WRITES) > in_use:
        return (
            f"has format {in_use}; this version of kvs writes format{listed(WRITES)}: finish the former upgrade first"
        )
    return refusal_of(in_use)


def listed(formats: Iterable[int]) -> str:
    """Return formats in words: `` 1``, ``s 1 and 2``."""
    *first, last = map(str, sorted(formats))
    return f"s {', '.join(first)} and {last}" if first else f" {last}"

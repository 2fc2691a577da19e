"""A median with its spread, the form in which every repeated measurement is reported."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import TypeAlias

Row: TypeAlias = Mapping[str, object]  # of a table of results: column to value
Sections: TypeAlias = dict[str, list[Row]]


@dataclass(frozen=True, slots=True)
class Spread:
    """The median, lowest and highest of the rounds."""

    median: float
    low: float
    high: float


def spread(values: Iterable[float]) -> Spread:
    """Summarise what the rounds showed."""
    ordered = sorted(values)
    return Spread(median(ordered), ordered[0], ordered[-1])

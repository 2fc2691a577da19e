"""Histograms of durations and of sizes, in memory that does not grow."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, final

if TYPE_CHECKING:
    from mypy_extensions import i64  # an int in a register, to the compiler

STEPS: Final = 8
"""Buckets for each power of two: a quantile is at most an eighth too high."""

MAX_NS: Final = (1 << 40) - 1
"""Durations above this, 18 minutes, are counted as this one."""

BUCKETS: Final = 304


def bucket_of(duration_ns: "i64") -> "i64":
    """Return the number of the bucket of a duration; a longer one than :data:`MAX_NS` counts as that, below 0 as 0."""
    shift: i64 = 0
    value: i64 = duration_ns
    if value > MAX_NS:
        value = MAX_NS
    elif value < 0:
        value = 0
    while value >= STEPS << 9:
        value >>= 8
        shift += 8
    while value >= STEPS << 1:
        value >>= 1
        shift += 1
    return shift * STEPS + value


def end_of(bucket: int) -> int:
    """Return the shortest duration in nanoseconds that is too long for a bucket."""
    shift = max(0, bucket // STEPS - 1)
    return (bucket - shift * STEPS + 1) << shift


def quantiles(counts: Sequence[int], shares: Sequence[float]) -> list[int]:
    """Return values that given shares of all, in ascending order, do not exceed; 0 if there are none.

    Args:
        counts: Those of a histogram.
        shares: From 0 to 1.
    """
    total = sum(counts)
    found: list[int] = []
    below = bucket = 0
    for share in shares:
        while bucket < len(counts) and (not below or below < share * total):
            below += counts[bucket]
            bucket += 1
        found.append(end_of(bucket - 1) - 1 if below else 0)
    return found


@final
class Bucket:
    """A number that is counted up without allocating another."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count: i64 = 0


@final
class Histogram:
    """How often durations of about each length have occurred."""

    __slots__ = ("_buckets",)

    def __init__(self) -> None:
        self._buckets = [Bucket() for _ in range(BUCKETS)]

    def add(self, bucket: "i64", times: "i64") -> None:
        """Count a duration so many times, by its :func:`bucket_of`."""
        self._buckets[bucket].count += times

    def counts(self) -> list[int]:
        """Return how often there was a duration of each bucket."""
        return [int(bucket.count) for bucket in self._buckets]

    def quantiles_ns(self, shares: list[float]) -> list[int]:
        """Return durations that given shares of all, in ascending order, do not exceed; 0 if there are none."""
        return quantiles(self.counts(), shares)

    def below_ns(self, limit_ns: int) -> int:
        """Return how many durations were shorter than a power of two of nanoseconds."""
        return sum([int(bucket.count) for bucket in self._buckets[: bucket_of(limit_ns)]])

    def clear(self) -> None:
        """Forget everything."""
        for bucket in self._buckets:
            bucket.count = 0


class Counts(NamedTuple):
    """What a distribution was at one moment.

    Attributes:
        buckets: How many values there were of each bucket.
        total: Their sum.
    """

    buckets: Sequence[int]
    total: int


@final
class Distribution:
    """A histogram of values of any kind, with their sum. One thread at a time adds to it."""

    __slots__ = ("_histogram", "_total")

    def __init__(self) -> None:
        self._histogram = Histogram()
        self._total = 0

    def add(self, value: int) -> None:
        """Count a value, which is not negative."""
        self._histogram.add(bucket_of(value), 1)
        self._total += value

    def read(self) -> Counts:
        """Return what it is now. By any thread; a value that is just being added may be in one part only."""
        return Counts(self._histogram.counts(), self._total)

"""The figures of a server: where they are read, and what they are called.

Whatever counts something gives its figures by name, in a dict: it is a *source*. INFO, ``/metrics`` and the status page
show what the sources give, and :data:`kvs.application.figure_table.FIGURES` says of each name what it means.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, final

from kvs.ports.histogram import Counts

if TYPE_CHECKING:
    from collections.abc import Iterator

COUNTER: Final = "counter"
"""Only grows while the server runs."""

GAUGE: Final = "gauge"
HISTOGRAM: Final = "histogram"
TEXT: Final = "text"
"""A word about the server: the label of a metric that is always 1."""

ABORTS: Final = "aborts_by_reason"
ENGINE_FAILED: Final = "engine failed"
"""A figure with parts of two sources, and the reason that sessions know."""

PREFIX: Final = "kvs_"
UNITS: Final = {"_s": "_seconds", "_ms": "_seconds", "_ns": "_seconds"}
SCALES: Final = {"_ms": 1e-3, "_ns": 1e-9}

Reading: TypeAlias = "dict[str, object]"
"""Figures by name: a number, a text or None; a :class:`Counts`; or a mapping of the values of its label to such."""

Source: TypeAlias = Callable[[], Mapping[str, object]]


class Figure(NamedTuple):
    """What is known of a figure.

    Attributes:
        name: As sources and INFO have it; its unit is in the name, as in ``clients_bytes`` or ``uptime_s``.
        kind: ``COUNTER``, ``GAUGE``, ``HISTOGRAM`` or ``TEXT``.
        help: What it tells.
        renamed: Its name in ``/metrics``, if that cannot be made from ``name``.
        label: Of what there is one for each; empty: there is one.
        in_metrics: Whether it is in ``/metrics``; if not, another one there has the same.
    """

    name: str
    kind: str
    help: str
    renamed: str = ""
    label: str = ""
    in_metrics: bool = True

    @property
    def metric(self) -> str:
        """Its name in ``/metrics``, without ``_total``: in seconds or bytes, whatever the unit here."""
        if self.renamed:
            return PREFIX + self.renamed
        stem, suffix = self._parts()
        return PREFIX + stem + suffix

    @property
    def unit(self) -> str:
        """The unit of the metric: ``seconds``, ``bytes``, or none."""
        last = self.metric.rpartition("_")[2]
        return last if last in ("seconds", "bytes") else ""

    @property
    def scale(self) -> float:
        """By what a value is multiplied for the metric."""
        return next((scale for suffix, scale in SCALES.items() if self.name.endswith(suffix)), 1)

    def _parts(self) -> tuple[str, str]:
        for suffix, unit in UNITS.items():
            if self.name.endswith(suffix):
                return self.name.removesuffix(suffix), unit
        return self.name, ""


@final
class Sources:
    """All sources of a server, beside its sessions and its engine.

    Concurrency: they are added before the server runs, or by its loop, and may be read by any thread.
    """

    def __init__(self) -> None:
        self._sources: list[Source] = []

    def add(self, source: Source) -> None:
        """Read a source from now on. It must be quick, and safe for any thread."""
        self._sources.append(source)

    def read(self) -> Reading:
        """Return the figures of all sources."""
        found: Reading = {}
        for source in list(self._sources):
            found.update(source())
        return found


def for_info(figures: Mapping[str, object]) -> Reading:
    """Return the figures that INFO shows: those of one value."""
    return dict(_single(figures))


def _single(figures: Mapping[str, object]) -> "Iterator[tuple[str, object]]":
    for name, value in figures.items():
        if not isinstance(value, dict | Counts):
            yield name, value

"""Figures in the text formats of Prometheus and OpenMetrics.

Written by hand: prometheus_client takes ten times as long for a sample, and while it does the loop waits for Python's
lock. That what is written here is valid, its parser says in tests.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from kvs.application.figure_table import ENGINE_FIGURE, FIGURES
from kvs.application.figures import COUNTER, GAUGE, TEXT, Figure, Reading
from kvs.ports.histogram import Counts, bucket_of

PROMETHEUS: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"

TIME_POWERS: Final = range(10, 34)
"""Powers of two of nanoseconds that bound the buckets of durations: from a microsecond to 9 s."""

SIZE_POWERS: Final = range(1, 21)
"""Likewise those of numbers."""

_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def render(figures: Reading, *, openmetrics: bool) -> Iterator[str]:
    """Return the text of figures, one family after the other."""
    texts = {name: str(value) for name, value in figures.items() if name in FIGURES and FIGURES[name].kind == TEXT}
    for name, figure in FIGURES.items():
        if not figure.in_metrics:
            continue
        if figure.kind == TEXT:
            labels = {each: texts.pop(each) for each in _together(figure) if each in texts}
            if labels:
                yield _family(figure.metric, GAUGE, "what this server is", "", [f"{_labels(labels)} 1"], openmetrics)
        elif name in figures:
            yield _of(figure, figures[name], openmetrics=openmetrics)
    others = {name: value for name, value in figures.items() if name not in FIGURES and isinstance(value, int | float)}
    if others:
        yield _of(ENGINE_FIGURE, others, openmetrics=openmetrics)
    if openmetrics:
        yield "# EOF\n"


def _together(figure: Figure) -> list[str]:
    """Return the names of all texts that are labels of one metric."""
    return [
        name
        for name, other in FIGURES.items()
        if other.kind == TEXT and other.in_metrics and other.metric == figure.metric
    ]


def _of(figure: Figure, value: object, *, openmetrics: bool) -> str:
    values = value.items() if isinstance(value, Mapping) else [("", value)]
    samples: list[str] = []
    for label, each in values:
        labels = {figure.label: str(label)} if figure.label else {}
        if isinstance(each, Counts):
            samples += _histogram(figure, labels, each)
        elif isinstance(each, int | float):
            samples.append(f"{_labels(labels)} {_number(each, figure.scale)}")
    return _family(figure.metric, figure.kind, figure.help, figure.unit, samples, openmetrics)


def _family(
    metric: str,
    kind: str,
    meaning: str,
    unit: str,
    samples: Iterable[str],
    openmetrics: bool,  # noqa: FBT001
) -> str:
    total = "_total" if kind == COUNTER else ""
    declared = metric if openmetrics else metric + total
    head = f"# HELP {declared} {meaning}\n# TYPE {declared} {kind}\n"
    if openmetrics and unit:
        head += f"# UNIT {declared} {unit}\n"
    prefix = metric + total
    return head + "".join([f"{prefix}{sample}\n" for sample in samples])


def _histogram(figure: Figure, labels: Mapping[str, str], counts: Counts) -> Iterator[str]:
    timed = figure.unit == "seconds"
    below = at = 0
    for power in TIME_POWERS if timed else SIZE_POWERS:
        end = bucket_of(1 << power)
        below += sum(counts.buckets[at:end])
        at = end
        bound = f"{(1 << power) / 1e9:.10g}" if timed else str((1 << power) - 1)
        yield f"_bucket{_labels({**labels, 'le': bound})} {below}"
    total = below + sum(counts.buckets[at:])
    yield f"_bucket{_labels({**labels, 'le': '+Inf'})} {total}"
    yield f"_count{_labels(labels)} {total}"
    yield f"_sum{_labels(labels)} {_number(counts.total, figure.scale)}"


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join([f'{name}="{text.translate(_ESCAPES)}"' for name, text in labels.items()]) + "}"


def _number(value: float, scale: float) -> str:
    return repr(value * scale if scale != 1 else +value)


def wants_openmetrics(accept: str) -> bool:
    """Return whether a client prefers OpenMetrics, by its Accept."""
    best, wants = 0.0, False
    for part in accept.lower().split(","):
        kind, *parameters = (each.strip() for each in part.split(";"))
        weight = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    weight = float(parameter[2:])
                except ValueError:
                    weight = 0.0
        if weight > best and kind in ("application/openmetrics-text", "text/plain", "*/*", "text/*"):
            best, wants = weight, kind == "application/openmetrics-text"
    return wants

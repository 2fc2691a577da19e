"""Grouped bar charts with error bars, written as SVG by hand: no dependency, the same bytes every time."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10
from pathlib import Path
from typing import Final

from bench.spread import Spread

WIDTH: Final = 760
HEIGHT: Final = 380
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 66, 34
_COLOURS: Final = ("#9aa5b1", "#c8553d", "#e0a458", "#2a6f97", "#61a5c2", "#3f7d58", "#7b5ea7")
_INK: Final = "#24292f"
_GRID: Final = "#d8dee4"


@dataclass(frozen=True, slots=True)
class Series:
    """The bars of one colour: one per group, or None where there is nothing to show.

    Attributes:
        colour: A number from 0; the same thing keeps its colour in all charts.
    """

    label: str
    colour: int
    bars: tuple[Spread | None, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """Groups of bars side by side.

    Attributes:
        unit: What the vertical axis counts.
        line_at: A height to mark across the chart, such as a ratio of 1.
    """

    title: str
    unit: str
    groups: tuple[str, ...]
    series: tuple[Series, ...]
    line_at: float | None = None


def write(chart: Chart, path: Path) -> None:
    """Write a chart to a file."""
    path.write_text(render(chart))


def render(chart: Chart) -> str:
    """Return a chart as SVG."""
    top = _round_up(max((bar.high for series in chart.series for bar in series.bars if bar), default=1.0))
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        f' width="{WIDTH}" height="{HEIGHT}"'
        f' font-family="system-ui, sans-serif" font-size="12" fill="{_INK}" role="img">'
    )
    parts = [
        opening,
        f"<title>{escape(chart.title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="20" font-size="15" font-weight="600">{escape(chart.title)}</text>',
        *_legend(chart.series),
        *_axis(top, chart.unit),
        *_groups(chart, top),
    ]
    if chart.line_at is not None:
        y = _y(chart.line_at, top)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="{_INK}" stroke-dasharray="5 4"/>')
    return "\n".join([*parts, "</svg>", ""])


def short(value: float) -> str:
    """Return a number in a few characters: 1.23M, 169k, 0.95."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def _y(value: float, top: float) -> float:
    return HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM)


def _round_up(value: float) -> float:
    """Return the next 1, 2, 3, 4, 5, 6 or 8 times a power of ten, leaving room for a label above the bar."""
    wanted = max(value, 1e-9) * 1.08
    power = 10.0 ** floor(log10(wanted))
    return next((step * power for step in (1, 2, 3, 4, 5, 6, 8) if step * power >= wanted), ceil(10 * power))


def _legend(series: Sequence[Series]) -> list[str]:
    parts, x = [], float(LEFT)
    for each in series:
        parts.append(f'<rect x="{x:.0f}" y="32" width="12" height="12" fill="{_colour(each)}"/>')
        parts.append(f'<text x="{x + 17:.0f}" y="42">{escape(each.label)}</text>')
        x += 17 + 7.5 * len(each.label) + 18
    return parts


def _axis(top: float, unit: str) -> list[str]:
    parts = [f'<text x="{LEFT - 8}" y="{TOP - 8}" text-anchor="end" font-size="11">{escape(unit)}</text>']
    for quarter in range(5):
        value = top * quarter / 4
        y = _y(value, top)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="{_GRID}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{short(value)}</text>')
    return parts


def _groups(chart: Chart, top: float) -> list[str]:
    parts = []
    group_width = (WIDTH - LEFT - RIGHT) / len(chart.groups)
    bar_width = min(group_width * 0.84 / len(chart.series), 64.0)
    for position, label in enumerate(chart.groups):
        middle = LEFT + group_width * (position + 0.5)
        parts.append(f'<text x="{middle:.1f}" y="{HEIGHT - 12}" text-anchor="middle">{escape(label)}</text>')
        x = middle - bar_width * len(chart.series) / 2
        for index, series in enumerate(chart.series):
            bar = series.bars[position]
            if bar is not None:
                parts += _bar(x + bar_width * index, bar_width, bar, top, _colour(series))
    return parts


def _bar(x: float, width: float, bar: Spread, top: float, colour: str) -> list[str]:
    y, low, high = _y(bar.median, top), _y(bar.low, top), _y(bar.high, top)
    middle, left = x + width / 2, x + width / 2 - 4
    body = f'x="{x + 1.5:.1f}" y="{y:.1f}" width="{width - 3:.1f}" height="{HEIGHT - BOTTOM - y:.1f}"'
    whisker = f"M{middle:.1f} {low:.1f}V{high:.1f}M{left:.1f} {low:.1f}h8M{left:.1f} {high:.1f}h8"
    label = f'x="{middle:.1f}" y="{high - 5:.1f}" text-anchor="middle" font-size="11"'
    return [
        f'<rect {body} fill="{colour}"/>',
        f'<path d="{whisker}" stroke="{_INK}" fill="none"/>',
        f"<text {label}>{short(bar.median)}</text>",
    ]


def _colour(series: Series) -> str:
    return _COLOURS[series.colour % len(_COLOURS)]

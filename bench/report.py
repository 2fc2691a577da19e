"""Results for people: a JSON file, Markdown tables and charts."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from typing import Final

from bench import charts
from bench.compare import GENERATOR_BOUND, LIMIT, REFERENCE, Cell, Figures, title
from bench.generator import Work
from bench.servers import VARIANTS
from bench.spread import Row, Spread

DISTURBED: Final = 0.1  # cores taken by others beyond which a measurement says so


def save(path: Path, content: Mapping[str, object]) -> None:
    """Write results as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


def read_cells(path: Path) -> tuple[Mapping[str, object], list[Cell]]:
    """Return the heading and the cells of a file that `quick` or `full` wrote."""
    content = json.loads(path.read_text())
    return content, [_cell(each) for each in content["cells"]]


def comparison(heading: Mapping[str, object], cells: Sequence[Cell]) -> str:
    """Return a comparison as Markdown."""
    parts = [_heading(heading)]
    disturbed = sum(any(each.foreign_cpu.median > DISTURBED for each in cell.figures) for cell in cells)
    if disturbed:
        parts.append(
            f"**Disturbed:** in {disturbed} of {len(cells)} pieces of work others took more than "
            f"{DISTURBED:.0%} of a core. Measure again on a quiet machine."
        )
    for name, group in _by_title(cells):
        rows = [row for cell in group for row in _rows(cell)]
        parts.append(f"### {name}\n\n{table(rows)}")
    parts.append(
        "Median of the rounds (lowest to highest). `per second` counts requests, or committed transactions; "
        "latency is that of a whole batch. CPU is the server's, per request or transaction. `others` is the "
        "CPU time, in shares of one core, that processes outside the benchmark took from the two cores. "
        f"*generator-bound*: the generator was busy {GENERATOR_BOUND:.0%} of the time or more, so the rate "
        "says less about the server than about the generator and is not quoted; for the echo server it is a "
        "lower bound of the limit."
    )
    return "\n\n".join(parts) + "\n"


def findings(heading: Mapping[str, object], sections: Mapping[str, Sequence[Row]]) -> str:
    """Return the tables of a scripted measurement as Markdown."""
    parts = [_heading(heading), *(f"### {name}\n\n{table(rows)}" for name, rows in sections.items())]
    return "\n\n".join(parts) + "\n"


def table(rows: Sequence[Row]) -> str:
    """Return rows, which share their keys, as a Markdown table."""
    if not rows:
        return "(nothing measured)"
    columns = list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(_text(row[column]) for column in columns) + " |" for row in rows]
    return "\n".join(lines)


def plain(value: object) -> object:
    """Return a cell of a table as JSON can hold it."""
    return asdict(value) if isinstance(value, Spread) else value


def draw(cells: Sequence[Cell], directory: Path) -> list[Path]:
    """Draw one chart of rates for each kind of work, and one of the ratios to Redis; return the files."""
    directory.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, group in _by_title(cells):
        unit = "committed/s" if group[0].work.is_transaction else "requests/s"
        path = directory / f"{_file_name(group[0].work)}.svg"
        charts.write(_chart(name, unit, group, lambda figures: figures.per_s), path)
        drawn.append(path)
    headline = [cell for cell in cells if _file_name(cell.work) == "mixed-50-32" and _has_reference(cell)]
    if headline:
        path = directory / "ratio.svg"
        others = [
            replace(cell, figures=tuple(each for each in cell.figures if each.server not in (LIMIT, REFERENCE)))
            for cell in headline
        ]
        name = f"{headline[0].work.workload}: requests per second, Redis = 1"
        chart = _chart(name, "ratio", others, lambda figures: figures.of_reference)
        charts.write(replace(chart, line_at=1.0), path)
        drawn.append(path)
    return drawn


def _heading(heading: Mapping[str, object]) -> str:
    versions = heading["versions"]
    listed = "; ".join(f"{key}: {text}" for key, text in versions.items()) if isinstance(versions, dict) else ""
    pinning = "a core each for servers and generator" if heading["separate_cores"] else "one core for all"
    return (
        f"Measured {heading['date']} on {heading['cpu']}, {heading['cores']} cores ({pinning}), load average "
        f"{heading['load_before']} before, Linux {heading['kernel']}, revision {heading['revision']}.\n\n"
        f"{listed}."
    )


def _by_title(cells: Iterable[Cell]) -> list[tuple[str, list[Cell]]]:
    return [(name, list(group)) for name, group in groupby(cells, key=lambda cell: title(cell.work))]


def _rows(cell: Cell) -> list[Row]:
    rows: list[Row] = []
    for each in cell.figures:
        row = {
            "depth": cell.work.depth,
            "server": each.server,
            "per second": _rate(each),
            "of Redis": _relative(cell, each, each.of_reference, REFERENCE),
            "of the limit": _relative(cell, each, each.of_limit, LIMIT),
            "CPU us": each.server_cpu_us,
            "p50 us": each.p50_us.median,
            "p99 us": each.p99_us.median,
            "p999 us": each.p999_us.median,
            "generator": f"{each.generator_utilisation.median:.0%}",
            "others": f"{each.foreign_cpu.median:.0%}",
        }
        if cell.work.hot_keys:
            row["conflicts"] = f"{each.conflict_rate.median:.1%}"
        rows.append(row)
    return rows


def _rate(figures: Figures) -> object:
    if not _is_quoted(figures):
        return "*generator-bound*"
    return f">= {charts.short(figures.per_s.median)}" if figures.generator_bound else figures.per_s


def _relative(cell: Cell, figures: Figures, ratio: Spread | None, base: str) -> object:
    """Return a ratio, unless one of its sides is not quoted; the limit may be a lower bound."""
    quoted = all(_is_quoted(each) for each in cell.figures if each.server in (figures.server, base))
    if ratio is None or not quoted or figures.server == base:
        return "-"
    return f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"


def _chart(name: str, unit: str, cells: Sequence[Cell], read: Callable[[Figures], Spread | None]) -> charts.Chart:
    servers = dict.fromkeys(each.server for cell in cells for each in cell.figures)
    series = []
    for server in servers:
        found = [next((each for each in cell.figures if each.server == server), None) for cell in cells]
        bound = any(each and each.generator_bound for each in found)
        label = f"{server} (at least)" if bound and server == LIMIT else server
        bars = tuple(read(each) if each and _is_quoted(each) else None for each in found)
        series.append(charts.Series(label, list(VARIANTS).index(server), bars))
    return charts.Chart(name, unit, tuple(f"depth {cell.work.depth}" for cell in cells), tuple(series))


def _is_quoted(figures: Figures) -> bool:
    return not figures.generator_bound or figures.server == LIMIT


def _has_reference(cell: Cell) -> bool:
    return any(each.server == REFERENCE and _is_quoted(each) for each in cell.figures)


def _file_name(work: Work) -> str:
    hot = f"-hot{work.hot_keys}" if work.hot_keys else ""
    return f"{work.workload}-{work.connections}-{work.value_bytes}{hot}"


def _text(value: object) -> str:
    if isinstance(value, Spread):
        return f"{_number(value.median)} ({_number(value.low)} to {_number(value.high)})"
    return _number(value) if isinstance(value, float) else str(value)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _cell(content: Mapping[str, object]) -> Cell:
    work, figures = content["work"], content["figures"]
    if not isinstance(work, dict) or not isinstance(figures, list):
        raise TypeError("not a cell")
    return Cell(Work(**work), tuple(_figures(each) for each in figures))


def _figures(content: Mapping[str, object]) -> Figures:
    fields = {name: Spread(**value) if isinstance(value, dict) else value for name, value in content.items()}
    return Figures(**fields)  # type: ignore[arg-type]  # the JSON this module wrote

"""The table of figures, and the sources that are read."""

import re
from collections import Counter

from kvs.application.figure_table import FIGURES
from kvs.application.figures import COUNTER, GAUGE, HISTOGRAM, TEXT, Figure, Sources, for_info
from kvs.ports.histogram import Counts
from tests.support.sessions import Bench


def test_names_of_metrics_are_those_of_their_units() -> None:
    """Seconds and bytes, whatever INFO has."""
    assert [Figure(name, GAUGE, "").metric for name in ("a_s", "a_ms", "a_ns", "a_bytes", "rows")] == [
        *("kvs_a_seconds", "kvs_a_seconds", "kvs_a_seconds", "kvs_a_bytes", "kvs_rows")
    ]
    assert [Figure(name, GAUGE, "").scale for name in ("a_s", "a_ms", "a_ns", "a_bytes")] == [1, 1e-3, 1e-9, 1]


def test_every_figure_of_the_table_is_well_named() -> None:
    """By the rules of Prometheus; no metric has two figures, but that of the texts."""
    for figure in FIGURES.values():
        assert re.fullmatch(r"kvs_[a-z][a-z0-9_]*", figure.metric), figure
        assert not figure.metric.endswith(("_total", "_count", "_sum", "_bucket")), figure
        assert figure.kind in (COUNTER, GAUGE, HISTOGRAM, TEXT), figure
        assert figure.help, figure
        assert not figure.help.endswith("."), figure
    used = Counter(figure.metric for figure in FIGURES.values() if figure.in_metrics and figure.kind != TEXT)
    assert [metric for metric, times in used.items() if times > 1] == []


def test_sources_are_read_whenever_somebody_asks() -> None:
    """One added later, too."""
    sources, number = Sources(), [1]
    sources.add(lambda: {"a": number[0]})
    assert sources.read() == {"a": 1}
    number[0] = 2
    sources.add(lambda: {"b": 3})
    assert sources.read() == {"a": 2, "b": 3}


def test_info_has_what_is_one_value() -> None:
    """No distribution, and nothing with a label."""
    figures = {"a": 1, "b": "text", "c": None, "d": {"x": 1}, "e": Counts([1], 1)}
    assert for_info(figures) == {"a": 1, "b": "text", "c": None}


def test_what_sessions_tell_is_in_the_table() -> None:
    """All of it, and of the engine."""
    bench = Bench()
    session = bench.open()
    told = session.info()["server"]
    session.close()
    assert told.keys() <= FIGURES.keys()


def test_counters_never_go_back_while_clients_come_and_go() -> None:
    """Whatever happens between two steps."""
    bench = Bench()
    sessions = [bench.open() for _ in range(600)]
    for session in sessions:
        session.start()
        session.commit()
    steps = bench.sessions.steps()
    next(steps)
    for session in sessions[:100] + sessions[-100:]:  # some of which have been looked at, and some not
        session.start()
        session.commit()
        session.close()
    seen = []
    for each in (steps, bench.sessions.steps()):
        while True:
            try:
                next(each)
            except StopIteration as end:
                seen.append(end.value["commits"])
                break
    assert 600 <= seen[0] <= seen[1] == 800
    for session in sessions:
        session.close()


def test_open_transactions_are_measured() -> None:
    """How many, how old, and how large: all of them, and the largest."""
    bench = Bench()
    small, large = bench.open(), bench.open()
    small.start()
    bench.clock.now_s += 3
    large.start()
    large.put(b"k", b"v" * 1000)
    figures = bench.sessions.info()
    assert (figures["open_transactions"], figures["oldest_snapshot_s"]) == (2, 3)
    assert figures["largest_transaction_bytes"] == large.held_bytes > 1000
    assert figures["transactions_bytes"] == large.held_bytes + small.held_bytes
    small.close()
    large.close()

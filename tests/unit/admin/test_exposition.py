"""Figures in the formats of Prometheus and OpenMetrics, as its own parsers read them."""

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus

from kvs.adapters.inbound.admin.exposition import render, wants_openmetrics
from kvs.application.figures import Reading
from kvs.ports.histogram import Distribution

pytestmark = pytest.mark.one_build

HOSTILE = 'a"b\\c\nd'


def distribution(*values: int) -> object:
    """Return a distribution of values."""
    made = Distribution()
    for value in values:
        made.add(value)
    return made.read()


@pytest.fixture
def figures() -> Reading:
    """Return figures of every kind."""
    return {
        "version": "1.2.3",
        "build": "pure",
        "engine": HOSTILE,
        "role": "leader",
        "clients": 3,
        "clients_accepted": 10**15,
        "uptime_s": 1.5,
        "clock_ahead_ms": 1500,
        "errors": {"CONFLICT": 2, HOSTILE: 1},
        "command_ns": {"get": distribution(1000, 1023, 1024, 10**12), HOSTILE: distribution()},
        "append_ns": distribution(2_000_000),
        "batch_rows": distribution(1, 3, 4),
        "something_of_an_engine": 7,
        "a_text_of_an_engine": "text",
    }


def samples(figures: Reading, *, openmetrics: bool) -> dict[tuple[str, str], float]:
    """Return what the parser finds, by name and label."""
    text = "".join(render(figures, openmetrics=openmetrics))
    families = (parse_openmetrics if openmetrics else parse_prometheus)(text)
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


@pytest.mark.parametrize("openmetrics", [False, True], ids=["prometheus", "openmetrics"])
def test_parsers_read_what_was_counted(figures: Reading, openmetrics: bool) -> None:
    """With labels that have to be escaped, and in seconds."""
    found = samples(figures, openmetrics=openmetrics)
    assert found["kvs_build_info", f"1.2.3,pure,{HOSTILE}"] == 1
    assert found["kvs_clients", ""] == 3
    assert found["kvs_clients_accepted_total", ""] == 10**15
    assert found["kvs_uptime_seconds", ""] == found["kvs_clock_ahead_seconds", ""] == 1.5
    assert found["kvs_errors_total", HOSTILE] == 1
    assert found["kvs_engine_figure", "something_of_an_engine"] == 7
    assert not any("role" in name or "text" in label for name, label in found)


@pytest.mark.parametrize("openmetrics", [False, True], ids=["prometheus", "openmetrics"])
def test_histograms_count_what_is_at_most_as_long(figures: Reading, openmetrics: bool) -> None:
    """Of times at powers of two of nanoseconds, and of numbers right before them."""
    found = samples(figures, openmetrics=openmetrics)
    bucket = "kvs_command_duration_seconds_bucket"
    of_get = [value for (name, label), value in found.items() if name == bucket and label.startswith("get,")]
    assert of_get[:2] == [2, 3]
    assert of_get == sorted(of_get)
    assert of_get[-2:] == [3, 4]
    assert found["kvs_command_duration_seconds_count", "get"] == 4
    assert found["kvs_command_duration_seconds_sum", "get"] == pytest.approx(1000.000003047)
    assert found["kvs_append_duration_seconds_sum", ""] == pytest.approx(0.002)
    rows = {label: value for (name, label), value in found.items() if name == "kvs_batch_keys_bucket"}
    assert [*rows.values()][:3] == [1, 2, 3]


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", True),
        ("application/openmetrics-text; version=1.0.0; q=0.2, text/plain; q=0.7", False),
        ("application/openmetrics-text;q=x", False),
        ("application/json, application/openmetrics-text;q=0.1", True),
    ],
)
def test_clients_get_the_format_they_prefer(accept: str, wanted: bool) -> None:
    """By Accept, as Prometheus sends it."""
    assert wants_openmetrics(accept) == wanted

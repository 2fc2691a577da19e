"""The metrics of the documents, of the alerts and of the dashboard are those that servers give."""

import json
import re
import urllib.request
from collections.abc import Iterator
from typing import Final

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families as parse

from kvs.application.figure_table import ENGINE_FIGURE, FIGURES
from kvs.application.figures import COUNTER, HISTOGRAM, TEXT
from tests.documents.markdown import ROOT, codes, document
from tests.support.harness import Server

pytestmark = pytest.mark.one_build

METRICS: Final = document("docs/metrics.md")
OPERATIONS: Final = document("docs/operations.md")
ALERTS: Final = ROOT / "deploy/prometheus/alerts.yml"
DASHBOARD: Final = ROOT / "deploy/grafana/kvs.json"

OF_PROMETHEUS: Final = {"instance", "job"}
"""Labels that Prometheus adds."""

SUFFIXES: Final = {COUNTER: ("_total",), HISTOGRAM: ("_bucket", "_count", "_sum")}


def documented() -> dict[str, tuple[str, set[str], str]]:
    """Return what the table says of each metric: type, labels, meaning."""
    found = {}
    for row in METRICS.table("metric", "type", "labels", "meaning"):
        (name,) = codes(row.cells["metric"])
        assert name not in found, row.where
        found[name] = (row.cells["type"], set(codes(row.cells["labels"])), row.cells["meaning"])
    return found


def test_the_table_is_that_of_the_program() -> None:
    """Name, type, labels and help of each metric; and no other is there."""
    table = documented()
    expected: dict[str, tuple[str, set[str], str]] = {}
    for figure in (*FIGURES.values(), ENGINE_FIGURE):
        if not figure.in_metrics:
            continue
        if figure.kind == TEXT:
            labels = expected.get(figure.metric, ("", set[str](), ""))[1] | {figure.name}
            expected[figure.metric] = ("gauge", labels, "what this server is")
        else:
            name = figure.metric + ("_total" if figure.kind == COUNTER else "")
            expected[name] = (figure.kind, {figure.label} - {""}, figure.help)
    assert table.keys() == expected.keys()
    for name, (kind, labels, meaning) in expected.items():
        assert table[name][:2] == (kind, labels), f"docs/metrics.md: {name}"
        assert table[name][2].endswith(meaning), f"docs/metrics.md: {name}: {meaning!r}"


def scrape(server: Server) -> list[Metric]:
    """Return the metrics of a server."""
    port = server.wait_for("admin_listening")["port"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:  # of this test
        return [*parse(response.read().decode())]


@pytest.mark.parametrize("engine", ["memory", "sqlite"])
def test_every_metric_of_a_server_is_documented(engine: str) -> None:
    """And each that is documented is there, but for those that only others have."""
    table = documented()
    with Server("--storage", engine, "--admin-port", "0", "--max-data-bytes", "1GiB") as server:
        client = server.connect()
        client.ok("PUT a 1", "START")
        families = scrape(server)
    names = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    assert names <= table.keys(), "docs/metrics.md: metrics are missing in the table"
    for family in families:
        kind, labels, _ = table[family.name + ("_total" if family.type == "counter" else "")]
        assert family.type == kind
        for sample in family.samples:
            assert sample.labels.keys() - {"le"} <= labels, sample
    for name, (_, _, meaning) in table.items():
        only = re.match(r"only (?:with|on) ([^:]+):", meaning)
        if only is None or engine in codes(only[1]) or only[1] == "`max_data_bytes`":
            assert name in names, f"docs/metrics.md: a server with {engine} has no {name}"


# The files for Prometheus and Grafana.


def expressions() -> Iterator[tuple[str, str]]:
    """Return every query, with where it is."""
    for line in ALERTS.read_text("utf-8").splitlines():
        found = re.match(r" +expr: (.+)", line)
        if found is not None:
            yield ALERTS.name, found[1]
    board = json.loads(DASHBOARD.read_text("utf-8"))
    for panel in board["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]["query"]


def samples() -> dict[str, set[str]]:
    """Return the labels of every sample that queries may name."""
    found = {}
    for name, (kind, labels, _) in documented().items():
        for suffix in SUFFIXES[HISTOGRAM] if kind == HISTOGRAM else ("",):
            found[name + suffix] = labels | ({"le"} if suffix == "_bucket" else set()) | OF_PROMETHEUS
    return found


@pytest.mark.parametrize(("where", "query"), [*expressions()], ids=lambda text: text[:40])
def test_queries_name_what_there_is(where: str, query: str) -> None:
    """Metrics, labels to select by, and labels to group by."""
    known = samples()
    named = re.findall(r"\bkvs_\w+", query)
    assert named or "up{" in query, where
    labels = {"up": OF_PROMETHEUS, **known}
    for name in named:
        assert name in known, f"{where}: there is no metric {name}"
    for name, selectors in re.findall(r"(\w+)\{([^}]*)\}", query):
        for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selectors):
            assert label in labels[name], f"{where}: {name} has no label {label}"
    for group in re.findall(r"\b(?:by|without) \(([^)]*)\)", query):
        for label in group.split(", "):
            assert any(label in known[name] for name in named), f"{where}: nothing has a label {label}"


def test_legends_and_summaries_name_labels_that_there_are() -> None:
    """Those of what is shown."""
    known = set().union(*samples().values())
    board = json.loads(DASHBOARD.read_text("utf-8"))
    legends = " ".join(target["legendFormat"] for panel in board["panels"] for target in panel["targets"])
    named = {*re.findall(r"\{\{(\w+)\}\}", legends), *re.findall(r"\$labels\.(\w+)", ALERTS.read_text("utf-8"))}
    assert named <= known


def test_every_alert_has_its_paragraph() -> None:
    """What to do when it fires; and no other has."""
    alerts = re.findall(r"- alert: (\w+)", ALERTS.read_text("utf-8"))
    rows = OPERATIONS.table("alert", "what it means", "what to do")
    assert [codes(row.cells["alert"])[0] for row in rows] == alerts

"""The metrics of the documents are those that servers give."""

import re
import urllib.request
from typing import Final

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families as parse

from kvs.application.figure_table import ENGINE_FIGURE, FIGURES
from kvs.application.figures import COUNTER, TEXT
from tests.documents.markdown import codes, document
from tests.support.harness import Server

pytestmark = pytest.mark.one_build

METRICS: Final = document("docs/metrics.md")


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

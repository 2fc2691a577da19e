"""What tests need is what CI installs and what is said to be needed."""

import re
from pathlib import Path

import pytest

from tests.support.needs import NEEDS, NODE

pytestmark = pytest.mark.one_build

ROOT = Path(__file__).parents[2]
ASKED_FOR = re.compile(r'\b(?:program|which)\("([\w-]+)"\)')
EVERYWHERE = {"cc", "make"}
"""Without a compiler tests of it are skipped, and make has started them."""


def test_ci_installs_what_tests_ask_for() -> None:
    """And the summary of a run says what is missing of it."""
    asked = {
        name for path in (ROOT / "tests").rglob("*.py") for name in ASKED_FOR.findall(path.read_text(encoding="utf-8"))
    } - EVERYWHERE
    assert {"nc", "redis-cli", "prometheus-redis-exporter"} <= asked
    named = {need.program for need in NEEDS} | set(NODE.package.split()) | {"node"}
    assert asked <= named
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert {
        need.program for need in [*NEEDS, NODE] if not re.search(rf"(?<![\w-]){need.program}(?![\w-])", ci)
    } == set()

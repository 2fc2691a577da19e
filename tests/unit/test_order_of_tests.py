"""Which tests run, and in which order: those first that take longest."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import LONGEST_S, builds_of, longest_first

pytestmark = pytest.mark.one_build


def test_longest_tests_are_there() -> None:
    """Under the names that the list has; others would come in their places without a word."""
    for name in LONGEST_S:
        path, found, *_ = name.partition("[")[0].split("::")  # a function, or a class, which may inherit it
        text = Path(__file__).parents[2].joinpath(path).read_text(encoding="utf-8")
        assert f"def {found}(" in text or f"class {found}" in text, name


@pytest.mark.parametrize("workers", [2, 3, 7])
def test_longest_tests_come_first_in_the_piece_of_each_worker(workers: int) -> None:
    """Each test once, and each worker's piece begins with one of the longest."""
    longest = sorted(LONGEST_S, key=lambda name: -LONGEST_S[name])
    items: list[Any] = [SimpleNamespace(nodeid=name) for name in [*(f"short{at}" for at in range(100)), *longest]]
    order = [item.nodeid for item in longest_first(items, workers)]
    assert sorted(order) == sorted(item.nodeid for item in items)
    starts = [order[worker * len(items) // workers] for worker in range(workers)]
    assert {LONGEST_S[name] for name in starts} == {LONGEST_S[name] for name in longest[:workers]}


def marked(nodeid: str, *markers: str) -> Any:
    """Return a test."""
    return SimpleNamespace(nodeid=nodeid, get_closest_marker=lambda name: name in markers)


def test_each_build_runs_everything_but_what_is_about_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it runs."""
    monkeypatch.setattr("tests.conftest.SHARED", False)
    monkeypatch.setattr("tests.conftest.FULL_SCALE", False)
    for markers in ([], ["servers"], ["variant"], ["draws"]):
        assert builds_of(marked("test", *markers)) == {"pure", "compiled"}
    assert builds_of(marked("test", "one_build", "servers")) == {"pure"}


def test_runs_that_share_the_tests_leave_none_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each runs about half of the cases of a test, so a fault that only one build has is found in some of them."""
    monkeypatch.setattr("tests.conftest.SHARED", True)
    monkeypatch.setattr("tests.conftest.FULL_SCALE", False)
    for markers in (["servers"], ["variant"], ["draws"]):
        assert builds_of(marked("test", *markers)) == {"compiled"}
        assert builds_of(marked("test", "one_build", *markers)) == {"pure"}
    dealt = [builds_of(marked(f"tests/unit/test_module.py::test_function[{case}]")) for case in range(1000)]
    assert all(len(builds) == 1 for builds in dealt)
    assert 400 < dealt.count({"pure"}) < 600

"""The order in which tests run: those first that take longest."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import LONGEST_S, longest_first

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

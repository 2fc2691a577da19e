"""Nothing is found in what can be explained, and what is planted in it is found."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.consistency.executions import SLACK, Execution
from tests.consistency.plants import PLANTS, Plant
from tests.support.consistency.checker import check

pytestmark = pytest.mark.one_build

randoms = st.randoms(use_true_random=True)


@given(random=randoms, clears=st.booleans(), count=st.integers(0, 60))
def test_whatever_was_run_in_some_order_is_in_order(random: Random, clears: bool, count: int) -> None:
    """Transactions one after the other, of whose times only bounds are known: the checker never cries wolf."""
    execution = Execution(random, clears=clears)
    execution.run(count)
    found = check(execution.history, SLACK)
    assert not found, "\n".join(map(str, found))


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
@settings(max_examples=max(5, settings().max_examples // 20))
@given(random=randoms, before=st.integers(0, 20), after=st.integers(0, 10))
def test_what_is_planted_is_found(plant: Plant, random: Random, before: int, after: int) -> None:
    """By its name, whatever was before and comes after."""
    execution = Execution(random, clears=False)
    execution.run(before)
    plant(execution)
    execution.run(after)
    found = check(execution.history, SLACK)
    assert PLANTS[plant] & {finding.anomaly for finding in found}, found

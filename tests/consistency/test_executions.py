"""Nothing is found in what can be explained, and what is planted in it is found."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from tests.consistency.executions import SLACK, Execution
from tests.support.consistency.checker import check


@given(random=st.randoms(use_true_random=True), clears=st.booleans(), count=st.integers(0, 60))
def test_whatever_was_run_in_some_order_is_in_order(random: Random, clears: bool, count: int) -> None:
    """The checker never cries wolf."""
    execution = Execution(random, clears=clears)
    execution.run(count)
    found = check(execution.history, SLACK)
    assert not found, "\n".join(map(str, found))

"""Updates of deadlines, against the plainest model of them."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvs.domain.deadlines import (
    IF_EARLIER,
    IF_LATER,
    WITH_DEADLINE,
    WITHOUT_DEADLINE,
    RemoveDeadline,
    SetDeadline,
    expiring,
)
from kvs.domain.values import NO_DEADLINE, TOMBSTONE, Record, Value

NOW_MS = 1000

deadlines = st.sampled_from([-5, 0, 1, NOW_MS - 1, NOW_MS, NOW_MS + 1, NOW_MS + 2])
olds = st.one_of(st.none(), st.just(b"v"), st.integers(NOW_MS + 1, NOW_MS + 3).map(lambda ms: Record(b"v", ms)))


@pytest.mark.parametrize(
    ("deadline_ms", "write"),
    [
        (NO_DEADLINE, b"v"),
        (1, TOMBSTONE),
        (NOW_MS, TOMBSTONE),
        (NOW_MS + 1, Record(b"v", NOW_MS + 1)),
    ],
)
def test_value_whose_deadline_has_passed_is_a_delete(deadline_ms: int, write: object) -> None:
    """At the deadline it has."""
    assert expiring(b"v", deadline_ms, NOW_MS) == write


@given(olds, deadlines, st.integers(0, 15))
@example(Record(b"v", NOW_MS + 1), NOW_MS + 1, IF_LATER)
@example(Record(b"v", NOW_MS + 1), NOW_MS + 1, IF_EARLIER)
def test_deadline_is_set_if_all_conditions_hold(old: Value | None, deadline_ms: int, conditions: int) -> None:
    """And then it may have passed."""
    change = SetDeadline(deadline_ms, NOW_MS, conditions)
    old_ms = old.deadline_ms if isinstance(old, Record) else float("inf")
    holds = {
        WITHOUT_DEADLINE: old_ms == float("inf"),
        WITH_DEADLINE: old_ms != float("inf"),
        IF_LATER: deadline_ms > old_ms,
        IF_EARLIER: deadline_ms < old_ms,
    }
    applies = old is not None and all(holds[condition] for condition in holds if conditions & condition)
    assert change.applies_to(old) == applies
    if not applies:
        assert change(old) is None
    elif deadline_ms <= NOW_MS:
        assert change(old) is TOMBSTONE
    else:
        assert change(old) == Record(b"v", deadline_ms)


@pytest.mark.parametrize(("old", "new"), [(None, None), (b"v", None), (Record(b"v", 5), b"v")])
def test_deadline_is_removed(old: Value | None, new: Value | None) -> None:
    """What has none is left alone."""
    assert RemoveDeadline()(old) == new


def test_other_types_keep_theirs() -> None:
    """Their records remain what they are without a deadline."""
    assert SetDeadline(NOW_MS + 1, NOW_MS)(Record(b"v", NO_DEADLINE, 7)) == Record(b"v", NOW_MS + 1, 7)
    assert RemoveDeadline()(Record(b"v", 5, 7)) == Record(b"v", NO_DEADLINE, 7)

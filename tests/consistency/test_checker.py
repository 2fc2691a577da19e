"""Every anomaly is found under its name in a history made for it, and its legal neighbour is not."""

from collections.abc import Callable
from typing import Final, NamedTuple

import pytest

from tests.consistency.hand_made import ABORTED, UNKNOWN, at, during, later, numbered, overlapping
from tests.support.consistency.anomalies import Anomaly
from tests.support.consistency.checker import check
from tests.support.consistency.history import (
    CLEAR,
    COMMIT,
    ROLLBACK,
    START,
    Transaction,
    append,
    counted,
    end_of,
    expire,
    increment,
    listed,
    read,
    seen,
    write,
)

pytestmark = pytest.mark.one_build

A: Final = end_of("a")


class Case(NamedTuple):
    """A history with an anomaly, and one that is like it and has none."""

    anomaly: Anomaly
    wrong: Callable[[], list[Transaction]]
    right: Callable[[], list[Transaction]]


CASES: Final = {
    "aborted read": Case(
        Anomaly.ABORTED_READ,
        lambda: [at(0, write("x", "v1"), outcome=ABORTED), at(1, read("x", "v1"))],
        lambda: [at(0, write("x", "v1"), outcome=UNKNOWN), at(1, read("x", "v1"))],
    ),
    "aborted element of a list": Case(
        Anomaly.ABORTED_READ,
        lambda: [
            at(0, append("x", "v1")),
            at(1, append("x", "v2"), outcome=ABORTED),
            at(2, append("x", "v3")),
            at(3, read("x", ",v1,v2,v3")),
        ],
        lambda: [
            at(0, append("x", "v1")),
            at(1, append("x", "v2"), outcome=ABORTED),
            at(2, append("x", "v3")),
            at(3, read("x", ",v1,v3")),
        ],
    ),
    "intermediate read": Case(
        Anomaly.INTERMEDIATE_READ,
        lambda: overlapping(at(0, write("x", "v1"), write("x", "v2")), at(1, read("x", "v1"))),
        lambda: overlapping(at(0, write("x", "v1"), write("x", "v2")), at(1, read("x", "v2"))),
    ),
    "read of what an inner frame had rolled back": Case(
        Anomaly.INTERMEDIATE_READ,
        lambda: [at(0, START, write("x", "v1"), ROLLBACK, write("y", "v2")), at(1, read("x", "v1"))],
        lambda: [at(0, START, write("x", "v1"), COMMIT, write("y", "v2")), at(1, read("x", "v1"))],
    ),
    "intermediate element of a list": Case(
        Anomaly.INTERMEDIATE_READ,
        lambda: overlapping(at(0, append("x", "v1"), append("x", "v2")), at(1, read("x", ",v1"))),
        lambda: overlapping(at(0, append("x", "v1"), append("x", "v2")), at(1, read("x", ",v1,v2"))),
    ),
    "dirty write": Case(
        Anomaly.DIRTY_WRITE,
        lambda: later(
            overlapping(at(0, append("x", "v1"), append("y", "v1")), at(1, append("x", "v2"), append("y", "v2"))),
            at(2, read("x", ",v1,v2")),
            at(3, read("y", ",v2,v1")),
        ),
        lambda: later(
            overlapping(at(0, append("x", "v1"), append("y", "v1")), at(1, append("x", "v2"), append("y", "v2"))),
            at(2, read("x", ",v1,v2")),
            at(3, read("y", ",v1,v2")),
        ),
    ),
    "circular flow": Case(
        Anomaly.CIRCULAR_FLOW,
        lambda: overlapping(at(0, write("x", "v1"), read("y", "v2")), at(1, write("y", "v2"), read("x", "v1"))),
        lambda: overlapping(at(0, write("x", "v1"), read("y", None)), at(1, write("y", "v2"), read("x", "v1"))),
    ),
    "read skew": Case(
        Anomaly.READ_SKEW,
        lambda: overlapping(
            at(0, write("x", "v1"), write("y", "v1")),
            at(1, read("x", "v1"), read("y", "v1"), write("x", "v2"), write("y", "v2")),
            at(2, read("x", "v1"), read("y", "v2")),
        ),
        lambda: overlapping(
            at(0, write("x", "v1"), write("y", "v1")),
            at(1, read("x", "v1"), read("y", "v1"), write("x", "v2"), write("y", "v2")),
            at(2, read("x", "v2"), read("y", "v2")),
        ),
    ),
    "lost update": Case(
        Anomaly.LOST_UPDATE,
        lambda: overlapping(
            at(0, write("x", "v1")), at(1, read("x", "v1"), write("x", "v2")), at(2, read("x", "v1"), write("x", "v3"))
        ),
        lambda: overlapping(
            at(0, write("x", "v1")), at(1, read("x", "v1"), write("x", "v2")), at(2, read("x", "v2"), write("x", "v3"))
        ),
    ),
    "lost update of a list": Case(
        Anomaly.LOST_UPDATE,
        lambda: (
            overlapping(at(0, append("x", "v1")), at(1, read("x", ",v1,v2")), at(2, append("x", "v2")))
            + later([], at(0, read("x", ",v2")))
        ),
        lambda: (
            overlapping(at(0, append("x", "v1")), at(1, read("x", ",v1,v2")), at(2, append("x", "v2")))
            + later([], at(0, read("x", ",v1,v2")))
        ),
    ),
    "lost increment": Case(
        Anomaly.LOST_UPDATE,
        lambda: overlapping(at(0, increment("n", 1)), at(1, increment("n", 1))),
        lambda: overlapping(at(0, increment("n", 1)), at(1, increment("n", 1), outcome=ABORTED)),
    ),
    "two create": Case(
        Anomaly.LOST_UPDATE,
        lambda: overlapping(at(0, read("x", None), write("x", "v1")), at(1, read("x", None), write("x", "v2"))),
        lambda: overlapping(at(0, read("x", None), write("x", "v1")), at(1, seen("x", True), write("x", "v2"))),
    ),
    "write skew": Case(
        Anomaly.WRITE_SKEW,
        lambda: overlapping(
            at(0, write("x", "v1"), write("y", "v1")),
            at(1, read("x", "v1"), read("y", "v1"), write("x", "v2")),
            at(2, read("x", "v1"), read("y", "v1"), write("y", "v2")),
        ),
        lambda: overlapping(
            at(0, write("x", "v1"), write("y", "v1")),
            at(1, read("x", "v1"), read("y", "v1"), write("x", "v2")),
            at(2, read("x", "v2"), read("y", "v1"), write("y", "v2")),
        ),
    ),
    "phantom": Case(
        Anomaly.PHANTOM,
        lambda: overlapping(at(0, listed("a", A, []), write("a1", "v1")), at(1, counted("a", A, 0), write("a2", "v2"))),
        lambda: overlapping(at(0, listed("a", A, []), write("a1", "v1")), at(1, counted("a", A, 1), write("a2", "v2"))),
    ),
    "phantom of a delete": Case(
        Anomaly.PHANTOM,
        lambda: [
            at(0, read("a1", None), write("a1", "v1"), read("a2", None), write("a2", "v1")),
            during(10, 20, listed("a", A, ["a1", "a2"]), read("a1", "v1"), write("a1", None)),
            during(10, 20, listed("a", A, ["a1", "a2"]), read("a2", "v1"), write("a2", None)),
        ],
        lambda: [
            at(0, read("a1", None), write("a1", "v1"), read("a2", None), write("a2", "v1")),
            during(10, 20, listed("a", A, ["a1", "a2"]), read("a1", "v1"), write("a1", None)),
            during(10, 20, listed("a", A, ["a2"]), read("a2", "v1"), write("a2", None)),
        ],
    ),
    "stale read": Case(
        Anomaly.STALE_READ,
        lambda: [at(0, write("x", "v1")), at(1, write("x", "v2")), at(2, read("x", "v2")), at(3, read("x", "v1"))],
        lambda: [
            at(0, write("x", "v1")),
            during(1, 9, write("x", "v2")),
            at(2, read("x", "v1")),
            at(9, read("x", "v2")),
        ],
    ),
    "a conflict that was missed": Case(
        Anomaly.MISSED_CONFLICT,
        lambda: [at(0, write("x", "v1")), during(1, 9, read("x", "v1"), write("y", "v1")), at(2, write("x", "v2"))],
        lambda: [at(0, write("x", "v1")), during(1, 9, read("x", "v1"), read("y", None)), at(4, write("x", "v2"))],
    ),
    "a conflict over a range that was missed": Case(
        Anomaly.MISSED_CONFLICT,
        lambda: [during(1, 9, listed("a", A, []), write("y", "v1")), at(2, write("a1", "v2"))],
        lambda: [during(1, 9, listed("a", A, []), read("y", None)), at(2, write("a1", "v2"))],
    ),
    "stale read in a range": Case(
        Anomaly.STALE_READ,
        lambda: [
            at(0, read("a1", None), write("a1", "v1")),
            at(1, read("a1", "v1"), write("a1", None)),
            at(2, listed("a", A, ["a1"])),
        ],
        lambda: [
            at(0, read("a1", None), write("a1", "v1")),
            during(1, 9, read("a1", "v1"), write("a1", None)),
            at(2, listed("a", A, ["a1"])),
        ],
    ),
    "lost write": Case(
        Anomaly.LOST_WRITE,
        lambda: [at(0, write("x", "v1")), at(1, write("x", "v2")), at(2, read("x", "v1"))],
        lambda: [at(0, write("x", "v1")), at(1, write("x", "v2"), outcome=UNKNOWN), at(2, read("x", "v1"))],
    ),
    "lost tail": Case(
        Anomaly.LOST_WRITE,
        lambda: [at(0, write("x", "v1")), at(2, read("x", None))],
        lambda: [at(0, write("x", "v1")), at(1, write("x", None), outcome=UNKNOWN), at(2, read("x", None))],
    ),
    "lost key in a range": Case(
        Anomaly.LOST_WRITE,
        lambda: [at(0, write("a1", "v1")), at(2, listed("a", A, []))],
        lambda: [at(0, write("a1", "v1")), at(1, CLEAR), at(2, listed("a", A, []))],
    ),
    "a value that was gone comes back": Case(
        Anomaly.STALE_READ,
        lambda: [
            at(0, write("x", "v1")),
            at(1, write("x", None)),
            at(2, read("x", None)),
            at(3, read("x", "v1")),
        ],
        lambda: [
            at(0, write("x", "v1")),
            at(1, write("x", None)),
            at(2, read("x", None)),
            at(3, write("x", "v2")),
            at(4, read("x", "v2")),
        ],
    ),
    "read of what comes later": Case(
        Anomaly.REAL_TIME,
        lambda: [at(0, read("x", "v1")), at(1, write("x", "v1"))],
        lambda: [during(0, 2, read("x", "v1")), at(0.1, write("x", "v1"))],
    ),
    "what two have seen in a different order": Case(
        Anomaly.WRITE_SKEW,
        lambda: overlapping(
            at(0, read("x", None), write("x", "v1")),
            at(1, read("y", None), write("y", "v1")),
            at(2, read("x", "v1"), read("y", None)),
            at(3, read("x", None), read("y", "v1")),
        ),
        lambda: overlapping(
            at(0, read("x", None), write("x", "v1")),
            at(1, read("y", None), write("y", "v1")),
            at(2, read("x", "v1"), read("y", None)),
            at(3, read("x", "v1"), read("y", "v1")),
        ),
    ),
    "absent before its deadline": Case(
        Anomaly.LOST_WRITE,
        lambda: [at(0, write("x", "v1", 10.0)), at(8_000, read("x", None))],
        lambda: [at(0, write("x", "v1", 10.0)), at(9_500, read("x", None))],
    ),
    "there after its deadline": Case(
        Anomaly.EXPIRED_READ,
        lambda: [at(0, write("x", "v1", 10.0)), at(11_500, read("x", "v1"))],
        lambda: [at(0, write("x", "v1", 10.0)), at(5, expire("x", None)), at(11_500, read("x", "v1"))],
    ),
    "there after the deadline that it was given": Case(
        Anomaly.EXPIRED_READ,
        lambda: [at(0, write("x", "v1")), at(1, read("x", "v1"), expire("x", 10.0)), at(11_500, read("x", "v1"))],
        lambda: [
            at(0, write("x", "v1")),
            at(1, read("x", "v1"), expire("x", 10.0), outcome=ABORTED),
            at(11_500, read("x", "v1")),
        ],
    ),
    "there after it has expired": Case(
        Anomaly.REAL_TIME,
        lambda: [
            at(0, write("x", "v1", 10.0)),
            at(10_000, read("x", None), write("x", "v2")),
            at(10_005, read("x", "v1")),
        ],
        lambda: [
            at(0, write("x", "v1", 10.0)),
            at(10_000, read("x", None), write("x", "v2")),
            at(10_005, read("x", "v2")),
        ],
    ),
    "own write not seen": Case(
        Anomaly.INTERNAL,
        lambda: [at(0, write("x", "v1"), read("x", None))],
        lambda: [at(0, write("x", "v1"), read("x", "v1"))],
    ),
    "own write not listed": Case(
        Anomaly.INTERNAL,
        lambda: [at(0, write("a1", "v1"), listed("a", A, []))],
        lambda: [at(0, write("a1", "v1"), listed("a", A, ["a1"]))],
    ),
    "own append not seen": Case(
        Anomaly.INTERNAL,
        lambda: [at(0, append("x", "v1")), at(1, append("x", "v2"), read("x", ",v1"))],
        lambda: [at(0, append("x", "v1")), at(1, append("x", "v2"), read("x", ",v1,v2"))],
    ),
    "rollback of an inner frame not undone": Case(
        Anomaly.INTERNAL,
        lambda: [at(0, write("x", "v1"), START, write("x", "v2"), ROLLBACK, read("x", "v2"))],
        lambda: [at(0, write("x", "v1"), START, write("x", "v2"), ROLLBACK, read("x", "v1"))],
    ),
    "commit of an inner frame undone": Case(
        Anomaly.INTERNAL,
        lambda: [at(0, START, write("x", "v2"), COMMIT, read("x", None))],
        lambda: [at(0, START, write("x", "v2"), COMMIT, read("x", "v2"))],
    ),
    "two reads that differ": Case(
        Anomaly.INTERNAL,
        lambda: overlapping(at(0, write("x", "v1")), at(1, read("x", None), read("x", "v1"))),
        lambda: overlapping(at(0, write("x", "v1")), at(1, read("x", "v1"), read("x", "v1"))),
    ),
    "a read and a list that differ": Case(
        Anomaly.INTERNAL,
        lambda: overlapping(at(0, write("a1", "v1")), at(1, read("a1", None), listed("a", A, ["a1"]))),
        lambda: overlapping(at(0, write("a1", "v1")), at(1, read("a1", "v1"), listed("a", A, ["a1"]))),
    ),
    "something left by a flush": Case(
        Anomaly.INTERNAL,
        lambda: [at(0, write("x", "v1")), at(1, CLEAR, read("x", "v1"))],
        lambda: [at(0, write("x", "v1")), at(1, START, CLEAR, ROLLBACK, read("x", "v1"))],
    ),
    "an append applied twice": Case(
        Anomaly.APPLIED_TWICE,
        lambda: [at(0, append("x", "v1"), outcome=UNKNOWN), at(1, read("x", ",v1,v1"))],
        lambda: [at(0, append("x", "v1"), outcome=UNKNOWN), at(1, read("x", ",v1"))],
    ),
    "an increment applied twice": Case(
        Anomaly.APPLIED_TWICE,
        lambda: [at(0, increment("n", 1)), at(1, increment("n", None), outcome=UNKNOWN), at(2, read("n", "3"))],
        lambda: [at(0, increment("n", 1)), at(1, increment("n", None), outcome=UNKNOWN), at(2, read("n", "2"))],
    ),
    "a write applied twice": Case(
        Anomaly.STALE_READ,
        lambda: [
            at(0, write("x", "v1"), outcome=UNKNOWN),
            at(1, read("x", "v1"), write("x", "v2")),
            at(2, read("x", "v2")),
            at(3, read("x", "v1")),
        ],
        lambda: [
            at(0, write("x", "v1"), outcome=UNKNOWN),
            during(1, 9, read("x", "v1"), write("x", "v2")),
            at(3, read("x", "v1")),
        ],
    ),
    "a value from nowhere": Case(
        Anomaly.INVENTED,
        lambda: [at(0, write("x", "v1")), at(1, read("x", "v2"))],
        lambda: [at(0, write("x", "v1")), at(1, read("x", "v1"))],
    ),
    "a key from nowhere": Case(
        Anomaly.INVENTED,
        lambda: [at(0, write("a1", "v1")), at(1, listed("a", A, ["a1", "a2"]))],
        lambda: [at(0, write("a1", "v1")), at(1, listed("a", A, ["a1"]))],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_an_anomaly_is_found_by_its_name(name: str) -> None:
    """And nothing in its legal neighbour."""
    case = CASES[name]
    found = check(numbered(case.wrong()))
    assert case.anomaly in {finding.anomaly for finding in found}, found
    assert check(numbered(case.right())) == []


def test_every_anomaly_has_a_history() -> None:
    """None of the names is without one."""
    assert {case.anomaly for case in CASES.values()} == set(Anomaly)

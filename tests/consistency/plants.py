"""What goes wrong in the middle of a history that is right otherwise, with keys that nobody else writes."""

from collections.abc import Callable
from typing import Final

from tests.consistency.executions import LONGEST_MS, Data, Execution, Record
from tests.support.consistency.anomalies import Anomaly
from tests.support.consistency.history import (
    ROLLBACK,
    START,
    Operation,
    Outcome,
    append,
    end_of,
    increment,
    listed,
    read,
    write,
)

APART_MS: Final = 5 * LONGEST_MS
"""As much time is between two transactions of which the one was surely acknowledged before the other began."""

Plant = Callable[[Execution], None]


def _put(execution: Execution, key: str) -> str:
    """Have a transaction of its own write a key."""
    execution.pass_time(APART_MS)
    value = execution.new_element()
    execution.note([write(key, value)])
    execution.data[key] = Record(value)
    execution.pass_time(APART_MS)
    return value


def _remove(execution: Execution, keys: list[str]) -> None:
    """Have transactions delete keys."""
    execution.pass_time(APART_MS)
    for key in keys:
        before = execution.data.pop(key, None)
        if before is not None:
            execution.note([read(key, before.value), write(key, None)])
    execution.pass_time(APART_MS)


def _replace(execution: Execution, key: str, before: str) -> list[Operation]:
    value = execution.new_element()
    execution.data[key] = Record(value)
    return [read(key, before), write(key, value)]


def _value(data: Data, key: str) -> str | None:
    return data[key].value if key in data else None


def stale_read(execution: Execution) -> None:
    """A read returns what there was before the last acknowledged write."""
    before = _put(execution, "q1")
    last = _put(execution, "q1")
    execution.note([read("q1", last)])
    execution.pass_time(APART_MS)
    execution.note([read("q1", before)])


def lost_update(execution: Execution) -> None:
    """Two have read the same and both write."""
    before = _put(execution, "q1")
    execution.note(_replace(execution, "q1", before))
    execution.note(_replace(execution, "q1", before))


def write_skew(execution: Execution) -> None:
    """Two have read both keys, and each writes another one."""
    one, two = _put(execution, "q1"), _put(execution, "q2")
    execution.data |= {"q1": Record(one), "q2": Record(two)}
    execution.note([read("q2", two), *_replace(execution, "q1", one)])
    execution.note([read("q1", one), *_replace(execution, "q2", two)])


def phantom(execution: Execution) -> None:
    """Two have seen that a range is empty, and each writes a key in it."""
    _remove(execution, ["t1", "t2", "t3"])
    for key in ("t1", "t2"):
        value = execution.new_element()
        execution.note([listed("t", end_of("t"), []), write(key, value)])
        execution.data[key] = Record(value)


def aborted_read(execution: Execution) -> None:
    """A read returns what a transaction wrote that conflicted."""
    value = execution.new_element()
    execution.note([write("q1", value)], Outcome.ABORTED)
    execution.note([read("q1", value)])


def rolled_back_read(execution: Execution) -> None:
    """A read returns what an inner frame wrote that was rolled back."""
    value, other = execution.new_element(), execution.new_element()
    execution.note([START, write("q1", value), ROLLBACK, write("q2", other)])
    execution.data["q2"] = Record(other)
    execution.note([read("q1", value)])


def dead_leader(execution: Execution) -> None:
    """A read is answered by a server that has been deposed and lacks what another has acknowledged."""
    _put(execution, "q1")
    old = dict(execution.data)
    execution.pass_time(APART_MS)
    value = execution.new_element()
    execution.note([read("q1", old["q1"].value), write("q1", value)])
    execution.data["q1"] = Record(value)
    execution.pass_time(APART_MS)
    execution.note([read("q1", value)])
    execution.pass_time(APART_MS)
    execution.note([read("q1", _value(old, "q1"))])


def lost_tail(execution: Execution) -> None:
    """What was acknowledged last is gone after a restart."""
    before = _put(execution, "q1")
    execution.note(_replace(execution, "q1", before))
    execution.pass_time(APART_MS)
    execution.data["q1"] = Record(before)
    execution.note([read("q1", before)])


def lost_key(execution: Execution) -> None:
    """A key that was acknowledged is not in a range."""
    _remove(execution, ["t1", "t2", "t3"])
    _put(execution, "t1")
    del execution.data["t1"]
    execution.note([listed("t", end_of("t"), [])])


def applied_twice(execution: Execution) -> None:
    """An append whose outcome nobody was told of is applied, and applied again."""
    element = execution.new_element()
    before = _value(execution.data, "l1") or ""
    execution.note([append("l1", element)], Outcome.UNKNOWN)
    value = f"{before},{element},{element}"
    execution.note([read("l1", value)])
    execution.data["l1"] = Record(value)


def lost_increment(execution: Execution) -> None:
    """Two increments come to the same sum."""
    total = int(_value(execution.data, "n1") or 0) + 1
    execution.data["n1"] = Record(str(total))
    execution.note([increment("n1", total)])
    execution.note([increment("n1", total)])


PLANTS: Final[dict[Plant, set[Anomaly]]] = {
    stale_read: {Anomaly.STALE_READ},
    lost_update: {Anomaly.LOST_UPDATE},
    write_skew: {Anomaly.WRITE_SKEW},
    phantom: {Anomaly.PHANTOM},
    aborted_read: {Anomaly.ABORTED_READ},
    rolled_back_read: {Anomaly.INTERMEDIATE_READ},
    dead_leader: {Anomaly.STALE_READ},
    lost_tail: {Anomaly.LOST_WRITE},
    lost_key: {Anomaly.LOST_WRITE},
    applied_twice: {Anomaly.APPLIED_TWICE},
    lost_increment: {Anomaly.LOST_UPDATE},
}
"""Plants, and what one or another of is found."""

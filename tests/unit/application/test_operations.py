"""Commands that touch several keys: what each does, in a transaction and outside, and what is left if it fails."""

import random
from functools import partial
from typing import Any

import pytest

from kvs.adapters.storage.memory.storage import MemoryStorage
from kvs.application.operations import (
    copy,
    count_present,
    delete_all,
    get_many,
    random_key,
    rename,
    update_all_if,
)
from kvs.application.session import EngineSession
from kvs.domain.commit import Committed, Conflict
from kvs.domain.errors import LimitError, ResultTooLargeError, UsageError
from kvs.domain.transaction import FRAME_OVERHEAD_BYTES
from kvs.domain.updates import Add, Remove, Replace, is_absent, is_present
from kvs.domain.values import Key, Value, entry_bytes
from kvs.ports.session import Operation, Session
from tests.support.sessions import UNLIMITED, Bench, filled, in_one_step, run, shares, stored, suspend

Data = dict[Key, Value]

DATA: Data = {b"a": b"1", b"b": b"22", b"c": b""}

inside_or_not = pytest.mark.parametrize("inside", [False, True], ids=["outside", "inside"])


def name(value: object) -> str:
    """Return the name of a case."""
    return value.func.__name__ if isinstance(value, partial) else repr(value)


# What each of them does.

READS: "list[tuple[Operation[Any], object]]" = [
    (partial(get_many, [b"a", b"x", b"c", b"a"], 100), [b"1", None, b"", b"1"]),
    (partial(get_many, [], 0), []),
    (partial(count_present, [b"a", b"x", b"c", b"a"]), 3),
]
WRITES: "list[tuple[Operation[Any], object, Data]]" = [
    (partial(update_all_if, is_absent, {b"m": Replace(b""), b"n": Add(2)}), True, {**DATA, b"m": b"", b"n": b"2"}),
    (partial(update_all_if, is_absent, {b"n": Replace(b""), b"c": Replace(b"new")}), False, DATA),
    (partial(update_all_if, is_present, {b"a": Add(2), b"c": Remove()}), True, {b"a": b"3", b"b": b"22"}),
    (partial(update_all_if, is_present, {b"a": Add(2), b"n": Remove()}), False, DATA),
    (partial(delete_all, [b"a", b"x", b"c", b"a"]), 2, {b"b": b"22"}),
    (partial(rename, b"a", b"n", False), True, {b"b": b"22", b"c": b"", b"n": b"1"}),
    (partial(rename, b"a", b"b", True), True, {b"b": b"1", b"c": b""}),
    (partial(rename, b"a", b"c", False), False, DATA),
    (partial(rename, b"a", b"a", True), True, DATA),
    (partial(rename, b"a", b"a", False), False, DATA),
    (partial(copy, b"a", b"n", False), True, {**DATA, b"n": b"1"}),
    (partial(copy, b"a", b"b", True), True, {**DATA, b"b": b"1"}),
    (partial(copy, b"a", b"c", False), False, DATA),
    (partial(copy, b"x", b"a", True), False, DATA),
]


@inside_or_not
@pytest.mark.parametrize(("operation", "answer"), READS, ids=name)
def test_what_an_operation_reads(operation: "Operation[Any]", answer: object, inside: bool) -> None:
    """The same in a transaction as outside, and at one moment."""
    bench = Bench()
    session = filled(bench, DATA, inside=inside)
    assert run(session.view(operation)) == answer
    assert session.depth == int(inside)
    session.close()
    bench.assert_nothing_is_held()


@inside_or_not
@pytest.mark.parametrize(("operation", "answer", "after"), WRITES, ids=name)
def test_what_an_operation_writes(operation: "Operation[Any]", answer: object, after: Data, inside: bool) -> None:
    """All of it at once: when it is done, or with the transaction that it is part of."""
    bench = Bench()
    session = filled(bench, DATA, inside=inside)
    assert run(session.transact(operation)) == answer
    if inside:
        assert session.depth == 1
        assert stored(bench) == DATA
        assert isinstance(session.commit(), Committed)
    assert session.depth == 0
    assert stored(bench) == after
    bench.assert_nothing_is_held()


@inside_or_not
def test_values_are_read_up_to_what_a_reply_may_hold(inside: bool) -> None:
    """Just below it, at it, and not a byte above."""
    session = filled(Bench(), DATA, inside=inside)
    for spare in (1, 0):
        assert run(session.view(partial(get_many, [b"b", b"x", b"b"], 4 + spare))) == [b"22", None, b"22"]
    with pytest.raises(ResultTooLargeError):
        run(session.view(partial(get_many, [b"b", b"x", b"b"], 3)))
    assert session.depth == int(inside)


# In shares.


@inside_or_not
@pytest.mark.parametrize(("operation", "answer"), READS, ids=name)
def test_an_operation_that_reads_makes_way_and_returns_the_same(
    operation: "Operation[Any]", answer: object, inside: bool
) -> None:
    """Others write and delete all there is between any two steps: what it returns is of one moment."""
    bench = Bench()
    session = filled(bench, DATA, inside=inside)

    def change() -> None:
        for key in DATA:
            bench.storage.delete(key)
        bench.storage.put(b"x", b"come")

    assert shares(session.view(operation), session.work, 1, change) == (4 if answer else 0, answer)
    session.close()
    bench.assert_nothing_is_held()


LONG_WRITES = WRITES[:5]  # the others touch two keys, in one step


@inside_or_not
@pytest.mark.parametrize(("operation", "answer", "after"), LONG_WRITES, ids=name)
def test_an_operation_that_writes_makes_way_and_shows_nothing_before_its_end(
    operation: "Operation[Any]", answer: object, after: Data, inside: bool
) -> None:
    """Between two steps, the stored data is still the old."""
    bench = Bench()
    session = filled(bench, DATA, inside=inside)
    seen: list[dict[Key, Value | None]] = []
    yields, result = shares(session.transact(operation), session.work, 1, lambda: seen.append(stored(bench)))
    assert yields >= 1
    assert result == answer
    assert seen == [DATA] * yields
    if inside:
        assert isinstance(session.commit(), Committed)
    assert stored(bench) == after
    bench.assert_nothing_is_held()


@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("read_only", [False, True])
def test_a_suspended_operation_that_is_closed_leaves_the_transaction_as_it_was(depth: int, read_only: bool) -> None:
    """With its depth, its writes and its snapshot; outside one, there is none, and no snapshot either."""
    bench = Bench()
    session = filled(bench, DATA, inside=False)
    for level in range(depth):
        session.start()
        session.put(b"p%d" % level, b"pending")
    keys = [b"a", b"b", b"c"]
    if read_only:
        suspend(session.view(partial(get_many, keys, 100)), session.work, 1).close()
    else:
        suspend(session.transact(partial(delete_all, keys)), session.work, 1).close()
    assert (session.depth, bench.storage.open_snapshots) == (depth, min(depth, 1))
    assert (bench.budget.used_bytes == 0) == (depth == 0)
    assert session.get(b"a") == b"1"
    for _ in range(depth):
        assert isinstance(session.commit(), Committed)
    assert stored(bench) == DATA | {b"p%d" % level: b"pending" for level in range(depth)}
    bench.assert_nothing_is_held()


# What is left if one fails.


def putting(entries: tuple[tuple[bytes, bytes], ...]) -> "Operation[None]":
    """Return an operation that stores values."""

    def operation(session: Session) -> None:
        for key, value in entries:
            session.put(key, value)

    return in_one_step(operation)


@inside_or_not
@pytest.mark.parametrize("room", [0, 1, 2])
def test_a_limit_in_the_middle_of_many_writes_leaves_nothing_half_done(inside: bool, room: int) -> None:
    """Whether there is room for none of them, for some, or for all but the last."""
    entry = entry_bytes(b"1", b"v")
    entries = tuple((b"%d" % number, b"v") for number in range(3))
    held = FRAME_OVERHEAD_BYTES + (entry_bytes(b"p", b"pending") + FRAME_OVERHEAD_BYTES if inside else 0)
    bench = Bench(max_transaction_bytes=held + room * entry)
    session = filled(bench, DATA, inside=inside)
    if inside:
        session.put(b"p", b"pending")
    before_bytes = bench.budget.used_bytes
    with pytest.raises(LimitError, match="max_transaction_bytes"):
        run(session.transact(putting(entries)))
    assert (session.depth, bench.budget.used_bytes) == (int(inside), before_bytes)
    run(session.transact(putting(entries[:room])))
    if inside:
        assert session.get(b"p") == b"pending"
        assert isinstance(session.commit(), Committed)
    expected = {**DATA, **dict(entries[:room]), **({b"p": b"pending"} if inside else {})}
    assert stored(bench) == expected
    bench.assert_nothing_is_held()


def test_what_a_refused_operation_has_read_is_not_observed() -> None:
    """A limit leaves the transaction as it was: it has room for what it had room for, and no more to conflict with."""
    bench = Bench(max_transaction_bytes=2 * FRAME_OVERHEAD_BYTES + 3 * entry_bytes(b"a", b"1"))
    session = filled(bench, DATA, inside=True)
    with pytest.raises(LimitError):
        run(session.transact(partial(delete_all, [b"a", b"b", b"c"])))
    assert session.held_bytes == FRAME_OVERHEAD_BYTES
    session.put(b"mine", b"")
    bench.storage.put(b"a", b"changed")
    assert isinstance(session.commit(), Committed)
    assert stored(bench) == {**DATA, b"a": b"changed", b"mine": b""}
    bench.assert_nothing_is_held()


@pytest.mark.parametrize("changed", [False, True])
def test_what_a_failed_operation_has_told_stays_observed(changed: bool) -> None:
    """That there is no source is something the client knows from then on, though nothing was done."""
    bench = Bench()
    session = filled(bench, DATA, inside=True)
    with pytest.raises(UsageError, match="no such key"):
        run(session.transact(partial(rename, b"x", b"a", True)))
    assert session.depth == 1
    assert session.get(b"a") == b"1"
    session.put(b"mine", b"")
    if changed:
        bench.storage.put(b"x", b"come")
    assert isinstance(session.commit(), Conflict if changed else Committed)
    bench.assert_nothing_is_held()


def test_an_operation_that_fails_outside_a_transaction_opens_none() -> None:
    """And a transaction goes on at the depth it had."""
    for depth in (0, 1, 3):
        bench = Bench()
        session = filled(bench, DATA, inside=False)
        for _ in range(depth):
            session.start()
        with pytest.raises(UsageError):
            run(session.transact(partial(rename, b"x", b"a", True)))
        assert session.depth == depth
        session.close()
        assert stored(bench) == DATA
        bench.assert_nothing_is_held()


# A key at random.


def by_rank(session: EngineSession, monkeypatch: pytest.MonkeyPatch, keys: int) -> list[Key | None]:
    """Return the keys that are chosen when each of the numbers that may be drawn is."""
    chosen: list[Key | None] = []
    for rank in range(keys):

        def drawn(count: int, rank: int = rank) -> int:
            assert count == keys
            return rank

        monkeypatch.setattr(random, "randrange", drawn)
        chosen.append(run(session.view(random_key)))
    return chosen


CROWDS: dict[str, list[Key]] = {
    "few": [b"a", b"aa", b"b", b"\xff"],
    "each begins with the one before": [b"a" * length for length in range(1, 1011)],
    "runs of ff": [
        *[b"x" + b"\xff" * run + (b"%02d" % number if number else b"") for run in range(35) for number in range(31)],
        *[first + b"\xff" * run for first in (b"w", b"x0", b"y", b"\xff") for run in (0, 7, 8, 9, 17, 50)],
    ],
    "nothing but ff": [b"\xff" * length for length in range(1, 1011)],
    "any bytes": [bytes((number % 7, number // 7 % 256, number)) for number in range(256)]
    + [b"k%d" % number for number in range(1000)],
}


@inside_or_not
@pytest.mark.parametrize("crowd", CROWDS)
def test_each_key_is_as_likely_as_any_other(monkeypatch: pytest.MonkeyPatch, crowd: str, inside: bool) -> None:
    """Of the numbers that are drawn each leads to another key, so every key has one of its own."""
    keys = sorted(set(CROWDS[crowd]))
    session = filled(Bench(MemoryStorage(0, UNLIMITED)), dict.fromkeys(keys, b""), inside=inside)
    if inside:
        session.delete(keys[0])
        session.put(keys[0] + b"\0pending", b"")
        keys = sorted([*keys[1:], keys[0] + b"\0pending"])
    assert by_rank(session, monkeypatch, len(keys)) == keys


@inside_or_not
def test_a_key_of_none_and_a_key_of_one(inside: bool) -> None:
    """Nothing to choose from, and nothing to choose."""
    bench = Bench()
    session = filled(bench, {}, inside=inside)
    assert run(session.view(random_key)) is None
    session.put(b"k", b"")
    assert run(session.view(random_key)) == b"k"


def test_a_key_at_random_takes_few_steps_however_many_writes_are_pending() -> None:
    """It descends by counts, each of which is a search in the index of the writes once that is there."""
    bench = Bench(MemoryStorage(0, UNLIMITED))
    session = filled(bench, {b"%06d" % number: b"" for number in range(5000)}, inside=True)
    for number in range(20_000):
        session.put(b"%06d" % (3 * number), b"")
    run(session.count(b""))  # makes the index
    units = 0
    for _ in range(20):
        steps = session.view(random_key)
        session.work.left = UNLIMITED
        key = run(steps)
        units = max(units, UNLIMITED - session.work.left)
        assert key is not None
        assert session.get(key) == b""
    assert 0 < units < 1000

"""Commands that touch several keys: what each does, in a transaction and outside, and what is left if it fails."""

import random
from collections.abc import Callable

import pytest

from kvs.adapters.inbound.resp.glob import Glob
from kvs.adapters.storage.memory.storage import MemoryStorage
from kvs.application.operations import (
    Copy,
    CountPresent,
    DeleteMany,
    FindKeys,
    GetMany,
    PutManyIfAbsent,
    RandomKey,
    Rename,
)
from kvs.application.session import EngineSession
from kvs.domain.commit import Committed, Conflict
from kvs.domain.errors import LimitError, UsageError
from kvs.domain.transaction import FRAME_OVERHEAD_BYTES
from kvs.domain.values import Key, Value, entry_bytes
from kvs.ports.session import Session
from tests.support.sessions import UNLIMITED, Bench, filled, stored

Data = dict[Key, Value]

DATA: Data = {b"a": b"1", b"b": b"22", b"c": b""}

inside_or_not = pytest.mark.parametrize("inside", [False, True], ids=["outside", "inside"])


# What each of them does.

READS: list[tuple[Callable[[Session], object], object]] = [
    (GetMany((b"a", b"x", b"c", b"a"), 100), [b"1", None, b"", b"1"]),
    (GetMany((), 0), []),
    (CountPresent((b"a", b"x", b"c", b"a")), 3),
]
WRITES: list[tuple[Callable[[Session], object], object, Data]] = [
    (PutManyIfAbsent({b"m": b"", b"n": b"2"}), True, {**DATA, b"m": b"", b"n": b"2"}),
    (PutManyIfAbsent({b"n": b"", b"c": b"new"}), False, DATA),
    (DeleteMany((b"a", b"x", b"c", b"a")), 2, {b"b": b"22"}),
    (Rename(b"a", b"n", replace=False), True, {b"b": b"22", b"c": b"", b"n": b"1"}),
    (Rename(b"a", b"b", replace=True), True, {b"b": b"1", b"c": b""}),
    (Rename(b"a", b"c", replace=False), False, DATA),
    (Rename(b"a", b"a", replace=True), True, DATA),
    (Rename(b"a", b"a", replace=False), False, DATA),
    (Copy(b"a", b"n", replace=False), True, {**DATA, b"n": b"1"}),
    (Copy(b"a", b"b", replace=True), True, {**DATA, b"b": b"1"}),
    (Copy(b"a", b"c", replace=False), False, DATA),
    (Copy(b"x", b"a", replace=True), False, DATA),
]


@inside_or_not
@pytest.mark.parametrize(("unit", "answer"), READS, ids=repr)
def test_what_a_unit_reads(unit: Callable[[Session], object], answer: object, inside: bool) -> None:
    """The same in a transaction as outside, and at one moment."""
    bench = Bench()
    session = filled(bench, DATA, inside=inside)
    assert session.atomically(unit, read_only=True) == answer
    assert session.depth == int(inside)
    session.close()
    bench.assert_nothing_is_held()


@inside_or_not
@pytest.mark.parametrize(("unit", "answer", "after"), WRITES, ids=repr)
def test_what_a_unit_writes(unit: Callable[[Session], object], answer: object, after: Data, inside: bool) -> None:
    """All of it at once: when it is done, or with the transaction that it is part of."""
    bench = Bench()
    session = filled(bench, DATA, inside=inside)
    assert session.atomically(unit) == answer
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
        assert session.atomically(GetMany((b"b", b"x", b"b"), 4 + spare), read_only=True) == [b"22", None, b"22"]
    with pytest.raises(LimitError, match="max_reply_bytes"):
        session.atomically(GetMany((b"b", b"x", b"b"), 3), read_only=True)
    assert session.depth == int(inside)


def test_units_are_equal_if_they_are_of_one_kind_and_made_of_the_same() -> None:
    """So that one question never gets the answer of another."""
    questions: list[tuple[object, object]] = [
        (GetMany((b"a", b"b"), 5), GetMany((b"a", b"b"), 5)),
        (GetMany((b"a", b"b"), 6), GetMany((b"a", b"b"), 6)),
        (DeleteMany((b"a", b"b")), DeleteMany((b"a", b"b"))),
        (CountPresent((b"a", b"b")), CountPresent((b"a", b"b"))),
        (Rename(b"a", b"b", replace=True), Rename(b"a", b"b", replace=True)),
        (Copy(b"a", b"b", replace=True), Copy(b"a", b"b", replace=True)),
        (FindKeys(b"a", b"", Glob(b"a*"), 5, 50), FindKeys(b"a", b"", Glob(b"a*"), 5, 50)),
        (FindKeys(b"a", b"", Glob(b"b*"), 5, 50), FindKeys(b"a", b"", Glob(b"b*"), 5, 50)),
        (FindKeys(b"a", b"", None, 5, 50), FindKeys(b"a", b"", None, 5, 50)),
    ]
    for place, (first, second) in enumerate(questions):
        assert first == second
        assert hash(first) == hash(second)
        for other, _ in questions[:place]:
            assert first != other


# What is left if one fails.


def putting(entries: tuple[tuple[bytes, bytes], ...]) -> Callable[[Session], None]:
    """Return a unit that stores values."""

    def unit(session: Session) -> None:
        for key, value in entries:
            session.put(key, value)

    return unit


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
        session.atomically(putting(entries))
    assert (session.depth, bench.budget.used_bytes) == (int(inside), before_bytes)
    session.atomically(putting(entries[:room]))
    if inside:
        assert session.get(b"p") == b"pending"
        assert isinstance(session.commit(), Committed)
    expected = {**DATA, **dict(entries[:room]), **({b"p": b"pending"} if inside else {})}
    assert stored(bench) == expected
    bench.assert_nothing_is_held()


def test_what_a_refused_unit_has_read_is_not_observed() -> None:
    """A limit leaves the transaction as it was: it has room for what it had room for, and no more to conflict with."""
    bench = Bench(max_transaction_bytes=2 * FRAME_OVERHEAD_BYTES + 3 * entry_bytes(b"a", b"1"))
    session = filled(bench, DATA, inside=True)
    with pytest.raises(LimitError):
        session.atomically(DeleteMany((b"a", b"b", b"c")))
    assert session.retained_bytes == FRAME_OVERHEAD_BYTES
    session.put(b"mine", b"")
    bench.storage.put(b"a", b"changed")
    assert isinstance(session.commit(), Committed)
    assert stored(bench) == {**DATA, b"a": b"changed", b"mine": b""}
    bench.assert_nothing_is_held()


@pytest.mark.parametrize("changed", [False, True])
def test_what_a_failed_unit_has_told_stays_observed(changed: bool) -> None:
    """That there is no source is something the client knows from then on, though nothing was done."""
    bench = Bench()
    session = filled(bench, DATA, inside=True)
    with pytest.raises(UsageError, match="no such key"):
        session.atomically(Rename(b"x", b"a", replace=True))
    assert session.depth == 1
    assert session.get(b"a") == b"1"
    session.put(b"mine", b"")
    if changed:
        bench.storage.put(b"x", b"come")
    assert isinstance(session.commit(), Conflict if changed else Committed)
    bench.assert_nothing_is_held()


def test_a_unit_that_fails_outside_a_transaction_opens_none() -> None:
    """And a transaction goes on at the depth it had."""
    for depth in (0, 1, 3):
        bench = Bench()
        session = filled(bench, DATA, inside=False)
        for _ in range(depth):
            session.start()
        with pytest.raises(UsageError):
            session.atomically(Rename(b"x", b"a", replace=True))
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
        chosen.append(session.atomically(RandomKey(), read_only=True))
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
    assert session.atomically(RandomKey(), read_only=True) is None
    session.put(b"k", b"")
    assert session.atomically(RandomKey(), read_only=True) == b"k"

"""An engine that stores bytes only: what would store a record is refused, before anything is written."""

from collections.abc import Callable

import pytest

from kvs.application.session import EngineSession
from kvs.domain.deadlines import RemoveDeadline, SetDeadline
from kvs.domain.errors import UnsupportedError
from kvs.domain.updates import PutIfAbsent, Replace
from kvs.domain.values import Record
from tests.support.naive_storage import NaiveStorage
from tests.support.sessions import Bench, filled, in_one_step, run, stored

RECORD = Record(b"v", 1 << 50)

USES: dict[str, Callable[[EngineSession], object]] = {
    "put": lambda session: session.put(b"k", RECORD),
    "update with a record": lambda session: session.update(b"k", Replace(RECORD)),
    "update of a deadline": lambda session: session.update(b"k", SetDeadline(1 << 50, session.now_ms)),
    "put if absent": lambda session: session.update(b"n", PutIfAbsent(RECORD)),
    "put_all": lambda session: session.put_all([b"a", b"k"], [b"", RECORD]),
    "transact": lambda session: run(
        session.transact(in_one_step(lambda one: (one.put(b"a", b""), one.put(b"k", RECORD))))
    ),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("inside", [False, True], ids=["outside", "inside"])
def test_a_record_is_refused(use: Callable[[EngineSession], object], inside: bool) -> None:
    """By every command that would store one; a transaction goes on."""
    bench = Bench(NaiveStorage(), records=False)
    session = filled(bench, {b"k": b"old"}, inside=inside)
    with pytest.raises(UnsupportedError):
        use(session)
    assert session.depth == inside
    if inside:
        session.put(b"mine", b"")
        session.commit()
    assert stored(bench) == {b"k": b"old"} | ({b"mine": b""} if inside else {})
    session.close()
    bench.assert_nothing_is_held()


EXECUTIONS: list[Callable[[EngineSession], object]] = [
    lambda session: session.execute_at_once(lambda one: one.put(b"k", RECORD)),
    lambda session: run(session.execute(in_one_step(lambda one: one.put(b"k", RECORD)))),
]


@pytest.mark.parametrize("execute", EXECUTIONS)
def test_an_execution_is_refused_as_a_whole(execute: Callable[[EngineSession], object]) -> None:
    """When its command does not deal with it; and watched keys are forgotten."""
    bench = Bench(NaiveStorage(), records=False)
    session = filled(bench, {b"k": b"old"}, inside=False)
    session.watch([b"k"])
    with pytest.raises(UnsupportedError):
        execute(session)
    assert stored(bench) == {b"k": b"old"}
    bench.assert_nothing_is_held()


def test_what_stores_no_record_is_not_refused() -> None:
    """A deadline that has passed is a delete, and none can be removed."""
    bench = Bench(NaiveStorage(), records=False)
    session = filled(bench, {b"k": b"old"}, inside=False)
    assert session.update(b"k", RemoveDeadline()) == (b"old", b"old")
    assert session.update(b"k", SetDeadline(1, session.now_ms)) == (b"old", None)
    assert stored(bench) == {}

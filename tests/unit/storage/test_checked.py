"""A foreign engine's wrong answers are refused by name, and its right ones pass as they are."""

from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from typing import Any

import pytest

from kvs.adapters.storage.checked import CheckedSnapshot, CheckedStorage
from kvs.domain.commit import CommitRequest, Conflict, ReadSet, prefix_range
from kvs.domain.updates import Replace
from kvs.domain.values import Record
from kvs.ports.storage import Storage
from kvs.testing import StorageContract
from tests.support.naive_storage import LockedStorage, NaiveStorage
from tests.support.scripted_storage import ScriptedStorage, returning

Use = Callable[[CheckedStorage, CheckedSnapshot], object]

WRONG: list[tuple[str, Any, Use]] = [
    ("get", "text", lambda storage, _: storage.get(b"k")),
    ("get", bytearray(b"v"), lambda storage, _: storage.get(b"k")),
    ("delete", 1, lambda storage, _: storage.delete(b"k")),
    ("scan", (b"k",), lambda storage, _: storage.scan(b"", b"", 10)),
    ("scan", ["k"], lambda storage, _: storage.scan(b"", b"", 10)),
    ("count", "1", lambda storage, _: storage.count(b"")),
    ("update", None, lambda storage, _: storage.update(b"k", Replace(b"v"))),
    ("update", (b"old", "new"), lambda storage, _: storage.update(b"k", Replace(b"v"))),
    ("snapshot", None, lambda storage, _: storage.snapshot()),
    ("expire", (b"k",), lambda storage, _: storage.expire(1, 1)),
    ("expire", ["k"], lambda storage, _: storage.expire(1, 1)),
    ("earliest_deadline_ms", None, lambda storage, _: storage.earliest_deadline_ms()),
    ("horizon_ms", "1", lambda storage, _: storage.horizon_ms),
    ("stats", [("keys", 1)], lambda storage, _: storage.stats()),
    ("stats", {"keys": 1.5}, lambda storage, _: storage.stats()),
    ("commit", None, lambda storage, _: storage.commit(CommitRequest((), {}))),
    ("commit", True, lambda storage, _: storage.commit(CommitRequest((), {}))),
    ("commit", Conflict(("k",), ()), lambda storage, _: storage.commit(CommitRequest((), {}))),  # type: ignore[arg-type]
    ("commit", Conflict((), (b"k",)), lambda storage, _: storage.commit(CommitRequest((), {}))),  # type: ignore[arg-type]
    ("Snapshot.get", 1, lambda _, snapshot: snapshot.get(b"k")),
    ("Snapshot.scan", [None], lambda _, snapshot: snapshot.scan(b"", b"", 10)),
    ("Snapshot.count", None, lambda _, snapshot: snapshot.count(b"")),
    ("Snapshot.expired", 0, lambda _, snapshot: snapshot.expired),
]


class TestCheckedNaive(StorageContract):
    """A right engine is as right in the wrapper."""

    def open_storage(self) -> AbstractContextManager[Storage]:
        return closing(CheckedStorage(NaiveStorage()))


@pytest.mark.parametrize(
    ("call", "answer", "use"), WRONG, ids=[f"{call}: {answer!r}"[:40] for call, answer, _ in WRONG]
)
def test_a_wrong_answer_is_refused(call: str, answer: object, use: Use) -> None:
    """Before anybody gets it."""
    engine = ScriptedStorage()
    storage = CheckedStorage(engine)
    snapshot = storage.snapshot()
    engine.on[call] = returning(answer)
    with pytest.raises(TypeError):
        use(storage, snapshot)


@pytest.mark.one_build  # a compiled record has the right types
@pytest.mark.parametrize(("payload", "deadline_ms"), [("text", 1), (b"v", 1.5)])
def test_a_wrong_record_is_refused(payload: Any, deadline_ms: Any) -> None:
    """Before anybody gets it."""
    storage = CheckedStorage(ScriptedStorage({"get": returning(Record(payload, deadline_ms))}))
    with pytest.raises(TypeError):
        storage.get(b"k")


def test_a_snapshot_of_another_engine_is_refused() -> None:
    """The wrapped engine could not know it."""
    storage = CheckedStorage(NaiveStorage())
    other = NaiveStorage().snapshot()
    with pytest.raises(TypeError, match="not a snapshot of this engine"):
        storage.commit(CommitRequest((ReadSet(other, (b"k",), (prefix_range(b""),)),), {b"k": b"v"}))


def test_whether_it_blocks_is_asked_once() -> None:
    """It is always the same."""
    assert CheckedStorage(LockedStorage()).blocking is True
    assert CheckedStorage(NaiveStorage()).blocking is False

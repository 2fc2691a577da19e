"""The index of deadlines that an engine without one gets: it never lacks a deadline, whatever calls overlap."""

from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from random import Random
from typing import Any

import pytest

from kvs.adapters.storage.checked import CheckedStorage
from kvs.adapters.storage.indexed import IndexedStorage, keeps_deadlines
from kvs.adapters.storage.memory.storage import MemoryStorage
from kvs.domain.commit import CommitRequest, Committed, Conflict, ReadSet
from kvs.domain.errors import LimitError, OutcomeUnknownError, StorageUnavailableError, UsageError
from kvs.domain.updates import Append, PutIfAbsent, Remove, Replace
from kvs.domain.values import NEVER_MS, TOMBSTONE, Key, Record, Write, deadline_of, with_deadline
from kvs.ports.storage import Storage
from kvs.testing import StorageContract
from tests.support.naive_storage import LockedStorage, NaiveStorage
from tests.support.scripted_storage import GO_ON, ScriptedStorage, raising

ALL_STEPS = 1 << 20

Use = Callable[[Storage], object]


class TestIndexed(StorageContract):
    """A right engine is as right in the wrapper."""

    records = True
    share_of_examples = 0.1
    walk_steps = 2_000

    def open_storage(self) -> AbstractContextManager[Storage]:
        return closing(IndexedStorage(LockedStorage()))


def at(deadline_ms: int) -> Record:
    """Return a record with a deadline."""
    return Record(b"v", deadline_ms)


def expired(storage: Storage, now_ms: int) -> list[Key]:
    """Delete everything that is due; return the keys in order."""
    keys: list[Key] = []
    while storage.earliest_deadline_ms() <= now_ms:
        keys += storage.expire(now_ms, ALL_STEPS)
    return sorted(keys)


def read_only(storage: Storage, key: Key, writes: dict[Key, Write]) -> Committed | Conflict:
    """Commit on a snapshot that is behind: the key has been put since."""
    snapshot = storage.snapshot()
    storage.put(key, b"since")
    return storage.commit(CommitRequest((ReadSet(snapshot, (key,), ()),), writes))


# name: (what is written over a record due at 50, when the key expires then; None: never)
WRITES: dict[str, tuple[Use, int | None]] = {
    "put": (lambda storage: storage.put(b"k", b"new"), None),
    "put with a later deadline": (lambda storage: storage.put(b"k", at(90)), 90),
    "put with an earlier deadline": (lambda storage: storage.put(b"k", at(20)), 20),
    "delete": (lambda storage: storage.delete(b"k"), None),
    "update": (lambda storage: storage.update(b"k", Replace(b"new")), None),
    "update with a deadline": (lambda storage: storage.update(b"k", Replace(at(90))), 90),
    "update that keeps it": (lambda storage: storage.update(b"k", Append(b"x", 100)), 50),
    "update that changes nothing": (lambda storage: storage.update(b"k", PutIfAbsent(at(20))), 50),
    "update that deletes": (lambda storage: storage.update(b"k", Remove()), None),
    "commit": (lambda storage: storage.commit(CommitRequest((), {b"k": b"new"})), None),
    "commit with a deadline": (lambda storage: storage.commit(CommitRequest((), {b"k": at(90)})), 90),
    "commit of a delete": (lambda storage: storage.commit(CommitRequest((), {b"k": TOMBSTONE})), None),
    "conflict": (lambda storage: read_only(storage, b"other", {b"k": at(20)}), 50),
    "clear": (lambda storage: storage.clear(), None),
    "commit that clears": (lambda storage: storage.commit(CommitRequest((), {b"k": at(90)}, clears=True)), 90),
}


@pytest.mark.parametrize(("use", "deadline_ms"), WRITES.values(), ids=WRITES)
def test_a_write_moves_the_deadline(use: Use, deadline_ms: int | None) -> None:
    """As it is stored by then."""
    storage = IndexedStorage(NaiveStorage())
    storage.put(b"k", at(50))
    use(storage)
    assert storage.stats()["deadlines"] == (deadline_ms is not None)
    if deadline_ms is None:
        assert expired(storage, 1000) == []
        assert storage.earliest_deadline_ms() == NEVER_MS
    else:
        assert expired(storage, deadline_ms - 1) == []
        assert expired(storage, deadline_ms) == [b"k"]
        assert storage.get(b"k") is None


CALLS: dict[str, Callable[[Storage, Key], object]] = {
    "put": lambda storage, key: storage.put(key, at(20)),
    "update": lambda storage, key: storage.update(key, Replace(at(20))),
    "commit": lambda storage, key: storage.commit(CommitRequest((), {key: at(20)})),
}


@pytest.mark.parametrize("error", [LimitError("full"), StorageUnavailableError("away"), UsageError("no")])
@pytest.mark.parametrize("call", CALLS)
def test_a_write_that_is_refused_leaves_the_index_as_it_was(error: Exception, call: str) -> None:
    """Else it would grow with every one of them."""
    engine = ScriptedStorage()
    storage = IndexedStorage(engine)
    storage.put(b"k", at(50))
    engine.on[call] = raising(error)
    for key in (b"k", b"n"):
        with pytest.raises(type(error)):
            CALLS[call](storage, key)
    engine.on.clear()
    assert storage.stats()["deadlines"] == 1
    assert expired(storage, 49) == []
    assert expired(storage, 50) == [b"k"]


@pytest.mark.parametrize("call", CALLS)
def test_a_deadline_is_known_before_it_is_stored(call: str) -> None:
    """Else a record could be there for a while that nobody knows to be due."""
    engine = ScriptedStorage()
    storage = IndexedStorage(engine)
    earliest: list[int] = []

    def look(*arguments: Any) -> object:
        if call == "update":
            arguments[1](None)  # the engine asks what to store
        earliest.append(storage.earliest_deadline_ms())
        return GO_ON

    engine.on[call] = look
    CALLS[call](storage, b"k")
    assert len(earliest) == 1
    assert earliest[0] <= 20


@pytest.mark.parametrize("applied", [False, True])
@pytest.mark.parametrize("error", [OutcomeUnknownError("?"), RuntimeError("?")])
def test_a_write_that_may_have_been_applied_may_be_due(error: Exception, applied: bool) -> None:
    """Whichever value is there is deleted in time, and not before."""
    engine = ScriptedStorage()
    storage = IndexedStorage(engine)
    storage.put(b"k", at(50))

    def put(key: Key, value: Record) -> None:
        if applied:
            NaiveStorage.put(engine, key, value)
        raise error

    engine.on["put"] = put
    with pytest.raises(type(error)):
        storage.put(b"k", at(20))
    engine.on.clear()
    assert expired(storage, 20) == ([b"k"] if applied else [])
    assert expired(storage, 50) == ([] if applied else [b"k"])
    assert storage.stats()["deadlines"] == 0


VALUES = [b"plain", at(20), at(50), at(90)]


@pytest.mark.parametrize("outer", VALUES, ids=repr)
@pytest.mark.parametrize("inner", VALUES, ids=repr)
@pytest.mark.parametrize("inner_is_last", [False, True])
@pytest.mark.parametrize("before", [None, at(30)], ids=repr)
def test_calls_that_overlap_lose_no_deadline(
    outer: bytes | Record, inner: bytes | Record, inner_is_last: bool, before: Record | None
) -> None:
    """In whichever order the engine runs two writes of a key, of which one begins and ends within the other."""
    engine = ScriptedStorage()
    storage = IndexedStorage(engine)
    if before is not None:
        storage.put(b"k", before)

    def put(key: Key, value: bytes | Record) -> object:
        engine.on.clear()
        if inner_is_last:
            NaiveStorage.put(engine, key, value)
        storage.put(key, inner)
        return None if inner_is_last else GO_ON

    engine.on["put"] = put
    storage.put(b"k", outer)
    last_ms = deadline_of(inner if inner_is_last else outer)
    assert expired(storage, last_ms - 1) == []
    if last_ms:
        assert expired(storage, last_ms) == [b"k"]
    assert expired(storage, 1000) == []
    assert storage.stats()["deadlines"] == 0


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_key_that_is_written_while_it_is_deleted_is_spared(value: bytes | Record) -> None:
    """The commit that deletes it conflicts; what is still due is deleted one by one."""
    engine = ScriptedStorage()
    storage = IndexedStorage(engine)
    storage.put(b"k", at(10))
    storage.put(b"other", at(10))

    def commit(_: CommitRequest) -> object:
        engine.on.clear()
        assert storage.earliest_deadline_ms() <= 10  # it is not done yet
        storage.put(b"k", value)
        return GO_ON

    engine.on["commit"] = commit
    assert storage.expire(10, ALL_STEPS) == [b"other"]
    assert storage.get(b"k") == value
    last_ms = deadline_of(value)
    assert expired(storage, last_ms) == ([b"k"] if last_ms else [])
    assert storage.stats()["deadlines"] == 0


@pytest.mark.parametrize("key", [b"k", b"n"])
def test_a_write_during_a_clear_is_kept(key: Key) -> None:
    """It may have come after it."""
    engine = ScriptedStorage()
    storage = IndexedStorage(engine)
    storage.put(b"k", at(50))
    storage.put(b"gone", at(20))

    def clear() -> None:
        NaiveStorage.clear(engine)
        storage.put(key, at(90))

    engine.on["clear"] = clear
    storage.clear()
    assert storage.stats()["deadlines"] == 1
    assert expired(storage, 90) == [key]


def test_what_may_be_due_is_told_without_a_look_at_the_values() -> None:
    """Also while it is just being deleted, and again if that fails."""
    engine = ScriptedStorage()
    storage = IndexedStorage(engine)
    for key, value in ((b"due", at(50)), (b"late", at(90)), (b"never", b"v")):
        storage.put(key, value)
    keys = [b"absent", b"never", b"late", b"due"]
    seen: list[list[Key]] = []

    def commit(*_: object) -> object:
        seen.append(storage.due_among(keys, 50))
        raise StorageUnavailableError("not now")

    engine.on |= {"get": raising(OSError("no look")), "commit": commit}
    assert storage.due_among(keys, 49) == []
    assert storage.due_among(keys, 90) == [b"late", b"due"]
    with pytest.raises(StorageUnavailableError):
        storage.expire(50, ALL_STEPS)
    assert [*seen, storage.due_among(keys, 50)] == [[b"due"], [b"due"]]
    del engine.on["commit"]
    assert storage.expire(50, ALL_STEPS) == [b"due"]
    assert storage.due_among(keys, 50) == []


def test_what_the_engine_refuses_to_delete_is_tried_again() -> None:
    """And stays due meanwhile."""
    engine = ScriptedStorage()
    storage = IndexedStorage(engine)
    storage.put(b"k", at(10))
    engine.on["commit"] = raising(StorageUnavailableError("away"))
    for _ in range(2):
        with pytest.raises(StorageUnavailableError):
            storage.expire(10, ALL_STEPS)
        assert storage.earliest_deadline_ms() <= 10
    engine.on.clear()
    assert storage.expire(10, ALL_STEPS) == [b"k"]
    assert storage.earliest_deadline_ms() == NEVER_MS
    assert all(snapshot.closed == 1 for snapshot in engine.snapshots)


def test_it_is_filled_from_what_is_stored() -> None:
    """More than a page of it."""
    engine = NaiveStorage()
    for number in range(2500):
        engine.put(b"%d" % number, at(1000 + number) if number % 2 else b"v")
    storage = IndexedStorage(CheckedStorage(engine))
    assert storage.stats() == {"keys": 2500, "deadlines": 1250}
    assert len(expired(storage, 1999)) == 500
    assert storage.count(b"") == 2000


def test_a_deadline_before_all_that_were_stored_is_found() -> None:
    """One that is set later, and sooner than every stored one, is due at its time."""
    engine = NaiveStorage()
    engine.put(b"far", at(1 << 45))
    storage = IndexedStorage(engine)
    storage.put(b"near", at(50))
    assert expired(storage, 50) == [b"near"]
    assert storage.get(b"far") is not None


def test_an_expiry_is_one_commit() -> None:
    """Of all that is due, and it changes the keys."""
    storage = IndexedStorage(NaiveStorage())
    for key in (b"a", b"b"):
        storage.put(key, at(10))
    snapshot = storage.snapshot()
    assert sorted(storage.expire(10, ALL_STEPS)) == [b"a", b"b"]
    assert snapshot.get(b"a") == at(10)
    answer = storage.commit(CommitRequest((ReadSet(snapshot, (b"a",), ()),), {b"mine": b""}))
    assert isinstance(answer, Conflict)


def test_a_key_whose_deadline_is_moved_is_one_key() -> None:
    """However often."""
    storage = IndexedStorage(NaiveStorage())
    for deadline_ms in range(1, 3000):
        storage.put(b"k", at(deadline_ms * 7919 % 10_000 + 1))
    assert storage.stats()["deadlines"] == 1


@pytest.mark.parametrize("seed", range(3))
def test_what_is_due_is_deleted_and_nothing_else(seed: int) -> None:
    """After any writes, at any time."""
    random = Random(seed)
    storage = IndexedStorage(NaiveStorage())
    now_ms = 0
    for _ in range(3000):
        key = b"%d" % random.randrange(20)
        value = with_deadline(b"v", random.choice([0, now_ms + random.randint(1, 1 << random.randint(1, 24))]))
        chance = random.random()
        if chance < 0.4:
            storage.put(key, value)
        elif chance < 0.6:
            storage.update(key, Replace(value))
        elif chance < 0.7:
            storage.delete(key)
        elif chance < 0.9:
            storage.commit(CommitRequest((), {key: value, b"other": TOMBSTONE}, clears=chance > 0.89))
        else:
            now_ms += random.randint(0, 1 << random.randint(0, 22))
            due = {key for key in storage.scan(b"", b"", 100) if 0 < deadline_of(storage.get(key)) <= now_ms}
            assert set(expired(storage, now_ms)) == due
        records = [key for key in storage.scan(b"", b"", 100) if deadline_of(storage.get(key))]
        assert storage.stats()["deadlines"] == len(records)


def test_an_engine_with_an_index_needs_none() -> None:
    """It overrides ``expire``."""
    assert keeps_deadlines(MemoryStorage(0, 1 << 20))
    assert keeps_deadlines(ScriptedStorage())
    assert not keeps_deadlines(NaiveStorage())

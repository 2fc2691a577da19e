"""Records and expiry: what has a deadline is deleted when it is due, by a commit like any other."""

from collections.abc import Callable
from typing import Final

import pytest

from kvs.adapters.storage.indexed import IndexedStorage, keeps_deadlines
from kvs.domain.commit import CommitRequest, Committed, Conflict, ReadSet
from kvs.domain.updates import Append, PutIfAbsent, Remove, Replace
from kvs.domain.values import NO_DEADLINE, TOMBSTONE, Key, Record, Value
from kvs.ports.storage import Storage
from kvs.testing.cases.base import StorageCases, commit, contents, end_tick, put_all, under

DUE_MS: Final = 1_000_000

ALL_STEPS: Final = 1000

CALLS: Final = 10_000
"""More calls of ``expire`` than it may take to delete what is due."""

RECORDS: Final[list[Value]] = [
    Record(b"v", DUE_MS),
    Record(b"", DUE_MS),
    Record(b"\0\xff", 2**53),
    Record(b"x" * 100_000, 1),
    Record(b"of another type", NO_DEADLINE, kind=7),
    Record(b"of another type, with a deadline", DUE_MS, kind=100),
]


def due_at(deadline_ms: int) -> Record:
    """Return a record with a deadline."""
    return Record(b"v", deadline_ms)


def delete_due(storage: Storage, now_ms: int) -> list[Key]:
    """Delete all that is due, as the server does; return the keys in order."""
    expired: list[Key] = []
    for _ in range(CALLS):
        if storage.earliest_deadline_ms() > now_ms:
            return sorted(expired)
        expired += storage.expire(now_ms, ALL_STEPS)
        end_tick(storage)
    raise AssertionError(f"after {CALLS} calls of expire({now_ms}, ...), earliest_deadline_ms() is no later than that")


def delete_and_put(storage: Storage) -> None:
    """Put a value without a deadline where there was none."""
    storage.delete(b"k")
    storage.put(b"k", b"new")


def clear_and_put(storage: Storage) -> None:
    """Do the same after a clear."""
    storage.clear()
    storage.put(b"k", b"new")


def fails(storage: Storage) -> None:
    """Commit a record on a key that has changed."""
    snapshot = storage.snapshot()
    storage.put(b"read", b"")
    assert isinstance(commit(storage, snapshot, {b"k": due_at(DUE_MS - 9)}, [b"read"]), Conflict)


WRITES: Final[dict[str, tuple[Callable[[Storage], object], int | None]]] = {
    "put": (lambda storage: storage.put(b"k", b"new"), None),
    "put, later": (lambda storage: storage.put(b"k", due_at(DUE_MS + 5000)), DUE_MS + 5000),
    "put, earlier": (lambda storage: storage.put(b"k", due_at(DUE_MS - 9)), DUE_MS - 9),
    "put with others": (lambda storage: storage.put_all([b"k", b"other"], [b"new", b"new"]), None),
    "put with others, later": (lambda storage: storage.put_all([b"k"], [due_at(DUE_MS + 9)]), DUE_MS + 9),
    "deleted": (lambda storage: storage.delete(b"k"), None),
    "deleted and put back": (delete_and_put, None),
    "updated": (lambda storage: storage.update(b"k", Replace(b"new")), None),
    "updated, later": (lambda storage: storage.update(b"k", Replace(due_at(DUE_MS + 9))), DUE_MS + 9),
    "updated, the same": (lambda storage: storage.update(b"k", Append(b"x", 100)), DUE_MS),
    "updated, not changed": (lambda storage: storage.update(b"k", PutIfAbsent(due_at(DUE_MS - 9))), DUE_MS),
    "updated, deleted": (lambda storage: storage.update(b"k", Remove()), None),
    "committed": (lambda storage: storage.commit(CommitRequest((), {b"k": b"new"})), None),
    "committed, later": (lambda storage: storage.commit(CommitRequest((), {b"k": due_at(DUE_MS + 9)})), DUE_MS + 9),
    "committed, deleted": (lambda storage: storage.commit(CommitRequest((), {b"k": TOMBSTONE})), None),
    "conflict": (fails, DUE_MS),
    "cleared": (lambda storage: storage.clear(), None),
    "cleared and put back": (clear_and_put, None),
    "cleared by a commit": (
        lambda storage: storage.commit(CommitRequest((), {b"k": due_at(DUE_MS + 9)}, clears=True)),
        DUE_MS + 9,
    ),
}
"""What is written over a record that is due at ``DUE_MS``, and when the key expires then; None: never."""


class RecordCases(StorageCases):
    """Records, deadlines and expiry. Skipped for an engine that stores no records.

    An engine that does not override ``expire`` is tested with the index that the server gives it.
    """

    @pytest.fixture
    def expiring(self, storage: Storage) -> Storage:
        """The engine, as the server uses it."""
        if not self.records:
            pytest.skip("an engine that stores no records")
        return storage if keeps_deadlines(storage) else IndexedStorage(storage)

    # Values.

    @pytest.mark.parametrize("record", RECORDS, ids=lambda record: repr(record)[:30])
    def test_a_record_is_stored_as_it_is(self, expiring: Storage, record: Record) -> None:
        """Values: payload, deadline and type come back, by whatever call the record was stored."""
        expiring.put(b"put", record)
        expiring.commit(CommitRequest((), {b"committed": record}))
        assert expiring.update(b"updated", Replace(record)) == (None, record)
        end_tick(expiring)
        assert contents(expiring) == {b"put": record, b"committed": record, b"updated": record}
        snapshot = expiring.snapshot()
        assert [snapshot.get(key) for key in (b"put", b"committed", b"updated")] == [record] * 3
        snapshot.close()

    def test_an_update_gets_the_record(self, expiring: Storage) -> None:
        """Values: an update gets all of a record, and may keep its deadline."""
        expiring.put(b"k", due_at(DUE_MS))
        assert expiring.update(b"k", Append(b"w", 100)) == (due_at(DUE_MS), Record(b"vw", DUE_MS))
        assert expiring.get(b"k") == Record(b"vw", DUE_MS)

    # Expiry.

    def test_a_record_stays_until_it_is_deleted(self, expiring: Storage) -> None:
        """Expiry: the engine knows no clock; whatever the deadline, a record stays until ``expire`` deletes it."""
        expiring.put(b"k", due_at(1))
        assert expiring.get(b"k") == due_at(1)
        assert expiring.scan(b"", b"", 10) == [b"k"]
        assert expiring.count(b"") == 1

    def test_what_is_due_is_deleted(self, expiring: Storage) -> None:
        """``expire``: at its deadline, not before; what is not due, or never, stays."""
        expiring.put(b"due", due_at(DUE_MS))
        expiring.put(b"before", due_at(DUE_MS - 1))
        expiring.put(b"later", due_at(DUE_MS + 1))
        expiring.put(b"much later", due_at(2**53))
        put_all(expiring, b"never")
        assert delete_due(expiring, DUE_MS - 2) == []
        assert expiring.count(b"") == 5
        assert delete_due(expiring, DUE_MS) == [b"before", b"due"]
        assert expiring.scan(b"", b"", 10) == [b"later", b"much later", b"never"]
        assert [expiring.get(key) for key in (b"due", b"before", b"later")] == [None, None, due_at(DUE_MS + 1)]
        assert expiring.count(b"") == expiring.stats()["keys"] == 3
        assert delete_due(expiring, DUE_MS) == []

    @pytest.mark.parametrize(("write", "deadline_ms"), WRITES.values(), ids=WRITES)
    def test_the_last_write_sets_the_deadline(
        self, expiring: Storage, write: Callable[[Storage], object], deadline_ms: int | None
    ) -> None:
        """Expiry: the deadline is part of the value; a value without one never expires."""
        expiring.put(b"k", due_at(DUE_MS))
        write(expiring)
        end_tick(expiring)
        if deadline_ms is None:
            before = expiring.get(b"k")
            assert delete_due(expiring, 2**53) == []
            assert expiring.get(b"k") == before
        else:
            assert delete_due(expiring, deadline_ms - 1) == []
            assert delete_due(expiring, deadline_ms) == [b"k"]
            assert expiring.get(b"k") is None

    def test_nothing_is_due_before_the_earliest_deadline(self, expiring: Storage) -> None:
        """``earliest_deadline_ms``: never later than any deadline, whatever was written in between."""
        for number in range(200):
            expiring.put(b"%d" % number, due_at(DUE_MS + number * number * 1000))
        for number in range(0, 200, 3):
            expiring.put(b"%d" % number, b"never")
        deadlines = [DUE_MS + number * number * 1000 for number in range(200) if number % 3]
        for deadline_ms in deadlines[:150:7]:
            delete_due(expiring, deadline_ms - 1)
            assert expiring.earliest_deadline_ms() <= deadline_ms
            assert expiring.count(b"") == 67 + sum(deadline_ms <= each for each in deadlines)

    def test_as_much_is_deleted_at_once_as_is_allowed(self, expiring: Storage) -> None:
        """``expire``: at most ``max_steps`` records in one call; those left over are deleted by the next ones."""
        for number in range(100):
            expiring.put(b"%d" % number, due_at(DUE_MS))
        left = 100
        for _ in range(CALLS):
            deleted = len(expiring.expire(DUE_MS, 7))
            assert deleted <= 7
            left -= deleted
            assert expiring.count(b"") == left
            assert left == 0 or expiring.earliest_deadline_ms() <= DUE_MS
            if not left:
                return
        raise AssertionError(f"{left} records that are due have not been deleted")

    def test_an_expiry_changes_the_key_and_its_ranges(self, expiring: Storage) -> None:
        """Expiry: it is a commit: it conflicts with those who have read the key, or a range with it in it."""
        expiring.put(b"k", due_at(DUE_MS))
        put_all(expiring, b"other")
        by_key, by_range, by_another = expiring.snapshot(), expiring.snapshot(), expiring.snapshot()
        assert delete_due(expiring, DUE_MS) == [b"k"]
        assert isinstance(commit(expiring, by_another, {b"mine": b""}, [b"other"], under(b"o")), Committed)
        answer = commit(expiring, by_key, {b"mine": b""}, [b"k"])
        assert isinstance(answer, Conflict)
        assert answer.keys == (b"k",)
        assert isinstance(commit(expiring, by_range, {b"mine": b""}, [], under(b"k")), Conflict)

    def test_nothing_due_is_no_change(self, expiring: Storage) -> None:
        """Expiry: what is not deleted has not changed, even though it was looked at."""
        expiring.put(b"k", due_at(DUE_MS))
        snapshot = expiring.snapshot()
        assert delete_due(expiring, DUE_MS - 1) == []
        assert isinstance(commit(expiring, snapshot, {b"mine": b""}, [b"k"], under(b"")), Committed)

    def test_a_snapshot_keeps_what_has_expired_since(self, expiring: Storage) -> None:
        """Consistency: a snapshot shows the data as it was, its records and their deadlines included."""
        expiring.put(b"k", due_at(DUE_MS))
        snapshot = expiring.snapshot()
        expiring.put(b"k", due_at(DUE_MS + 1))
        delete_due(expiring, DUE_MS + 1)
        expiring.put(b"k", b"new")
        end_tick(expiring)
        assert snapshot.get(b"k") == due_at(DUE_MS)
        assert snapshot.scan(b"", b"", 10) == [b"k"]
        assert snapshot.count(b"k") == 1
        snapshot.close()
        assert expiring.get(b"k") == b"new"

    def test_a_watched_key_that_expires_is_a_conflict(self, expiring: Storage) -> None:
        """Commit: a request without writes is validated, too, as WATCH needs it."""
        expiring.put(b"k", due_at(DUE_MS))
        snapshot = expiring.snapshot()
        delete_due(expiring, DUE_MS)
        answer = expiring.commit(CommitRequest((ReadSet(snapshot, [b"k"], ()),), {}))
        assert isinstance(answer, Conflict)
        snapshot.close()

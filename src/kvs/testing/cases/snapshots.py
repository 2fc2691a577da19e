"""Consistency: a snapshot shows the committed data exactly as it was when it was taken, whatever happens after."""

from kvs.domain.commit import Conflict
from kvs.domain.values import TOMBSTONE, Value
from kvs.ports.storage import Snapshot, Storage
from kvs.testing.cases.base import StorageCases, commit, end_tick, put_all, under


class SnapshotCases(StorageCases):
    """What snapshots show."""

    def test_a_snapshot_shows_nothing_that_came_later(self, storage: Storage) -> None:
        """Consistency: a snapshot shows no later key, value or delete, by ``put``, ``delete`` or ``commit``."""
        put_all(storage, b"a", b"b", b"c")
        snapshot = storage.snapshot()
        storage.put(b"a", b"later")
        storage.delete(b"b")
        storage.put(b"n", b"later")
        commit(storage, storage.snapshot(), {b"c": TOMBSTONE, b"m": b"later"})
        values = [snapshot.get(key) for key in (b"a", b"b", b"c", b"n", b"m")]
        assert values == [b"value of a", b"value of b", b"value of c", None, None]
        assert snapshot.scan(b"", b"", 10) == [b"a", b"b", b"c"]
        assert snapshot.expired is False
        snapshot.close()

    def test_a_snapshot_counts_nothing_that_came_later(self, storage: Storage) -> None:
        """Consistency: a snapshot's count is that of its own keys, whatever comes and goes."""
        put_all(storage, b"pa", b"pb", b"q")
        snapshot = storage.snapshot()
        storage.delete(b"pa")
        put_all(storage, b"pc", b"pd")
        commit(storage, storage.snapshot(), {b"pe": b"", b"q": TOMBSTONE})
        assert (snapshot.count(b"p"), snapshot.count(b"q"), snapshot.count(b"")) == (2, 1, 3)
        snapshot.close()

    def test_a_snapshot_of_nothing_stays_empty(self, storage: Storage) -> None:
        """Consistency: a snapshot of an engine that never had a key shows none, whatever is written later."""
        snapshot = storage.snapshot()
        put_all(storage, b"a")
        assert (snapshot.get(b"a"), snapshot.scan(b"", b"", 10), snapshot.count(b"")) == (None, [], 0)
        snapshot.close()

    def test_snapshots_of_different_moments_each_show_their_own(self, storage: Storage) -> None:
        """Consistency: twenty of them over one key that changes, appears and goes, closed in any order."""
        snapshots: list[tuple[Snapshot, Value | None]] = []
        for number in range(20):
            value: Value | None = None if number % 3 == 0 else b"%d" % number
            if value is None:
                storage.delete(b"k")
            else:
                storage.put(b"k", value)
            storage.put(b"%02d" % number, b"")
            snapshots.append((storage.snapshot(), value))
            end_tick(storage)
        for at in (7, 0, 17, 3, 3, 10):
            snapshots.pop(at)[0].close()
            end_tick(storage)
        for snapshot, value in snapshots:
            assert snapshot.get(b"k") == value
            assert snapshot.count(b"k") == (value is not None)
            snapshot.close()

    def test_two_snapshots_of_one_moment_are_closed_each_for_itself(self, storage: Storage) -> None:
        """``close``: closing one view does not close the other."""
        put_all(storage, b"k")
        first, second = storage.snapshot(), storage.snapshot()
        first.close()
        for _ in range(50):
            storage.put(b"k", b"later")
            end_tick(storage)
        assert second.get(b"k") == b"value of k"
        second.close()

    def test_an_old_snapshot_outlives_many_younger_ones(self, storage: Storage) -> None:
        """Consistency: however much changes after it, it can be read and validated."""
        put_all(storage, b"k", b"untouched")
        old = storage.snapshot()
        for number in range(500):
            young = storage.snapshot()
            storage.put(b"k", b"%d" % number)
            storage.put(b"n%d" % number, b"")
            end_tick(storage)
            young.close()
        assert old.get(b"k") == b"value of k"
        assert old.scan(b"", b"", 10) == [b"k", b"untouched"]
        answer = commit(storage, old, {b"mine": b""}, [b"k", b"untouched"], under(b"", b"untouched"))
        assert isinstance(answer, Conflict)
        assert (set(answer.keys), set(answer.ranges)) == ({b"k"}, set(under(b"")))

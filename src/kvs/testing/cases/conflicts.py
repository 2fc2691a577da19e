"""Commit: what a conflict names, and that each read set of a request counts."""

import pytest

from kvs.domain.commit import MAX_CONFLICTS_NAMED, CommitRequest, Committed, Conflict, ReadSet
from kvs.domain.values import Key
from kvs.ports.storage import Snapshot, Storage
from kvs.testing.cases.base import StorageCases, commit, contents, put_all, under


class ConflictCases(StorageCases):
    """What a conflict names."""

    def test_a_conflict_names_what_changed_and_nothing_else(self, storage: Storage) -> None:
        """``commit``: a conflict names keys as keys and ranges as ranges, and none that did not change."""
        put_all(storage, b"a", b"b", b"c")
        snapshot = storage.snapshot()
        storage.put(b"a", b"")
        storage.delete(b"b")
        storage.put(b"n1", b"")
        answer = commit(storage, snapshot, {b"m": b""}, [b"a", b"b", b"c", b"x"], under(b"a", b"b", b"n", b"x", b""))
        assert isinstance(answer, Conflict)
        assert (set(answer.keys), set(answer.ranges)) == ({b"a", b"b"}, set(under(b"b", b"n", b"")))

    @pytest.mark.parametrize("changed", [MAX_CONFLICTS_NAMED - 1, MAX_CONFLICTS_NAMED, MAX_CONFLICTS_NAMED + 1, 100])
    @pytest.mark.parametrize("read_sets", [1, 3])
    def test_a_conflict_names_a_bounded_number(self, storage: Storage, changed: int, read_sets: int) -> None:
        """``commit``: a conflict names all up to the bound, however many snapshots are validated."""
        keys = [b"%03d" % number for number in range(changed)]
        snapshots = [storage.snapshot() for _ in range(read_sets)]
        put_all(storage, *keys)
        request = CommitRequest(tuple(ReadSet(snapshot, keys, under(*keys)) for snapshot in snapshots), {b"mine": b""})
        answer = storage.commit(request)
        for snapshot in snapshots:
            snapshot.close()
        assert isinstance(answer, Conflict)
        for named in (answer.keys, answer.ranges):
            assert min(changed, MAX_CONFLICTS_NAMED) <= len(named) <= MAX_CONFLICTS_NAMED
        assert set(answer.keys) <= set(keys)
        assert set(answer.ranges) <= set(under(*keys))

    @pytest.mark.parametrize(
        ("first_reads", "second_reads", "conflicts"),
        [(b"old", b"old", ()), (b"old", b"new", ()), (b"new", b"old", (b"new",)), (b"new", b"new", (b"new",))],
    )
    def test_each_snapshot_of_a_request_validates_what_was_observed_in_it(
        self, storage: Storage, first_reads: Key, second_reads: Key, conflicts: tuple[Key, ...]
    ) -> None:
        """Commit: it conflicts if what any read set names has changed since the snapshot of that read set."""
        put_all(storage, b"old", b"new")
        first = storage.snapshot()
        storage.put(b"new", b"changed")
        second = storage.snapshot()
        storage.put(b"other", b"")
        reads = (ReadSet(first, [first_reads], under(b"n")), ReadSet(second, [second_reads], under(b"o")))
        answer = storage.commit(CommitRequest(reads, {b"mine": b""}))
        first.close()
        second.close()
        assert isinstance(answer, Conflict)
        assert answer.keys == conflicts
        assert answer.ranges == tuple(under(b"o"))  # the second listed it before `other` was put

    @pytest.mark.parametrize("changed", [0, 1, 2, None])
    def test_a_change_since_any_watched_snapshot_is_a_conflict(self, storage: Storage, changed: int | None) -> None:
        """Commit: with a snapshot per key, as WATCH takes them, each is validated, and the conflict names its key."""
        keys = [b"a", b"b", b"c"]
        snapshots: list[Snapshot] = []
        for key in keys:
            storage.put(key, b"before its snapshot")
            snapshots.append(storage.snapshot())
        if changed is not None:
            storage.put(keys[changed], b"after its snapshot")
        before = contents(storage)
        watched = tuple(ReadSet(snapshot, [key], []) for snapshot, key in zip(snapshots, keys, strict=True))
        answer = storage.commit(CommitRequest(watched, {b"mine": b""}))
        for snapshot in snapshots:
            snapshot.close()
        if changed is None:
            assert isinstance(answer, Committed)
            assert storage.get(b"mine") == b""
        else:
            assert isinstance(answer, Conflict)
            assert (answer.keys, answer.ranges) == ((keys[changed],), ())
            assert contents(storage) == before

    def test_a_watched_snapshot_outlives_a_conflict(self, storage: Storage) -> None:
        """Commit: a conflict closes no snapshot, so a later request can validate the same one again."""
        put_all(storage, b"k", b"r")
        watched, read = storage.snapshot(), storage.snapshot()
        storage.put(b"r", b"changed")
        request = CommitRequest((ReadSet(watched, [b"k"], []), ReadSet(read, [b"r"], [])), {b"mine": b""})
        for _ in range(2):
            answer = storage.commit(request)
            assert isinstance(answer, Conflict)
            assert answer.keys == (b"r",)
        assert (watched.get(b"r"), read.get(b"r")) == (b"value of r", b"value of r")
        read.close()
        read = storage.snapshot()
        request = CommitRequest((ReadSet(watched, [b"k"], []), ReadSet(read, [b"r"], [])), {b"mine": b""})
        assert isinstance(storage.commit(request), Committed)
        watched.close()
        read.close()

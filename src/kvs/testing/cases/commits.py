"""Commit: all writes of a request are applied, or none; and only if nothing that it observed has changed."""

import pytest
from immutables import Map

from kvs.domain.commit import CommitRequest, Committed, Conflict, ReadSet
from kvs.domain.values import TOMBSTONE, Key, Write
from kvs.ports.storage import Storage
from kvs.testing.cases.base import StorageCases, commit, contents, put_all, under


class CommitCases(StorageCases):
    """What a commit applies, and when it conflicts."""

    def test_a_commit_applies_all_its_writes(self, storage: Storage) -> None:
        """Commit: all writes, values and tombstones, of present and of absent keys."""
        put_all(storage, b"a", b"b", b"c")
        answer = commit(storage, storage.snapshot(), {b"a": b"new", b"b": TOMBSTONE, b"n": b"", b"absent": TOMBSTONE})
        assert isinstance(answer, Committed)
        assert contents(storage) == {b"a": b"new", b"c": b"value of c", b"n": b""}

    def test_a_conflict_applies_nothing(self, storage: Storage) -> None:
        """Commit: all writes or none, values as well as tombstones."""
        put_all(storage, b"a", b"b")
        snapshot = storage.snapshot()
        storage.put(b"read", b"")
        before = contents(storage)
        answer = commit(storage, snapshot, {b"a": b"new", b"b": TOMBSTONE, b"n": b""}, [b"read"])
        assert isinstance(answer, Conflict)
        assert contents(storage) == before

    def test_the_first_to_commit_wins(self, storage: Storage) -> None:
        """Commit: if two read and write one key, the second conflicts, or the update of the first would be lost."""
        put_all(storage, b"n")
        first, second = storage.snapshot(), storage.snapshot()
        assert isinstance(commit(storage, first, {b"n": b"first"}, [b"n"]), Committed)
        third = storage.snapshot()
        assert isinstance(commit(storage, second, {b"n": b"second"}, [b"n"]), Conflict)
        assert third.get(b"n") == b"first"
        assert isinstance(commit(storage, third, {b"n": b"third"}, [b"n"]), Committed)
        assert storage.get(b"n") == b"third"

    def test_write_skew_is_a_conflict(self, storage: Storage) -> None:
        """Commit: if two each read a key that the other writes, one conflicts."""
        put_all(storage, b"x", b"y")
        first, second = storage.snapshot(), storage.snapshot()
        assert isinstance(commit(storage, first, {b"x": TOMBSTONE}, [b"x", b"y"]), Committed)
        assert isinstance(commit(storage, second, {b"y": TOMBSTONE}, [b"x", b"y"]), Conflict)
        assert contents(storage) == {b"y": b"value of y"}

    def test_a_commit_that_conflicted_succeeds_from_a_fresh_snapshot(self, storage: Storage) -> None:
        """Commit: only changes after the snapshot conflict."""
        snapshot = storage.snapshot()
        storage.put(b"k", b"1")
        assert isinstance(commit(storage, snapshot, {b"k": b"2"}, [b"k"]), Conflict)
        assert isinstance(commit(storage, storage.snapshot(), {b"k": b"2"}, [b"k"]), Committed)
        assert storage.get(b"k") == b"2"

    def test_ones_own_writes_are_no_conflict(self, storage: Storage) -> None:
        """Commit: a transaction that lists and reads where it writes does not conflict with itself."""
        put_all(storage, b"p1")
        answer = commit(storage, storage.snapshot(), {b"p1": TOMBSTONE, b"p2": b""}, [b"p1", b"p2"], under(b"p", b""))
        assert isinstance(answer, Committed)

    def test_a_blind_commit_never_conflicts(self, storage: Storage) -> None:
        """Commit: keys that were not observed may have changed in any way."""
        put_all(storage, b"a")
        snapshot = storage.snapshot()
        storage.put(b"a", b"later")
        storage.put(b"b", b"later")
        assert isinstance(commit(storage, snapshot, {b"a": b"mine", b"b": b"mine"}), Committed)
        assert contents(storage) == {b"a": b"mine", b"b": b"mine"}

    def test_a_request_without_a_snapshot_is_a_blind_one(self, storage: Storage) -> None:
        """Commit: a request without read sets cannot conflict."""
        assert isinstance(storage.commit(CommitRequest((), {b"k": b"v"})), Committed)
        assert storage.get(b"k") == b"v"

    def test_a_commit_without_writes_is_validated_as_any_other(self, storage: Storage) -> None:
        """Commit: the session decides whether to call ``commit`` without writes."""
        assert isinstance(commit(storage, storage.snapshot(), {}, [b"k"], under(b"")), Committed)
        snapshot = storage.snapshot()
        storage.put(b"k", b"")
        assert isinstance(commit(storage, snapshot, {}, [b"k"]), Conflict)

    @pytest.mark.parametrize("changed", [False, True])
    def test_a_request_without_writes_changes_nothing(self, storage: Storage, changed: bool) -> None:
        """Commit: a request without writes only validates its read sets, each against its own snapshot."""
        put_all(storage, b"a", b"b")
        first, other = storage.snapshot(), storage.snapshot()
        storage.put(b"b", b"")
        second = storage.snapshot()
        if changed:
            storage.delete(b"a")
        before = contents(storage)
        answer = storage.commit(CommitRequest((ReadSet(first, [b"a"], []), ReadSet(second, [b"b"], under(b"b"))), {}))
        first.close()
        second.close()
        if changed:
            assert isinstance(answer, Conflict)
            assert (answer.keys, answer.ranges) == ((b"a",), ())
        else:
            assert isinstance(answer, Committed)
            assert isinstance(commit(storage, other, {b"mine": b""}, [b"a"], under(b"")), Committed)
            before[b"mine"] = b""
        assert contents(storage) == before

    def test_a_request_of_several_snapshots_commits_when_none_has_changed(self, storage: Storage) -> None:
        """Commit: each read set has its own snapshot; the writes are applied once."""
        put_all(storage, b"a", b"b")
        first = storage.snapshot()
        storage.put(b"c", b"")
        second = storage.snapshot()
        request = CommitRequest((ReadSet(first, [b"a"], []), ReadSet(second, [b"c"], under(b""))), {b"a": b"new"})
        assert isinstance(storage.commit(request), Committed)
        first.close()
        second.close()
        assert contents(storage) == {b"a": b"new", b"b": b"value of b", b"c": b""}

    def test_versions_increase_with_every_commit(self, storage: Storage) -> None:
        """``commit``: each result has a higher version than the one before, whatever happens between the two."""
        versions: list[int] = []
        for number in range(5):
            answer = commit(storage, storage.snapshot(), {b"k": b"%d" % number if number % 2 else TOMBSTONE, b"n": b""})
            assert isinstance(answer, Committed)
            versions.append(answer.version)
            storage.put(b"other", b"")
            storage.delete(b"other")
        assert versions == sorted(set(versions))
        assert all(type(version) is int for version in versions)

    @pytest.mark.parametrize("crowd", [0, 3000])
    def test_a_commit_that_clears_deletes_what_there_is_and_then_writes(self, storage: Storage, crowd: int) -> None:
        """Commit: a request that clears deletes every key that exists then, seen or not, and applies its writes."""
        put_all(storage, b"a", b"b", *(b"c%d" % number for number in range(crowd)))
        snapshot, older = storage.snapshot(), storage.snapshot()
        put_all(storage, b"come", b"unseen")
        writes: dict[Key, Write] = {b"b": b"new", b"come": TOMBSTONE, b"n": b""}
        answer = storage.commit(CommitRequest((ReadSet(snapshot, [], []),), writes, clears=True))
        snapshot.close()
        assert isinstance(answer, Committed)
        assert contents(storage) == {b"b": b"new", b"n": b""}
        assert older.get(b"a") == b"value of a"
        assert older.count(b"") == crowd + 2
        conflict = commit(
            storage, older, {b"mine": b""}, [b"a", b"b", b"come", b"n", b"unseen", b"x"], under(b"a", b"b", b"n")
        )
        assert isinstance(conflict, Conflict)
        assert set(conflict.keys) == {b"a", b"b", b"come", b"n", b"unseen"}
        assert set(conflict.ranges) == set(under(b"a", b"n"))

    def test_a_conflict_clears_nothing(self, storage: Storage) -> None:
        """Commit: a request that clears is applied as a whole or not at all."""
        put_all(storage, b"a", b"b")
        snapshot = storage.snapshot()
        storage.put(b"a", b"later")
        before = contents(storage)
        answer = storage.commit(CommitRequest((ReadSet(snapshot, [b"a"], []),), {}, clears=True))
        assert isinstance(answer, Conflict)
        assert answer.keys == (b"a",)
        assert snapshot.get(b"b") == b"value of b"
        snapshot.close()
        assert contents(storage) == before

    def test_a_commit_closes_no_snapshot(self, storage: Storage) -> None:
        """Snapshots: the caller closes each once, and closing one does not close another."""
        put_all(storage, b"k")
        mine, other = storage.snapshot(), storage.snapshot()
        assert isinstance(commit(storage, mine, {b"k": b"new"}, [b"k"]), Committed)
        storage.put(b"k", b"later")
        assert other.get(b"k") == b"value of k"
        assert isinstance(commit(storage, other, {b"mine": b""}, [b"k"]), Conflict)

    def test_a_request_is_made_of_any_mapping_and_any_collections(self, storage: Storage) -> None:
        """``commit``: writes and reads of a large transaction come in persistent maps, as the session holds them."""
        keys = [b"%02d" % number for number in range(20)]
        put_all(storage, *keys[::2])
        writes: Map[Key, Write] = Map({key: TOMBSTONE if at % 3 else b"new" for at, key in enumerate(keys)})
        reads = Map(dict.fromkeys(keys))
        ranges = dict.fromkeys(under(*keys))
        assert isinstance(commit(storage, storage.snapshot(), writes, reads, ranges), Committed)
        assert contents(storage) == dict.fromkeys(keys[::3], b"new")
        snapshot = storage.snapshot()
        storage.put(keys[19], b"later")
        assert isinstance(commit(storage, snapshot, writes, reads), Conflict)

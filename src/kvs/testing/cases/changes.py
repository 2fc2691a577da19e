"""Commit: exactly when a key or a prefix has changed since a snapshot."""

from typing import TypeAlias

import pytest

from kvs.domain.commit import Committed, Conflict, KeyRange
from kvs.domain.values import TOMBSTONE, Key, Write
from kvs.ports.storage import Storage
from kvs.testing.cases.base import StorageCases, commit, end_tick, put_all, under

Changes: TypeAlias = list[tuple[Key, Write]]

either_way = pytest.mark.parametrize("by_commit", [False, True], ids=["by put and delete", "by commit"])
in_any_crowd = pytest.mark.parametrize("crowd", [0, 1000])


def make(storage: Storage, changes: Changes, *, by_commit: bool) -> None:
    """Make changes, each a transaction of its own."""
    for key, pending in changes:
        if by_commit:
            assert isinstance(commit(storage, storage.snapshot(), {key: pending}), Committed)
        elif pending is TOMBSTONE:
            storage.delete(key)
        else:
            storage.put(key, pending)
        end_tick(storage)


def key_has_changed(storage: Storage, key: Key, changes: Changes, *, by_commit: bool) -> bool:
    """Return whether a commit that observed a key before these changes conflicts; check what it applied."""
    put_all(storage, b"k", b"other")
    snapshot = storage.snapshot()
    make(storage, changes, by_commit=by_commit)
    answer = commit(storage, snapshot, {b"mine": b""}, [key])
    assert storage.get(b"mine") == (b"" if isinstance(answer, Committed) else None)
    return isinstance(answer, Conflict)


def prefix_has_changed(storage: Storage, changes: Changes, crowd: int, *, by_commit: bool) -> bool:
    """Return whether a commit that observed prefix ``p`` conflicts after changes, with ``crowd`` other keys."""
    put_all(storage, b"p1", b"p2", b"z", *(b"a%d" % number for number in range(crowd)))
    put_all(storage, *(b"p0%d" % number for number in range(crowd)))
    snapshot = storage.snapshot()
    make(storage, changes, by_commit=by_commit)
    answer = commit(storage, snapshot, {b"mine": b""}, [], under(b"p"))
    if isinstance(answer, Conflict):
        assert (answer.keys, answer.ranges) == ((), tuple(under(b"p")))
    return isinstance(answer, Conflict)


class ChangeCases(StorageCases):
    """What counts as a change. The key ``k`` exists, the key ``absent`` does not."""

    # A key.

    @either_way
    @pytest.mark.parametrize(
        ("key", "changes"),
        [
            pytest.param(b"k", [(b"k", b"new")], id="there"),
            pytest.param(b"absent", [(b"absent", b"new")], id="not there"),
            pytest.param(b"k", [(b"k", TOMBSTONE), (b"k", b"value of k")], id="deleted and put back"),
        ],
    )
    def test_a_put_changes_a_key(self, storage: Storage, key: Key, changes: Changes, by_commit: bool) -> None:
        """Commit: a key has changed if a commit since put it."""
        assert key_has_changed(storage, key, changes, by_commit=by_commit)

    @either_way
    def test_a_put_of_equal_bytes_changes_a_key(self, storage: Storage, by_commit: bool) -> None:
        """Commit: a key has changed if a commit since put it, even with equal bytes."""
        assert key_has_changed(storage, b"k", [(b"k", b"value of k")], by_commit=by_commit)

    @either_way
    @pytest.mark.parametrize(
        ("key", "changes"),
        [
            pytest.param(b"k", [(b"k", TOMBSTONE)], id="there"),
            pytest.param(b"absent", [(b"absent", b""), (b"absent", TOMBSTONE)], id="come and gone"),
        ],
    )
    def test_a_delete_of_a_key_that_existed_changes_it(
        self, storage: Storage, key: Key, changes: Changes, by_commit: bool
    ) -> None:
        """Commit: a key has changed if a commit since deleted it while it existed."""
        assert key_has_changed(storage, key, changes, by_commit=by_commit)

    @either_way
    @pytest.mark.parametrize("times", [1, 2])
    def test_deleting_an_absent_key_changes_nothing(self, storage: Storage, times: int, by_commit: bool) -> None:
        """Commit: deleting an absent key changes nothing."""
        assert not key_has_changed(storage, b"absent", [(b"absent", TOMBSTONE)] * times, by_commit=by_commit)

    @either_way
    @pytest.mark.parametrize(
        "changes",
        [
            pytest.param([], id="nothing at all"),
            pytest.param([(b"kk", b"new"), (b"j", b"new"), (b"k\0", b"new")], id="others put"),
            pytest.param([(b"other", TOMBSTONE)], id="another deleted"),
        ],
    )
    def test_a_key_is_not_changed_by_what_happens_to_others(
        self, storage: Storage, changes: Changes, by_commit: bool
    ) -> None:
        """Commit: a key has changed only if it was itself put or deleted."""
        assert not key_has_changed(storage, b"k", changes, by_commit=by_commit)

    def test_what_changed_before_the_snapshot_has_not_changed_since(self, storage: Storage) -> None:
        """Commit: the last commit before a snapshot belongs to it."""
        put_all(storage, b"k")
        other = storage.snapshot()
        storage.put(b"k", b"before")
        storage.put(b"n", b"before")
        storage.delete(b"n")
        snapshot = storage.snapshot()
        assert isinstance(commit(storage, snapshot, {b"mine": b""}, [b"k", b"n"], under(b"")), Committed)
        assert isinstance(commit(storage, other, {b"mine": b""}, [b"k"]), Conflict)

    @pytest.mark.parametrize("changes_between", [1, 2])
    def test_a_key_that_changed_before_and_after_a_snapshot_has_changed(
        self, storage: Storage, changes_between: int
    ) -> None:
        """Commit: also with an older snapshot open, for which the earlier change counts as well."""
        put_all(storage, b"k")
        oldest = storage.snapshot()
        for number in range(changes_between):
            storage.put(b"k", b"%d" % number)
        snapshot, reader = storage.snapshot(), storage.snapshot()
        storage.put(b"k", b"after")
        youngest = storage.snapshot()
        end_tick(storage)
        assert oldest.get(b"k") == b"value of k"
        assert reader.get(b"k") == b"%d" % (changes_between - 1)
        assert youngest.get(b"k") == b"after"
        assert isinstance(commit(storage, snapshot, {b"mine": b""}, [b"k"]), Conflict)
        assert isinstance(commit(storage, youngest, {b"mine": b""}, [b"k"]), Committed)
        assert isinstance(commit(storage, oldest, {b"mine": b""}, [b"k"]), Conflict)
        reader.close()

    # A prefix.

    @either_way
    @in_any_crowd
    @pytest.mark.parametrize(
        "changes",
        [
            pytest.param([(b"p3", b"")], id="one came"),
            pytest.param([(b"p1", TOMBSTONE)], id="one went"),
            pytest.param([(b"p1", TOMBSTONE), (b"p3", b"")], id="one for another"),
            pytest.param([(b"p", b"")], id="the prefix itself came"),
            pytest.param([(b"p1", TOMBSTONE), (b"p2", TOMBSTONE)], id="all went"),
        ],
    )
    def test_a_key_that_comes_or_goes_changes_a_prefix(
        self, storage: Storage, changes: Changes, crowd: int, by_commit: bool
    ) -> None:
        """Commit: a prefix has changed if the set of keys under it differs, so a phantom is a conflict."""
        assert prefix_has_changed(storage, changes, crowd, by_commit=by_commit)

    @either_way
    @in_any_crowd
    def test_overwriting_a_value_does_not_change_a_prefix(self, storage: Storage, crowd: int, by_commit: bool) -> None:
        """Commit: overwriting a value does not change a prefix."""
        assert not prefix_has_changed(storage, [(b"p1", b"new")], crowd, by_commit=by_commit)

    @either_way
    @in_any_crowd
    @pytest.mark.parametrize(
        "changes",
        [
            pytest.param([], id="nothing at all"),
            pytest.param([(b"p3", TOMBSTONE)], id="an absent one deleted"),
            pytest.param([(b"p3", b""), (b"p3", TOMBSTONE)], id="one came and went"),
            pytest.param([(b"p1", TOMBSTONE), (b"p1", b"new")], id="one went and came back"),
        ],
    )
    def test_a_prefix_with_the_keys_it_had_has_not_changed(
        self, storage: Storage, changes: Changes, crowd: int, by_commit: bool
    ) -> None:
        """Commit: a prefix has changed only if the set of keys under it differs from the snapshot's."""
        assert not prefix_has_changed(storage, changes, crowd, by_commit=by_commit)

    @either_way
    @in_any_crowd
    @pytest.mark.parametrize(
        "changes",
        [
            pytest.param([(b"o\xff", b"")], id="one before it came"),
            pytest.param([(b"q", b"")], id="one behind it came"),
            pytest.param([(b"z", TOMBSTONE)], id="one behind it went"),
        ],
    )
    def test_a_prefix_is_not_changed_by_keys_outside_it(
        self, storage: Storage, changes: Changes, crowd: int, by_commit: bool
    ) -> None:
        """Commit: keys that do not begin with a prefix do not change it."""
        assert not prefix_has_changed(storage, changes, crowd, by_commit=by_commit)

    @pytest.mark.parametrize(
        ("key", "changes"),
        [
            (b"p1", False),
            (b"p1\0", True),
            (b"p2", True),
            (b"p3", True),
            (b"p3\0", False),
            (b"p4", False),
            (b"q", False),
        ],
    )
    def test_a_range_is_changed_by_the_keys_between_its_bounds(self, storage: Storage, key: Key, changes: bool) -> None:
        """Commit: a range has changed if a key was added or deleted from its lower bound to below its upper one."""
        put_all(storage, b"p1", b"p3", b"p5")
        snapshot = storage.snapshot()
        if not storage.delete(key):
            storage.put(key, b"")
        answer = commit(storage, snapshot, {b"mine": b""}, [], [KeyRange(b"p1\0", b"p3\0")])
        assert isinstance(answer, Conflict if changes else Committed)

    def test_the_empty_prefix_is_every_key(self, storage: Storage) -> None:
        """Prefixes may be empty, which means every key: any new key changes it."""
        snapshot = storage.snapshot()
        put_all(storage, b"\xff\xff")
        assert isinstance(commit(storage, snapshot, {b"mine": b""}, [], under(b"")), Conflict)

"""Commit: what a conflict names, and that each validation of a request counts."""

import pytest

from kvs.domain.transaction import MAX_CONFLICTS_NAMED, CommitRequest, Conflict, Validation
from kvs.domain.values import Key
from kvs.ports.storage import Storage
from kvs.testing.cases.base import StorageCases, commit, put_all


class ConflictCases(StorageCases):
    """What a conflict says."""

    def test_a_conflict_names_what_changed_and_nothing_else(self, storage: Storage) -> None:
        """``commit``: a conflict names keys as keys and prefixes as prefixes, and none that did not change."""
        put_all(storage, b"a", b"b", b"c")
        snapshot = storage.snapshot()
        storage.put(b"a", b"")
        storage.delete(b"b")
        storage.put(b"n1", b"")
        answer = commit(storage, snapshot, {b"m": b""}, [b"a", b"b", b"c", b"x"], [b"a", b"b", b"n", b"x", b""])
        assert isinstance(answer, Conflict)
        assert (set(answer.keys), set(answer.prefixes)) == ({b"a", b"b"}, {b"b", b"n", b""})

    @pytest.mark.parametrize("changed", [MAX_CONFLICTS_NAMED - 1, MAX_CONFLICTS_NAMED, MAX_CONFLICTS_NAMED + 1, 100])
    @pytest.mark.parametrize("validations", [1, 3])
    def test_a_conflict_names_a_bounded_number(self, storage: Storage, changed: int, validations: int) -> None:
        """``commit``: a conflict names as many as there are up to the bound, however many snapshots are validated."""
        keys = [b"%03d" % number for number in range(changed)]
        snapshots = [storage.snapshot() for _ in range(validations)]
        put_all(storage, *keys)
        request = CommitRequest(tuple(Validation(snapshot, keys, keys) for snapshot in snapshots), {b"mine": b""})
        answer = storage.commit(request)
        for snapshot in snapshots:
            snapshot.close()
        assert isinstance(answer, Conflict)
        for named in (answer.keys, answer.prefixes):
            assert min(changed, MAX_CONFLICTS_NAMED) <= len(named) <= MAX_CONFLICTS_NAMED
            assert set(named) <= set(keys)

    @pytest.mark.parametrize(
        ("first_reads", "second_reads", "conflicts"),
        [(b"old", b"old", ()), (b"old", b"new", ()), (b"new", b"old", (b"new",)), (b"new", b"new", (b"new",))],
    )
    def test_each_snapshot_of_a_request_validates_what_was_observed_in_it(
        self, storage: Storage, first_reads: Key, second_reads: Key, conflicts: tuple[Key, ...]
    ) -> None:
        """Commit: it conflicts if what any validation names has changed since the snapshot of that validation."""
        put_all(storage, b"old", b"new")
        first = storage.snapshot()
        storage.put(b"new", b"changed")
        second = storage.snapshot()
        storage.put(b"other", b"")
        validations = (Validation(first, [first_reads], [b"n"]), Validation(second, [second_reads], [b"o"]))
        answer = storage.commit(CommitRequest(validations, {b"mine": b""}))
        first.close()
        second.close()
        assert isinstance(answer, Conflict)
        assert answer.keys == conflicts
        assert answer.prefixes == (b"o",)  # for it was listed in the second, and `other` came afterwards

"""Failure: a write beyond a limit of the engine changes nothing."""

from collections.abc import Mapping

import pytest

from kvs.domain.commit import CommitRequest, Committed, ReadSet
from kvs.domain.errors import LimitError
from kvs.domain.values import TOMBSTONE, Key, Write
from kvs.ports.storage import Storage
from kvs.testing.cases.base import StorageCases, commit, contents, put_all, under
from kvs.testing.cases.updates import FixedUpdate


class RefusalCases(StorageCases):
    """Effects of a refused write. Skipped for an engine without a limit."""

    def refused_writes(self) -> Mapping[Key, Write]:
        """Return writes that together exceed a limit of the engine. Empty by default: it has no limit."""
        return {}

    @pytest.fixture
    def refused(self) -> Mapping[Key, Write]:
        """The writes of ``refused_writes``."""
        writes = self.refused_writes()
        if not writes:
            pytest.skip("an engine without a limit of its own: refused_writes() names no writes")
        return writes

    def test_a_refused_commit_applies_nothing(self, storage: Storage, refused: Mapping[Key, Write]) -> None:
        """Failure: ``LimitError`` means that nothing was applied, neither values nor tombstones."""
        put_all(storage, b"a", b"b")
        before = contents(storage)
        with pytest.raises(LimitError):
            commit(storage, storage.snapshot(), {b"a": TOMBSTONE, b"n": b"", **refused})
        assert contents(storage) == before

    def test_a_refused_commit_is_no_change_to_others(self, storage: Storage, refused: Mapping[Key, Write]) -> None:
        """Failure: ``LimitError`` means that nothing was applied, and so nothing that others observed has changed."""
        put_all(storage, b"a")
        other = storage.snapshot()
        with pytest.raises(LimitError):
            commit(storage, storage.snapshot(), {b"a": TOMBSTONE, b"n": b"", **refused})
        assert isinstance(commit(storage, other, {b"mine": b""}, [b"a", b"n", *refused], under(b"")), Committed)

    def test_a_refused_transaction_may_go_on(self, storage: Storage, refused: Mapping[Key, Write]) -> None:
        """Failure: after ``LimitError`` the transaction is still open: its snapshot serves and validates as before."""
        put_all(storage, b"a")
        snapshot = storage.snapshot()
        with pytest.raises(LimitError):
            storage.commit(CommitRequest((ReadSet(snapshot, [b"a"], under(b"")),), {b"a": b"mine", **refused}))
        assert snapshot.get(b"a") == b"value of a"
        assert isinstance(commit(storage, snapshot, {b"a": b"mine"}, [b"a"], under(b"")), Committed)
        assert storage.get(b"a") == b"mine"

    def test_a_refused_update_changes_nothing(self, storage: Storage, refused: Mapping[Key, Write]) -> None:
        """Failure: ``LimitError`` means that nothing was applied, by an update as by a commit."""
        put_all(storage, b"a")
        expected = contents(storage)
        for key, pending in refused.items():
            snapshot = storage.snapshot()
            try:
                _, after = storage.update(key, FixedUpdate(pending))
            except LimitError:
                assert isinstance(commit(storage, snapshot, {}, [key], under(b"")), Committed)
                break
            snapshot.close()
            if after is not None:
                expected[key] = after
        assert contents(storage) == expected

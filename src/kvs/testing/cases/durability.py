"""Durability: synced data survive a reopen, and a kill of the process."""

from abc import abstractmethod
from contextlib import AbstractContextManager
from pathlib import Path
from typing import ClassVar

import pytest

from kvs.domain.commit import CommitRequest, Committed, Conflict
from kvs.domain.updates import PutIfAbsent, Remove, Replace
from kvs.domain.values import TOMBSTONE, Key, Record, Value, string_of
from kvs.engine import StorageOpenError
from kvs.ports.storage import Storage
from kvs.testing.cases.base import StorageCases, commit, contents, end_tick, put_all, under
from kvs.testing.cases.records import DUE_MS, delete_due, due_at
from kvs.testing.cases.updates import MORE_THAN_A_PAGE, FixedUpdate
from kvs.testing.leak_checked_storage import as_served
from kvs.testing.process import FILLED, count_up, fill, hold, running


class DurabilityCases(StorageCases):
    """What a reopened engine contains.

    Attributes:
        shared: Whether several processes may have the same data open, so that a second opener is not refused.
    """

    shared: ClassVar[bool] = False

    @abstractmethod
    def open_storage_in(self, directory: Path) -> AbstractContextManager[Storage]:
        """Open an engine on the data of a directory; the context manager closes it.

        Other processes call it, too: they import the module of the class, make an instance, and call this.
        """

    # After a close.

    def test_what_was_synced_is_there_after_a_reopen(self, tmp_path: Path) -> None:
        """Durability: keys and values of any bytes, put, overwritten, committed, and deleted before."""
        with self.open_storage_in(tmp_path) as storage:
            fill(storage)
            assert contents(storage) == FILLED
        for _ in range(2):
            with self.open_storage_in(tmp_path) as storage:
                assert contents(storage) == FILLED
                assert storage.count(b"") == storage.stats()["keys"] == len(FILLED)

    @pytest.mark.parametrize("by_commit", [False, True], ids=["by delete", "by commit"])
    def test_deletes_last(self, tmp_path: Path, by_commit: bool) -> None:
        """Durability: deleted keys stay deleted, also those that an earlier sync made durable."""
        with self.open_storage_in(tmp_path) as storage:
            put_all(storage, b"a", b"b")
            end_tick(storage)
        with self.open_storage_in(tmp_path) as storage:
            if by_commit:
                storage.commit(CommitRequest((), {b"a": TOMBSTONE}))
            else:
                storage.delete(b"a")
            end_tick(storage)
        with self.open_storage_in(tmp_path) as storage:
            assert contents(storage) == {b"b": b"value of b"}

    def test_the_last_value_lasts(self, tmp_path: Path) -> None:
        """Durability: the last of all synced values survives, over many reopens."""
        for number in range(5):
            with self.open_storage_in(tmp_path) as storage:
                assert storage.get(b"k") == (b"%d" % (number - 1) if number else None)
                storage.put(b"k", b"not this one")
                end_tick(storage)
                storage.put(b"k", b"%d" % number)
                end_tick(storage)

    def test_updates_last(self, tmp_path: Path) -> None:
        """Durability: the puts and deletes of updates, and several at once, survive, each followed by its own sync."""
        with self.open_storage_in(tmp_path) as storage:
            put_all(storage, b"a", b"b", b"c")
            end_tick(storage)
            storage.put_all([b"x", b"c", b"x"], [b"1", b"put", b"2"])
            end_tick(storage)
            for key, change in (
                (b"a", Replace(b"new")),
                (b"b", Remove()),
                (b"n", PutIfAbsent(b"")),
                (b"c", FixedUpdate(None)),
            ):
                storage.update(key, change)
                end_tick(storage)
        with self.open_storage_in(tmp_path) as storage:
            assert contents(storage) == {b"a": b"new", b"c": b"put", b"n": b"", b"x": b"2"}

    def test_a_clear_lasts(self, tmp_path: Path) -> None:
        """Durability: after a restart, the keys from before the clear are gone, and those written after it exist."""
        with self.open_storage_in(tmp_path) as storage:
            put_all(storage, *MORE_THAN_A_PAGE)
            end_tick(storage)
        with self.open_storage_in(tmp_path) as storage:
            storage.put(b"0000", b"overwritten")
            storage.clear()
            end_tick(storage)
        with self.open_storage_in(tmp_path) as storage:
            assert contents(storage) == {}
            put_all(storage, b"a", b"b")
            end_tick(storage)
            put_all(storage, b"c")
            storage.clear()
            put_all(storage, b"b", b"d")
            end_tick(storage)
        with self.open_storage_in(tmp_path) as storage:
            assert contents(storage) == {b"b": b"value of b", b"d": b"value of d"}

    def test_records_and_expiries_last(self, tmp_path: Path) -> None:
        """Durability: records survive with their deadlines, and what has expired is as gone as by a delete."""
        if not self.records:
            pytest.skip("an engine that stores no records")
        record, gone = Record(b"\0\xff", DUE_MS), due_at(DUE_MS - 1)
        with self.open_storage_in(tmp_path) as storage:
            served = as_served(storage)
            stored: dict[Key, Value] = {b"k": record, b"gone": gone, b"moved": gone, b"v": b"v"}
            for key, value in stored.items():
                served.put(key, value)
            end_tick(served)
            served.commit(CommitRequest((), {b"committed": record, b"moved": record}))
            end_tick(served)
            assert delete_due(served, DUE_MS - 1) == [b"gone"]
        with self.open_storage_in(tmp_path) as storage:
            served = as_served(storage)
            expected = {b"k": record, b"committed": record, b"moved": record, b"v": b"v"}
            assert contents(served) == expected
            assert delete_due(served, DUE_MS - 1) == []
            assert delete_due(served, DUE_MS) == [b"committed", b"k", b"moved"]
        with self.open_storage_in(tmp_path) as storage:
            assert contents(storage) == {b"v": b"v"}

    def test_what_conflicted_is_not_there_after_a_reopen(self, tmp_path: Path) -> None:
        """Durability: a conflict applies nothing, neither in memory nor on disk."""
        with self.open_storage_in(tmp_path) as storage:
            put_all(storage, b"k")
            snapshot = storage.snapshot()
            storage.put(b"read", b"")
            assert isinstance(commit(storage, snapshot, {b"n": b"", b"k": TOMBSTONE}, [b"read"]), Conflict)
            end_tick(storage)
            before = contents(storage)
        with self.open_storage_in(tmp_path) as storage:
            assert contents(storage) == before == {b"k": b"value of k", b"read": b""}

    def test_a_reopened_engine_tells_what_has_changed(self, tmp_path: Path) -> None:
        """Commit: validation works after a reopen, and commits before it count as no change."""
        with self.open_storage_in(tmp_path) as storage:
            put_all(storage, b"k", b"other")
            end_tick(storage)
        with self.open_storage_in(tmp_path) as storage:
            first, second = storage.snapshot(), storage.snapshot()
            assert isinstance(commit(storage, first, {b"k": b"first"}, [b"k", b"other"], under(b"")), Committed)
            assert second.get(b"k") == b"value of k"
            assert isinstance(commit(storage, second, {b"k": b"second"}, [b"k"]), Conflict)

    # After a process that was killed.

    def test_what_was_synced_outlives_a_killed_process(self, tmp_path: Path) -> None:
        """Durability: synced data are there even if the engine was never closed."""
        with running(self, tmp_path, fill) as process:
            process.wait_for("filled")
            process.kill()
        with self.open_storage_in(tmp_path) as storage:
            assert contents(storage) == FILLED

    @pytest.mark.parametrize("commits", [1, 20])
    def test_a_commit_outlives_a_killed_process_whole_or_not_at_all(self, tmp_path: Path, commits: int) -> None:
        """Durability: the last acknowledged commit is there; of the one after it, all of its writes or none."""
        with running(self, tmp_path, count_up) as process:
            process.wait_for(str(commits))
            acknowledged = int(process.kill() or commits)
        with self.open_storage_in(tmp_path) as storage:
            number = int(string_of(storage.get(b"a") or b"0"))
            assert acknowledged <= number <= acknowledged + 1
            digits = b"%d" % number
            assert contents(storage) == {b"a": digits, b"n" + digits: b"", b"z": digits}

    def test_a_second_opener_is_refused_until_the_first_has_ended(self, tmp_path: Path) -> None:
        """Durability: two processes that write the same files would destroy them; a dead one is no obstacle."""
        if self.shared:
            pytest.skip("a shared engine: several processes may have the same data open")
        with running(self, tmp_path, hold) as process:
            process.wait_for("open")
            with pytest.raises(StorageOpenError), self.open_storage_in(tmp_path):
                pass
            process.kill()
        with self.open_storage_in(tmp_path) as storage:
            put_all(storage, b"k")

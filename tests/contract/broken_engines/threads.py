"""Engines that say that they may be called from many threads, and may not."""

import threading
from contextlib import nullcontext

from kvs.domain.values import Key, Value
from tests.contract.broken_engines.faults import breaks
from tests.naive_storage import LockedStorage, NaiveSnapshot, NaiveStorage


@breaks("no_update_of_a_thread_is_lost")
class HasNoLock(LockedStorage):
    def __init__(self) -> None:
        super().__init__()
        self.lock = nullcontext()


@breaks("a_delete_is_answered_true_on_one_thread_only")
class LooksBeforeItLocks(LockedStorage):
    def delete(self, key: Key) -> bool:
        present = self.get(key) is not None
        super().delete(key)
        return present


@breaks("a_snapshot_is_stable_while_other_threads_commit")
class TakesSnapshotsWithoutItsLock(LockedStorage):
    def snapshot(self) -> NaiveSnapshot:
        return NaiveStorage.snapshot(self)


class _BoundSnapshot(NaiveSnapshot):
    thread: int

    def get(self, key: Key) -> Value | None:
        if threading.get_ident() != self.thread:
            raise RuntimeError("a snapshot can only be used in the thread that it was taken in")
        return super().get(key)


@breaks("a_snapshot_may_be_used_on_any_thread")
class BindsSnapshotsToTheirThread(LockedStorage):
    def snapshot(self) -> NaiveSnapshot:
        with self.lock:
            snapshot = _BoundSnapshot(dict(self._data), len(self._log))
        snapshot.thread = threading.get_ident()
        return snapshot

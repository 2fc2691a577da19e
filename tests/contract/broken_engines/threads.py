"""Engines that say that they may be called from many threads, and may not."""

import threading
import time
from contextlib import nullcontext, suppress
from types import TracebackType
from typing import Final

from kvs.domain.updates import Update, Updated
from kvs.domain.values import TOMBSTONE, Key, Value
from tests.contract.broken_engines.faults import breaks
from tests.support.naive_storage import LockedStorage, NaiveSnapshot

MEETING_S: Final = 0.005


class Window:
    """Where threads overtake each other: one that comes in waits, at most 5 ms, for a second one.

    Threads that are merely let go together may still run one after the other, for as long as a test lasts.
    """

    def __init__(self) -> None:
        self._meeting = threading.Barrier(2)

    def __enter__(self) -> None:
        with suppress(threading.BrokenBarrierError):
            self._meeting.wait(MEETING_S)
            return
        self._meeting.reset()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass


@breaks("no_update_of_a_thread_is_lost")
class HasNoLock(LockedStorage):
    def __init__(self) -> None:
        super().__init__()
        self.lock = nullcontext()


class OpenStorage(LockedStorage):
    """One with a window, and a fault that leaves it open."""

    def __init__(self) -> None:
        super().__init__()
        self.window = Window()


@breaks("a_delete_returns_true_on_one_thread_only")
class LooksBeforeItLocks(OpenStorage):
    def delete(self, key: Key) -> bool:
        present = self.get(key) is not None
        with self.window:
            super().delete(key)
        return present


@breaks("updates_of_several_threads_all_count")
class AsksBeforeItLocks(OpenStorage):
    def update(self, key: Key, change: Update) -> Updated:
        old = self.get(key)
        pending = change(old)
        with self.window:
            return super().update(key, lambda _: pending)


@breaks("a_put_where_there_is_nothing_is_done_by_one_thread_only")
class LocksWhatIsThereOnly(OpenStorage):
    def update(self, key: Key, change: Update) -> Updated:
        if self.get(key) is not None:
            return super().update(key, change)
        pending = change(None)
        if pending is not None and pending is not TOMBSTONE:
            with self.window:
                self.put(key, pending)
            return None, pending
        return None, None


@breaks("a_clear_is_seen_whole_or_not_at_all")
class ClearsKeyByKey(LockedStorage):
    def clear(self) -> None:
        for key in self.scan(b"", b"", 1 << 20):
            self.delete(key)


@breaks("a_snapshot_is_stable_while_other_threads_commit")
class TakesSnapshotsWithoutItsLock(LockedStorage):
    def snapshot(self) -> NaiveSnapshot:
        data = dict(self._data)
        time.sleep(MEETING_S / 10)  # others have their turn, on any machine
        return NaiveSnapshot(dict(self._data) | data, len(self._log))


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

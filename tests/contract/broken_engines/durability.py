"""Engines that keep data on disk, or say so."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import msgspec

from kvs.domain.codec import decode
from kvs.domain.commit import CommitRequest, Committed, Conflict
from kvs.domain.updates import Update, Updated
from kvs.domain.values import NO_DEADLINE, Key, with_deadline
from kvs.engine import StorageOpenError
from kvs.ports.storage import Storage
from kvs_wholefile import WholeFileStorage, locked
from tests.contract.broken_engines.faults import breaks


class DurableStorage(WholeFileStorage):
    """The example, which is right, and how it is opened in a directory."""

    @classmethod
    @contextmanager
    def open_in(cls, directory: Path) -> Iterator[Storage]:
        """Open it."""
        with cls.lock(directory) as descriptor, closing(cls(directory / "data", descriptor, 1 << 20)) as storage:
            yield storage

    @staticmethod
    def lock(directory: Path) -> AbstractContextManager[int]:
        """Hold the directory; see the example."""
        return locked(directory)


@breaks(
    "what_was_synced_is_there_after_a_reopen",
    "a_clear_lasts",
    "a_commit_outlives_a_killed_process_whole_or_not_at_all",
    "a_reopened_engine_tells_what_has_changed",
    "deletes_last",
    "the_last_value_lasts",
    "updates_last",
    "what_conflicted_is_not_there_after_a_reopen",
    "what_was_synced_outlives_a_killed_process",
    "records_and_expiries_last",
)
class NeverWrites(DurableStorage):
    def sync(self) -> None:
        pass


@breaks("what_was_synced_outlives_a_killed_process", "a_commit_outlives_a_killed_process_whole_or_not_at_all")
class WritesWhenItIsClosed(DurableStorage):
    def sync(self) -> None:
        pass

    def close(self) -> None:
        super().sync()


@breaks(
    "deletes_last",
    "a_clear_lasts",
    "a_commit_outlives_a_killed_process_whole_or_not_at_all",
    "updates_last",
    "what_was_synced_is_there_after_a_reopen",
    "what_was_synced_outlives_a_killed_process",
    "records_and_expiries_last",
)
class BringsBackWhatWasDeleted(DurableStorage):
    def sync(self) -> None:
        data = self.data
        if self._path.exists():
            encoded = msgspec.msgpack.decode(self._path.read_bytes(), type=dict[bytes, bytes])
            self.data = {key: decode(value) for key, value in encoded.items()} | data
        super().sync()
        self.data = data


@breaks(
    "the_last_value_lasts",
    "a_clear_lasts",
    "a_commit_outlives_a_killed_process_whole_or_not_at_all",
    "updates_last",
    "what_was_synced_is_there_after_a_reopen",
    "what_was_synced_outlives_a_killed_process",
    "records_and_expiries_last",
)
class WritesTheFirstTimeOnly(DurableStorage):
    def sync(self) -> None:
        if not self._saved:
            super().sync()


@breaks("updates_last")
class DoesNotWriteUpdates(DurableStorage):
    def update(self, key: Key, change: Update) -> Updated:
        updated = super().update(key, change)
        self._saved = self.commits
        return updated


@breaks("records_and_expiries_last")
class DoesNotWriteDeadlines(DurableStorage):
    def sync(self) -> None:
        data = self.data
        self.data = {key: with_deadline(value, NO_DEADLINE) for key, value in data.items()}
        super().sync()
        self.data = data


@breaks("a_clear_lasts")
class DoesNotWriteAClear(DurableStorage):
    def clear(self) -> None:
        super().clear()
        self._saved = self.commits


@breaks("what_conflicted_is_not_there_after_a_reopen")
class WritesWhatConflicted(DurableStorage):
    def commit(self, request: CommitRequest) -> Committed | Conflict:
        data = dict(self.data)
        answer = super().commit(request)
        if isinstance(answer, Conflict):
            self._apply(request.writes)
            self.sync()
            self.data = data
        return answer


@breaks("a_second_opener_is_refused_until_the_first_has_ended")
class LetsEverybodyIn(DurableStorage):
    @staticmethod
    @contextmanager
    def lock(directory: Path) -> Iterator[int]:
        descriptor = os.open(directory, os.O_RDONLY)
        yield descriptor
        os.close(descriptor)


@breaks(
    "a_second_opener_is_refused_until_the_first_has_ended",
    "a_commit_outlives_a_killed_process_whole_or_not_at_all",
    "what_was_synced_outlives_a_killed_process",
)
class IsLockedForEverByAKilledProcess(DurableStorage):
    @staticmethod
    @contextmanager
    def lock(directory: Path) -> Iterator[int]:
        try:
            (directory / "lock").touch(exist_ok=False)
        except FileExistsError:
            raise StorageOpenError("in use") from None
        with LetsEverybodyIn.lock(directory) as descriptor:
            yield descriptor
        (directory / "lock").unlink()

"""Engines that lose deadlines, or delete what is due in a wrong way."""

from collections.abc import Mapping
from typing import Any

from kvs.domain.commit import CommitRequest, Committed, Conflict
from kvs.domain.updates import Update, Updated
from kvs.domain.values import NEVER_MS, NO_DEADLINE, TOMBSTONE, Key, Record, Value, Write, deadline_of, with_deadline
from tests.contract.broken_engines.faults import breaks
from tests.support.naive_storage import NaiveSnapshot, NaiveStorage


class ExpiringStorage(NaiveStorage):
    """Right, and looks at every key to find what is due."""

    def due(self, now_ms: int) -> list[Key]:
        """Return the keys that are due."""
        return [key for key, value in self._data.items() if NO_DEADLINE < deadline_of(value) <= now_ms]

    def expire(self, now_ms: int, max_steps: int) -> list[Key]:
        keys = self.due(now_ms)[:max_steps]
        self._apply(dict.fromkeys(keys, TOMBSTONE))
        return keys

    def earliest_deadline_ms(self) -> int:
        return min((deadline_of(value) or NEVER_MS for value in self._data.values()), default=NEVER_MS)


class IndexingStorage(NaiveStorage):
    """Right, with an index of deadlines beside the data, which it does not check again."""

    def __init__(self) -> None:
        super().__init__()
        self.deadlines: dict[Key, int] = {}

    def index(self, key: Key, pending: Write) -> None:
        """Keep the index true."""
        self.deadlines.pop(key, None)
        if deadline_of(pending):
            self.deadlines[key] = deadline_of(pending)

    def expire(self, now_ms: int, max_steps: int) -> list[Key]:
        keys = [key for key, deadline_ms in self.deadlines.items() if deadline_ms <= now_ms][:max_steps]
        for key in keys:
            self.delete(key)
        return keys

    def earliest_deadline_ms(self) -> int:
        return min(self.deadlines.values(), default=NEVER_MS)

    def delete(self, key: Key) -> bool:
        self.deadlines.pop(key, None)
        return super().delete(key)

    def _apply(self, writes: Mapping[Key, Write]) -> None:
        for key, pending in writes.items():
            self.index(key, pending)
        super()._apply(writes)


EXPIRES = (
    "an_expiry_changes_the_key_and_its_ranges",
    "as_much_is_deleted_at_once_as_is_allowed",
    "a_watched_key_that_expires_is_a_conflict",
    "the_last_write_sets_the_deadline",
    "what_is_due_is_deleted",
)
"""The cases in which something has to expire."""


# What is stored.


@breaks(
    "a_record_is_stored_as_it_is",
    "a_record_stays_until_it_is_deleted",
    "a_snapshot_keeps_what_has_expired_since",
    "an_update_gets_the_record",
    "nothing_is_due_before_the_earliest_deadline",
    *EXPIRES,
)
class StoresPayloads(NaiveStorage):
    def _apply(self, writes: Mapping[Key, Write]) -> None:
        super()._apply(
            {key: pending.payload if isinstance(pending, Record) else pending for key, pending in writes.items()}
        )


@breaks("a_record_is_stored_as_it_is")
class ForgetsTypes(NaiveStorage):
    def _apply(self, writes: Mapping[Key, Write]) -> None:
        super()._apply(
            {
                key: with_deadline(pending.payload, pending.deadline_ms) if isinstance(pending, Record) else pending
                for key, pending in writes.items()
            }
        )


@breaks("an_update_gets_the_record", "the_last_write_sets_the_deadline")
class ForgetsDeadlinesInUpdates(NaiveStorage):
    def update(self, key: Key, update: Update) -> Updated:
        return super().update(key, lambda old: update(old.payload if isinstance(old, Record) else old))


@breaks("the_last_write_sets_the_deadline")
class KeepsTheDeadlineOverAPut(NaiveStorage):
    def put(self, key: Key, value: Value) -> None:
        old = self._data.get(key)
        super().put(key, value if old is None else with_deadline(value, deadline_of(old)))


@breaks(
    "a_record_stays_until_it_is_deleted",
    "a_record_is_stored_as_it_is",
)
class HidesWhatItThinksIsDue(NaiveStorage):
    def get(self, key: Key) -> Value | None:
        value = super().get(key)
        return None if 0 < deadline_of(value) < 1000 else value


# What expires, and when.


@breaks("what_is_due_is_deleted", "nothing_is_due_before_the_earliest_deadline", *EXPIRES)
class DeletesAMillisecondTooLate(ExpiringStorage):
    def due(self, now_ms: int) -> list[Key]:
        return super().due(now_ms - 1)

    def earliest_deadline_ms(self) -> int:
        return super().earliest_deadline_ms() + 1


@breaks(
    "what_is_due_is_deleted",
    "nothing_due_is_no_change",
    "nothing_is_due_before_the_earliest_deadline",
    "the_last_write_sets_the_deadline",
)
class DeletesAMillisecondTooEarly(ExpiringStorage):
    def due(self, now_ms: int) -> list[Key]:
        return super().due(now_ms + 1)

    def earliest_deadline_ms(self) -> int:
        return super().earliest_deadline_ms() - 1


@breaks("as_much_is_deleted_at_once_as_is_allowed")
class DeletesEverythingAtOnce(ExpiringStorage):
    def expire(self, now_ms: int, max_steps: int) -> list[Key]:  # noqa: ARG002  # that is its fault
        return super().expire(now_ms, 1 << 20)


@breaks("as_much_is_deleted_at_once_as_is_allowed")
class ForgetsWhatItHasNotDeletedYet(IndexingStorage):
    def expire(self, now_ms: int, max_steps: int) -> list[Key]:
        keys = super().expire(now_ms, max_steps)
        self.deadlines = {key: deadline_ms for key, deadline_ms in self.deadlines.items() if deadline_ms > now_ms}
        return keys


@breaks("nothing_is_due_before_the_earliest_deadline", "as_much_is_deleted_at_once_as_is_allowed")
class KnowsTheFirstDeadlineOnly(ExpiringStorage):
    """Of a hundred keys it sees those of the first to come."""

    def earliest_deadline_ms(self) -> int:
        earliest_ms = super().earliest_deadline_ms()
        return earliest_ms + 1 if len(self._data) > 50 else earliest_ms


@breaks("an_expiry_changes_the_key_and_its_ranges", "a_watched_key_that_expires_is_a_conflict")
class DeletesWithoutACommit(ExpiringStorage):
    def expire(self, now_ms: int, max_steps: int) -> list[Key]:
        log = list(self._log)
        keys = super().expire(now_ms, max_steps)
        self._log = log
        return keys


@breaks("nothing_due_is_no_change", "an_expiry_changes_the_key_and_its_ranges")
class TakesALookForAChange(ExpiringStorage):
    def expire(self, now_ms: int, max_steps: int) -> list[Key]:
        self._log += self._data
        return super().expire(now_ms, max_steps)

    def earliest_deadline_ms(self) -> int:
        return min(super().earliest_deadline_ms(), self._looks())

    def _looks(self) -> int:
        """Have ``expire`` called once for nothing."""
        self._called = getattr(self, "_called", 0) + 1
        return 0 if self._called == 1 else NEVER_MS


@breaks("a_snapshot_keeps_what_has_expired_since", "an_expiry_changes_the_key_and_its_ranges")
class DeletesFromItsSnapshots(ExpiringStorage):
    def __init__(self) -> None:
        super().__init__()
        self._snapshots: list[NaiveSnapshot] = []

    def snapshot(self) -> NaiveSnapshot:
        self._snapshots.append(super().snapshot())
        return self._snapshots[-1]

    def expire(self, now_ms: int, max_steps: int) -> list[Key]:
        keys = super().expire(now_ms, max_steps)
        for snapshot in self._snapshots:
            for key in keys:
                if key.startswith(b"k"):
                    snapshot.data.pop(key, None)
        return keys


@breaks("the_last_write_sets_the_deadline")
class LeavesDeadlinesBehindAClear(IndexingStorage):
    def clear(self) -> None:
        deadlines = dict(self.deadlines)
        super().clear()
        self.deadlines = deadlines


@breaks("the_last_write_sets_the_deadline")
class LeavesDeadlinesBehindADelete(IndexingStorage):
    def expire(self, now_ms: int, max_steps: int) -> list[Key]:
        keys = super().expire(now_ms, max_steps)
        for key in keys:
            del self.deadlines[key]
        return keys

    def delete(self, key: Key) -> bool:
        deadlines = dict(self.deadlines)
        present = super().delete(key)
        self.deadlines = deadlines
        return present


@breaks("the_last_write_sets_the_deadline")
class SetsTheDeadlineOfAConflict(IndexingStorage):
    def commit(self, request: CommitRequest) -> Committed | Conflict:
        answer = super().commit(request)
        if isinstance(answer, Conflict):
            for key, pending in request.writes.items():
                self.index(key, pending)
        return answer


@breaks(
    "what_is_due_is_deleted",
    "an_expiry_changes_the_key_and_its_ranges",
    "as_much_is_deleted_at_once_as_is_allowed",
    "the_last_write_sets_the_deadline",
)
class NamesWhatItHasNotDeleted(ExpiringStorage):
    def expire(self, now_ms: int, max_steps: int) -> list[Key]:
        keys: list[Any] = super().expire(now_ms, max_steps)
        return [*keys, b"one more"] if keys else keys

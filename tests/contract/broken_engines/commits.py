"""Engines that apply what they should not, or not all that they should."""

from collections.abc import Mapping
from typing import cast

from kvs.domain.commit import COMMITTED, CommitRequest, Committed, Conflict
from kvs.domain.errors import LimitError
from kvs.domain.values import TOMBSTONE, Key, Value, Write
from tests.contract.broken_engines.faults import breaks
from tests.support.naive_storage import NaiveSnapshot, NaiveStorage


@breaks(
    "the_first_to_commit_wins",
    "a_watched_snapshot_outlives_a_conflict",
    "a_change_since_any_watched_snapshot_is_a_conflict",
    "a_clear_changes_what_was_there",
    "a_commit_closes_no_snapshot",
    "a_commit_that_clears_deletes_what_there_is_and_then_writes",
    "a_commit_that_conflicted_succeeds_from_a_fresh_snapshot",
    "a_commit_without_writes_is_validated_as_any_other",
    "a_conflict_applies_nothing",
    "a_conflict_clears_nothing",
    "a_conflict_names_a_bounded_number",
    "a_conflict_names_what_changed_and_nothing_else",
    "a_delete_of_a_key_that_existed_changes_it",
    "a_key_that_changed_before_and_after_a_snapshot_has_changed",
    "a_key_that_comes_or_goes_changes_a_prefix",
    "a_put_changes_a_key",
    "a_put_of_equal_bytes_changes_a_key",
    "a_range_is_changed_by_the_keys_between_its_bounds",
    "a_request_is_made_of_any_mapping_and_any_collections",
    "a_request_without_writes_changes_nothing",
    "an_old_snapshot_outlives_many_younger_ones",
    "an_update_is_a_change_to_others",
    "each_snapshot_of_a_request_validates_what_was_observed_in_it",
    "the_empty_prefix_is_every_key",
    "what_changed_before_the_snapshot_has_not_changed_since",
    "write_skew_is_a_conflict",
    "a_watched_key_that_expires_is_a_conflict",
    "an_expiry_changes_the_key_and_its_ranges",
    "the_last_write_sets_the_deadline",
    "a_put_all_is_a_change_to_others",
)
class LosesUpdates(NaiveStorage):
    def commit(self, request: CommitRequest) -> Committed | Conflict:
        return super().commit(CommitRequest((), request.writes, request.clears))


@breaks("versions_increase_with_every_commit")
class ForgetsToCount(NaiveStorage):
    def _next_version(self) -> int:
        return self._version


@breaks("versions_increase_with_every_commit")
class CountsWhatIsStored(NaiveStorage):
    def _next_version(self) -> int:
        return len(self._data)


@breaks("a_commit_that_clears_deletes_what_there_is_and_then_writes")
class ClearsWhatItsSnapshotShows(NaiveStorage):
    def commit(self, request: CommitRequest) -> Committed | Conflict:
        if not (request.clears and request.reads):
            return super().commit(request)
        seen = cast("NaiveSnapshot", request.reads[0].snapshot).data
        return super().commit(CommitRequest(request.reads, {**dict.fromkeys(seen, TOMBSTONE), **request.writes}))


@breaks(
    "a_commit_that_clears_deletes_what_there_is_and_then_writes",
    "the_last_write_sets_the_deadline",
)
class WritesBeforeItClears(NaiveStorage):
    def commit(self, request: CommitRequest) -> Committed | Conflict:
        answer = super().commit(CommitRequest(request.reads, request.writes))
        if request.clears and isinstance(answer, Committed):
            answer = super().commit(CommitRequest((), {}, clears=True))
        return answer


@breaks("a_conflict_clears_nothing")
class ClearsBeforeItValidates(NaiveStorage):
    def commit(self, request: CommitRequest) -> Committed | Conflict:
        answer = super().commit(CommitRequest(request.reads, {}))
        if request.clears:
            super().commit(CommitRequest((), {}, clears=True))
        return answer if isinstance(answer, Conflict) else super().commit(CommitRequest((), request.writes))


class _Shared(NaiveSnapshot):
    """Right: one copy for all the snapshots of a moment, dropped with the last of them."""

    def __init__(self, data: dict[Key, Value], log_length: int, holders: list[int]) -> None:
        super().__init__(data, log_length)
        self._holders = holders
        holders[0] += 1

    def close(self) -> None:
        self._holders[0] -= 1
        if not self._holders[0]:
            self.data.clear()


@breaks(
    "a_commit_closes_no_snapshot",
    "a_commit_that_clears_deletes_what_there_is_and_then_writes",
    "a_key_that_comes_or_goes_changes_a_prefix",
    "a_prefix_is_not_changed_by_keys_outside_it",
    "a_prefix_with_the_keys_it_had_has_not_changed",
    "a_request_without_writes_changes_nothing",
    "a_snapshot_shows_no_later_update",
    "an_update_is_a_change_to_others",
    "overwriting_a_value_does_not_change_a_prefix",
    "an_expiry_changes_the_key_and_its_ranges",
)
class ClosesWhatItCommits(NaiveStorage):
    _shared: _Shared | None = None

    def snapshot(self) -> NaiveSnapshot:
        last = self._shared
        if last is None or last.log_length != len(self._log) or not last._holders[0]:
            self._shared = _Shared(dict(self._data), len(self._log), [0])
        else:
            self._shared = _Shared(last.data, last.log_length, last._holders)
        return self._shared

    def commit(self, request: CommitRequest) -> Committed | Conflict:
        answer = super().commit(request)
        if isinstance(answer, Committed):
            for reads in request.reads:
                cast("_Shared", reads.snapshot).close()
        return answer


@breaks(
    "a_commit_applies_all_its_writes",
    "a_conditional_put_depends_on_what_there_is",
    "a_delete_of_a_key_that_existed_changes_it",
    "a_key_that_comes_or_goes_changes_a_prefix",
    "a_prefix_with_the_keys_it_had_has_not_changed",
    "a_request_is_made_of_any_mapping_and_any_collections",
    "a_snapshot_shows_no_later_update",
    "an_update_is_a_change_to_others",
    "an_update_stores_what_it_returns",
    "write_skew_is_a_conflict",
    "a_watched_key_that_expires_is_a_conflict",
    "an_expiry_changes_the_key_and_its_ranges",
    "as_much_is_deleted_at_once_as_is_allowed",
    "nothing_is_due_before_the_earliest_deadline",
    "the_last_write_sets_the_deadline",
    "what_is_due_is_deleted",
)
class LosesTombstones(NaiveStorage):
    def _apply(self, writes: Mapping[Key, Write]) -> None:
        super()._apply({key: pending for key, pending in writes.items() if pending is not TOMBSTONE})


@breaks(
    "a_conflict_applies_nothing",
    "a_change_since_any_watched_snapshot_is_a_conflict",
    "a_delete_of_a_key_that_existed_changes_it",
    "a_put_changes_a_key",
    "a_put_of_equal_bytes_changes_a_key",
    "the_first_to_commit_wins",
    "write_skew_is_a_conflict",
)
class AppliesTheFirstWriteOfAConflict(NaiveStorage):
    def commit(self, request: CommitRequest) -> Committed | Conflict:
        answer = super().commit(request)
        if isinstance(answer, Conflict):
            self._apply(dict(list(request.writes.items())[:1]))
        return answer


@breaks(
    "a_commit_without_writes_is_validated_as_any_other",
    "a_clear_changes_what_was_there",
    "a_request_without_writes_changes_nothing",
    "a_watched_key_that_expires_is_a_conflict",
)
class CommitsWhateverWritesNothing(NaiveStorage):
    def commit(self, request: CommitRequest) -> Committed | Conflict:
        return super().commit(request) if request.writes or request.clears else COMMITTED


@breaks("a_request_without_writes_changes_nothing")
class TakesWhatWasValidatedForAChange(NaiveStorage):
    def commit(self, request: CommitRequest) -> Committed | Conflict:
        answer = super().commit(request)
        if not request.writes and not request.clears:
            for seen in request.reads:
                self._log += seen.keys
        return answer


class LimitedStorage(NaiveStorage):
    """Right, with a limit on the length of a value."""

    MAX_VALUE_BYTES = 100_000

    def _apply(self, writes: Mapping[Key, Write]) -> None:
        if any(len(pending) > self.MAX_VALUE_BYTES for pending in writes.values() if isinstance(pending, bytes)):
            raise LimitError("A value is too long.")
        super()._apply(writes)


@breaks(
    "a_refused_commit_applies_nothing",
    "a_refused_commit_is_no_change_to_others",
    "a_refused_transaction_may_go_on",
)
class AppliesWhatComesBeforeItsLimit(LimitedStorage):
    def _apply(self, writes: Mapping[Key, Write]) -> None:
        for key, pending in writes.items():
            super()._apply({key: pending})


@breaks(
    "a_refused_commit_is_no_change_to_others",
    "a_refused_transaction_may_go_on",
    "a_refused_update_changes_nothing",
    "deleting_an_absent_key_changes_nothing",
)
class TakesWhatItRefusesForAChange(LimitedStorage):
    def _apply(self, writes: Mapping[Key, Write]) -> None:
        self._log += writes
        super()._apply(writes)

"""Engines that take for a change what is none, or overlook one, or name the wrong ones."""

from collections.abc import Callable, Collection, Mapping
from typing import TypeAlias, cast

from kvs.domain.commit import CommitRequest, Committed, Conflict, KeyRange, ReadSet, prefix_range
from kvs.domain.values import Key, Write
from tests.contract.broken_engines.faults import breaks
from tests.support.naive_storage import NaiveSnapshot, NaiveStorage, within

Keys: TypeAlias = Callable[[ReadSet], Collection[Key]]
Ranges: TypeAlias = Callable[[ReadSet], Collection[KeyRange]]


def observing(
    request: CommitRequest, keys: Keys = lambda seen: seen.keys, ranges: Ranges = lambda seen: seen.ranges
) -> CommitRequest:
    """Return a request as if others than its keys and ranges had been observed."""
    reads = tuple(ReadSet(seen.snapshot, keys(seen), ranges(seen)) for seen in request.reads)
    return CommitRequest(reads, request.writes, request.clears)


def observed_in(request: CommitRequest, place: int) -> CommitRequest:
    """Return a request as if everything had been observed in one of its snapshots."""
    reads = tuple(ReadSet(request.reads[place].snapshot, seen.keys, seen.ranges) for seen in request.reads)
    return CommitRequest(reads, request.writes, request.clears)


@breaks("a_put_of_equal_bytes_changes_a_key", "an_update_is_a_change_to_others", "a_put_all_is_a_change_to_others")
class TakesEqualBytesForNoChange(NaiveStorage):
    def _apply(self, writes: Mapping[Key, Write]) -> None:
        super()._apply({key: pending for key, pending in writes.items() if self._data.get(key) != pending})


@breaks("deleting_an_absent_key_changes_nothing")
class TakesADeleteOfAnAbsentKeyForAChange(NaiveStorage):
    def delete(self, key: Key) -> bool:
        self._log.append(key)
        return super().delete(key)


@breaks(
    "a_blind_commit_never_conflicts",
    "a_commit_that_clears_deletes_what_there_is_and_then_writes",
    "an_expiry_changes_the_key_and_its_ranges",
)
class ValidatesWhatIsWritten(NaiveStorage):
    def commit(self, request: CommitRequest) -> Committed | Conflict:
        return super().commit(observing(request, keys=lambda seen: [*seen.keys, *request.writes]))


@breaks(
    "ones_own_writes_are_no_conflict",
    "a_commit_closes_no_snapshot",
    "a_commit_that_conflicted_succeeds_from_a_fresh_snapshot",
    "a_conditional_put_depends_on_what_there_is",
    "a_request_is_made_of_any_mapping_and_any_collections",
    "a_request_of_several_snapshots_commits_when_none_has_changed",
    "a_snapshot_shows_no_later_update",
    "an_update_is_a_change_to_others",
    "an_update_returns_the_value_before_and_after",
    "an_update_stores_what_it_returns",
    "deleting_an_absent_key_changes_nothing",
    "the_first_to_commit_wins",
    "write_skew_is_a_conflict",
    "a_record_is_stored_as_it_is",
    "a_snapshot_keeps_what_has_expired_since",
    "a_watched_key_that_expires_is_a_conflict",
    "an_expiry_changes_the_key_and_its_ranges",
    "an_update_gets_the_record",
    "as_much_is_deleted_at_once_as_is_allowed",
    "nothing_is_due_before_the_earliest_deadline",
    "the_last_write_sets_the_deadline",
    "what_is_due_is_deleted",
)
class TakesItsOwnWritesForThoseOfOthers(NaiveStorage):
    def commit(self, request: CommitRequest) -> Committed | Conflict:
        self._log += request.writes
        return super().commit(request)


@breaks(
    "a_key_that_comes_or_goes_changes_a_prefix",
    "a_clear_changes_what_was_there",
    "a_commit_that_clears_deletes_what_there_is_and_then_writes",
    "a_conflict_names_a_bounded_number",
    "a_conflict_names_what_changed_and_nothing_else",
    "a_range_is_changed_by_the_keys_between_its_bounds",
    "an_old_snapshot_outlives_many_younger_ones",
    "an_update_is_a_change_to_others",
    "each_snapshot_of_a_request_validates_what_was_observed_in_it",
    "the_empty_prefix_is_every_key",
    "an_expiry_changes_the_key_and_its_ranges",
    "a_put_all_is_a_change_to_others",
)
class OverlooksPhantoms(NaiveStorage):
    def commit(self, request: CommitRequest) -> Committed | Conflict:
        return super().commit(observing(request, ranges=lambda _: ()))


@breaks("a_key_that_comes_or_goes_changes_a_prefix", "a_conflict_names_what_changed_and_nothing_else")
class OnlyCountsTheKeysOfARange(NaiveStorage):
    def commit(self, request: CommitRequest) -> Committed | Conflict:
        def differing(seen: ReadSet) -> list[KeyRange]:
            then = cast("NaiveSnapshot", seen.snapshot).data
            return [each for each in seen.ranges if len(within(self._data, each)) != len(within(then, each))]

        return super().commit(observing(request, ranges=differing))


@breaks("a_range_is_changed_by_the_keys_between_its_bounds")
class TakesARangeForItsWholePrefix(NaiveStorage):
    def commit(self, request: CommitRequest) -> Committed | Conflict:
        return super().commit(
            observing(request, ranges=lambda seen: [prefix_range(each.prefix) for each in seen.ranges])
        )


@breaks(
    "a_range_is_changed_by_the_keys_between_its_bounds",
    "a_commit_that_clears_deletes_what_there_is_and_then_writes",
    "a_conflict_names_a_bounded_number",
    "a_conflict_names_what_changed_and_nothing_else",
    "a_key_that_comes_or_goes_changes_a_prefix",
    "an_old_snapshot_outlives_many_younger_ones",
    "an_update_is_a_change_to_others",
    "each_snapshot_of_a_request_validates_what_was_observed_in_it",
    "an_expiry_changes_the_key_and_its_ranges",
)
class LeavesOutTheLowestKeyOfARange(NaiveStorage):
    def commit(self, request: CommitRequest) -> Committed | Conflict:
        def above(seen: ReadSet) -> list[KeyRange]:
            return [KeyRange(low + b"\0", high) for low, high in seen.ranges]

        return super().commit(observing(request, ranges=above))


@breaks(
    "a_range_is_changed_by_the_keys_between_its_bounds",
    "a_commit_that_clears_deletes_what_there_is_and_then_writes",
    "a_conflict_names_a_bounded_number",
    "a_conflict_names_what_changed_and_nothing_else",
    "a_key_that_comes_or_goes_changes_a_prefix",
    "a_prefix_is_not_changed_by_keys_outside_it",
    "each_snapshot_of_a_request_validates_what_was_observed_in_it",
)
class TakesTheUpperBoundForOneOfTheRange(NaiveStorage):
    def commit(self, request: CommitRequest) -> Committed | Conflict:
        def wider(seen: ReadSet) -> list[KeyRange]:
            return [KeyRange(low, high and high + b"\0") for low, high in seen.ranges]

        return super().commit(observing(request, ranges=wider))


@breaks(
    "a_prefix_is_not_changed_by_keys_outside_it",
    "a_clear_changes_what_was_there",
    "a_commit_that_clears_deletes_what_there_is_and_then_writes",
    "a_conflict_names_a_bounded_number",
    "a_conflict_names_what_changed_and_nothing_else",
    "a_key_that_comes_or_goes_changes_a_prefix",
    "a_range_is_changed_by_the_keys_between_its_bounds",
    "a_request_without_writes_changes_nothing",
    "an_update_is_a_change_to_others",
    "each_snapshot_of_a_request_validates_what_was_observed_in_it",
    "an_expiry_changes_the_key_and_its_ranges",
    "a_put_all_is_a_change_to_others",
)
class TakesEveryKeyForOneOfTheRange(NaiveStorage):
    def commit(self, request: CommitRequest) -> Committed | Conflict:
        return super().commit(observing(request, ranges=lambda seen: [prefix_range(b"") for _ in seen.ranges]))


@breaks(
    "overwriting_a_value_does_not_change_a_prefix",
    "a_commit_that_clears_deletes_what_there_is_and_then_writes",
    "a_conflict_names_a_bounded_number",
    "a_conflict_names_what_changed_and_nothing_else",
    "a_prefix_with_the_keys_it_had_has_not_changed",
    "a_request_without_writes_changes_nothing",
    "an_old_snapshot_outlives_many_younger_ones",
    "an_update_is_a_change_to_others",
    "each_snapshot_of_a_request_validates_what_was_observed_in_it",
    "a_put_all_is_a_change_to_others",
)
class TakesOverwritingForAChangeOfTheRange(NaiveStorage):
    def commit(self, request: CommitRequest) -> Committed | Conflict:
        for seen in request.reads:
            written = self._log[cast("NaiveSnapshot", seen.snapshot).log_length :]
            if ranges := tuple(each for each in seen.ranges if within(written, each)):
                return Conflict((), ranges)
        return super().commit(request)


@breaks(
    "each_snapshot_of_a_request_validates_what_was_observed_in_it",
    "a_watched_snapshot_outlives_a_conflict",
    "a_change_since_any_watched_snapshot_is_a_conflict",
    "a_clear_changes_what_was_there",
    "a_clear_deletes_every_key",
    "a_clear_of_an_empty_engine_is_no_change",
    "a_request_without_a_snapshot_is_a_blind_one",
    "a_snapshot_shows_what_there_was_before_a_clear",
    "a_record_is_stored_as_it_is",
    "the_last_write_sets_the_deadline",
)
class ChecksTheFirstReadSetOnly(NaiveStorage):
    def commit(self, request: CommitRequest) -> Committed | Conflict:
        return super().commit(CommitRequest((request.reads[0],), request.writes, request.clears))


@breaks(
    "a_change_since_any_watched_snapshot_is_a_conflict",
    "a_request_without_writes_changes_nothing",
    "each_snapshot_of_a_request_validates_what_was_observed_in_it",
)
class ChecksTheLastReadSetOnly(NaiveStorage):
    def commit(self, request: CommitRequest) -> Committed | Conflict:
        return super().commit(CommitRequest(request.reads[-1:], request.writes, request.clears))


@breaks(
    "a_request_of_several_snapshots_commits_when_none_has_changed",
    "a_watched_snapshot_outlives_a_conflict",
    "a_change_since_any_watched_snapshot_is_a_conflict",
    "a_request_without_writes_changes_nothing",
    "each_snapshot_of_a_request_validates_what_was_observed_in_it",
)
class ValidatesEverythingAgainstTheFirstSnapshot(NaiveStorage):
    def commit(self, request: CommitRequest) -> Committed | Conflict:
        return super().commit(observed_in(request, 0))


@breaks("each_snapshot_of_a_request_validates_what_was_observed_in_it")
class ValidatesEverythingAgainstTheLastSnapshot(NaiveStorage):
    def commit(self, request: CommitRequest) -> Committed | Conflict:
        return super().commit(observed_in(request, -1))


@breaks("a_watched_snapshot_outlives_a_conflict")
class ForgetsWhatChangedBeforeAConflict(NaiveStorage):
    def commit(self, request: CommitRequest) -> Committed | Conflict:
        answer = super().commit(request)
        if isinstance(answer, Conflict):
            for seen in request.reads:
                cast("NaiveSnapshot", seen.snapshot).log_length = len(self._log)
        return answer


@breaks(
    "a_conflict_names_what_changed_and_nothing_else",
    "a_watched_snapshot_outlives_a_conflict",
    "a_change_since_any_watched_snapshot_is_a_conflict",
    "a_commit_that_clears_deletes_what_there_is_and_then_writes",
    "a_conflict_names_a_bounded_number",
    "an_old_snapshot_outlives_many_younger_ones",
    "each_snapshot_of_a_request_validates_what_was_observed_in_it",
)
class NamesAllThatWasObserved(NaiveStorage):
    def commit(self, request: CommitRequest) -> Committed | Conflict:
        answer = super().commit(request)
        if isinstance(answer, Conflict):
            answer = Conflict(tuple(request.reads[0].keys), tuple(request.reads[0].ranges))
        return answer

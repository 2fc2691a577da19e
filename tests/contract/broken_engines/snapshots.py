"""Engines whose snapshots show what came later."""

from collections.abc import Mapping

from kvs.domain.values import Key, Value
from tests.contract.broken_engines.faults import breaks
from tests.support.naive_storage import NaiveSnapshot, NaiveStorage, under


@breaks(
    "a_snapshot_shows_nothing_that_came_later",
    "a_watched_snapshot_outlives_a_conflict",
    "a_clear_changes_what_was_there",
    "a_commit_closes_no_snapshot",
    "a_commit_that_clears_deletes_what_there_is_and_then_writes",
    "a_conflict_names_a_bounded_number",
    "a_conflict_names_what_changed_and_nothing_else",
    "a_key_that_changed_before_and_after_a_snapshot_has_changed",
    "a_key_that_comes_or_goes_changes_a_prefix",
    "a_range_is_changed_by_the_keys_between_its_bounds",
    "a_snapshot_counts_nothing_that_came_later",
    "a_snapshot_of_nothing_stays_empty",
    "a_snapshot_shows_no_later_update",
    "a_snapshot_shows_what_there_was_before_a_clear",
    "a_sync_changes_nothing_that_can_be_seen",
    "an_old_snapshot_outlives_many_younger_ones",
    "an_update_is_a_change_to_others",
    "each_snapshot_of_a_request_validates_what_was_observed_in_it",
    "snapshots_of_different_moments_each_show_their_own",
    "the_empty_prefix_is_every_key",
    "two_snapshots_of_one_moment_are_closed_each_for_itself",
    "a_snapshot_keeps_what_has_expired_since",
    "an_expiry_changes_the_key_and_its_ranges",
    "a_put_all_is_a_change_to_others",
    "a_put_all_stores_the_last_value_of_each_key",
)
class SnapshotsSeeLaterCommits(NaiveStorage):
    def snapshot(self) -> NaiveSnapshot:
        return NaiveSnapshot(self._data, len(self._log))


class _CountsOthers(NaiveSnapshot):
    counted: Mapping[Key, Value]

    def count(self, prefix: Key) -> int:
        return len(under(self.counted, prefix))


@breaks(
    "a_snapshot_counts_nothing_that_came_later",
    "a_commit_that_clears_deletes_what_there_is_and_then_writes",
    "a_snapshot_of_nothing_stays_empty",
    "a_snapshot_shows_what_there_was_before_a_clear",
    "snapshots_of_different_moments_each_show_their_own",
)
class SnapshotsCountLaterCommits(NaiveStorage):
    def snapshot(self) -> NaiveSnapshot:
        snapshot = _CountsOthers(dict(self._data), len(self._log))
        snapshot.counted = self._data
        return snapshot

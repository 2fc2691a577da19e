"""Engines that answer wrongly what they are asked: reads, scans, counts and figures."""

from collections.abc import Mapping
from typing import cast

from kvs.domain.values import Key, Value, string_of
from tests.contract.broken_engines.faults import breaks
from tests.support.naive_storage import NaiveStorage, under


@breaks(
    "a_delete_tells_whether_the_key_was_there",
    "a_clear_deletes_every_key",
    "a_range_is_changed_by_the_keys_between_its_bounds",
    "an_engine_starts_empty",
)
class DeletesWhatIsNotThere(NaiveStorage):
    def delete(self, key: Key) -> bool:
        return super().delete(key) or True


@breaks(
    "values_are_any_bytes",
    "a_change_since_any_watched_snapshot_is_a_conflict",
    "a_commit_applies_all_its_writes",
    "a_commit_that_clears_deletes_what_there_is_and_then_writes",
    "a_key_is_not_changed_by_what_happens_to_others",
    "a_request_of_several_snapshots_commits_when_none_has_changed",
    "a_request_without_writes_changes_nothing",
    "an_update_stores_what_it_returns",
    "deleting_an_absent_key_changes_nothing",
    "a_put_all_stores_the_last_value_of_each_key",
)
class TakesTheEmptyValueForNone(NaiveStorage):
    def get(self, key: Key) -> Value | None:
        return super().get(key) or None


@breaks(
    "what_is_returned_has_the_type_that_is_promised",
    "a_record_is_stored_as_it_is",
    "a_record_stays_until_it_is_deleted",
    "an_update_gets_the_record",
    "what_is_due_is_deleted",
)
class ReturnsViews(NaiveStorage):
    def get(self, key: Key) -> Value | None:
        value = super().get(key)
        return value if value is None else cast("Value", memoryview(string_of(value)))


@breaks(
    "what_was_put_is_there_at_once",
    "a_clear_deletes_every_key",
    "a_prefix_of_ff_has_no_end",
    "an_update_stores_what_it_returns",
    "keys_are_any_bytes",
    "values_are_any_bytes",
    "a_record_stays_until_it_is_deleted",
    "as_much_is_deleted_at_once_as_is_allowed",
)
class CountsWhatWasThereAtTheLastSync(NaiveStorage):
    _counted: tuple[Key, ...] = ()

    def count(self, prefix: Key) -> int:
        return len(under(self._counted, prefix))

    def sync(self) -> None:
        self._counted = tuple(self._data)


@breaks(
    "what_was_deleted_is_gone_at_once",
    "a_clear_deletes_every_key",
    "a_commit_applies_all_its_writes",
    "a_commit_that_clears_deletes_what_there_is_and_then_writes",
    "a_request_is_made_of_any_mapping_and_any_collections",
    "a_snapshot_shows_no_later_update",
    "a_snapshot_shows_what_there_was_before_a_clear",
    "an_update_stores_what_it_returns",
    "write_skew_is_a_conflict",
    "what_is_due_is_deleted",
)
class ScansEveryKeyThereEverWas(NaiveStorage):
    def scan(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        return [key for key in under(set(self._log), prefix) if key > after][:limit]


@breaks(
    "stats_are_figures_by_name",
    "a_clear_deletes_every_key",
    "what_is_due_is_deleted",
)
class TellsHowManyWritesThereWere(NaiveStorage):
    def stats(self) -> Mapping[str, int]:
        return {"keys": len(self._log)}


@breaks("the_flag_blocking_is_a_flag")
class BlocksOnceItHoldsSomething(NaiveStorage):
    @property
    def blocking(self) -> bool:
        return len(self._data) > 0


@breaks("scans_are_in_byte_order")
class ScansInOrderOfWrites(NaiveStorage):
    def scan(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        return [key for key in self._data if key.startswith(prefix) and key > after][:limit]


@breaks("a_scan_is_cut_at_its_limit", "a_scan_starts_after_a_key_that_need_not_exist")
class ScansOneTooMany(NaiveStorage):
    def scan(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        return super().scan(prefix, after, limit + 1)


@breaks("a_scan_starts_after_a_key_that_need_not_exist")
class StartsOverAfterADeletedCursor(NaiveStorage):
    def scan(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        return super().scan(prefix, after if after in self._data else b"", limit)


@breaks(
    "pages_are_all_the_keys_and_each_once",
    "a_prefix_of_ff_has_no_end",
    "a_scan_starts_after_a_key_that_need_not_exist",
)
class ScansFromItsCursor(NaiveStorage):
    def scan(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        return [key for key in under(self._data, prefix) if key >= after][:limit]


@breaks("a_prefix_of_ff_has_no_end", "keys_are_any_bytes")
class EndsAPrefixByCountingUpItsLastByte(NaiveStorage):
    def scan(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        end = prefix[:-1] + bytes([(prefix[-1] + 1) % 256]) if prefix else b""
        return [key for key in super().scan(prefix, after, limit) if not end or key < end]

"""Engines whose ``update`` or ``clear`` is not what it should be."""

from collections.abc import Mapping
from typing import cast

from kvs.domain.commit import CommitRequest, Committed, Conflict
from kvs.domain.updates import Update, Updated
from kvs.domain.values import TOMBSTONE, Key, Value, Write
from tests.contract.broken_engines.commits import LimitedStorage
from tests.contract.broken_engines.faults import breaks
from tests.support.naive_storage import NaiveSnapshot, NaiveStorage


@breaks(
    "an_update_returns_the_value_before_and_after",
    "a_conditional_put_depends_on_what_there_is",
    "the_last_write_sets_the_deadline",
)
class ReturnsNothingForWhatWasLeft(NaiveStorage):
    def update(self, key: Key, update: Update) -> Updated:
        old, pending = self._data.get(key), update(self._data.get(key))
        if pending is not None:
            self._apply({key: pending})
        return old, None if pending is TOMBSTONE else pending


@breaks("an_update_stores_what_it_returns", "an_update_is_a_change_to_others")
class DeletesWhatBecomesEmpty(NaiveStorage):
    def update(self, key: Key, update: Update) -> Updated:
        old, new = super().update(key, update)
        if new == b"":
            self.delete(key)
        return old, new


@breaks("a_conditional_put_depends_on_what_there_is", "an_update_returns_the_value_before_and_after")
class TellsAChangeOfNoAbsence(NaiveStorage):
    def update(self, key: Key, update: Update) -> Updated:
        return super().update(key, lambda old: update(old or b""))


@breaks("an_update_that_raises_changes_nothing")
class MakesRoomBeforeItAsks(NaiveStorage):
    def update(self, key: Key, update: Update) -> Updated:
        old = self._data.pop(key, None)
        pending = update(old)
        if old is not None:
            self._data[key] = old
        return super().update(key, lambda _: pending)


@breaks("an_update_that_raises_changes_nothing")
class WrapsWhatAChangeRaises(NaiveStorage):
    def update(self, key: Key, update: Update) -> Updated:
        try:
            return super().update(key, update)
        except Exception as error:
            raise RuntimeError("the change has failed") from error


@breaks("an_update_is_a_change_to_others")
class UpdatesBehindEverybodysBack(NaiveStorage):
    def update(self, key: Key, update: Update) -> Updated:
        log_length = len(self._log)
        updated = super().update(key, update)
        del self._log[log_length:]
        return updated


@breaks("an_update_that_leaves_everything_as_it_is_is_no_change")
class WritesWhatWasLeft(NaiveStorage):
    def update(self, key: Key, update: Update) -> Updated:
        old, new = super().update(key, update)
        self._apply({key: TOMBSTONE if new is None else new})
        return old, new


@breaks("a_put_all_stores_the_last_value_of_each_key")
class PutsTheFirstOfSeveralValues(NaiveStorage):
    def put_all(self, keys: list[Key], values: list[Value]) -> None:
        super().put_all(keys[::-1], values[::-1])


@breaks("a_put_all_is_a_change_to_others")
class PutsAllBehindEverybodysBack(NaiveStorage):
    def put_all(self, keys: list[Key], values: list[Value]) -> None:
        log_length = len(self._log)
        super().put_all(keys, values)
        del self._log[log_length:]


@breaks("a_refused_update_changes_nothing")
class NotesAnUpdateBeforeItIsMade(LimitedStorage):
    def update(self, key: Key, update: Update) -> Updated:
        pending = update(self._data.get(key))
        if pending is not None and pending is not TOMBSTONE:
            self._log.append(key)
        return super().update(key, lambda _: pending)


@breaks("a_clear_deletes_every_key", "a_snapshot_shows_what_there_was_before_a_clear")
class ClearsOnePage(NaiveStorage):
    def clear(self) -> None:
        for key in self.scan(b"", b"", 1000):
            self.delete(key)


@breaks("a_clear_changes_what_was_there")
class ClearsBehindEverybodysBack(NaiveStorage):
    def clear(self) -> None:
        self._data = {}


@breaks("a_clear_of_an_empty_engine_is_no_change", "a_clear_changes_what_was_there")
class TakesAClearForAChangeOfEverything(NaiveStorage):
    def clear(self) -> None:
        super().clear()
        self._log.append(b"")  # no key: it stands for all of them

    def commit(self, request: CommitRequest) -> Committed | Conflict:
        for seen in request.reads:
            if b"" in self._log[cast("NaiveSnapshot", seen.snapshot).log_length :]:
                return Conflict(tuple(seen.keys), tuple(seen.ranges))
        return super().commit(request)


class _CopiesWhatItWrites(NaiveStorage):
    """Right: snapshots share the data set, and each write makes another."""

    def snapshot(self) -> NaiveSnapshot:
        return NaiveSnapshot(self._data, len(self._log))

    def _apply(self, writes: Mapping[Key, Write]) -> None:
        self._data = dict(self._data)
        super()._apply(writes)

    def delete(self, key: Key) -> bool:
        self._data = dict(self._data)
        return super().delete(key)


@breaks("a_snapshot_shows_no_later_update", "an_update_is_a_change_to_others")
class UpdatesWhatSnapshotsShow(_CopiesWhatItWrites):
    def update(self, key: Key, update: Update) -> Updated:
        shown = self._data
        updated = super().update(key, update)
        if shown is not self._data:
            shown.clear()
            shown.update(self._data)
        return updated


@breaks("a_snapshot_shows_what_there_was_before_a_clear", "a_clear_changes_what_was_there")
class ClearsWhatSnapshotsShow(_CopiesWhatItWrites):
    def clear(self) -> None:
        self._log += self._data
        self._data.clear()

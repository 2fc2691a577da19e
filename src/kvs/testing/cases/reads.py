"""Consistency: every call is atomic, and what it has returned every later call sees. Keys and values are any bytes."""

import pytest

from kvs.domain.values import Key, Value
from kvs.ports.storage import Storage
from kvs.testing.cases.base import EDGE_CASE_KEYS, EDGE_CASE_VALUES, StorageCases, contents, end_tick, put_all, short_id


class ReadCases(StorageCases):
    """What ``get``, ``put`` and ``delete`` return, and the figures of an engine."""

    def test_an_engine_starts_empty(self, storage: Storage) -> None:
        """Consistency: an engine has no keys before the first write."""
        assert storage.get(b"k") is None
        assert storage.scan(b"", b"", 10) == []
        assert storage.count(b"") == 0
        assert storage.delete(b"k") is False

    def test_what_was_put_is_there_at_once(self, storage: Storage) -> None:
        """Consistency: what a call has returned every later call sees, before any sync."""
        storage.put(b"k", b"v")
        assert storage.get(b"k") == b"v"
        assert storage.scan(b"", b"", 10) == [b"k"]
        assert storage.count(b"k") == 1
        storage.put(b"k", b"w")
        assert storage.get(b"k") == b"w"
        assert storage.count(b"") == 1

    def test_what_was_deleted_is_gone_at_once(self, storage: Storage) -> None:
        """Consistency: what a call has returned every later call sees; a key that went may come back."""
        storage.put(b"k", b"v")
        storage.delete(b"k")
        assert storage.get(b"k") is None
        assert storage.scan(b"", b"", 10) == []
        assert storage.count(b"k") == 0
        storage.put(b"k", b"again")
        assert storage.get(b"k") == b"again"

    def test_a_delete_tells_whether_the_key_was_there(self, storage: Storage) -> None:
        """``delete``: true for a key that was there, false for one that was not or has gone before."""
        storage.put(b"k", b"v")
        assert storage.delete(b"other") is False
        assert storage.delete(b"k") is True
        assert storage.delete(b"k") is False

    def test_a_sync_changes_nothing_that_can_be_seen(self, storage: Storage) -> None:
        """``sync``: what was applied becomes durable, and is otherwise as it was."""
        put_all(storage, b"a", b"b")
        snapshot = storage.snapshot()
        storage.delete(b"a")
        before = contents(storage)
        for _ in range(3):
            end_tick(storage)
        assert contents(storage) == before
        assert snapshot.scan(b"", b"", 10) == [b"a", b"b"]
        snapshot.close()

    @pytest.mark.parametrize("key", EDGE_CASE_KEYS, ids=short_id)
    def test_keys_are_any_bytes(self, storage: Storage, key: Key) -> None:
        """Keys are non-empty ``bytes``, UTF-8 or not."""
        storage.put(key, key)
        assert storage.get(key) == key
        assert storage.scan(key, b"", 10) == [key]
        assert storage.count(key) == 1
        assert storage.delete(key)

    @pytest.mark.parametrize("value", EDGE_CASE_VALUES, ids=short_id)
    def test_values_are_any_bytes(self, storage: Storage, value: Value) -> None:
        """Values are ``bytes``: an empty value is not an absent one."""
        storage.put(b"k", value)
        snapshot = storage.snapshot()
        for view in (storage, snapshot):
            assert view.get(b"k") == value
            assert view.count(b"") == 1
        snapshot.close()
        assert storage.delete(b"k") is True

    def test_what_is_returned_has_the_type_that_is_promised(self, storage: Storage) -> None:
        """Keys and values are ``bytes``, pages ``list``, numbers ``int``: not other types that are equal to them."""
        storage.put(b"k", b"v")
        snapshot = storage.snapshot()
        for view in (storage, snapshot):
            assert type(view.get(b"k")) is bytes
            assert type(view.scan(b"", b"", 10)) is list
            assert type(view.scan(b"", b"", 10)[0]) is bytes
            assert type(view.count(b"")) is int
        snapshot.close()

    def test_stats_are_figures_by_name(self, storage: Storage) -> None:
        """``stats``: whole numbers for people, the number of keys among them."""
        put_all(storage, b"a", b"b", b"c", b"a")
        storage.delete(b"b")
        stats = storage.stats()
        assert stats["keys"] == 2
        assert all(isinstance(name, str) and type(figure) is int for name, figure in stats.items())

    def test_the_flag_blocking_is_a_flag(self, storage: Storage) -> None:
        """``blocking``: yes or no, and always the same."""
        before = storage.blocking
        assert before in (True, False)
        storage.put(b"k", b"v")
        assert storage.blocking is before

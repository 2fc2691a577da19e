"""``update``, ``put_all`` and ``clear``: a read-modify-write of one value, several puts, the deletion of every key."""

import pytest

from kvs.domain.commit import Committed, Conflict, KeyRange
from kvs.domain.errors import KvsError, TooLargeError, UsageError
from kvs.domain.updates import PutIfAbsent, PutIfPresent, Remove, Replace, Update
from kvs.domain.values import TOMBSTONE, Key, Value, Write
from kvs.ports.storage import Storage
from kvs.testing.cases.base import EDGE_CASE_KEYS, StorageCases, commit, contents, end_tick, put_all, under

MORE_THAN_A_PAGE = [b"%04d" % number for number in range(2500)]

outcomes = pytest.mark.parametrize(
    ("before", "pending", "after"),
    [
        pytest.param(b"old", b"new", b"new", id="another value"),
        pytest.param(b"old", b"old", b"old", id="equal bytes"),
        pytest.param(b"old", b"", b"", id="the empty value"),
        pytest.param(b"", b"new", b"new", id="of the empty value"),
        pytest.param(None, b"new", b"new", id="of no value"),
        pytest.param(b"old", TOMBSTONE, None, id="deleted"),
        pytest.param(None, TOMBSTONE, None, id="nothing to delete"),
        pytest.param(b"old", None, b"old", id="left as it is"),
        pytest.param(b"", None, b"", id="left empty"),
        pytest.param(None, None, None, id="left absent"),
    ],
)


class FixedUpdate:
    """An update that returns what it was made with; ``old_values`` has what it was called with."""

    def __init__(self, pending: Write | None) -> None:
        self.old_values: list[Value | None] = []
        self._pending = pending

    def __call__(self, old: Value | None) -> Write | None:
        self.old_values.append(old)
        return self._pending


def raising(error: KvsError) -> Update:
    """Return an update that raises."""

    def update(_: Value | None) -> Write | None:
        raise error

    return update


class UpdateCases(StorageCases):
    """What ``update``, ``put_all`` and ``clear`` do, and how commits and snapshots see them."""

    # Update.

    @outcomes
    def test_an_update_returns_the_value_before_and_after(
        self, storage: Storage, before: Value | None, pending: Write | None, after: Value | None
    ) -> None:
        """``update``: both values, None for an absent one; the update is called with the first."""
        if before is not None:
            storage.put(b"k", before)
        update = FixedUpdate(pending)
        assert storage.update(b"k", update) == (before, after)
        assert set(update.old_values) == {before}

    @outcomes
    def test_an_update_stores_what_it_returns(
        self, storage: Storage, before: Value | None, pending: Write | None, after: Value | None
    ) -> None:
        """``update``: a value, a tombstone, or None to change nothing; other keys stay as they are."""
        put_all(storage, b"j", b"k\0")
        others = contents(storage)
        if before is not None:
            storage.put(b"k", before)
        storage.update(b"k", FixedUpdate(pending))
        assert storage.get(b"k") == after
        assert contents(storage) == (others if after is None else others | {b"k": after})
        assert storage.count(b"k") == 1 + (after is not None)

    def test_a_conditional_put_depends_on_what_there_is(self, storage: Storage) -> None:
        """``update``: one that puts an absent key, one that puts a present key, and one that deletes."""
        assert storage.update(b"k", PutIfPresent(b"no")) == (None, None)
        assert storage.update(b"k", PutIfAbsent(b"first")) == (None, b"first")
        assert storage.update(b"k", PutIfAbsent(b"no")) == (b"first", b"first")
        assert storage.update(b"k", PutIfPresent(b"second")) == (b"first", b"second")
        assert storage.update(b"k", Remove()) == (b"second", None)
        assert storage.update(b"k", Remove()) == (None, None)
        assert storage.update(b"k", PutIfAbsent(b"again")) == (None, b"again")
        assert contents(storage) == {b"k": b"again"}

    @pytest.mark.parametrize("error", [UsageError("not a number"), TooLargeError("too long")], ids=["usage", "length"])
    @pytest.mark.parametrize("key", [b"k", b"absent"])
    def test_an_update_that_raises_changes_nothing(self, storage: Storage, key: Key, error: KvsError) -> None:
        """``update``: an error of the update is raised as it is, and nothing was applied."""
        put_all(storage, b"k")
        before = contents(storage)
        snapshot = storage.snapshot()
        with pytest.raises(type(error)) as caught:
            storage.update(key, raising(error))
        assert caught.value is error
        assert contents(storage) == before
        assert isinstance(commit(storage, snapshot, {b"mine": b""}, [key], under(b"")), Committed)

    @pytest.mark.parametrize(
        ("key", "pending", "comes_or_goes"),
        [
            pytest.param(b"k", b"new", False, id="another value"),
            pytest.param(b"k", b"value of k", False, id="equal bytes"),
            pytest.param(b"k", TOMBSTONE, True, id="deleted"),
            pytest.param(b"absent", b"", True, id="come"),
        ],
    )
    def test_an_update_is_a_change_to_others(
        self, storage: Storage, key: Key, pending: Write, comes_or_goes: bool
    ) -> None:
        """Commit: a key has changed if an update since put or deleted it, a prefix if a key of it came or went."""
        put_all(storage, b"k", b"other")
        by_key, by_prefix, by_another = storage.snapshot(), storage.snapshot(), storage.snapshot()
        storage.update(key, FixedUpdate(pending))
        assert isinstance(commit(storage, by_another, {}, [b"other"], under(b"o")), Committed)
        answer = commit(storage, by_key, {b"mine": b""}, [key])
        assert isinstance(answer, Conflict)
        assert answer.keys == (key,)
        answer = commit(storage, by_prefix, {b"mine": b""}, [], under(key[:1]))
        assert isinstance(answer, Conflict if comes_or_goes else Committed)

    @pytest.mark.parametrize(
        ("key", "pending"),
        [
            pytest.param(b"k", None, id="there"),
            pytest.param(b"absent", None, id="not there"),
            pytest.param(b"absent", TOMBSTONE, id="nothing to delete"),
        ],
    )
    def test_an_update_that_leaves_everything_as_it_is_is_no_change(
        self, storage: Storage, key: Key, pending: Write | None
    ) -> None:
        """Commit: nothing was put, nor anything deleted that existed."""
        put_all(storage, b"k")
        snapshot = storage.snapshot()
        storage.update(key, FixedUpdate(pending))
        end_tick(storage)
        assert isinstance(commit(storage, snapshot, {b"mine": b""}, [key], under(b"")), Committed)

    def test_a_snapshot_shows_no_later_update(self, storage: Storage) -> None:
        """Consistency: a snapshot shows the old value; an update gets the current one."""
        put_all(storage, b"a", b"b")
        snapshot = storage.snapshot()
        for number in range(3):
            storage.update(b"a", Replace(b"%d" % number))
            storage.update(b"n", Replace(b"%d" % number))
        storage.update(b"b", Remove())
        assert [snapshot.get(key) for key in (b"a", b"b", b"n")] == [b"value of a", b"value of b", None]
        assert snapshot.scan(b"", b"", 10) == [b"a", b"b"]
        snapshot.close()
        assert contents(storage) == {b"a": b"2", b"n": b"2"}

    # Put all.

    def test_a_put_all_stores_the_last_value_of_each_key(self, storage: Storage) -> None:
        """``put_all``: of present and of absent keys, and of one that comes again; no snapshot from before shows it."""
        put_all(storage, b"a", b"b")
        snapshot = storage.snapshot()
        storage.put_all([b"a", b"n", b"m", b"a", b"n"], [b"1", b"2", b"", b"3", b"4"])
        end_tick(storage)
        assert contents(storage) == {b"a": b"3", b"b": b"value of b", b"m": b"", b"n": b"4"}
        assert [snapshot.get(key) for key in (b"a", b"n", b"m")] == [b"value of a", None, None]
        assert snapshot.scan(b"", b"", 10) == [b"a", b"b"]
        snapshot.close()

    def test_a_put_all_is_a_change_to_others(self, storage: Storage) -> None:
        """``put_all``: it changes its keys, whatever they had, and ranges where a key is new."""
        put_all(storage, b"pa", b"q")
        by_key, by_range, by_another = storage.snapshot(), storage.snapshot(), storage.snapshot()
        storage.put_all([b"pa", b"pn", b"q"], [b"value of pa", b"", b""])
        assert isinstance(commit(storage, by_key, {b"mine": b""}, [b"pa"]), Conflict)
        assert isinstance(commit(storage, by_range, {b"mine": b""}, (), under(b"p")), Conflict)
        assert isinstance(commit(storage, by_another, {b"mine": b""}, [b"other"], under(b"q")), Committed)

    # Clear.

    def test_a_clear_deletes_every_key(self, storage: Storage) -> None:
        """``clear``: more keys than a page, and keys of any bytes; later writes work as usual."""
        for _ in range(2):
            put_all(storage, *MORE_THAN_A_PAGE, *EDGE_CASE_KEYS)
            end_tick(storage)
            storage.clear()
            assert contents(storage) == {}
            assert storage.count(b"") == storage.stats()["keys"] == 0
            assert {storage.get(key) for key in (*MORE_THAN_A_PAGE, *EDGE_CASE_KEYS)} == {None}
            assert storage.delete(b"b") is False
            put_all(storage, b"b", b"c")
            end_tick(storage)
            assert contents(storage) == {b"b": b"value of b", b"c": b"value of c"}
            assert storage.delete(b"b") is True

    def test_a_clear_changes_what_was_there(self, storage: Storage) -> None:
        """Commit: a key has changed if a clear deleted it, and a prefix if there was a key under it; no others have."""
        put_all(storage, b"k", b"p1", b"x")
        older = storage.snapshot()
        storage.delete(b"x")
        snapshots = [storage.snapshot() for _ in range(4)]
        storage.clear()
        seen: list[tuple[list[Key], list[KeyRange]]] = [
            ([b"k"], []),
            ([], under(b"p")),
            ([], under(b"")),
            ([b"p", b"x"], under(b"x")),
        ]
        answers = [commit(storage, snapshot, {}, *seen) for snapshot, seen in zip(snapshots, seen, strict=True)]
        assert [type(answer) for answer in answers] == [Conflict, Conflict, Conflict, Committed]
        assert isinstance(commit(storage, older, {}, [b"x"]), Conflict)

    def test_a_clear_of_an_empty_engine_is_no_change(self, storage: Storage) -> None:
        """Commit: deleting every key of none changes nothing."""
        snapshot = storage.snapshot()
        storage.clear()
        storage.clear()
        end_tick(storage)
        assert contents(storage) == {}
        assert isinstance(commit(storage, snapshot, {b"mine": b""}, [b"k"], under(b"")), Committed)

    @pytest.mark.parametrize("crowd", [0, len(MORE_THAN_A_PAGE)])
    def test_a_snapshot_shows_what_there_was_before_a_clear(self, storage: Storage, crowd: int) -> None:
        """Consistency: each snapshot shows its own moment, before and after clears and later writes."""
        put_all(storage, b"k", b"l", *MORE_THAN_A_PAGE[:crowd])
        first = storage.snapshot()
        storage.put(b"k", b"second")
        storage.delete(b"l")
        second = storage.snapshot()
        storage.clear()
        end_tick(storage)
        third = storage.snapshot()
        storage.put(b"k", b"fourth")
        fourth = storage.snapshot()
        storage.clear()
        put_all(storage, b"l", b"m")
        end_tick(storage)
        others: dict[Key, Value] = {key: b"value of " + key for key in MORE_THAN_A_PAGE[:crowd]}
        expected: list[dict[Key, Value]] = [
            {b"k": b"value of k", b"l": b"value of l", **others},
            {b"k": b"second", **others},
            {},
            {b"k": b"fourth"},
        ]
        for snapshot, data in zip((first, second, third, fourth), expected, strict=True):
            assert {key: snapshot.get(key) for key in snapshot.scan(b"", b"", 1 << 20)} == data
            assert [snapshot.get(key) for key in (b"k", b"l", b"m")] == [data.get(key) for key in (b"k", b"l", b"m")]
            assert (snapshot.count(b""), snapshot.count(b"l")) == (len(data), b"l" in data)
            snapshot.close()
            end_tick(storage)
        assert contents(storage) == {b"l": b"value of l", b"m": b"value of m"}

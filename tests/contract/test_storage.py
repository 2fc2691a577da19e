"""The storage port, promise by promise, for every engine. See the head of ``kvs.ports.storage``."""

from collections.abc import Iterable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvs.domain.transaction import MAX_CONFLICTS_NAMED, CommitRequest, Committed, Conflict, Validation
from kvs.domain.values import TOMBSTONE, Key, Pending, Value
from kvs.ports.storage import Snapshot, Storage

ODD_KEYS: list[Key] = [
    b"\0",
    b"\0\0",
    b"\xff",
    b"\xff\xff",
    b"a\xff",
    b"a\xff\xff",
    b"b",
    b" ",
    b"\n",
    b"\xc3",
    b"a" * 5000,
]


def put_all(storage: Storage, *keys: Key) -> None:
    """Store these keys."""
    for key in keys:
        storage.put(key, b"value of " + key)


def commit(
    storage: Storage,
    snapshot: Snapshot,
    writes: dict[Key, Pending],
    keys: Iterable[Key] = (),
    prefixes: Iterable[Key] = (),
) -> Committed | Conflict:
    """Commit as a session does: the snapshot is closed afterwards, whatever came of it."""
    answer = storage.commit(CommitRequest((Validation(snapshot, list(keys), list(prefixes)),), writes))
    snapshot.close()
    storage.sync()
    return answer


def contents(storage: Storage) -> dict[Key, Value | None]:
    """Return everything that is stored."""
    return {key: storage.get(key) for key in storage.scan(b"", b"", 1 << 20)}


# Every call is atomic, and what it has returned every later call sees.


def test_an_engine_starts_empty(storage: Storage) -> None:
    """Nothing is there before something was stored."""
    assert storage.get(b"k") is None
    assert storage.scan(b"", b"", 10) == []
    assert storage.count(b"") == 0
    assert storage.delete(b"k") is False


def test_what_was_put_is_there_at_once(storage: Storage) -> None:
    """A later call sees it, before any sync."""
    storage.put(b"k", b"v")
    assert storage.get(b"k") == b"v"
    assert storage.scan(b"", b"", 10) == [b"k"]
    assert storage.count(b"k") == 1
    storage.put(b"k", b"w")
    assert storage.get(b"k") == b"w"
    assert storage.count(b"") == 1


def test_what_was_deleted_is_gone_at_once(storage: Storage) -> None:
    """And the answer tells whether it was there."""
    storage.put(b"k", b"v")
    assert storage.delete(b"k") is True
    assert storage.get(b"k") is None
    assert storage.scan(b"", b"", 10) == []
    assert storage.delete(b"k") is False
    storage.put(b"k", b"again")
    assert storage.get(b"k") == b"again"


def test_sync_changes_nothing_that_can_be_seen(storage: Storage) -> None:
    """It makes durable what was there before."""
    put_all(storage, b"a", b"b")
    snapshot = storage.snapshot()
    storage.delete(b"a")
    before = contents(storage)
    for _ in range(3):
        storage.sync()
    assert contents(storage) == before
    assert snapshot.scan(b"", b"", 10) == [b"a", b"b"]
    snapshot.close()


@pytest.mark.parametrize("key", ODD_KEYS)
def test_keys_are_any_bytes(storage: Storage, key: Key) -> None:
    """What is no text is a key all the same."""
    storage.put(key, key)
    assert storage.get(key) == key
    assert storage.scan(key, b"", 10) == [key]
    assert storage.count(key) == 1
    assert storage.delete(key)


@pytest.mark.parametrize("value", [b"", b"\0", b"\xff\xfe", b"x" * 100_000])
def test_values_are_any_bytes(storage: Storage, value: Value) -> None:
    """The empty value is a value, and no absence."""
    storage.put(b"k", value)
    assert storage.get(b"k") == value
    assert storage.count(b"") == 1
    assert storage.delete(b"k") is True


# Scans and counts.


def test_scans_are_in_byte_order(storage: Storage) -> None:
    """Not in the order of the writes, nor in that of any alphabet."""
    put_all(storage, *reversed(ODD_KEYS))
    assert storage.scan(b"", b"", 100) == sorted(ODD_KEYS)


def test_a_scan_starts_after_a_key_that_need_not_exist(storage: Storage) -> None:
    """The last key of one page is the cursor of the next, even if it has been deleted meanwhile."""
    put_all(storage, b"a", b"b", b"c", b"d")
    assert storage.scan(b"", b"", 2) == [b"a", b"b"]
    storage.delete(b"b")
    assert storage.scan(b"", b"b", 2) == [b"c", b"d"]
    assert storage.scan(b"", b"d", 2) == []
    assert storage.scan(b"", b"bb", 10) == [b"c", b"d"]


@pytest.mark.parametrize("limit", [1, 2, 3, 4])
def test_a_scan_is_cut_at_its_limit(storage: Storage, limit: int) -> None:
    """Just below, at and above what there is."""
    put_all(storage, b"a", b"b", b"c")
    assert storage.scan(b"", b"", limit) == [b"a", b"b", b"c"][:limit]


def test_a_prefix_of_ff_has_no_end(storage: Storage) -> None:
    """The keys under it are the last there are."""
    put_all(storage, b"\xfe", b"\xfe\xff", b"\xff", b"\xff\0", b"\xff\xff", b"\xff\xff\xff")
    assert storage.scan(b"\xff", b"", 10) == [b"\xff", b"\xff\0", b"\xff\xff", b"\xff\xff\xff"]
    assert storage.scan(b"\xff\xff", b"\xff\xff", 10) == [b"\xff\xff\xff"]
    assert storage.count(b"\xfe\xff") == 1
    assert storage.count(b"\xff") == 4


@given(
    keys=st.sets(st.one_of(st.binary(min_size=1, max_size=3), st.sampled_from(ODD_KEYS)), max_size=30),
    gone=st.sets(st.binary(min_size=1, max_size=1), max_size=5),
    prefix=st.one_of(st.binary(max_size=2), st.sampled_from([b"\xff", b"\xff\xff", b"a\xff"])),
    after=st.binary(max_size=3),
    limit=st.integers(1, 40),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_scans_and_counts_agree_with_a_sorted_list(
    storage: Storage, keys: set[Key], gone: set[Key], prefix: Key, after: Key, limit: int
) -> None:
    """Of the engine and of a snapshot, whatever the bytes."""
    for key in storage.scan(b"", b"", 1 << 20):
        storage.delete(key)
    put_all(storage, *keys)
    snapshot = storage.snapshot()
    for key in gone:
        assert storage.delete(key) == (key in keys)
    for view, there in ((storage, keys - gone), (snapshot, keys)):
        under = sorted(key for key in there if key.startswith(prefix))
        assert view.count(prefix) == len(under)
        assert view.scan(prefix, after, limit) == [key for key in under if key > after][:limit]
        assert view.count(b"") == len(there)
    snapshot.close()


# A snapshot shows the committed data as it was, whatever happens after.


def test_a_snapshot_shows_nothing_that_came_later(storage: Storage) -> None:
    """Not a new key, not a new value, not a delete, by put, delete or commit."""
    put_all(storage, b"a", b"b", b"c")
    snapshot = storage.snapshot()
    storage.put(b"a", b"later")
    storage.delete(b"b")
    storage.put(b"n", b"later")
    commit(storage, storage.snapshot(), {b"c": TOMBSTONE, b"m": b"later"})
    assert [snapshot.get(key) for key in (b"a", b"b", b"c", b"n", b"m")] == [
        b"value of a",
        b"value of b",
        b"value of c",
        None,
        None,
    ]
    assert snapshot.scan(b"", b"", 10) == [b"a", b"b", b"c"]
    assert snapshot.count(b"") == 3
    assert snapshot.expired is False
    snapshot.close()


def test_a_snapshot_of_nothing_stays_empty(storage: Storage) -> None:
    """The very first one."""
    snapshot = storage.snapshot()
    put_all(storage, b"a")
    assert (snapshot.get(b"a"), snapshot.scan(b"", b"", 10), snapshot.count(b"")) == (None, [], 0)
    snapshot.close()


def test_snapshots_of_different_moments_each_show_their_own(storage: Storage) -> None:
    """Twenty of them over one key that changes, appears and goes, closed in any order."""
    snapshots: list[tuple[Snapshot, Value | None]] = []
    for number in range(20):
        value = None if number % 3 == 0 else b"%d" % number
        if value is None:
            storage.delete(b"k")
        else:
            storage.put(b"k", value)
        storage.put(b"%02d" % number, b"")
        snapshots.append((storage.snapshot(), value))
        storage.sync()
    for at in (7, 0, 17, 3, 3, 10):
        snapshots.pop(at)[0].close()
        storage.sync()
    for snapshot, value in snapshots:
        assert snapshot.get(b"k") == value
        assert snapshot.count(b"k") == (value is not None)
        assert storage.count(b"") >= snapshot.count(b"")
        snapshot.close()


def test_two_snapshots_of_one_moment_are_closed_each_for_itself(storage: Storage) -> None:
    """The end of one is not the end of the other."""
    put_all(storage, b"k")
    first, second = storage.snapshot(), storage.snapshot()
    first.close()
    for _ in range(50):
        storage.put(b"k", b"later")
        storage.sync()
    assert second.get(b"k") == b"value of k"
    second.close()


def test_an_old_snapshot_outlives_many_younger_ones(storage: Storage) -> None:
    """However much comes and goes after it, it is served, and knows what has changed."""
    put_all(storage, b"k", b"untouched")
    old = storage.snapshot()
    for number in range(500):
        young = storage.snapshot()
        storage.put(b"k", b"%d" % number)
        storage.put(b"n%d" % number, b"")
        storage.sync()
        young.close()
    assert old.get(b"k") == b"value of k"
    assert old.count(b"") == 2
    answer = commit(storage, old, {b"mine": b""}, [b"k", b"untouched"], [b"", b"untouched"])
    assert isinstance(answer, Conflict)
    assert (set(answer.keys), set(answer.prefixes)) == ({b"k"}, {b""})


# Commit: all the writes or none.


def test_a_commit_applies_all_its_writes(storage: Storage) -> None:
    """Values and tombstones, of keys that were there and of keys that were not."""
    put_all(storage, b"a", b"b", b"c")
    answer = commit(storage, storage.snapshot(), {b"a": b"new", b"b": TOMBSTONE, b"n": b"", b"absent": TOMBSTONE})
    assert isinstance(answer, Committed)
    assert contents(storage) == {b"a": b"new", b"c": b"value of c", b"n": b""}


def test_a_conflict_applies_nothing(storage: Storage) -> None:
    """Neither values nor tombstones."""
    put_all(storage, b"a", b"b")
    snapshot = storage.snapshot()
    storage.put(b"read", b"")
    before = contents(storage)
    answer = commit(storage, snapshot, {b"a": b"new", b"b": TOMBSTONE, b"n": b""}, [b"read"])
    assert isinstance(answer, Conflict)
    assert (answer.keys, answer.prefixes) == ((b"read",), ())
    assert contents(storage) == before


def test_a_commit_without_writes_is_validated_as_any_other(storage: Storage) -> None:
    """Whether to ask at all is for the session to decide."""
    assert isinstance(commit(storage, storage.snapshot(), {}, [b"k"], [b""]), Committed)
    snapshot = storage.snapshot()
    storage.put(b"k", b"")
    assert isinstance(commit(storage, snapshot, {}, [b"k"]), Conflict)


def test_a_blind_commit_never_conflicts(storage: Storage) -> None:
    """What was not observed may have changed in any way."""
    put_all(storage, b"a")
    snapshot = storage.snapshot()
    storage.put(b"a", b"later")
    storage.put(b"b", b"later")
    assert isinstance(commit(storage, snapshot, {b"a": b"mine", b"b": b"mine"}), Committed)
    assert contents(storage) == {b"a": b"mine", b"b": b"mine"}


# Exactly when a key has changed.

CHANGES_OF_A_KEY = [
    ("nothing", [], False),
    ("put", [(b"k", b"new")], True),
    ("put with equal bytes", [(b"k", b"value of k")], True),
    ("deleted", [(b"k", TOMBSTONE)], True),
    ("deleted and put back", [(b"k", TOMBSTONE), (b"k", b"value of k")], True),
    ("another put", [(b"kk", b"new"), (b"j", b"new")], False),
    ("another deleted", [(b"other", TOMBSTONE)], False),
]
CHANGES_OF_AN_ABSENT_KEY = [
    ("nothing", [], False),
    ("put", [(b"absent", b"")], True),
    ("put and deleted", [(b"absent", b""), (b"absent", TOMBSTONE)], True),
    ("deleted while absent", [(b"absent", TOMBSTONE)], False),
    ("deleted while absent, twice", [(b"absent", TOMBSTONE), (b"absent", TOMBSTONE)], False),
]


def change(storage: Storage, changes: list[tuple[Key, Pending]], *, by_commit: bool) -> None:
    """Make changes, each a transaction of its own."""
    for key, pending in changes:
        if by_commit:
            assert isinstance(commit(storage, storage.snapshot(), {key: pending}), Committed)
        elif isinstance(pending, bytes):
            storage.put(key, pending)
        else:
            storage.delete(key)
        storage.sync()


@pytest.mark.parametrize("by_commit", [False, True])
@pytest.mark.parametrize(
    ("key", "changes", "changed"),
    [
        *(pytest.param(b"k", changes, changed, id=name) for name, changes, changed in CHANGES_OF_A_KEY),
        *(
            pytest.param(b"absent", changes, changed, id=f"absent: {name}")
            for name, changes, changed in CHANGES_OF_AN_ABSENT_KEY
        ),
    ],
)
def test_a_key_has_changed_if_it_was_put_or_deleted_while_it_existed(
    storage: Storage, key: Key, changes: list[tuple[Key, Pending]], changed: bool, by_commit: bool
) -> None:
    """By put and delete as by commits."""
    put_all(storage, b"k", b"other")
    snapshot = storage.snapshot()
    change(storage, changes, by_commit=by_commit)
    answer = commit(storage, snapshot, {b"mine": b""}, [key])
    assert isinstance(answer, Conflict if changed else Committed)
    assert storage.get(b"mine") == (None if changed else b"")


def test_what_changed_before_the_snapshot_has_not_changed_since(storage: Storage) -> None:
    """The last commit before it belongs to it."""
    put_all(storage, b"k")
    other = storage.snapshot()
    storage.put(b"k", b"before")
    storage.put(b"n", b"before")
    storage.delete(b"n")
    snapshot = storage.snapshot()
    assert isinstance(commit(storage, snapshot, {b"mine": b""}, [b"k", b"n"], [b""]), Committed)
    assert isinstance(commit(storage, other, {b"mine": b""}, [b"k"]), Conflict)


@pytest.mark.parametrize("changes_between", [1, 2])
def test_a_key_that_changed_before_and_after_a_snapshot_has_changed(storage: Storage, changes_between: int) -> None:
    """An older snapshot being open, for which the earlier change counts as well."""
    put_all(storage, b"k")
    oldest = storage.snapshot()
    for number in range(changes_between):
        storage.put(b"k", b"%d" % number)
    snapshot, reader = storage.snapshot(), storage.snapshot()
    storage.put(b"k", b"after")
    youngest = storage.snapshot()
    storage.sync()
    assert [view.get(b"k") for view in (oldest, reader, youngest)] == [
        b"value of k",
        b"%d" % (changes_between - 1),
        b"after",
    ]
    assert isinstance(commit(storage, snapshot, {b"mine": b""}, [b"k"]), Conflict)
    assert isinstance(commit(storage, youngest, {b"mine": b""}, [b"k"]), Committed)
    assert isinstance(commit(storage, oldest, {b"mine": b""}, [b"k"]), Conflict)
    reader.close()


def test_a_commit_is_seen_by_the_next_snapshot_and_conflicts_with_the_last(storage: Storage) -> None:
    """Two transactions that read and write one key: the first to commit wins."""
    put_all(storage, b"n")
    first, second = storage.snapshot(), storage.snapshot()
    assert isinstance(commit(storage, first, {b"n": b"first"}, [b"n"]), Committed)
    third = storage.snapshot()
    assert isinstance(commit(storage, second, {b"n": b"second"}, [b"n"]), Conflict)
    assert third.get(b"n") == b"first"
    assert isinstance(commit(storage, third, {b"n": b"third"}, [b"n"]), Committed)
    assert storage.get(b"n") == b"third"


def test_write_skew_is_a_conflict(storage: Storage) -> None:
    """Each reads what the other writes: one of them has to go."""
    put_all(storage, b"x", b"y")
    first, second = storage.snapshot(), storage.snapshot()
    assert isinstance(commit(storage, first, {b"x": TOMBSTONE}, [b"x", b"y"]), Committed)
    assert isinstance(commit(storage, second, {b"y": TOMBSTONE}, [b"x", b"y"]), Conflict)
    assert contents(storage) == {b"y": b"value of y"}


# Exactly when a prefix has changed.

CHANGES_OF_A_PREFIX = [
    ("nothing", [], False),
    ("a key came", [(b"p3", b"")], True),
    ("a key went", [(b"p1", TOMBSTONE)], True),
    ("a value was overwritten", [(b"p1", b"new")], False),
    ("a key came and went", [(b"p3", b""), (b"p3", TOMBSTONE)], False),
    ("a key went and came back", [(b"p1", TOMBSTONE), (b"p1", b"new")], False),
    ("one key for another", [(b"p1", TOMBSTONE), (b"p3", b"")], True),
    ("the prefix itself came", [(b"p", b"")], True),
    ("an absent key was deleted", [(b"p3", TOMBSTONE)], False),
    ("a key before it came", [(b"o\xff", b"")], False),
    ("a key behind it came", [(b"q", b"")], False),
    ("a key behind it went", [(b"z", TOMBSTONE)], False),
    ("all went", [(b"p1", TOMBSTONE), (b"p2", TOMBSTONE)], True),
]


@pytest.mark.parametrize("by_commit", [False, True])
@pytest.mark.parametrize("crowd", [0, 1000])
@pytest.mark.parametrize(
    ("changes", "changed"), [pytest.param(changes, changed, id=name) for name, changes, changed in CHANGES_OF_A_PREFIX]
)
def test_a_prefix_has_changed_if_the_set_of_its_keys_differs(
    storage: Storage, changes: list[tuple[Key, Pending]], changed: bool, crowd: int, by_commit: bool
) -> None:
    """Among few keys and among many."""
    put_all(storage, b"p1", b"p2", b"z", *(b"a%d" % number for number in range(crowd)))
    put_all(storage, *(b"p0%d" % number for number in range(crowd)))
    snapshot = storage.snapshot()
    change(storage, changes, by_commit=by_commit)
    answer = commit(storage, snapshot, {b"mine": b""}, [], [b"p"])
    if changed:
        assert isinstance(answer, Conflict)
        assert (answer.keys, answer.prefixes) == ((), (b"p",))
    else:
        assert isinstance(answer, Committed)


def test_the_empty_prefix_is_every_key(storage: Storage) -> None:
    """Whatever comes anywhere changes it."""
    snapshot = storage.snapshot()
    put_all(storage, b"\xff\xff")
    assert isinstance(commit(storage, snapshot, {b"mine": b""}, [], [b""]), Conflict)


def test_ones_own_writes_are_no_conflict(storage: Storage) -> None:
    """A transaction that lists, reads and then writes there conflicts with others only."""
    put_all(storage, b"p1")
    answer = commit(storage, storage.snapshot(), {b"p1": TOMBSTONE, b"p2": b""}, [b"p1", b"p2"], [b"p", b""])
    assert isinstance(answer, Committed)


# What a conflict names, and several snapshots in one request.


def test_a_conflict_names_what_changed_and_nothing_else(storage: Storage) -> None:
    """Keys as keys, prefixes as prefixes."""
    put_all(storage, b"a", b"b", b"c")
    snapshot = storage.snapshot()
    storage.put(b"a", b"")
    storage.delete(b"b")
    storage.put(b"n1", b"")
    answer = commit(storage, snapshot, {b"m": b""}, [b"a", b"b", b"c", b"x"], [b"a", b"b", b"n", b"x", b""])
    assert isinstance(answer, Conflict)
    assert (set(answer.keys), set(answer.prefixes)) == ({b"a", b"b"}, {b"b", b"n", b""})


@pytest.mark.parametrize("changed", [MAX_CONFLICTS_NAMED - 1, MAX_CONFLICTS_NAMED, MAX_CONFLICTS_NAMED + 1, 100])
@pytest.mark.parametrize("validations", [1, 3])
def test_a_conflict_names_a_bounded_number(storage: Storage, changed: int, validations: int) -> None:
    """As many as there are up to the bound, and never more, however many snapshots are validated."""
    keys = [b"%03d" % number for number in range(changed)]
    snapshots = [storage.snapshot() for _ in range(validations)]
    put_all(storage, *keys)
    answer = storage.commit(
        CommitRequest(tuple(Validation(snapshot, keys, keys) for snapshot in snapshots), {b"mine": b""})
    )
    for snapshot in snapshots:
        snapshot.close()
    assert isinstance(answer, Conflict)
    for named in (answer.keys, answer.prefixes):
        assert min(changed, MAX_CONFLICTS_NAMED) <= len(named) <= MAX_CONFLICTS_NAMED
        assert set(named) <= set(keys)


@pytest.mark.parametrize(
    ("first_reads", "second_reads", "conflicts"),
    [(b"old", b"old", ()), (b"old", b"new", ()), (b"new", b"old", (b"new",)), (b"new", b"new", (b"new",))],
)
def test_each_snapshot_of_a_request_validates_what_was_observed_in_it(
    storage: Storage, first_reads: Key, second_reads: Key, conflicts: tuple[Key, ...]
) -> None:
    """A key that changed between two of them conflicts only where the older one observed it."""
    put_all(storage, b"old", b"new")
    first = storage.snapshot()
    storage.put(b"new", b"changed")
    second = storage.snapshot()
    storage.put(b"other", b"")
    answer = storage.commit(
        CommitRequest(
            (Validation(first, [first_reads], [b"n"]), Validation(second, [second_reads], [b"o"])), {b"mine": b""}
        )
    )
    first.close()
    second.close()
    assert isinstance(answer, Conflict)
    assert answer.keys == conflicts
    assert answer.prefixes == (b"o",)  # for it was listed in the second, and `other` came afterwards


def test_a_request_of_several_snapshots_commits_when_none_has_changed(storage: Storage) -> None:
    """Its writes are applied once."""
    put_all(storage, b"a", b"b")
    first = storage.snapshot()
    storage.put(b"c", b"")
    second = storage.snapshot()
    request = CommitRequest((Validation(first, [b"a"], []), Validation(second, [b"c"], [b""])), {b"a": b"new"})
    assert isinstance(storage.commit(request), Committed)
    first.close()
    second.close()
    assert contents(storage) == {b"a": b"new", b"b": b"value of b", b"c": b""}


def test_a_request_without_a_snapshot_is_a_blind_one(storage: Storage) -> None:
    """Nothing was observed, so nothing can have changed."""
    assert isinstance(storage.commit(CommitRequest((), {b"k": b"v"})), Committed)
    assert storage.get(b"k") == b"v"


def test_a_request_that_conflicted_may_be_followed_by_a_fresh_one(storage: Storage) -> None:
    """Retrying from a new snapshot succeeds."""
    snapshot = storage.snapshot()
    storage.put(b"k", b"1")
    assert isinstance(commit(storage, snapshot, {b"k": b"2"}, [b"k"]), Conflict)
    assert isinstance(commit(storage, storage.snapshot(), {b"k": b"2"}, [b"k"]), Committed)
    assert storage.get(b"k") == b"2"


# Figures.


def test_stats_are_figures_by_name(storage: Storage) -> None:
    """For people: whole numbers, the number of keys among them."""
    put_all(storage, b"a", b"b")
    stats = storage.stats()
    assert stats["keys"] == 2
    assert all(isinstance(name, str) and type(figure) is int for name, figure in stats.items())


def test_the_flag_blocking_is_a_flag(storage: Storage) -> None:
    """Yes or no, and always the same."""
    assert storage.blocking in (True, False)
    assert storage.blocking == storage.blocking

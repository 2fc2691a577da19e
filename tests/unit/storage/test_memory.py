"""The memory engine: what it keeps for snapshots, when it lets go of it, and its two limits."""

import sys
from contextlib import nullcontext
from random import Random

import pytest

from kvs.adapters.storage.memory.key_index import NODE_OVERHEAD_BYTES
from kvs.adapters.storage.memory.snapshot import MemorySnapshot
from kvs.adapters.storage.memory.sparse import LARGE_BYTES, SPARSE_S
from kvs.adapters.storage.memory.storage import FREED_PER_TICK, MOVED_AT_ONCE, MemoryStorage
from kvs.domain.commit import CommitRequest, Committed, Conflict, KeyRange, ReadSet
from kvs.domain.errors import LimitError, TimedOutError
from kvs.domain.updates import Append
from kvs.domain.values import NEVER_MS, TOMBSTONE, Key, Record, Value, Write, entry_bytes
from tests.support.naive_storage import NaiveSnapshot, NaiveStorage
from tests.support.seeds import seeds

UNLIMITED = 1 << 40
ENOUGH_SYNCS = 2000


def counted(storage: MemoryStorage) -> tuple[int, int, int]:
    """Return the numbers of keys and snapshots, and the size of history."""
    figures = storage.stats()
    return figures["keys"], figures["snapshots"], figures["history_bytes"]


def history_bytes(storage: MemoryStorage) -> int:
    """Return what is kept for snapshots, as INFO shows it."""
    return storage.stats()["history_bytes"]


def run_ticks(storage: MemoryStorage) -> None:
    """Run many ticks, some of which write."""
    for tick in range(ENOUGH_SYNCS):
        storage.sync()
        if tick % 100 == 0:
            storage.put(b"tick", b"")


def commit(storage: MemoryStorage, snapshot: MemorySnapshot, writes: dict[Key, Write], *read: Key) -> object:
    """Commit what a session would."""
    return storage.commit(CommitRequest((ReadSet(snapshot, read, ()),), writes))


# Keeping and collecting history.


def test_without_a_snapshot_nothing_is_kept() -> None:
    """A write replaces the value, and that is that."""
    storage = MemoryStorage(0, UNLIMITED)
    for number in range(100):
        storage.put(b"k", b"%d" % number)
        storage.delete(b"k")
    assert history_bytes(storage) == 0


def test_a_replaced_value_is_kept_for_an_open_snapshot_once() -> None:
    """The value the snapshot sees costs its entry; the ones after it that nobody sees cost nothing."""
    storage = MemoryStorage(0, UNLIMITED)
    storage.put(b"k", b"old value")
    snapshot = storage.snapshot()
    for _ in range(50):
        storage.put(b"k", b"a new value")
    assert snapshot.get(b"k") == b"old value"
    assert history_bytes(storage) == entry_bytes(b"k", b"old value")
    snapshot.close()
    run_ticks(storage)
    assert history_bytes(storage) == 0


@pytest.mark.parametrize("keys", [1, 10, 1000])
def test_history_is_gone_some_ticks_after_the_last_snapshot_closed(keys: int) -> None:
    """Values replaced, keys added and keys deleted under snapshots: all of what was kept is let go."""
    storage = MemoryStorage(0, UNLIMITED)
    for number in range(keys):
        storage.put(b"%d" % number, b"v")
    snapshots = []
    for number in range(keys):
        snapshots.append(storage.snapshot())
        storage.put(b"%d" % number, b"w")
        storage.put(b"n%d" % number, b"w")
        storage.delete(b"%d" % (keys - 1 - number))
    assert history_bytes(storage) > 0
    Random(0).shuffle(snapshots)
    for snapshot in snapshots:
        snapshot.close()
    run_ticks(storage)
    assert storage.stats()["snapshots"] == 0
    assert history_bytes(storage) == 0


def test_writes_alone_collect_history_too() -> None:
    """A flood of writes within one tick does not have to wait for the tick to end."""
    storage = MemoryStorage(0, UNLIMITED)
    for number in range(500):
        storage.put(b"%d" % number, b"v")
    snapshot = storage.snapshot()
    for number in range(500):
        storage.put(b"%d" % number, b"w")
    snapshot.close()
    for _ in range(500):
        storage.put(b"k", b"v")
    assert history_bytes(storage) == 0


def test_the_history_of_a_hot_key_stays_bounded_beside_a_long_lived_snapshot() -> None:
    """Ten thousand short snapshots come and go; what is kept is what the old one sees, and a little."""
    storage = MemoryStorage(0, UNLIMITED)
    storage.put(b"hot", b"first")
    old = storage.snapshot()
    most = 0
    for number in range(10_000):
        short = storage.snapshot()
        storage.put(b"hot", b"%d" % number)
        assert short.get(b"hot") == (b"%d" % (number - 1) if number else b"first")
        short.close()
        most = max(most, history_bytes(storage))
    assert old.get(b"hot") == b"first"
    assert most <= 5 * entry_bytes(b"hot", b"first")
    old.close()
    run_ticks(storage)
    assert history_bytes(storage) == 0


def test_the_index_kept_for_an_old_snapshot_is_at_most_one_whole_tree() -> None:
    """Keys come and go under many short snapshots beside an old one."""
    storage = MemoryStorage(0, UNLIMITED)
    for number in range(1000):
        storage.put(b"%04d" % number, b"")
    old = storage.snapshot()
    most = 0
    for number in range(3000):
        short = storage.snapshot()
        storage.put(b"%04dx" % (number % 1000), b"")
        storage.delete(b"%04dx" % (number % 1000))
        short.close()
        storage.sync()
        most = max(most, history_bytes(storage))
    assert old.count(b"") == 1000
    assert most <= 1000 * 2 * entry_bytes(b"0000x", None)
    old.close()
    run_ticks(storage)
    assert history_bytes(storage) == 0


def test_a_commit_uses_its_own_snapshot_up() -> None:
    """Nothing is kept for the snapshot of the transaction that is being applied."""
    storage = MemoryStorage(0, UNLIMITED)
    storage.put(b"k", b"v")
    snapshot = storage.snapshot()
    assert isinstance(commit(storage, snapshot, {b"k": b"w", b"n": b"w"}, b"k"), Committed)
    snapshot.close()
    assert counted(storage) == (2, 0, 0)


def test_a_commit_keeps_what_others_at_the_same_point_see() -> None:
    """Two sessions that started at the same commit share a point; one of them commits."""
    storage = MemoryStorage(0, UNLIMITED)
    storage.put(b"k", b"v")
    first, second = storage.snapshot(), storage.snapshot()
    commit(storage, first, {b"k": b"w", b"n": b"w"})
    first.close()
    assert second.get(b"k") == b"v"
    assert second.get(b"n") is None
    assert second.scan(b"", b"", 10) == [b"k"]
    assert isinstance(commit(storage, second, {b"x": b""}, b"n"), Conflict)


@pytest.mark.draws
@pytest.mark.parametrize("seed", seeds(5))
def test_snapshots_agree_with_copies_and_history_returns_to_nothing(seed: int) -> None:
    """Random writes and commits under random snapshots, each compared with a copy made when it was taken."""
    random = Random(seed)
    storage = MemoryStorage(0, UNLIMITED)
    data: dict[bytes, bytes] = {}
    kept: list[tuple[MemorySnapshot, dict[bytes, bytes]]] = []
    keys = [b"%d" % number for number in range(30)]
    for step in range(3000):
        key, value = random.choice(keys), b"%d" % step
        chance = random.random()
        if chance < 0.01:
            storage.clear()
            data.clear()
        elif chance < 0.15 and len(kept) < 10:
            kept.append((storage.snapshot(), dict(data)))
        elif chance < 0.28 and kept:
            kept.pop(random.randrange(len(kept)))[0].close()
        elif chance < 0.35:
            snapshot = storage.snapshot()
            writes: dict[Key, Write] = dict.fromkeys(random.sample(keys, 5), value)
            writes[key] = TOMBSTONE
            commit(storage, snapshot, writes)
            snapshot.close()
            data.update((name, value) for name in writes)
            del data[key]
        elif chance < 0.4:
            assert storage.update(key, Append(b"+", 1000)) == (data.get(key), data.get(key, b"") + b"+")
            data[key] = data.get(key, b"") + b"+"
        elif chance < 0.7:
            storage.put(key, value)
            data[key] = value
        else:
            assert storage.delete(key) == (data.pop(key, None) is not None)
        storage.sync()
        assert history_bytes(storage) >= 0
        for snapshot, copy in random.sample(kept, min(2, len(kept))):
            assert {name: snapshot.get(name) for name in keys} == {name: copy.get(name) for name in keys}
            assert snapshot.scan(b"", b"", 100) == sorted(copy)
            assert snapshot.count(b"1") == sum(name.startswith(b"1") for name in copy)
    for snapshot, _ in kept:
        snapshot.close()
    run_ticks(storage)
    assert history_bytes(storage) == 0


# Too much history: the oldest snapshot is given up.


@pytest.mark.parametrize(("spare", "given_up"), [(1, False), (0, False), (-1, True)])
def test_the_oldest_snapshot_is_given_up_only_above_max_history_bytes(spare: int, given_up: bool) -> None:
    """Just below and at the limit it lives; one byte above, every call but close tells of a timeout."""
    storage = MemoryStorage(0, entry_bytes(b"k", b"value") + spare)
    storage.put(b"k", b"value")
    snapshot = storage.snapshot()
    storage.put(b"k", b"other")
    assert snapshot.expired == given_up
    if given_up:
        for call in (lambda: snapshot.get(b"k"), lambda: snapshot.scan(b"", b"", 1), lambda: snapshot.count(b"")):
            with pytest.raises(TimedOutError, match="max_history_bytes"):
                call()
        with pytest.raises(TimedOutError, match="max_history_bytes"):
            commit(storage, snapshot, {b"n": b""})
        assert storage.get(b"n") is None
    else:
        assert snapshot.get(b"k") == b"value"
    snapshot.close()
    run_ticks(storage)
    assert history_bytes(storage) == 0


def test_only_as_many_snapshots_are_given_up_as_need_be() -> None:
    """The oldest goes, and those that are younger stay and see what they saw."""
    size = 1000
    storage = MemoryStorage(0, 3 * entry_bytes(b"k", bytes(size)))
    snapshots = []
    for number in range(5):
        storage.put(b"k", bytes((number,)) * size)
        snapshots.append(storage.snapshot())
    storage.put(b"k", b"now")
    assert [snapshot.expired for snapshot in snapshots] == [True, True, False, False, False]
    assert [snapshot.get(b"k") for snapshot in snapshots[2:]] == [bytes((number,)) * size for number in (2, 3, 4)]
    storage.sync()
    assert history_bytes(storage) <= 3 * entry_bytes(b"k", bytes(size))


def test_garbage_is_collected_before_a_snapshot_is_given_up() -> None:
    """History that nobody needs any more never costs anybody their transaction."""
    storage = MemoryStorage(0, 400 * entry_bytes(b"000", b"v"))
    for number in range(300):
        storage.put(b"%03d" % number, b"v")
    for _ in range(20):
        gone = storage.snapshot()
        for number in range(300):
            storage.put(b"%03d" % number, b"v")
        gone.close()
        live = storage.snapshot()
        storage.put(b"000", b"v")
        assert not live.expired
        live.close()


def test_a_large_commit_gives_up_those_it_outgrows() -> None:
    """One commit that replaces more than may be kept ends the transactions that would need it, and is applied."""
    storage = MemoryStorage(0, 10 * entry_bytes(b"000", b"v"))
    for number in range(100):
        storage.put(b"%03d" % number, b"v")
    reader, writer = storage.snapshot(), storage.snapshot()
    writes: dict[Key, Write] = {b"%03d" % number: b"w" for number in range(100)}
    assert isinstance(commit(storage, writer, writes), Committed)
    assert reader.expired
    assert storage.get(b"099") == b"w"
    run_ticks(storage)
    assert history_bytes(storage) == 0


# Expiry.

DUE = 200


def due(young_s: float, fits: int, value: bytes = b"v") -> MemoryStorage:
    """Return a storage of records that are due, and room in history for so many of them and a copied path."""
    path_bytes = 2 * (NODE_OVERHEAD_BYTES + 16 * 65)
    storage = MemoryStorage(0, fits * entry_bytes(b"000", Record(value, 1)) + 10 * path_bytes, young_s)
    for number in range(DUE):
        storage.put(b"%03d" % number, Record(value, 1))
    return storage


def expire_all(storage: MemoryStorage) -> int:
    """Delete what is due until that is all, or has to wait; return how much it was."""
    deleted = 0
    while storage.earliest_deadline_ms() <= 1:
        try:
            deleted += len(storage.expire(1, 7))
        except LimitError:
            break
        storage.sync()
    return deleted


def test_what_is_due_waits_for_a_young_snapshot() -> None:
    """As soon as there is no room left; and it goes on when that is closed."""
    storage = due(3600, DUE // 2)
    young = storage.snapshot()
    first = expire_all(storage)
    assert DUE // 2 <= first < DUE
    assert history_bytes(storage) <= storage.stats()["max_history_bytes"]
    assert storage.stats()["deadlines"] == storage.count(b"") == DUE - first
    with pytest.raises(LimitError):
        storage.expire(1, 7)
    assert young.count(b"") == DUE
    assert all(young.get(b"%03d" % number) == Record(b"v", 1) for number in range(DUE))
    left = storage.scan(b"", b"", DUE)
    assert storage.delete(left[0])
    storage.put(left[1], Record(b"v", 2))
    young.close()
    run_ticks(storage)
    assert expire_all(storage) == DUE - first - 2
    assert storage.scan(b"0", b"", DUE) + storage.scan(b"1", b"", DUE) == [left[1]]


def test_what_is_due_does_not_wait_for_an_old_snapshot() -> None:
    """It ends as by any other write, and those that are younger after it."""
    storage = due(1e-9, DUE // 2)
    old = storage.snapshot()
    assert expire_all(storage) == DUE
    assert old.expired
    old.close()


def test_what_is_due_does_not_wait_while_writes_end_snapshots() -> None:
    """There might never be room."""
    storage = due(3600, DUE // 2)
    for number in range(3):
        storage.put(b"other", b"%d" % number)
        storage.snapshot()
    first = expire_all(storage)
    storage.put(b"other", bytes(storage.stats()["max_history_bytes"] // 2))
    while storage.versions.evictions == 0:
        storage.put(b"other", bytes(storage.stats()["max_history_bytes"] // 2))
        storage.snapshot()
    assert first < DUE
    assert expire_all(storage) > 0


def test_a_record_larger_than_all_history_does_not_wait() -> None:
    """No room would ever be enough."""
    storage = due(3600, 0, bytes(100_000))
    storage.snapshot()
    assert expire_all(storage) == DUE


# What is left of a large data set.


def let_it_be_sparse(storage: MemoryStorage) -> int:
    """Let the time pass after which a data set that is mostly empty is replaced; return the size of the dict."""
    storage.check()
    storage._sparse._since_s -= SPARSE_S * (storage._sparse._since_s > 0)
    storage.check()
    return sys.getsizeof(storage._data)


@pytest.mark.parametrize("left", [0, 1000])
@pytest.mark.parametrize("seen", [False, True], ids=["unseen", "seen"])
def test_a_data_set_that_is_mostly_empty_gives_back_its_memory(left: int, seen: bool) -> None:
    """A dict keeps the size that it had; what is in it, and what snapshots see, stays."""
    storage = MemoryStorage(0, UNLIMITED)
    keys = [b"%06d" % number for number in range(40_000)]
    storage.load([(key, key) for key in keys])
    snapshot = storage.snapshot() if seen else None
    full_bytes = let_it_be_sparse(storage)
    for key in keys[left:]:
        storage.delete(key)
    if snapshot is not None:
        assert let_it_be_sparse(storage) == full_bytes  # the old values are in it
        assert snapshot.get(keys[-1]) == keys[-1]
        storage.put(keys[0], b"new")
        snapshot.close()
        run_ticks(storage)
    storage.check()
    assert sys.getsizeof(storage._data) == full_bytes > LARGE_BYTES  # not at once
    assert let_it_be_sparse(storage) < full_bytes / 8
    assert storage.scan(b"", b"", 40_000)[:left] == keys[:left]
    assert [storage.get(key) for key in keys[1:left]] == keys[1:left]
    again = storage.snapshot()
    storage.put(keys[0], b"newer")
    assert again.get(keys[0]) == ((b"new" if left or seen else None) if seen else (keys[0] if left else None))
    assert storage.get(keys[0]) == b"newer"
    again.close()


# Clear.


def crowd(storage: MemoryStorage) -> None:
    """Put a hundred keys that take as much as each other."""
    for number in range(100):
        storage.put(b"%03d" % number, b"v")


@pytest.mark.parametrize("fits", [True, False])
def test_a_clear_keeps_what_there_was_once_or_gives_it_up(fits: bool) -> None:
    """Every value and the whole tree, however many snapshots see them; nothing of it if that is far too much."""
    needed = 100 * entry_bytes(b"000", b"v") + entry_bytes(b"000x", None) + 100 * 11 + NODE_OVERHEAD_BYTES
    storage = MemoryStorage(0, needed if fits else needed // 2)
    crowd(storage)
    snapshots = [storage.snapshot(), storage.snapshot()]
    storage.put(b"000x", b"")  # which copies part of the tree
    storage.delete(b"000x")
    storage.clear()
    assert [snapshot.expired for snapshot in snapshots] == [not fits] * 2
    if fits:
        assert history_bytes(storage) == needed
        assert snapshots[0].count(b"") == snapshots[1].count(b"") == 100
    else:
        assert counted(storage) == (0, 0, 0)
    for snapshot in snapshots:
        snapshot.close()
    storage.put(b"k", b"v")
    assert storage.scan(b"", b"", 10) == [b"k"]
    run_ticks(storage)
    assert history_bytes(storage) == 0


def test_a_clear_takes_what_was_kept_for_closed_snapshots_with_it() -> None:
    """Nobody sees it, so nothing is left to be collected; and what is kept afterwards is kept as ever."""
    storage = MemoryStorage(0, UNLIMITED)
    for _ in range(3):
        crowd(storage)
        gone = storage.snapshot()
        crowd(storage)
        gone.close()
        assert history_bytes(storage) > 0
        storage.clear()
        assert counted(storage) == (0, 0, 0)
        storage.put(b"000", b"new")
        live = storage.snapshot()
        storage.put(b"000", b"newer")
        storage.delete(b"000")
        assert live.get(b"000") == b"new"
        live.close()
    run_ticks(storage)
    assert history_bytes(storage) == 0


def test_a_clear_of_what_is_clear_keeps_nothing() -> None:
    """Not even for a snapshot that sees what there was before."""
    storage = MemoryStorage(0, UNLIMITED)
    crowd(storage)
    snapshot = storage.snapshot()
    storage.clear()
    held = history_bytes(storage)
    between = storage.snapshot()
    for _ in range(3):
        storage.clear()
    assert history_bytes(storage) == held
    assert isinstance(commit(storage, between, {b"k": b""}, b"000"), Committed)
    assert snapshot.count(b"") == 100
    snapshot.close()
    run_ticks(storage)
    assert history_bytes(storage) == 0


def test_a_clear_makes_room_for_everything() -> None:
    """A data set that was full takes as much again, and no more."""
    storage = full_storage()
    for _ in range(3):
        storage.clear()
        storage.put(b"ke3", b"value")
        storage.put(b"ke4", b"value")
        with pytest.raises(LimitError):
            storage.put(b"ke5", b"")


# The limit on the data set.

ENTRY = entry_bytes(b"key", b"value")


def full_storage(spare: int = 0) -> MemoryStorage:
    """Return an engine that holds two entries, with this much room left."""
    storage = MemoryStorage(2 * ENTRY + spare, UNLIMITED)
    storage.put(b"ke1", b"value")
    storage.put(b"ke2", b"value")
    return storage


@pytest.mark.parametrize(("spare", "refused"), [(ENTRY + 1, False), (ENTRY, False), (ENTRY - 1, True)])
def test_a_new_key_is_refused_only_above_max_data_bytes(spare: int, refused: bool) -> None:
    """Just below and at the limit it is stored; a byte above it is refused, by PUT, by MSET and by COMMIT."""
    for put in (
        lambda storage: storage.put(b"key", b"value"),
        lambda storage: storage.put_all([b"ke1", b"key", b"key"], [b"other", b"longer value", b"value"]),
        lambda storage: commit(storage, storage.snapshot(), {b"key": b"value"}),
    ):
        storage = full_storage(spare)
        with pytest.raises(LimitError, match="max_data_bytes") if refused else nullcontext():
            put(storage)
        assert storage.get(b"key") == (None if refused else b"value")
        assert storage.get(b"ke1") == b"value" or not refused
        assert storage.stats()["data_bytes"] == (2 if refused else 3) * ENTRY


@pytest.mark.parametrize(("spare", "refused"), [(2, False), (1, False), (0, True)])
def test_a_longer_value_is_refused_only_above_max_data_bytes(spare: int, refused: bool) -> None:
    """What counts is by how much the data set would grow."""
    storage = full_storage(spare)
    if refused:
        with pytest.raises(LimitError):
            storage.put(b"ke1", b"value+")
        assert storage.get(b"ke1") == b"value"
    else:
        storage.put(b"ke1", b"value+")
        assert storage.get(b"ke1") == b"value+"


def test_a_full_data_set_takes_deletes_and_values_that_are_no_longer() -> None:
    """Whatever does not grow the data set is done, and makes room."""
    storage = full_storage()
    storage.put(b"ke1", b"VALUE")
    storage.put(b"ke1", b"valu")
    with pytest.raises(LimitError):
        storage.put(b"ke2", b"value++")
    storage.put(b"ke2", b"value+")
    assert storage.delete(b"ke1")
    storage.put(b"ke3", b"valu")
    assert storage.scan(b"", b"", 10) == [b"ke2", b"ke3"]


def test_a_commit_counts_what_it_deletes() -> None:
    """A key that goes makes room for one that comes, in the same commit."""
    storage = full_storage()
    assert isinstance(commit(storage, storage.snapshot(), {b"ke3": b"value", b"ke1": TOMBSTONE}), Committed)
    assert storage.scan(b"", b"", 10) == [b"ke2", b"ke3"]
    with pytest.raises(LimitError):
        storage.put(b"ke4", b"")


def test_a_commit_of_deletes_alone_is_never_refused() -> None:
    """Deletes need no room, those of absent keys included."""
    storage = full_storage()
    assert isinstance(commit(storage, storage.snapshot(), {b"ke1": TOMBSTONE, b"no": TOMBSTONE}), Committed)
    assert isinstance(commit(storage, storage.snapshot(), {b"ke2": TOMBSTONE}), Committed)
    storage.put(b"ke1", b"value")
    storage.put(b"ke2", b"value")
    with pytest.raises(LimitError):
        storage.put(b"ke3", b"")


REFUSED: dict[Key, Write] = {b"ke1": b"VALUE", b"ke2": TOMBSTONE, b"ke3": b"value", b"ke4": b""}


def test_a_refused_commit_leaves_everything_as_it_was() -> None:
    """Nothing is applied, and the snapshot still works: it sees what it saw, and knows what has changed."""
    storage = full_storage()
    snapshot = storage.snapshot()
    before = dict(storage.stats())
    with pytest.raises(LimitError):
        commit(storage, snapshot, REFUSED, b"ke1")
    assert dict(storage.stats()) == before
    assert [storage.get(key) for key in (b"ke1", b"ke2", b"ke3", b"ke4")] == [b"value", b"value", None, None]
    storage.put(b"ke1", b"other")
    storage.delete(b"ke2")
    assert snapshot.get(b"ke1") == b"value"
    assert snapshot.scan(b"", b"", 10) == [b"ke1", b"ke2"]
    assert isinstance(commit(storage, snapshot, REFUSED, b"ke1"), Conflict)
    snapshot.close()
    run_ticks(storage)
    assert history_bytes(storage) == 0


def test_a_refused_commit_succeeds_once_there_is_room() -> None:
    """The very same snapshot and writes."""
    storage = full_storage()
    snapshot = storage.snapshot()
    with pytest.raises(LimitError):
        commit(storage, snapshot, REFUSED, b"ke1")
    storage.delete(b"ke2")
    writes = {key: pending for key, pending in REFUSED.items() if key != b"ke4"}
    assert isinstance(commit(storage, snapshot, writes, b"ke1"), Committed)
    assert storage.scan(b"", b"", 10) == [b"ke1", b"ke3"]


@pytest.mark.draws
@pytest.mark.parametrize("seed", seeds(3))
def test_the_account_of_the_data_set_never_drifts(seed: int) -> None:
    """After thousands of writes, refused and not, exactly what fits by the sum over all entries is let in."""
    random = Random(seed)
    limit = 20 * ENTRY
    storage = MemoryStorage(limit, UNLIMITED)
    data: dict[bytes, bytes] = {}

    def held(entries: dict[bytes, bytes]) -> int:
        return sum(entry_bytes(key, value) for key, value in entries.items())

    for _ in range(3000):
        writes: dict[Key, Write] = {}
        for _ in range(random.choice([1, 1, 1, 4])):
            value = TOMBSTONE if random.random() < 0.3 else bytes(random.randrange(200))
            writes[b"%d" % random.randrange(30)] = value
        after = dict(data)
        for key, pending in writes.items():
            if isinstance(pending, bytes):
                after[key] = pending
            else:
                after.pop(key, None)
        if random.random() < 0.01:
            storage.clear()
            after = {key: pending for key, pending in writes.items() if isinstance(pending, bytes)}
            data = {}
        allowed = held(after) <= limit or held(after) <= held(data)
        try:
            if len(writes) > 1:
                commit(storage, storage.snapshot(), writes)
            else:
                ((key, pending),) = writes.items()
                if isinstance(pending, bytes):
                    storage.put(key, pending)
                else:
                    storage.delete(key)
        except LimitError:
            assert not allowed
        else:
            assert allowed
            data = after
    assert {key: storage.get(key) for key in data} == data


# Clears of large data sets.


def large(version: int) -> dict[Key, Write]:
    """Return more keys than are moved one by one."""
    return {b"%05d" % number: b"%d" % version for number in range(MOVED_AT_ONCE + 100)}


def idle(storage: MemoryStorage) -> int:
    """Let ticks go by as long as there is anything to do; return how many."""
    ticks = 0
    while storage.has_work:
        storage.sync()
        ticks += 1
        assert ticks < 10_000
    return ticks


@pytest.mark.draws
@pytest.mark.parametrize("seed", seeds(3))
@pytest.mark.parametrize("max_data_bytes", [0, 1 << 40])
def test_large_clears_agree_with_the_naive_engine(seed: int, max_data_bytes: int) -> None:
    """By a clear and by a commit: what snapshots of before and after show, and which of them have changed."""
    random = Random(seed)
    storage, naive = MemoryStorage(max_data_bytes, UNLIMITED), NaiveStorage()
    watched = [b"00003", b"00700", b"01050", b"new", b"absent"]
    snapshots: list[tuple[MemorySnapshot, NaiveSnapshot]] = []
    for version in range(60):
        chance = random.random()
        for engine in (storage, naive):
            if chance < 0.15:
                engine.clear()
            elif chance < 0.3:
                engine.commit(CommitRequest((), {random.choice(watched[:1]): b"x"}, clears=True))
            elif chance < 0.55:
                engine.commit(CommitRequest((), large(version)))
        for key in random.sample(watched, 2):
            delete = random.random() < 0.5
            for engine in (storage, naive):
                engine.delete(key) if delete else engine.put(key, b"%d" % version)
        if random.random() < 0.6:
            snapshots.append((storage.snapshot(), naive.snapshot()))
        if snapshots and random.random() < 0.4:
            mine, other = snapshots.pop(random.randrange(len(snapshots)))
            assert [mine.get(key) for key in watched] == [other.get(key) for key in watched]
            assert mine.scan(b"", b"", 5000) == other.scan(b"", b"", 5000)
            keys = random.sample(watched, 3)
            ranges = [KeyRange(b"0000", b"00010"), KeyRange(b"00700\0", None)]
            one = storage.commit(CommitRequest((ReadSet(mine, keys, ranges),), {b"mine": b""}))
            two = naive.commit(CommitRequest((ReadSet(other, keys, ranges),), {b"mine": b""}))
            assert type(one) is type(two)
            if isinstance(one, Conflict) and isinstance(two, Conflict):
                assert (set(one.keys), set(one.ranges)) == (set(two.keys), set(two.ranges))
            mine.close()
        if random.random() < 0.5:
            storage.sync()
        assert storage.count(b"") == naive.count(b"")
    for mine, other in snapshots:
        assert {key: mine.get(key) for key in mine.scan(b"", b"", 5000)} == {
            key: other.get(key) for key in other.scan(b"", b"", 5000)
        }
        mine.close()
    idle(storage)
    assert counted(storage) == (naive.count(b""), 0, 0)


def test_a_large_clear_under_a_snapshot_is_counted_bit_by_bit() -> None:
    """Nothing is moved at the clear; ticks find out what only the snapshot sees, and free it when that has closed."""
    storage = MemoryStorage(0, UNLIMITED)
    storage.commit(CommitRequest((), large(1)))
    snapshot = storage.snapshot()
    storage.clear()
    idle(storage)
    kept = history_bytes(storage)
    values = sum(entry_bytes(key, value) for key, value in large(1).items())
    assert values < kept < 2 * values
    assert snapshot.get(b"00001") == b"1"
    assert storage.stats()["snapshots"] == 1
    snapshot.close()
    assert history_bytes(storage) == 0
    assert idle(storage) > 0
    assert not storage.has_work


def test_a_large_clear_evicts_a_snapshot_that_would_keep_too_much() -> None:
    """Once that has been counted; and those that came after the clear stay."""
    storage = MemoryStorage(0, 50_000)
    storage.commit(CommitRequest((), large(1)))
    old = storage.snapshot()
    storage.clear()
    storage.put(b"k", b"1")
    young = storage.snapshot()
    storage.put(b"k", b"2")
    idle(storage)
    assert old.expired
    assert not young.expired
    assert young.get(b"k") == b"1"
    old.close()
    young.close()
    idle(storage)
    assert history_bytes(storage) == 0


def test_a_large_index_is_freed_in_shares() -> None:
    """That of a snapshot under which all keys came: its nodes are nobody else's any more."""
    storage = MemoryStorage(0, UNLIMITED)
    storage.commit(CommitRequest((), {b"%06d" % (number * 7919 % 100_003): b"" for number in range(60_000)}))
    snapshot = storage.snapshot()
    storage.commit(CommitRequest((), {b"%06dx" % (number * 7919 % 100_003): b"" for number in range(60_000)}))
    snapshot.close()
    assert idle(storage) > 60_000 // FREED_PER_TICK
    assert history_bytes(storage) == 0


def test_stats_have_the_size_of_the_data_if_that_is_limited() -> None:
    """And the limits."""
    assert "data_bytes" not in MemoryStorage(0, 1000).stats()
    storage = MemoryStorage(2000, 1000)
    storage.put(b"k", b"value")
    storage.put(b"l", b"value")
    storage.delete(b"l")
    figures = storage.stats()
    assert (figures["data_bytes"], figures["max_data_bytes"]) == (entry_bytes(b"k", b"value"), 2000)
    assert figures["max_history_bytes"] == 1000
    storage.clear()
    assert storage.stats()["data_bytes"] == 0


@pytest.mark.parametrize("horizon_ms", [0, 1, 40, 49])
def test_a_deadline_before_all_that_were_restored_is_found(horizon_ms: int) -> None:
    """One that is set later, and sooner than every stored one, is due at its time."""
    storage = MemoryStorage(0, UNLIMITED)
    storage.restore([(b"far", Record(b"v", 1 << 45))], lambda: horizon_ms)
    storage.put(b"near", Record(b"v", 50))
    found: list[Key] = []
    while storage.earliest_deadline_ms() <= 50:
        found += storage.expire(50, 100)
    assert found == [b"near"]
    assert 50 < storage.earliest_deadline_ms() < NEVER_MS
    assert storage.get(b"far") is not None


@pytest.mark.parametrize("seed", seeds(5))
@pytest.mark.parametrize("max_data_bytes", [0, 500])
def test_what_others_have_accepted_is_as_what_was_written_here(seed: int, max_data_bytes: int) -> None:
    """Rows in order, then commits, whatever the limit is; and all figures are the same."""
    random = Random(seed)
    keys = [b"%04d" % number for number in range(400)]

    def some_value() -> Value:
        return random.choice((b"v", b"w" * 50, Record(b"r", random.randrange(1, 1 << 20))))

    loaded = [(key, some_value()) for key in keys[::2]]
    commits: list[list[tuple[Key, Value | None]]] = [
        [(random.choice(keys), random.choice((None, some_value()))) for _ in range(random.randrange(40))]
        for _ in range(20)
    ]
    written, followed = MemoryStorage(1 << 30, UNLIMITED), MemoryStorage(max_data_bytes, UNLIMITED)
    followed.begin(0)
    for at in range(0, len(loaded), 30):
        followed.load(loaded[at : at + 30])
    for key, value in loaded:
        written.put(key, value)
    for number, rows in enumerate(commits):
        if number == seed % 20:
            written.clear()
            followed.clear()
        followed.apply(rows)
        for key, change in rows:
            if change is None:
                written.delete(key)
            else:
                written.put(key, change)
    assert followed.scan(b"", b"", 1000) == written.scan(b"", b"", 1000)
    assert [followed.get(key) for key in keys] == [written.get(key) for key in keys]
    if max_data_bytes:
        assert followed.stats()["data_bytes"] == written.stats()["data_bytes"]
    assert followed.stats()["deadlines"] == written.stats()["deadlines"]
    expired: list[list[Key]] = []
    for storage in (written, followed):
        found: list[Key] = []
        while storage.earliest_deadline_ms() < NEVER_MS:
            found += storage.expire(1 << 20, 100)
        expired.append(sorted(found))
    assert expired[0] == expired[1]

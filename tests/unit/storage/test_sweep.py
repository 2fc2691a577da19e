"""Records that fall due together, in the memory engine."""

from random import Random
from typing import TYPE_CHECKING

import pytest

from kvs.adapters.storage.memory.storage import MemoryStorage
from kvs.adapters.storage.memory.sweep import LOOKED_AT_PER_STEP, MANY_DUE
from kvs.domain.values import Key, Record, Value, entry_bytes
from tests.support.seeds import seeds

if TYPE_CHECKING:
    from kvs.ports.storage import Snapshot

pytestmark = pytest.mark.draws

DUE_MS = 1000
UNLIMITED = 1 << 40


def filled(random: Random, due: int, others: int) -> tuple[MemoryStorage, dict[Key, Value]]:
    """Return an engine with records that are due, and others, and what is in it."""
    storage = MemoryStorage(UNLIMITED, UNLIMITED)
    storage.begin(1)
    data: dict[Key, Value] = {b"%06d" % number: Record(b"v", DUE_MS) for number in range(due)}
    data |= {b"%06d" % (due + number): random.choice((b"v", Record(b"v", 2 * DUE_MS))) for number in range(others)}
    keys = list(data)
    random.shuffle(keys)
    data = {b"%06d" % number: data[key] for number, key in enumerate(keys)}
    for key in sorted(data, key=lambda _: random.random()):
        storage.put(key, data[key])
    return storage, data


@pytest.mark.parametrize("seed", seeds(3))
@pytest.mark.parametrize("others", [0, MANY_DUE, 4 * MANY_DUE, MANY_DUE * LOOKED_AT_PER_STEP * 2])
def test_what_is_due_goes_and_what_is_not_stays(seed: int, others: int) -> None:
    """Whatever is written meanwhile, and with snapshots that see all of it; and all figures agree."""
    random = Random(seed)
    storage, data = filled(random, 2 * MANY_DUE, others)
    seen: list[tuple[Snapshot, dict[Key, Value]]] = []
    due = {key for key, value in data.items() if isinstance(value, Record) and value.deadline_ms == DUE_MS}
    while storage.earliest_deadline_ms() <= DUE_MS:
        if seen and random.random() < 0.3:
            snapshot, view = seen.pop()
            assert {key: snapshot.get(key) for key in snapshot.scan(b"", b"", len(view) + 1)} == view
            snapshot.close()
        elif random.random() < 0.1:
            seen.append((storage.snapshot(), dict(data)))
        steps = random.choice((1, 7, 100, 1000))
        gone = storage.expire(DUE_MS, steps)
        assert len(gone) <= steps
        for key in gone:
            due.remove(key)
            del data[key]
        for key in random.sample(sorted(data), min(3, len(data))):
            change = random.choice((None, b"changed", Record(b"new", 3 * DUE_MS)))
            due.discard(key)
            if change is None:
                assert storage.delete(key)
                del data[key]
            else:
                storage.put(key, change)
                data[key] = change
    assert not due
    assert {key: storage.get(key) for key in storage.scan(b"", b"", len(data) + 1)} == data
    assert storage.stats()["data_bytes"] == sum(entry_bytes(*item) for item in data.items())
    assert storage.stats()["deadlines"] == sum(isinstance(value, Record) for value in data.values())


@pytest.mark.parametrize("others", [0, MANY_DUE, 4 * MANY_DUE])
def test_of_many_neighbours_go_together(others: int) -> None:
    """And a call looks at no more keys than its steps are for."""
    storage, data = filled(Random(1), 2 * MANY_DUE, others)
    due = sorted(key for key, value in data.items() if isinstance(value, Record) and value.deadline_ms == DUE_MS)
    storage.expire(DUE_MS, 1)  # finds that they are due
    due = [key for key in due if storage.get(key) is not None]
    after = b""
    for _ in range(10):
        gone = storage.expire(DUE_MS, 100)
        assert gone == [key for key in due if after < key][: len(gone)]
        assert 100 // 3 <= len(gone) <= 100
        after = gone[-1]


def test_few_among_many_are_not_searched_for() -> None:
    """Then a walk would look at keys without end."""
    due = 2 * MANY_DUE
    storage, _ = filled(Random(1), due, 2 * due * LOOKED_AT_PER_STEP)
    steps = 0
    while storage.earliest_deadline_ms() <= DUE_MS:
        storage.expire(DUE_MS, 64)
        steps += 64
    assert steps <= due + 3 * 64

"""The engine with a journal behind it: what the journal is told makes up the data."""

from collections.abc import Mapping
from random import Random

import pytest

from kvs.adapters.storage.journaled import JournaledStorage, Row
from kvs.adapters.storage.memory.storage import MemoryStorage
from kvs.domain.commit import CommitRequest, Conflict, ReadSet
from kvs.domain.errors import UsageError
from kvs.domain.updates import Append, PutIfAbsent, Remove, Replace
from kvs.domain.values import TOMBSTONE, Key, Value
from tests.support.seeds import seeds
from tests.support.sessions import UNLIMITED


class Notes:
    """A journal that is a dict, and knows how often it was told something."""

    def __init__(self) -> None:
        self.data: dict[Key, Value] = {}
        self.rows = 0
        self.clears = 0
        self.horizon_ms = 0

    def append(self, batch: list[Row], *, clears: bool, horizon_ms: int) -> None:
        """See :class:`kvs.adapters.storage.journaled.Journal`."""
        self.horizon_ms = horizon_ms
        assert batch or clears
        if clears:
            self.clears += 1
            self.data.clear()
        self.rows += len(batch)
        for key, value in batch:
            if value is None:
                self.data.pop(key, None)
            else:
                self.data[key] = value

    def check(self) -> None:
        """See :class:`kvs.adapters.storage.journaled.Journal`."""

    def stats(self) -> Mapping[str, int]:
        """See :class:`kvs.adapters.storage.journaled.Journal`."""
        return {}


@pytest.mark.draws
@pytest.mark.parametrize("seed", seeds(3))
def test_the_journal_has_what_there_is_after_every_sync(seed: int) -> None:
    """Whatever way it was written."""
    random = Random(seed)
    notes = Notes()
    storage = JournaledStorage(MemoryStorage(0, UNLIMITED), notes)
    for step in range(2000):
        key, value = b"%d" % random.randrange(30), b"%d" % step
        chance = random.randrange(9)
        if chance == 0:
            storage.commit(CommitRequest((), {key: value, b"5": TOMBSTONE, b"6": value}))
        elif chance == 1:
            storage.delete(key)
        elif chance < 6:
            changes = (Replace(value), Append(value, 100_000), PutIfAbsent(b""), Remove())
            storage.update(key, changes[chance - 2])
        elif chance == 6 and random.random() < 0.1:
            storage.clear()
        else:
            storage.put(key, value)
        if random.random() < 0.3:
            storage.sync()
            assert notes.data == {key: storage.get(key) for key in storage.scan(b"", b"", 100)}
    assert notes.rows > 1000


def test_what_changes_nothing_is_not_told() -> None:
    """A sync then has nothing to wait for."""
    notes = Notes()
    storage = JournaledStorage(MemoryStorage(0, UNLIMITED), notes)
    storage.put(b"k", b"v")
    storage.sync()
    snapshot = storage.snapshot()
    storage.update(b"k", PutIfAbsent(b"w"))
    storage.update(b"n", Remove())
    storage.update(b"n", lambda _: TOMBSTONE)
    storage.delete(b"n")
    with pytest.raises(UsageError):
        storage.update(b"k", raises)
    storage.put(b"k", b"w")
    answer = storage.commit(CommitRequest((ReadSet(snapshot, [b"k"], []),), {b"n": b""}))
    assert isinstance(answer, Conflict)
    storage.sync()
    assert (notes.rows, notes.data) == (2, {b"k": b"w"})
    snapshot.close()
    for _ in range(2):
        storage.clear()
        storage.sync()
    assert (notes.rows, notes.clears, notes.data) == (2, 1, {})


def raises(_: Value | None) -> Value:
    """Refuse to change anything; a change."""
    raise UsageError("no")

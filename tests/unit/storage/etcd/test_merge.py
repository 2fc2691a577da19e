"""Merging the chunks of a checkpoint with what has changed since."""

from itertools import pairwise
from random import Random

import pytest

from kvs.adapters.storage.etcd.changes import Changes
from kvs.adapters.storage.etcd.chunks import Chunk
from kvs.adapters.storage.etcd.layout import Place
from kvs.adapters.storage.etcd.merge import LEAST_BYTES, ROW_COST_BYTES, TARGET_BYTES, in_order, merge
from kvs.adapters.storage.etcd.stored import StoredRow

LARGEST_VALUE_BYTES = 8000


def no_pause() -> None:
    """Make none."""


class Store:
    """Checkpoints in memory.

    Attributes:
        chunks: Those of the last one.
        read: Those whose rows were asked for.
        paces: How often the merger was ready for a pause.
    """

    def __init__(self, seed: int) -> None:
        self.chunks: list[Chunk] = []
        self.read: list[Chunk] = []
        self.paces = 0
        self._rows: dict[int, list[StoredRow]] = {}
        self._random = Random(seed)

    def checkpoint(self, changes: dict[bytes, bytes | None]) -> list[Chunk]:
        """Make the next one; return the chunks that were not kept."""
        changed = Changes()
        changed.update(changes.items())
        self.read.clear()
        former, chunks = self.chunks, []
        for part in merge(former, changed, self._read, self._pace, self._random):
            chunk = part
            if not isinstance(chunk, Chunk):
                at = len(self._rows)
                assert isinstance(part, list)
                self._rows[at] = part
                chunk = Chunk(Place(0, 0, at, 1, ""), part[0][0], len(part), size_of(part))
            chunks.append(chunk)
        self.chunks = chunks
        kept = {chunk.place.at for chunk in chunks}
        return [chunk for chunk in former if chunk.place.at not in kept]

    def rows(self) -> list[StoredRow]:
        """Return all rows."""
        return [row for chunk in self.chunks for row in self._rows[chunk.place.at]]

    def _read(self, chunk: Chunk) -> list[StoredRow]:
        self.read.append(chunk)
        return self._rows[chunk.place.at]

    def _pace(self) -> None:
        self.paces += 1


def size_of(rows: list[StoredRow]) -> int:
    """Return what rows count."""
    return sum(len(key) + len(value) + ROW_COST_BYTES for key, value in rows if isinstance(value, bytes))


@pytest.mark.parametrize("seed", range(8))
def test_many_checkpoints_have_what_a_dictionary_has(seed: int) -> None:
    """Puts and deletes anywhere, in one place, behind the end; many and few; and a data set that shrinks to nothing."""
    random = Random(seed)
    store = Store(seed)
    model: dict[bytes, bytes] = {}
    for step in range(40):
        changes: dict[bytes, bytes | None] = {}
        low = random.randrange(1000) if random.random() < 0.5 else 0
        high = random.randrange(low, low + 30) if low else 1000 + 20 * step
        deletes = random.choice((0.1, 0.5, 1.0))
        for _ in range(random.choice((0, 1, 30, 600))):
            value = None if random.random() < deletes else random.randbytes(random.randrange(LARGEST_VALUE_BYTES))
            changes[b"%d" % random.randint(low, high)] = value
        if step == 39:
            changes = dict.fromkeys(model)
        replaced = store.checkpoint(changes)
        for key, value in changes.items():
            if value is None:
                model.pop(key, None)
            else:
                model[key] = value
        assert store.rows() == sorted(model.items())
        assert store.read == replaced  # others are neither read nor written
        for chunk in store.chunks:
            assert chunk.size < 2 * TARGET_BYTES + LARGEST_VALUE_BYTES
        for chunk in store.chunks[:-1]:
            assert chunk.size >= LEAST_BYTES
    assert store.chunks == []


def test_one_change_rewrites_one_chunk() -> None:
    """Also one that splits it: the next ones stay as they are."""
    store = Store(1)
    store.checkpoint({b"%04d" % number: bytes(1000) for number in range(2000)})
    chunks = store.chunks
    assert len(chunks) > 10
    for number in range(200):
        replaced = store.checkpoint({b"0500/%03d" % number: bytes(1000)})
        assert len(replaced) == 1
    assert sum(chunk not in store.chunks for chunk in chunks) == 1


def test_a_row_that_is_larger_than_a_chunk_has_one_to_itself() -> None:
    """With those before it."""
    store = Store(2)
    store.checkpoint({b"a": b"1", b"b": bytes(3 * TARGET_BYTES), b"c": b"2"})
    assert [chunk.rows for chunk in store.chunks] == [2, 1]


def test_keys_are_sorted_in_small_steps() -> None:
    """Whatever their order, with a pause after some hundred."""
    for keys in (range(50_000), range(50_000, 0, -1)):
        changes = Changes()
        changes.update((b"%06d" % key, b"") for key in keys)
        assert len(changes) == 50_000
        paces: list[int] = []
        found: list[bytes] = []
        found.extend(in_order(changes, lambda: paces.append(len(found)), Random(3)))  # noqa: B023
        assert found == sorted(changes)
        longest = max(after - before for before, after in pairwise(paces))
        assert longest < 5000


def test_changes_are_freed_in_steps() -> None:
    """With a pause after each, and nothing is left."""
    changes = Changes()
    changes.update((b"%d" % number, b"") for number in range(10_000))
    left: list[int] = []
    changes.free(lambda: left.append(len(changes)))
    assert left == sorted(left, reverse=True)
    assert len(left) > 10
    assert len(changes) == 0

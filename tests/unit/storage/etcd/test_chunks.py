"""Reading the chunks of a checkpoint, which are in etcd as neighbouring keys."""

from typing import Any, cast

import pytest

from kvs.adapters.storage.etcd.chunks import PIECES_TOGETHER, names_of, read_places
from kvs.adapters.storage.etcd.client.answers import Header, KeyValue, RangeResult
from kvs.adapters.storage.etcd.entry import digest_of
from kvs.adapters.storage.etcd.layout import Keys, LayoutError, Place

pytestmark = pytest.mark.one_build

KEYS = Keys(b"kvs/")
PAGE = 3


class Stored:
    """An etcd that has chunks, and answers with few keys at a time; stands in for its client."""

    def __init__(self) -> None:
        self.places: list[Place] = []
        self.data: dict[bytes, bytes] = {}
        self.ranges: list[bytes] = []

    def add(self, number: int, at: int, pieces: int) -> bytes:
        """Add a chunk, and return what it has."""
        parts = [b"%d/%d/%d" % (number, at, piece) for piece in range(pieces)]
        place = Place(number, 7, at, pieces, digest_of(b"".join(parts)))
        self.data.update(zip(names_of(place, KEYS), parts, strict=True))
        self.places.append(place)
        return b"".join(parts)

    def range(self, first: bytes, end: bytes, *, limit: int, revision: int) -> RangeResult:
        """Return keys as etcd does."""
        assert limit >= PIECES_TOGETHER
        assert revision == 5
        self.ranges.append(first)
        found = sorted(key for key in self.data if first <= key < end)
        kvs = tuple(KeyValue(key, value=self.data[key]) for key in found[:PAGE])
        return RangeResult(Header(), kvs, len(found) > PAGE, len(found))

    def read(self) -> list[bytes]:
        """Read all chunks."""
        return list(read_places(cast("Any", self), KEYS, self.places, 5))


@pytest.fixture
def stored() -> Stored:
    """Return one that has nothing."""
    return Stored()


def test_neighbours_are_read_together_and_others_apart(stored: Stored) -> None:
    """Each gets its own pieces, in the order of the list."""
    expected = [stored.add(3, 0, 1), stored.add(3, 1, 2), stored.add(2, 3, 1), stored.add(3, 3, 1), stored.add(3, 5, 1)]
    assert stored.read() == expected
    assert stored.ranges == [KEYS.chunk(number, 7, at) for number, at in [(3, 0), (2, 3), (3, 3), (3, 5)]]


def test_not_too_much_is_read_together(stored: Stored) -> None:
    """But a chunk is, and in pages."""
    expected = [stored.add(1, at, 1) for at in range(PIECES_TOGETHER)]
    expected.append(stored.add(1, PIECES_TOGETHER, PIECES_TOGETHER + 1))
    assert stored.read() == expected
    pages = -(-PIECES_TOGETHER // PAGE)
    assert stored.ranges[pages] == KEYS.chunk(1, 7, PIECES_TOGETHER)
    assert len(stored.ranges) == pages + -(-(PIECES_TOGETHER + 1) // PAGE)


def test_what_is_missing_or_damaged_is_named(stored: Stored) -> None:
    """Not another one that was read with it."""
    for at in range(4):
        stored.add(1, at, 1)
    stored.data[KEYS.chunk(1, 7, 2)] = b"another"
    with pytest.raises(LayoutError, match=f"{KEYS.chunk(1, 7, 2).decode()}: is damaged"):
        stored.read()
    del stored.data[KEYS.chunk(1, 7, 1)]
    with pytest.raises(LayoutError, match=f"{KEYS.chunk(1, 7, 1).decode()}: has 1 pieces, and there are 0"):
        stored.read()

"""What one who follows knows of the journal behind the checkpoint: never less than there is, and not much more."""

from random import Random

import pytest

from kvs.adapters.storage.etcd.unwritten import GROUP_BYTES, Unwritten
from kvs.domain.values import Key, Value
from tests.support.seeds import seeds

pytestmark = pytest.mark.one_build

Rows = list[tuple[Key, Value | None]]


def merged(parts: list[dict[Key, Value | None]]) -> dict[Key, Value | None]:
    """Return what parts have together."""
    return {key: value for part in parts for key, value in part.items()}


@pytest.mark.parametrize("seed", seeds(20))
def test_whatever_entry_a_checkpoint_ends_with(seed: int) -> None:
    """All that is behind it is there, as it is by now; what it has may be there, too, but for an entry long before."""
    random = Random(seed)
    unwritten = Unwritten(0)
    entries: list[tuple[Rows, int, bool]] = []
    start = 0
    for _ in range(200):
        if random.random() < 0.05:
            start = random.randint(start, len(entries))
            unwritten.cut(start)
        rows: Rows = [(b"%d" % random.randrange(300), random.choice((None, b"%d" % len(entries)))) for _ in range(9)]
        size, clears = random.randrange(GROUP_BYTES // 4), random.random() < 0.02
        entries.append((rows, size, clears))
        if clears:
            unwritten.clear(len(entries))
        for at in range(0, len(rows), 4):
            unwritten.add(len(entries), rows[at : at + 4])
        unwritten.add(len(entries), (), size)

        behind = entries[start:]
        last_clear = max((at for at, entry in enumerate(behind) if entry[2]), default=0)
        wanted = merged([dict(entry[0]) for entry in behind[last_clear:]])
        found = merged(unwritten.changes)
        assert {key: found[key] for key in wanted} == wanted
        newest = merged([dict(entry[0]) for entry in entries])
        assert all(newest[key] == value for key, value in found.items())
        assert unwritten.start == start
        assert (unwritten.cleared > 0) == any(entry[2] for entry in behind)
        size = sum(entry[1] for entry in behind)
        assert size <= unwritten.size < size + 2 * GROUP_BYTES
    unwritten.cut(len(entries))
    assert (merged(unwritten.changes), unwritten.size) == ({}, 0)

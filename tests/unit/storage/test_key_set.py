"""A set of keys in parts."""

import sys

import pytest

from kvs.adapters.storage.key_set import MANY_KEYS, KeySet


@pytest.mark.parametrize("count", [1, 100, MANY_KEYS - 1, MANY_KEYS, MANY_KEYS + 1, 3 * MANY_KEYS])
def test_what_is_added_is_taken_out_once(count: int) -> None:
    """By its key or by any key, in one part or in many."""
    keys = [b"%d" % number for number in range(count)]
    key_set = KeySet()
    for key in keys:
        key_set.add(key)
    assert key_set.count == count
    assert not key_set.discard(b"another")
    discarded = set(keys[::3])
    assert all(key_set.discard(key) for key in discarded)
    assert not any(key_set.discard(key) for key in discarded)
    popped = [key_set.pop() for _ in range(key_set.count)]
    assert sorted(popped) == sorted(set(keys) - discarded)
    assert key_set.count == 0
    key_set.add(b"another")
    assert [key for part in key_set.parts() for key in part] == [b"another"]


@pytest.mark.parametrize("count", [10_000, 30_000, 60_000, 80_000, 100_000, 200_000])
def test_it_takes_little_memory(count: int) -> None:
    """However full its parts are: a plain set has up to 107 bytes for a key."""
    key_set = KeySet()
    for number in range(count):
        key_set.add(b"%d" % number)
    assert sum(map(sys.getsizeof, key_set.parts())) / count < 60

"""Persistent maps and sets of every size: they agree with a dict, and no version changes another."""

import random

import pytest

from kvs.domain.partitioned_map import PARTS, PartitionedMap
from kvs.domain.persistent import FEW_ENTRIES, MANY_ENTRIES, Entries, Keys, entry, parts_of, with_entry, with_key
from kvs.domain.values import Key

SIZES = [0, 1, FEW_ENTRIES - 1, FEW_ENTRIES, FEW_ENTRIES + 1, MANY_ENTRIES - 1, MANY_ENTRIES, MANY_ENTRIES + 500]


def filled(size: int) -> tuple[Entries[int], dict[Key, int]]:
    """Return a map, and the dict that it should be equal to."""
    entries: Entries[int] = {}
    expected: dict[Key, int] = {}
    for number in range(size):
        key = b"k%d" % number
        entries = with_entry(entries, key, number)
        expected[key] = number
    return entries, expected


@pytest.mark.parametrize("size", SIZES)
class TestMap:
    def test_map_agrees_with_a_dict(self, size: int) -> None:
        entries, expected = filled(size)
        assert len(entries) == size
        assert dict(entries.items()) == expected
        assert set(entries) == set(expected)
        for key in [*random.Random(size).sample(sorted(expected), min(size, 50)), b"absent"]:
            assert entry(entries, key) == expected.get(key)
            assert (key in entries) == (key in expected)

    def test_new_version_leaves_the_old_one_unchanged(self, size: int) -> None:
        entries, expected = filled(size)
        added, replaced = with_entry(entries, b"new", -1), with_entry(entries, b"k0", -2)
        assert dict(entries.items()) == expected
        assert dict(added.items()) == expected | {b"new": -1}
        assert dict(replaced.items()) == expected | {b"k0": -2}


@pytest.mark.parametrize("size", SIZES)
class TestSet:
    def test_set_has_each_key_added(self, size: int) -> None:
        keys: Keys = ()
        for number in range(size):
            keys = with_key(keys, b"k%d" % number)
        larger = with_key(keys, b"new")
        assert (len(keys), len(larger)) == (size, size + 1)
        assert set(keys) == {b"k%d" % number for number in range(size)}
        assert b"new" in larger
        assert b"new" not in keys


class TestPartitionedMap:
    def test_large_map_is_in_parts_of_about_the_same_size(self) -> None:
        size = 20 * MANY_ENTRIES
        entries, _ = filled(size)
        parts = parts_of(entries)
        assert isinstance(entries, PartitionedMap)
        assert len(parts) == PARTS
        assert sum(len(part) for part in parts) == size
        assert max(len(part) for part in parts) < 2 * size // PARTS

    def test_absent_key_of_a_large_map_is_a_key_error(self) -> None:
        entries, _ = filled(MANY_ENTRIES + 1)
        with pytest.raises(KeyError):
            entries[b"absent"]

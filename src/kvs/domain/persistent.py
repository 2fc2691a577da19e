"""Persistent maps and sets: immutable once they are part of a transaction; an update returns a new one.

Large ones share structure. Small ones, the usual case, are copied, which is cheaper. Very large ones are in parts.
"""

from typing import Any, Final, TypeAlias, TypeVar

from immutables import Map

from kvs.domain.partitioned_map import PartitionedMap, partitioned
from kvs.domain.values import Key

FEW_ENTRIES: Final = 8
"""Maximum size of a map or set that is copied to add an entry."""

MANY_ENTRIES: Final = 4096
"""Entries from which a map is in parts: to distribute so many takes 1 to 2 ms."""

V = TypeVar("V")

Entries: TypeAlias = dict[Key, V] | Map[Key, V] | PartitionedMap[V]
"""A persistent map."""


Keys: TypeAlias = tuple[Key, ...] | Map[Key, None] | PartitionedMap[None]
"""A persistent set: a tuple while it is small."""


def with_key(keys: Keys, key: Key) -> Keys:
    """Return the set with a key added that it does not contain. O(log n)."""
    if not isinstance(keys, tuple):
        return _set(keys, key, None)
    if len(keys) >= FEW_ENTRIES:
        return Map(dict.fromkeys(keys)).set(key, None)
    return keys + (key,)  # noqa: RUF005  # (*keys, key) goes by way of a list when compiled: 60 ns more


def entry(entries: Entries[V], key: Key) -> V | None:
    """Return the value of a key, or None."""
    if isinstance(entries, dict):  # for the compiler: it calls dict.get directly, and looks up other methods
        return entries.get(key)
    return entries.get(key)


def with_entry(entries: Entries[V], key: Key, value: V) -> Entries[V]:
    """Return the map with an entry added or replaced. O(log n).

    Copying a dict of up to eight entries takes 30 to 120 ns, where the persistent map allocates two objects and hashes
    the key anew, 170 to 250 ns; most transactions are that small.
    """
    if not entries:
        return {key: value}
    if not isinstance(entries, dict):
        return _set(entries, key, value)
    if len(entries) < FEW_ENTRIES:
        return {**entries, key: value}
    return Map(entries).set(key, value)


def parts_of(entries: Entries[V] | Keys) -> "tuple[Any, ...]":
    """Return the containers to drop one at a time so that freeing a large map or set takes no long pause."""
    return entries.parts if isinstance(entries, PartitionedMap) else (entries,)


def _set(entries: Map[Key, V] | PartitionedMap[V], key: Key, value: V) -> Map[Key, V] | PartitionedMap[V]:
    if isinstance(entries, PartitionedMap):
        return entries.set(key, value)
    if len(entries) < MANY_ENTRIES:
        return entries.set(key, value)
    return partitioned(entries).set(key, value)

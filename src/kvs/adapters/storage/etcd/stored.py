"""What rows are in etcd. Apart from the rest of the layout, as what is compiled imports it."""

from typing import TypeAlias

from kvs.domain.values import Key

StoredValue: TypeAlias = bytes | tuple[bytes, int, int] | None
"""A value as rows have it: None if the key is deleted, and one that is more than bytes with its kind and deadline."""

StoredRow: TypeAlias = tuple[Key, StoredValue]

"""What a client watches: a baseline for each key, which is the data as it was when the key was first named."""

from collections.abc import Collection
from typing import Final, final

from kvs.domain.transaction import Validation
from kvs.domain.values import ENTRY_OVERHEAD_BYTES, Key
from kvs.ports.storage import Snapshot

BASELINE_BYTES: Final = 512
"""Charged for a snapshot that is held, whatever is named with it: its own objects, and the lists it is in."""


@final
class Watches:
    """Baselines of one session.

    Attributes:
        keys: Every key watched.
        snapshots: One for each time that keys were added, to be closed by the owner.
        held_bytes: What all of this is reckoned to hold.
    """

    __slots__ = ("_groups", "held_bytes", "keys", "snapshots")

    def __init__(self) -> None:
        self.keys: set[Key] = set()
        self.snapshots: list[Snapshot] = []
        self.held_bytes = 0
        self._groups: list[tuple[Key, ...]] = []

    def bytes_of(self, keys: Collection[Key]) -> int:
        """Return what it takes to add keys; 0 if there is nothing new."""
        new = self._new(keys)
        return BASELINE_BYTES + sum(len(key) + ENTRY_OVERHEAD_BYTES for key in new) if new else 0

    def add(self, keys: Collection[Key], snapshot: Snapshot) -> None:
        """Watch those keys that are new, from a snapshot on. A key that is watched keeps the baseline it has."""
        self.held_bytes += self.bytes_of(keys)
        group = self._new(keys)
        self._groups.append(group)
        self.snapshots.append(snapshot)
        self.keys.update(group)

    def validations(self) -> tuple[Validation, ...]:
        """Return what must hold for a commit that depends on all of them."""
        return tuple(
            [Validation(snapshot, group, ()) for snapshot, group in zip(self.snapshots, self._groups, strict=True)]
        )

    def _new(self, keys: Collection[Key]) -> tuple[Key, ...]:
        return tuple([key for key in dict.fromkeys(keys) if key not in self.keys])

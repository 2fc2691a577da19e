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

    __slots__ = ("_validations", "held_bytes", "keys", "snapshots")

    def __init__(self) -> None:
        self.keys: set[Key] = set()
        self.snapshots: list[Snapshot] = []
        self.held_bytes = 0
        self._validations: list[Validation] = []

    def new(self, keys: Collection[Key]) -> list[Key]:
        """Return those keys that are not watched yet, each once."""
        watched = self.keys
        new = [key for key in keys if key not in watched]
        return new if len(new) < 2 else list(dict.fromkeys(new))

    def bytes_of(self, new: list[Key]) -> int:
        """Return what it takes to add keys that are new."""
        size = BASELINE_BYTES
        for key in new:
            size += len(key) + ENTRY_OVERHEAD_BYTES
        return size

    def add(self, new: list[Key], snapshot: Snapshot) -> None:
        """Watch keys that are new, from a snapshot on."""
        self.held_bytes += self.bytes_of(new)
        self.snapshots.append(snapshot)
        self._validations.append(Validation(snapshot, new, ()))
        self.keys.update(new)

    def validations(self) -> tuple[Validation, ...]:
        """Return what must hold for a commit that depends on all of them."""
        return tuple(self._validations)

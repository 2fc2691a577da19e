"""What a client watches: a baseline for each key, which is the data as it was when the key was first named."""

from collections.abc import Collection
from typing import Final, final

from kvs.domain.commit import ReadSet
from kvs.domain.values import ENTRY_OVERHEAD_BYTES, Key
from kvs.ports.storage import Snapshot

BASELINE_BYTES: Final = 512
"""Charged for a snapshot that is held, whatever is named with it: its own objects, and the lists it is in."""


@final
class Watches:
    """Baselines of one session.

    Attributes:
        snapshots: One for each time that keys were added, to be closed by the owner.
        held_bytes: What all of this is reckoned to hold.
    """

    __slots__ = ("_keys", "_validations", "held_bytes", "snapshots")

    def __init__(self) -> None:
        self.snapshots: list[Snapshot] = []
        self.held_bytes = 0
        self._validations: list[ReadSet] = []
        self._keys: set[Key] | None = None

    @property
    def keys(self) -> set[Key]:
        """Every key watched. Made when it is asked for: most clients name all of them in one WATCH."""
        if self._keys is None:
            self._keys = {key for validation in self._validations for key in validation.keys}
        return self._keys

    def new(self, keys: Collection[Key]) -> list[Key]:
        """Return those keys that are not watched yet, each once."""
        new = list(keys) if not self._validations else [key for key in keys if key not in self.keys]
        return new if len(new) < 2 else list(dict.fromkeys(new))

    def add(self, new: list[Key], snapshot: Snapshot, added_bytes: int) -> None:
        """Watch keys that are new, from a snapshot on; they hold what :func:`baseline_bytes` returns."""
        self.held_bytes += added_bytes
        self.snapshots.append(snapshot)
        self._validations.append(ReadSet(snapshot, new, ()))
        if self._keys is not None:
            self._keys.update(new)

    def validations(self) -> tuple[ReadSet, ...]:
        """Return what must hold for a commit that depends on all of them."""
        return tuple(self._validations)


def baseline_bytes(keys: list[Key]) -> int:
    """Return what it takes to watch keys that are named together."""
    size = BASELINE_BYTES
    for key in keys:
        size += len(key) + ENTRY_OVERHEAD_BYTES
    return size

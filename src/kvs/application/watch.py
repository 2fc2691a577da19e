"""The keys that a client watches, each with the snapshot taken when it was first watched."""

from typing import TYPE_CHECKING, Final, cast, final

from mypy_extensions import mypyc_attr

from kvs.domain.commit import ReadSet
from kvs.domain.values import ENTRY_OVERHEAD_BYTES, Key
from kvs.ports.storage import Snapshot

if TYPE_CHECKING:
    from collections.abc import Collection

WATCH_OVERHEAD_BYTES: Final = 512
"""Charged for each snapshot of watched keys: its objects, and the lists that hold it."""


@final
@mypyc_attr(acyclic=True, free_list_len=1)  # the cyclic collector need not track it: what is in it knows nothing of it
class WatchSet:
    """Watched keys of one session.

    Attributes:
        read_sets: One for each WATCH that added keys; the owner closes their snapshots.
        held_bytes: Memory charged.
    """

    __slots__ = ("_keys", "held_bytes", "read_sets")

    def __init__(self) -> None:
        self.read_sets: list[ReadSet] = []
        self.held_bytes = 0
        self._keys: set[Key] | None = None

    @property
    def keys(self) -> set[Key]:
        """Every watched key. Built on first use: most clients name all keys in one WATCH."""
        if self._keys is None:
            self._keys = {key for reads in self.read_sets for key in reads.keys}
        return self._keys

    @property
    def snapshots(self) -> list[Snapshot]:
        """Those of all read sets."""
        return [cast("Snapshot", reads.snapshot) for reads in self.read_sets]

    def new(self, keys: list[Key]) -> list[Key]:
        """Return the keys that are not watched yet, each once; perhaps the list itself."""
        new = [key for key in keys if key not in self.keys] if self.read_sets else keys
        return new if len(new) < 2 else list(dict.fromkeys(new))

    def add(self, new: list[Key], snapshot: Snapshot, added_bytes: int) -> None:
        """Watch new keys from a snapshot on; ``added_bytes`` is their :func:`watch_bytes`."""
        self.held_bytes += added_bytes
        self.read_sets.append(ReadSet(snapshot, new, ()))
        if self._keys is not None:
            self._keys.update(new)

    def parts(self) -> "list[Collection[Key]]":
        """Return the containers of the keys, to drop one at a time."""
        return [reads.keys for reads in self.read_sets]


def watch_bytes(keys: list[Key]) -> int:
    """Return the memory charged for keys that are watched together."""
    size = WATCH_OVERHEAD_BYTES
    for key in keys:
        size += len(key) + ENTRY_OVERHEAD_BYTES
    return size

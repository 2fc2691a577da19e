"""Whether deletions of what is due may add to the history that open snapshots need.

A write of a client that history has no room for ends the oldest snapshot. A deletion by the server can wait instead:
nobody is answered with what is due. So it waits for the oldest snapshot to be closed as long as that is *young*, which
no transaction is for longer than its timeout. It does not wait if that cannot help: if the record is larger than all
of history, or clients' writes end snapshots meanwhile, so that there is never room.
"""

from time import monotonic
from typing import Final, final

from kvs.adapters.storage.memory.key_index import BRANCH_CHILDREN, NODE_OVERHEAD_BYTES, KeyIndex
from kvs.adapters.storage.memory.versions import VersionStore
from kvs.domain.errors import LimitError
from kvs.domain.values import Key

YOUNG_S: Final = 3600.0
"""Age up to which a snapshot is spared where transactions have no timeout."""

COPIED_NODE_BYTES: Final = NODE_OVERHEAD_BYTES + 16 * (BRANCH_CHILDREN + 1)
"""The most that the copy of a node of the index takes."""


@final
class Headroom:
    """Looks at the history of one engine.

    Args:
        young_s: Age up to which a snapshot is young, counted from the first commit after it.
    """

    def __init__(self, young_s: float) -> None:
        self._young_s = young_s
        self._short_bytes = 0  # what the deletion needs that waits
        self._evictions = 0  # when it began to wait
        self._spares = True  # whether snapshots are spared by this call

    def check(self, versions: VersionStore) -> None:
        """Check that the deletion that waits, if there is one, need not wait any more.

        Raises:
            LimitError: It has to.
        """
        self._spares = True
        if self._short_bytes:
            self._spares = versions.evictions == self._evictions
            if self._spares and not self._allows(versions, self._short_bytes):
                raise LimitError("The history that open snapshots need is full, so what is due stays for the moment.")
            self._short_bytes = 0

    def has_room(self, versions: VersionStore, index: KeyIndex, key: Key) -> bool:
        """Return whether a key that there is may be deleted; if not, its deletion waits from now on."""
        if not self._spares:
            return True
        needed_bytes = versions.held_by_deletion(key) + (index.root.height + 1) * COPIED_NODE_BYTES
        if self._allows(versions, needed_bytes):
            return True
        self._short_bytes = needed_bytes
        self._evictions = versions.evictions
        return False

    def _allows(self, versions: VersionStore, more_bytes: int) -> bool:
        """Return whether history may grow by so much."""
        if versions.newest_pinned < 0 or versions.total_bytes + more_bytes <= versions.max_bytes:
            return True
        return more_bytes > versions.max_bytes or monotonic() - versions.oldest_sealed_s() >= self._young_s

"""Gives back the memory of a data set that has become mostly empty.

A dict keeps its size when keys are deleted: 33 bytes for each of the most keys that there have been. To make a small
one in its place takes a look at each slot, a tenth of what it took to grow; and it is done only when few keys have been
left for a while, so that a data set that is filled again and again stays as it is.
"""

import sys
from time import monotonic
from typing import Final, final

from kvs.adapters.storage.memory.version_chain import VersionChain
from kvs.domain.values import Key, Value

LARGE_BYTES: Final = 1 << 20
"""Size from which it is worth it."""

SPARSE_BYTES: Final = 400
"""Bytes for each key from which a data set is mostly empty: one that is in use has 33 to 160."""

SPARSE_S: Final = 3.0
"""How long it has to be."""


def new_data() -> dict[Key, Value | VersionChain]:
    """Return an empty data set.

    The cyclic collector tracks a dict from the first container in it. That happens here, while it is empty: when it is
    large, the first snapshot would pause the server for a traversal, 10 ms at a million keys. (Compiled versions are
    acyclic, so there it never does.)
    """
    data: dict[Key, Value | VersionChain] = {}
    data[b""] = VersionChain(b"", None)
    del data[b""]
    return data


@final
class SparseWatch:
    """Looks from time to time whether a data set has been mostly empty for a while."""

    def __init__(self) -> None:
        self._since_s = 0.0  # 0: it is not

    def look(self, data: dict[Key, Value | VersionChain]) -> bool:
        """Return whether it should be replaced. O(1)."""
        size_bytes = sys.getsizeof(data)
        if size_bytes < LARGE_BYTES or size_bytes < len(data) * SPARSE_BYTES:
            self._since_s = 0.0
            return False
        now_s = monotonic()
        if not self._since_s:
            self._since_s = now_s
        if now_s - self._since_s < SPARSE_S:
            return False
        self._since_s = 0.0
        return True

"""Frees large structures in parts, so that freeing a million objects does not block the server.

Dropping the last reference to a dict or a tree frees its whole content at once, which takes some 100 ms for a million
entries. Such structures are added here instead, and each step frees a part.
"""

from collections import deque
from typing import Final, final

from kvs.adapters.storage.memory.key_index import Branch, Node, Root
from kvs.adapters.storage.memory.version_chain import VersionChain
from kvs.domain.values import Key, Record, Value

BYTES_PER_ENTRY: Final = 1 << 14
"""Bytes of a large value that take as long to free as an entry."""


@final
class Teardown:
    """Structures to be freed: first the data sets, then the indexes of their keys."""

    def __init__(self) -> None:
        self._data: deque[dict[Key, Value | VersionChain]] = deque()
        self._keys: list[dict[Key, None]] = []
        self._nodes: list[Node] = []

    @property
    def has_work(self) -> bool:
        """Whether anything is left to free."""
        return len(self._data) > 0 or len(self._keys) > 0 or len(self._nodes) > 0

    def add_data(self, data: dict[Key, Value | VersionChain]) -> None:
        """Add a data set without other references."""
        self._data.append(data)

    def add_keys(self, parts: list[dict[Key, None]]) -> None:
        """Add parts of sets of keys, without other references."""
        self._keys += parts

    def add_index(self, root: Root) -> None:
        """Add a version of a key index; nodes that others share are kept."""
        self._nodes.append(root)

    def step(self, entries: int) -> None:
        """Free about so many entries."""
        while self._data and entries > 0:
            data = self._data[0]
            while data and entries > 0:
                value = data.popitem()[1]
                if isinstance(value, Record):
                    value = value.payload
                entries -= 1 + (len(value) // BYTES_PER_ENTRY if isinstance(value, bytes) else 0)
            if not data:
                self._data.popleft()
        while self._keys and entries > 0:
            keys = self._keys[-1]
            while keys and entries > 0:
                keys.popitem()
                entries -= 1
            if not keys:
                self._keys.pop()
        while self._nodes and entries > 0:
            node = self._nodes.pop()
            if isinstance(node, Branch):
                self._nodes.extend(node.children)
            entries -= len(node.keys)

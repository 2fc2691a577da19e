"""Frees large structures a part at a time, so that nobody waits while a million objects are given back.

To drop the last reference to a dict or a tree frees all that it holds in one go, which takes some 100 ms for a million
entries. What is to go is added here instead, and each step takes some of it apart.
"""

from collections import deque
from typing import final

from kvs.adapters.storage.memory.key_index import Branch, Node, Root
from kvs.adapters.storage.memory.version_chain import VersionChain
from kvs.domain.values import Key, Value


@final
class Teardown:
    """What is to be freed: first the data sets, then the indexes of their keys."""

    __slots__ = ("_data", "_nodes")

    def __init__(self) -> None:
        self._data: deque[dict[Key, Value | VersionChain]] = deque()
        self._nodes: list[Node] = []

    @property
    def has_work(self) -> bool:
        """Whether something is left to free."""
        return len(self._data) > 0 or len(self._nodes) > 0

    def add_data(self, data: dict[Key, Value | VersionChain]) -> None:
        """Take over a data set that nobody else refers to any more."""
        self._data.append(data)

    def add_index(self, root: Root) -> None:
        """Take over a version of an index of keys; what it shares with others stays."""
        self._nodes.append(root)

    def step(self, entries: int) -> None:
        """Free about so many entries."""
        while self._data and entries > 0:
            data = self._data[0]
            taken = min(entries, len(data))
            for _ in range(taken):
                data.popitem()
            entries -= taken
            if not data:
                self._data.popleft()
        while self._nodes and entries > 0:
            node = self._nodes.pop()
            if isinstance(node, Branch):
                self._nodes.extend(node.children)
            entries -= len(node.keys)

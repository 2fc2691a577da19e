"""Which transaction comes before which, and cycles of that: with one, no order of them explains what was seen.

Transactions are numbered. Behind their numbers come those of instants at which one was acknowledged, in a chain: a
transaction leads to the instant of its end, and the last instant before its beginning leads to it. So the order of the
clock takes three edges for a transaction, and not one for every other.
"""

from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from tests.support.consistency.history import NEVER_NS, Window

WW: Final = 0
"""One overwrites what the other has written."""

WR: Final = 1
"""One reads what the other has written."""

RW: Final = 2
"""One overwrites what the other has read."""

RANGE_RW: Final = 3
"""One writes or deletes a key of which the other has only seen that it was not there, or was, as in a range."""

CLOCK: Final = 4
"""One was acknowledged before the other began."""

BY_CLOCK: Final = 8
"""Added to the first four: that it is so and not the other way round is known from the clock."""

NOWHERE: Final = -1

MOST_STARTS: Final = 200


class Edge(NamedTuple):
    """That one transaction comes before another, and why.

    Attributes:
        before: The one.
        after: The other.
        kind: In what way.
        version: The number of the version that was written or read.
    """

    before: int
    after: int
    kind: int
    version: int


class Graph:
    """The order of transactions."""

    def __init__(self) -> None:
        self._out: list[list[int]] = []
        self._target = array("i")
        self._kind = bytearray()
        self._version = array("i")
        self._transactions = 0

    def add(self, before: int, after: int, kind: int, version: int = NOWHERE) -> None:
        """Add that a transaction comes before another, or nothing if one of them is nowhere."""
        if before == after or before < 0 or after < 0:
            return
        while len(self._out) <= max(before, after):
            self._out.append([])
        self._out[before].append(len(self._target))
        self._target.append(after)
        self._kind.append(kind)
        self._version.append(version)

    def add_clock(self, windows: Sequence[Window]) -> None:
        """Add the order of the clock between all transactions. To be called once, and last."""
        self._transactions = base = len(windows)
        ends = sorted({end for _, end in windows if end < NEVER_NS})
        self._out += [[] for _ in range(base + len(ends) - len(self._out))]
        for at in range(1, len(ends)):
            self.add(base + at - 1, base + at, CLOCK)
        for number, (begin, end) in enumerate(windows):
            if end < NEVER_NS:
                self.add(number, base + bisect_left(ends, end), CLOCK)
            at = bisect_left(ends, begin) - 1
            if at >= 0:
                self.add(base + at, number, CLOCK)

    def components(self) -> list[list[int]]:
        """Return all sets of nodes that lead to each other, but those of one.

        Complexity: Linear.
        Source: R. Tarjan, Depth-First Search and Linear Graph Algorithms, 1972.
        """
        out, target = self._out, self._target
        order = [0] * len(out)  # from 1, in which nodes were found
        low = [0] * len(out)
        open_nodes: list[int] = []
        is_open = bytearray(len(out))
        found: list[list[int]] = []
        count = 0
        for root in range(len(out)):
            if order[root]:
                continue
            path = [(root, iter(out[root]))]
            count += 1
            order[root] = low[root] = count
            open_nodes.append(root)
            is_open[root] = 1
            while path:
                node, edges = path[-1]
                for edge in edges:
                    after = target[edge]
                    if not order[after]:
                        count += 1
                        order[after] = low[after] = count
                        open_nodes.append(after)
                        is_open[after] = 1
                        path.append((after, iter(out[after])))
                        break
                    if is_open[after] and order[after] < low[node]:
                        low[node] = order[after]
                else:
                    path.pop()
                    if path and low[node] < low[path[-1][0]]:
                        low[path[-1][0]] = low[node]
                    if low[node] == order[node]:
                        at = len(open_nodes) - 1
                        while open_nodes[at] != node:
                            at -= 1
                        for each in open_nodes[at:]:
                            is_open[each] = 0
                        if len(open_nodes) - at > 1:
                            found.append(open_nodes[at:])
                        del open_nodes[at:]
        return found

    def shortest_cycle(self, component: Collection[int], kinds: Collection[int]) -> list[Edge] | None:
        """Return a cycle of edges of some kinds with as few transactions as there can be.

        In a large component only some transactions are tried as its first.
        """
        inside = set(component)
        best: list[Edge] | None = None
        starts = sorted(node for node in inside if node < self._transactions)
        for start in starts[:: len(starts) // MOST_STARTS + 1]:
            cycle = self._cycle_from(start, inside, kinds)
            if cycle is not None and (best is None or len(cycle) < len(best)):
                best = cycle
                if len(best) == 2:
                    break
        return best

    def _cycle_from(self, start: int, inside: Collection[int], kinds: Collection[int]) -> list[Edge] | None:
        """Search in breadth; a way along the chain of instants is as long as one edge."""
        came_by: dict[int, tuple[int, int]] = {}
        queue = deque([(start, NOWHERE, NOWHERE)])
        while queue:
            node, before, by = queue.popleft()
            if node in came_by:
                continue
            came_by[node] = before, by
            for edge in self._out[node]:
                after = self._target[edge]
                if after not in inside or self._kind[edge] not in kinds:
                    continue
                if after == start:
                    return self._way(start, node, edge, came_by)
                if node >= self._transactions:
                    queue.appendleft((after, node, edge))
                else:
                    queue.append((after, node, edge))
        return None

    def _way(self, start: int, last: int, edge: int, came_by: dict[int, tuple[int, int]]) -> list[Edge]:
        way: list[Edge] = []
        node, after = last, start
        while True:
            if node < self._transactions:
                way.append(Edge(node, after, self._kind[edge], self._version[edge]))
                after = node
            if node == start:
                return way[::-1]
            node, edge = came_by[node]

    def count(self) -> int:
        """Return how many edges there are."""
        return len(self._target)

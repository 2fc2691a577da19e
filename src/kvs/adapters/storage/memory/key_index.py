"""An ordered set of keys with snapshots: a B+ tree whose versions share unchanged nodes.

A view of the tree is its root at that moment. A node that a view may still see is copied before it is changed (path
copying); one that is younger than the newest view is changed in place, so without open views nothing is copied. Old
nodes are freed by reference counting, with the last view that reaches them.

Every node stores the number of keys beneath it, so counting a range costs O(log n), as does finding its start.
A leaf that becomes empty is removed; sparse ones are not merged, which bounds the waste at one node per key.

Source: D. Comer, "The Ubiquitous B-Tree", 1979; O. Rodeh, "B-trees, Shadowing, and Clones", 2008, for the copying.
"""

from bisect import bisect_left, bisect_right
from typing import Final, TypeAlias, final

from kvs.domain.commit import prefix_end, prefix_range

LEAF_KEYS: Final = 64
"""Maximum keys in a leaf. With half, the tree is 20 % larger; with twice, copying a leaf takes twice as long."""

BRANCH_CHILDREN: Final = 64

BULK_FILL: Final = 48
"""Keys of a leaf when many keys come at once: three quarters, so that the next one does not split it."""

NODE_OVERHEAD_BYTES: Final = 160


class Node:
    """A leaf, or the base of a branch: ``count`` keys, last copied or made at commit number ``created_at``."""

    __slots__ = ("count", "created_at", "height", "keys")

    def __init__(self, keys: list[bytes], count: int, height: int, created_at: int) -> None:
        self.keys = keys
        self.count = count
        self.height = height
        self.created_at = created_at


@final
class Branch(Node):
    """An inner node: ``keys[i]`` is at most the lowest key of ``children[i + 1]`` and above all of ``children[i]``."""

    __slots__ = ("children",)

    def __init__(self, keys: list[bytes], children: list[Node], count: int, height: int, created_at: int) -> None:
        super().__init__(keys, count, height, created_at)
        self.children = children


Root: TypeAlias = Node

NO_KEYS: Final[Root] = Node([], 0, 0, 0)


def tree_bytes(root: Root) -> int:
    """Return an estimate of the memory of all nodes: 8 B a key, and the nodes themselves at two thirds full."""
    return root.count * (8 + NODE_OVERHEAD_BYTES * 3 // (2 * LEAF_KEYS)) + NODE_OVERHEAD_BYTES


def count_prefix(root: Root, prefix: bytes) -> int:
    """Return the number of keys under the prefix. O(log n)."""
    low, high = prefix_range(prefix)
    return count_range(root, low, high)


def count_range(root: Root, low: bytes, high: bytes | None) -> int:
    """Return the number of keys in [low, high). O(log n)."""
    return (root.count if high is None else _rank(root, high)) - _rank(root, low)


def scan_prefix(root: Root, prefix: bytes, after: bytes, limit: int) -> list[bytes]:
    """Return up to ``limit`` keys under the prefix and above ``after``, in order. O(limit + log n)."""
    found: list[bytes] = []
    if limit > 0:
        # The lowest key above `after` is `after` with a zero byte appended.
        low = prefix if after < prefix else after + b"\0"
        _collect(root, low, prefix_end(prefix), limit, found)
    return found


def same_keyset(one: Root, other: Root, low: bytes, high: bytes | None) -> bool:
    """Return whether two versions of a tree hold the same keys in [low, high).

    Subtrees that both share hold the same keys, so they are skipped on both sides, level by level; the rest of the one
    must equal the rest of the other.

    Complexity: O(leaves of the range that were changed between the two).
    """
    if one is other:
        return True
    if count_range(one, low, high) != count_range(other, low, high):
        return False
    left: list[Node] = [one]
    right: list[Node] = [other]
    for height in range(max(one.height, other.height), 0, -1):
        left = _expand(left, height, low, high)
        right = _expand(right, height, low, high)
        shared = {id(node) for node in left} & {id(node) for node in right}
        left = [node for node in left if id(node) not in shared]
        right = [node for node in right if id(node) not in shared]
    return _within(left, low, high) == _within(right, low, high)


@final
class KeyIndex:
    """The current, mutable version of the set.

    Attributes:
        root: A view of the current set.
        copied_bytes: Total size so far of the nodes that were copied because a view could see them.
    """

    def __init__(self) -> None:
        self.root: Root = Node([], 0, 0, 0)
        self.copied_bytes = 0

    def extend(self, keys: list[bytes]) -> None:
        """Add sorted, unique keys, all above those in the set, which no view sees.

        O(n), and ten times faster than adding them one by one.
        """
        at = 0
        while at < len(keys):
            path: list[Branch] = []
            node = self.root
            while isinstance(node, Branch):
                path.append(node)
                node = node.children[-1]
            room = BULK_FILL - node.count
            part = keys[at : at + (room if room > 0 else BULK_FILL)]
            at += len(part)
            for branch in path:
                branch.count += len(part)
            if room > 0:
                node.keys += part
                node.count += len(part)
            else:
                self._insert(part[0], Node(part, len(part), 0, 0), path, 0)

    def add(self, key: bytes, now: int, pinned_at: int) -> None:
        """Add a key that is not in the set. O(log n).

        Args:
            key: The key.
            now: Number of the commit this belongs to, above that of every view.
            pinned_at: Number of the newest view, which sees every node created no later; -1 if there is none.
        """
        path, leaf = self._own_path(key, now, pinned_at, 1)
        at = bisect_left(leaf.keys, key)
        leaf.keys.insert(at, key)
        if leaf.count > LEAF_KEYS:
            # Keys added in order leave full leaves.
            self._split(leaf, path, leaf.count - 1 if at == leaf.count - 1 else leaf.count // 2, now)

    def discard(self, key: bytes, now: int, pinned_at: int) -> None:
        """Remove a key that is in the set. O(log n). Arguments as for :meth:`add`."""
        path, leaf = self._own_path(key, now, pinned_at, -1)
        del leaf.keys[bisect_left(leaf.keys, key)]
        if not leaf.count:
            self._prune(path, key, now)

    def discard_all(self, keys: list[bytes], now: int, pinned_at: int) -> None:
        """Remove keys that are in the set. O(n log n), or nearly O(n) if they are in order and most of their leaves."""
        at, end = 0, len(keys)
        while at < end:
            first = keys[at]
            path, leaf = self._own_path(first, now, pinned_at, 0)
            last = leaf.keys[-1]
            left = leaf.count
            while at < end and first <= keys[at] <= last:
                del leaf.keys[bisect_left(leaf.keys, keys[at])]
                at += 1
            gone = left - len(leaf.keys)
            leaf.count -= gone
            for branch in path:
                branch.count -= gone
            if not leaf.count:
                self._prune(path, first, now)

    def _prune(self, path: list[Branch], key: bytes, now: int) -> None:
        """Remove an empty leaf, in which a key was, and the branches above it that have no other."""
        empty = True
        while path and empty:
            node = path.pop()
            at = bisect_right(node.keys, key)
            del node.children[at]
            if node.keys:
                del node.keys[max(at - 1, 0)]
            empty = not node.count
        root = self.root
        while isinstance(root, Branch) and len(root.children) <= 1:
            root = root.children[0] if root.children else Node([], 0, 0, now)
        self.root = root

    def _own_path(self, key: bytes, now: int, pinned_at: int, change: int) -> tuple[list[Branch], Node]:
        """Return the branches above a key and its leaf, ready to be changed, with ``change`` keys more in each."""
        node = self.root = self._own(self.root, now, pinned_at)
        path: list[Branch] = []
        while isinstance(node, Branch):
            path.append(node)
            node.count += change
            at = bisect_right(node.keys, key)
            child = self._own(node.children[at], now, pinned_at)
            node.children[at] = child
            node = child
        node.count += change
        return path, node

    def _own(self, node: Node, now: int, pinned_at: int) -> Node:
        """Return the node, or a copy of it if a view can see it."""
        if node.created_at > pinned_at:
            return node
        if isinstance(node, Branch):
            self.copied_bytes += NODE_OVERHEAD_BYTES + 16 * len(node.children)
            return Branch(node.keys.copy(), node.children.copy(), node.count, node.height, now)
        self.copied_bytes += NODE_OVERHEAD_BYTES + 8 * len(node.keys)
        return Node(node.keys.copy(), node.count, 0, now)

    def _split(self, node: Node, path: list[Branch], half: int, now: int) -> None:
        """Split a full leaf, and whatever becomes too full above it."""
        right = Node(node.keys[half:], node.count - half, 0, now)
        del node.keys[half:]
        node.count = half
        self._insert(right.keys[0], right, path, now)

    def _insert(self, separator: bytes, right: Node, path: list[Branch], now: int) -> None:
        """Insert a node to the right of the one that a path leads to, and split what becomes too full above it."""
        while path:
            parent = path.pop()
            at = bisect_right(parent.keys, separator)
            parent.keys.insert(at, separator)
            parent.children.insert(at + 1, right)
            children = len(parent.children)
            if children <= BRANCH_CHILDREN:
                return
            half = children - 2 if at == children - 2 else children // 2
            moved = parent.children[half:]
            moved_count = 0
            for child in moved:
                moved_count += child.count
            separator = parent.keys[half - 1]
            right = Branch(parent.keys[half:], moved, moved_count, parent.height, now)
            parent.count -= moved_count
            del parent.keys[half - 1 :]
            del parent.children[half:]
        left = self.root
        self.root = Branch([separator], [left, right], left.count + right.count, left.height + 1, now)


def _rank(root: Root, key: bytes) -> int:
    """Return the number of keys below a key."""
    rank = 0
    node = root
    while isinstance(node, Branch):
        at = bisect_right(node.keys, key)
        for child in node.children[:at]:
            rank += child.count
        node = node.children[at]
    return rank + bisect_left(node.keys, key)


def _collect(node: Node, low: bytes, high: bytes | None, limit: int, found: list[bytes]) -> bool:
    """Append keys in [low, high) until there are ``limit``; return whether to go on to the next node."""
    if isinstance(node, Branch):
        for child in node.children[bisect_right(node.keys, low) :]:
            if not _collect(child, low, high, limit, found):
                return False
        return True
    at = bisect_left(node.keys, low)
    stop = len(node.keys) if high is None else bisect_left(node.keys, high)
    found.extend(node.keys[at : min(stop, at + limit - len(found))])
    return stop == len(node.keys) and len(found) < limit


def _expand(nodes: list[Node], height: int, low: bytes, high: bytes | None) -> list[Node]:
    """Replace the branches of a height by those of their children that may hold keys in [low, high)."""
    expanded: list[Node] = []
    for node in nodes:
        if isinstance(node, Branch) and node.height == height:
            first = bisect_right(node.keys, low)
            last = len(node.keys) if high is None else bisect_left(node.keys, high)
            expanded.extend(node.children[first : last + 1])
        else:
            expanded.append(node)
    return expanded


def _within(leaves: list[Node], low: bytes, high: bytes | None) -> list[bytes]:
    return [key for leaf in leaves for key in leaf.keys if key >= low and (high is None or key < high)]

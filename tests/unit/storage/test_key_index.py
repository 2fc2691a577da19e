"""The ordered index: against a sorted list, with several views kept while it changes."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvs.adapters.storage.memory.key_index import (
    BRANCH_CHILDREN,
    LEAF_KEYS,
    Branch,
    KeyIndex,
    Root,
    count_prefix,
    same_keyset,
    scan_prefix,
)
from kvs.domain.commit import prefix_range
from tests.support.seeds import seeds

SPACE = 1 << 16
PREFIXES = (b"", b"\0", b"\x01", b"\x7f", b"\xfe", b"\xff", b"\xff\xff", b"\x01\x02", b"\xff\0", b"\x01\x02\x03")


def key_of(number: int) -> bytes:
    """Return a key of two bytes, in the order of the numbers; the highest is ``ff ff``."""
    return number.to_bytes(2, "big")


class Versions:
    """A tree, the set it should be, and the views kept of both."""

    def __init__(self) -> None:
        self.tree = KeyIndex()
        self.keys: set[bytes] = set()
        self.views: list[tuple[int, Root, frozenset[bytes]]] = []
        self.now = 0

    def view(self) -> None:
        """Keep the tree as it is."""
        self.views.append((self.now, self.tree.root, frozenset(self.keys)))

    def toggle(self, key: bytes) -> None:
        """Add the key, or remove it if it is there; a commit of its own."""
        self.now += 1
        seen = self.views[-1][0] if self.views else -1
        if key in self.keys:
            self.tree.discard(key, self.now, seen)
            self.keys.remove(key)
        else:
            self.tree.add(key, self.now, seen)
            self.keys.add(key)

    def drop(self, keys: list[bytes]) -> None:
        """Remove keys that are there; one commit."""
        self.now += 1
        self.tree.discard_all(keys, self.now, self.views[-1][0] if self.views else -1)
        self.keys.difference_update(keys)

    def check(self, prefix: bytes, after: bytes, limit: int) -> None:
        """Compare every view, and each with the current set."""
        current = self.now, self.tree.root, frozenset(self.keys)
        for _, root, keys in [*self.views, current]:
            under = sorted(key for key in keys if key.startswith(prefix))
            assert root.count == len(keys)
            assert count_prefix(root, prefix) == len(under)
            assert scan_prefix(root, prefix, after, limit) == [key for key in under if key > after][:limit]
            for other, other_keys in ((self.tree.root, current[2]), (self.views[0][1:] if self.views else current[1:])):
                same = under == sorted(key for key in other_keys if key.startswith(prefix))
                assert same_keyset(root, other, *prefix_range(prefix)) == same
                assert same_keyset(other, root, *prefix_range(prefix)) == same


def check_shape(root: Root) -> None:
    """Assert what every tree is: balanced, in order, none of its nodes too full or empty, its counts right."""
    assert root.count == _check_node(root, b"", None) or root.count == 0
    assert scan_prefix(root, b"", b"", root.count + 1) == sorted(set(scan_prefix(root, b"", b"", root.count + 1)))


def _check_node(node: Root, low: bytes, high: bytes | None) -> int:
    assert all(low <= key and (high is None or key < high) for key in node.keys)
    assert node.keys == sorted(set(node.keys))
    if not isinstance(node, Branch):
        assert node.height == 0
        assert len(node.keys) == node.count <= LEAF_KEYS
        return node.count
    assert len(node.children) == len(node.keys) + 1 <= BRANCH_CHILDREN
    bounds = [low, *node.keys, high]
    count = 0
    for child, from_key, to_key in zip(node.children, bounds[:-1], bounds[1:], strict=True):
        assert child.height == node.height - 1
        assert child.count > 0
        assert from_key is not None
        count += _check_node(child, from_key, to_key)
    assert count == node.count
    return count


def test_an_empty_tree_has_nothing_under_any_prefix() -> None:
    """The first tree, and one that has become empty."""
    versions = Versions()
    versions.view()
    for prefix in PREFIXES:
        versions.check(prefix, b"", 10)
    for _ in range(2):
        for number in range(500):
            versions.toggle(key_of(number))
    assert versions.keys == set()
    assert scan_prefix(versions.tree.root, b"", b"", 10) == []
    assert same_keyset(versions.tree.root, versions.views[0][1], *prefix_range(b""))


def test_a_limit_of_nothing_scans_nothing() -> None:
    """Zero keys are asked for, zero come."""
    tree = KeyIndex()
    tree.add(b"a", 1, -1)
    assert scan_prefix(tree.root, b"", b"", 0) == []
    assert scan_prefix(tree.root, b"", b"", 1) == [b"a"]


def test_a_key_deleted_and_added_again_is_the_same_set() -> None:
    """What counts is which keys there are, not what happened in between."""
    versions = Versions()
    for number in range(0, 3000, 3):
        versions.toggle(key_of(number))
    versions.view()
    versions.toggle(key_of(300))
    assert not same_keyset(versions.views[0][1], versions.tree.root, *prefix_range(b""))
    versions.toggle(key_of(300))
    assert same_keyset(versions.views[0][1], versions.tree.root, *prefix_range(b""))
    versions.check(b"", b"", 5000)


def test_one_key_swapped_for_another_is_not_the_same_set() -> None:
    """The number of keys is equal, the keys are not."""
    versions = Versions()
    for number in range(0, 3000, 3):
        versions.toggle(key_of(number))
    versions.view()
    versions.toggle(key_of(300))
    versions.toggle(key_of(301))
    assert not same_keyset(versions.views[0][1], versions.tree.root, *prefix_range(b""))
    assert not same_keyset(versions.views[0][1], versions.tree.root, *prefix_range(b"\x01"))
    assert same_keyset(versions.views[0][1], versions.tree.root, *prefix_range(b"\x02"))


@pytest.mark.parametrize("order", ["ascending", "descending", "random"])
def test_ten_thousand_keys_split_several_levels_and_go_again(order: str) -> None:
    """Counts, scans and shape hold while the tree grows to three levels and shrinks to nothing, under a kept view."""
    versions = Versions()
    numbers = list(range(0, 20_000, 2))
    if order == "descending":
        numbers.reverse()
    elif order == "random":
        Random(1).shuffle(numbers)
    for at, number in enumerate(numbers):
        if at == 3000:
            versions.view()
        versions.toggle(key_of(number))
    versions.view()
    assert versions.tree.root.height >= 2
    check_shape(versions.tree.root)
    for prefix in PREFIXES:
        versions.check(prefix, key_of(300), 700)
    Random(2).shuffle(numbers)
    for at, number in enumerate(numbers):
        versions.toggle(key_of(number))
        if at % 2500 == 0:
            check_shape(versions.tree.root)
            versions.check(b"\x01", b"", 100)
    assert versions.tree.root.height == 0
    assert versions.tree.root.count == 0
    for _, root, keys in versions.views:
        check_shape(root)
        assert scan_prefix(root, b"", b"", SPACE) == sorted(keys)


def test_without_a_view_nothing_is_copied() -> None:
    """Copying is for views alone: with none, or with all of them gone, nodes change in place."""
    versions = Versions()
    for number in range(5000):
        versions.toggle(key_of(number))
    assert versions.tree.copied_bytes == 0
    versions.view()
    versions.toggle(key_of(9))
    copied = versions.tree.copied_bytes
    assert copied > 0
    versions.toggle(key_of(9))  # those nodes are younger than the view now
    assert versions.tree.copied_bytes == copied


runs = st.tuples(
    st.sampled_from(["toggle", "toggle", "toggle", "view", "forget", "drop", "drop in any order"]),
    st.one_of(st.integers(0, SPACE - 1), st.sampled_from([0, 250, 500, SPACE - 300, SPACE - 1])),
    st.integers(1, 300),
    st.sampled_from([1, 1, 2, 7, 255]),
)


@given(
    st.lists(runs, max_size=25),
    st.sampled_from(PREFIXES),
    st.integers(0, SPACE - 1),
    st.sampled_from([1, 10, LEAF_KEYS, 5000]),
)
def test_every_view_agrees_with_a_sorted_list(
    steps: list[tuple[str, int, int, int]], prefix: bytes, after: int, limit: int
) -> None:
    """Runs of keys come and go; views are taken and dropped, the newest and older ones."""
    versions = Versions()
    for what, first, number, stride in steps:
        if what == "view":
            versions.view()
        elif what == "forget" and versions.views:
            del versions.views[first % len(versions.views)]
        elif what == "toggle":
            for at in range(number):
                versions.toggle(key_of((first + at * stride) % SPACE))
        elif what.startswith("drop"):
            dropped = sorted(versions.keys)[first % (len(versions.keys) + 1) :: stride][:number]
            versions.drop(dropped if what == "drop" else sorted(dropped, key=hash))
    check_shape(versions.tree.root)
    versions.check(prefix, key_of(after), limit)
    versions.check(b"", b"", SPACE)
    versions.check(key_of(after), b"", limit)
    versions.check(key_of(after)[:1], b"", limit)


@pytest.mark.draws
@pytest.mark.parametrize("seed", seeds(3))
def test_a_long_random_walk_agrees_with_a_sorted_list(seed: int) -> None:
    """The same as above, with many more keys than shrinking can handle."""
    random = Random(seed)
    versions = Versions()
    for step in range(120):
        chance = random.random()
        if chance < 0.15:
            versions.view()
        elif chance < 0.25 and versions.views:
            del versions.views[random.randrange(len(versions.views))]
        first, stride = random.randrange(SPACE), random.choice([1, 1, 3, 255])
        for at in range(random.choice([1, 1, 5, 200, 600])):
            versions.toggle(key_of((first + at * stride) % SPACE))
        if chance > 0.8:
            versions.drop([key for key in sorted(versions.keys) if random.random() < chance])
        if step % 10 == 0:
            versions.check(random.choice(PREFIXES), key_of(random.randrange(SPACE)), 100)
            versions.check(key_of(first)[:1], b"", SPACE)
            check_shape(versions.tree.root)
    versions.check(b"", b"", SPACE)


@pytest.mark.parametrize("part", [1, 7, 48, 100, SPACE])
@pytest.mark.parametrize("count", [0, 1, 47, 48, 49, 48 * 48, 48 * 64 + 1, 5000])
def test_a_set_that_was_filled_in_order_is_as_any_other(count: int, part: int) -> None:
    """At every edge of a node or a level; and it goes on from there, with views of what it was."""
    random = Random(count)
    versions = Versions()
    versions.keys = {key_of(number) for number in random.sample(range(SPACE), count)}
    in_order = sorted(versions.keys)
    for at in range(0, count, part):
        versions.tree.extend(in_order[at : at + part])
        assert versions.tree.root.count == min(count, at + part)
    check_shape(versions.tree.root)
    versions.check(b"", b"", SPACE)
    for number in range(300):
        if number % 60 == 0:
            versions.view()
        versions.toggle(random.choice(sorted(versions.keys)) if number % 2 and versions.keys else random.randbytes(2))
    for prefix in PREFIXES:
        versions.check(prefix, random.randbytes(2), 100)
    check_shape(versions.tree.root)

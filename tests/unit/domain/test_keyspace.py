"""Clients' keys beside the reserved part of the key space."""

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from kvs.domain.commit import Conflict, KeyRange
from kvs.domain.keyspace import (
    ESCAPED,
    RESERVED,
    clients_conflict,
    clients_key,
    clients_keys,
    stored_entries,
    stored_key,
    without_reserved,
)

if TYPE_CHECKING:
    from kvs.domain.values import Key, Value

KEYS = st.lists(st.sampled_from([b"\x00", b"a", b"\xfe", b"\xff"]), min_size=1, max_size=4).map(b"".join)


@given(KEYS)
def test_stored_key_is_not_reserved_and_is_the_clients_again(key: bytes) -> None:
    """For any key."""
    assert not RESERVED <= stored_key(key) < ESCAPED
    assert clients_key(stored_key(key)) == key


@given(st.sets(KEYS))
def test_order_of_keys_is_kept(keys: set[bytes]) -> None:
    """So pages and cursors mean the same."""
    stored = sorted(map(stored_key, keys))
    assert clients_keys(stored) == sorted(keys)
    entries: dict[Key, Value] = dict.fromkeys(keys, b"v")
    assert [*stored_entries(entries)] == [*map(stored_key, entries)]


@given(low=st.just(b"") | KEYS, high=st.none() | KEYS, key=KEYS, reserved=st.binary(max_size=2))
def test_range_without_the_reserved_part_has_the_same_clients_keys(
    low: bytes, high: bytes | None, key: bytes, reserved: bytes
) -> None:
    """And none of the reserved ones."""
    stored = KeyRange(stored_key(low), None if high is None else stored_key(high))
    parts = without_reserved(stored)
    assert any(part.holds(stored_key(key)) for part in parts) == stored.holds(stored_key(key))
    ours = RESERVED + reserved
    if ours < ESCAPED:
        assert not any(part.holds(ours) for part in parts)


def test_conflict_names_clients_keys() -> None:
    """Of keys, and of the bounds of ranges."""
    conflict = Conflict((b"a", b"\xff\xffk"), (KeyRange(b"", RESERVED), KeyRange(ESCAPED, None)))
    named = clients_conflict(conflict)
    assert named.keys == (b"a", b"\xffk")
    assert named.ranges == (KeyRange(b"", b"\xff"), KeyRange(b"\xff", None))

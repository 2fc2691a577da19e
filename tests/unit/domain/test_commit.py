"""Ranges of keys: which keys lie in them, what a page has observed, and the prefix that a message names them by."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvs.domain.commit import KeyRange, page_range, prefix_end, prefix_range

keys = st.binary(min_size=1, max_size=3).map(lambda key: bytes(byte % 3 * 127 for byte in key))
prefixes = st.binary(max_size=3).map(lambda key: bytes(byte % 4 * 85 for byte in key))


@pytest.mark.parametrize(
    ("prefix", "end"),
    [
        (b"", None),
        (b"\xff", None),
        (b"\xff\xff", None),
        (b"a", b"b"),
        (b"a\xff", b"b"),
        (b"a\xff\xff", b"b"),
        (b"\xfe\xff", b"\xff"),
        (b"\0", b"\x01"),
        (b"a\0", b"a\x01"),
    ],
)
def test_the_end_of_a_prefix_is_the_lowest_key_above_it(prefix: bytes, end: bytes | None) -> None:
    """Bytes of 0xff cannot be raised, so the one before them is."""
    assert prefix_end(prefix) == end


@given(prefixes, keys)
def test_the_range_of_a_prefix_has_the_keys_that_begin_with_it(prefix: bytes, key: bytes) -> None:
    """No others, and all of them."""
    assert prefix_range(prefix).holds(key) == key.startswith(prefix)


@given(st.sets(keys), prefixes, prefixes, st.integers(1, 4))
def test_a_page_observes_what_it_shows_and_nothing_behind_it(
    data: set[bytes], prefix: bytes, after: bytes, limit: int
) -> None:
    """A full page ends with its last key; one that is not full has seen the end of the prefix."""
    under = [key for key in sorted(data) if key.startswith(prefix) and key > after]
    page = under[:limit]
    observed = page_range(prefix, after, page, limit)
    assert [key for key in sorted(data) if observed.holds(key)] == page
    if len(page) == limit:
        assert not observed.holds(page[-1] + b"\0")
    else:
        behind = prefix + b"\xff\xff\xff\xff"
        assert observed.holds(behind) or behind <= after


@given(prefixes)
def test_the_range_of_a_prefix_is_named_by_it(prefix: bytes) -> None:
    """Whatever bytes it ends with."""
    assert prefix_range(prefix).prefix == prefix


@given(prefixes, prefixes)
def test_the_prefix_of_a_range_holds_all_of_it_and_no_longer_one_does(one: bytes, other: bytes) -> None:
    """Compared with every prefix of the lower bound."""
    low, high = min(one, other), max(one, other)
    for observed in (KeyRange(low, None), KeyRange(low, high)):
        if low == observed.high:
            continue
        fitting = []
        for length in range(len(low) + 1):
            end = prefix_end(low[:length])
            if end is None or (observed.high is not None and observed.high <= end):
                fitting.append(low[:length])
        assert observed.prefix == fitting[-1]


@pytest.mark.parametrize(
    ("low", "high", "prefix"),
    [
        (b"user:1\0", b"user:5\0", b"user:"),
        (b"user:1\0", b"user;", b"user:"),
        (b"a", b"c", b""),
        (b"", None, b""),
        (b"\xff\x01", None, b"\xff"),
    ],
)
def test_a_range_is_named_by_the_prefix_of_its_keys(low: bytes, high: bytes | None, prefix: bytes) -> None:
    """A page in the middle of a prefix, the rest of one, and ranges that have nothing in common."""
    assert KeyRange(low, high).prefix == prefix

"""Patterns of keys, against a slow matcher that is obviously right."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvs.adapters.inbound.resp.glob import Glob

patterns = st.lists(
    st.sampled_from([b"a", b"b", b"c", b"*", b"?", b"[", b"]", b"^", b"-", b"\\", b"[a-b]", b"[^", b"\xff"]), max_size=8
).map(b"".join)
keys = st.lists(st.sampled_from(b"abc*?[]^-\\\xff\n"), max_size=6).map(bytes)


def matches(pattern: bytes, key: bytes) -> bool:
    """Return whether all of a key matches, by trying everything."""
    if not pattern:
        return not key
    first, rest = pattern[:1], pattern[1:]
    if first == b"*":
        return any(matches(rest, key[at:]) for at in range(len(key) + 1))
    if first == b"[":
        rest, members = one_of(rest)
        return bool(key) and key[0] in members and matches(rest, key[1:])
    if first == b"\\" and rest:
        first, rest = rest[:1], rest[1:]
    elif first == b"?":
        first = key[:1]
    return bool(key) and key[:1] == first and matches(rest, key[1:])


def one_of(text: bytes) -> tuple[bytes, set[int]]:
    """Return what follows a bracket's end, and the bytes that it stands for."""
    negated = text.startswith(b"^")
    text = text[negated:]
    members: set[int] = set()
    while text and not text.startswith(b"]"):
        if text.startswith(b"\\") and len(text) > 1:
            members.add(text[1])
            text = text[2:]
        elif text[1:2] == b"-" and len(text) > 2:
            members |= {code for code in range(256) if text[0] <= code <= text[2] or text[2] <= code <= text[0]}
            text = text[3:]
        else:
            members.add(text[0])
            text = text[1:]
    return text[1:], set(range(256)) - members if negated else members


@given(patterns, keys)
@example(b"[", b"[")
@example(b"[^", b"a")
@example(b"[^]", b"]")
@example(b"[]a]", b"a")
@example(b"[a-", b"-")
@example(b"[c-a]", b"b")
@example(b"[a-]]", b"]")
@example(b"[\\]]", b"]")
@example(b"[\\", b"\\")
@example(b"a\\", b"a\\")
@example(b"?", b"\n")
@example(b"a*", b"a\n\n")
@example(b"*b*a", b"aba\n")
def test_a_pattern_matches_what_the_plain_matcher_says(pattern: bytes, key: bytes) -> None:
    """Whatever is written in it, closed or not."""
    glob = Glob(pattern)
    assert glob(key) == matches(pattern, key)


@given(patterns.map(lambda pattern: b"*a*" + pattern), st.lists(st.sampled_from(b"ab"), max_size=12).map(bytes))
def test_stars_share_out_a_key_as_well_as_they_can(pattern: bytes, key: bytes) -> None:
    """The first place where a part fits is as good as any later one."""
    assert Glob(pattern)(key) == matches(pattern, key)


@given(patterns, keys)
def test_what_matches_begins_with_the_prefix(pattern: bytes, key: bytes) -> None:
    """So nothing else needs to be looked at; and if there is no more to it, whatever begins so matches."""
    glob = Glob(pattern)
    if matches(pattern, key):
        assert key.startswith(glob.prefix)
    if glob.matches_all:
        assert matches(pattern, glob.prefix + key)


@pytest.mark.parametrize(
    ("pattern", "prefix", "matches_all"),
    [
        (b"", b"", False),
        (b"*", b"", True),
        (b"**", b"", True),
        (b"user:*", b"user:", True),
        (b"user:**", b"user:", True),
        (b"user:1", b"user:1", False),
        (b"user:*:name", b"user:", False),
        (b"user:?", b"user:", False),
        (b"us?r:*", b"us", False),
        (b"us[e]r:*", b"us", False),
        (b"*r:*", b"", False),
        (b"\\*\\", b"*\\", False),
        (b"\\[\xff*", b"[\xff", True),
        (b"[u]*", b"", False),
    ],
)
def test_the_prefix_is_as_long_as_it_can_be_told(pattern: bytes, prefix: bytes, matches_all: bool) -> None:
    """Up to the first byte that may be several."""
    glob = Glob(pattern)
    assert (glob.prefix, glob.matches_all, glob.text) == (prefix, matches_all, pattern)


@pytest.mark.parametrize("end", [b"", b"b", b"*b", b"?"])
def test_a_pattern_of_many_stars_ends_at_once(end: bytes) -> None:
    """A matcher that tried every way for the stars to share out the key would never return."""
    assert Glob(b"*a" * 30 + end)(b"a" * 8000) == (b"b" not in end)


def test_a_pattern_of_many_sets_is_read_at_once() -> None:
    """Its length counts, and not how many bytes each of them stands for."""
    glob = Glob(b"[^a]" * 2000 + b"[\0-\xff]" * 2000 + b"[^]" * 2000)
    assert glob(b"b" * 2000 + b"a" * 4000)
    assert not glob(b"a" * 6000)
    assert len(glob._regex.pattern) < 100_000


def test_patterns_are_equal_by_text() -> None:
    """So that one who asks again may bring another, of the same text."""
    assert Glob(b"a*") == Glob(b"a*")
    assert hash(Glob(b"a*")) == hash(Glob(b"a*"))
    assert Glob(b"a*") != Glob(b"a**")
    assert Glob(b"a*") != b"a*"

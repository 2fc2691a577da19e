"""Patterns of keys, against a slow matcher that is obviously right."""

import re
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvs.adapters.inbound.resp import glob as glob_module
from kvs.adapters.inbound.resp.glob import FEW_BYTES, ORDINARY_BYTES, STEP_UNITS, WINDOW_BYTES, Glob

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
    assert glob.match(key) == matches(pattern, key)


@given(patterns.map(lambda pattern: b"*a*" + pattern), st.lists(st.sampled_from(b"ab"), max_size=12).map(bytes))
def test_stars_share_out_a_key_as_well_as_they_can(pattern: bytes, key: bytes) -> None:
    """The first place where a part fits is as good as any later one."""
    assert Glob(pattern).match(key) == matches(pattern, key)


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
@pytest.mark.parametrize("length", [4000, 8000])
def test_a_pattern_of_many_stars_ends_at_once(end: bytes, length: int) -> None:
    """A matcher that tried every way for the stars to share out the key would never return."""
    assert Glob(b"*a" * 30 + end).match(b"a" * length) == (b"b" not in end)


def test_a_pattern_of_many_sets_is_read_at_once() -> None:
    """Its length counts, and not how many bytes each of them stands for."""
    glob = Glob(b"[^a]" * 2000 + b"[\0-\xff]" * 2000 + b"[^]" * 2000)
    assert glob.match(b"b" * 2000 + b"a" * 4000)
    assert not glob.match(b"a" * 6000)


# Long keys and patterns.

long_parts = st.builds(
    lambda part, times: part * times,
    st.sampled_from([b"a", b"b", b"ab", b"?", b"[ab]", b"[^a]", b"[^b]a", b"a?", b"[]"]),
    st.sampled_from([1, 2, 15, 16, 17, 63, 64, 200]),
)
long_patterns = st.lists(st.one_of(long_parts, st.sampled_from([b"*", b"a", b"[ab]"])), max_size=6).map(b"".join)
places = st.sampled_from([0, 1, 255, 256, 300, WINDOW_BYTES - 17, WINDOW_BYTES - 1, WINDOW_BYTES, WINDOW_BYTES + 1])
long_keys = st.lists(
    st.builds(lambda run, times: (run * times)[:times], st.sampled_from([b"a", b"b", b"ab", b"aab", b"c"]), places),
    max_size=4,
).map(b"".join)


def matches_long(pattern: bytes, key: bytes) -> bool:
    """Return whether all of a key matches, in the time of the key times the pattern: which beginnings of each match."""
    reached = (1 << len(key) + 1) - 1 if pattern.startswith(b"*") else 1
    at = 0
    while at < len(pattern):
        if pattern[at : at + 1] == b"*":
            lowest = reached & -reached
            reached = (1 << len(key) + 1) - lowest if reached else 0
            at += 1
            continue
        if pattern[at : at + 1] == b"[":
            rest, members = one_of(pattern[at + 1 :])
            at = len(pattern) - len(rest)
        else:
            members = set(range(256)) if pattern[at : at + 1] == b"?" else {pattern[at]}
            at += 1
        fitting = bytes(48 + (code in members) for code in range(256))
        reached = (reached & int(key[::-1].translate(fitting) or b"0", 2)) << 1
    return bool(reached >> len(key) & 1)


def stepped(glob: Glob, key: bytes) -> tuple[bool, int]:
    """Return whether a key matches, and how often it made way."""
    steps = glob.steps(key)
    yielded = 0
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return bool(stop.value), yielded
        yielded += 1


@given(patterns, keys)
def test_the_matcher_for_long_keys_is_right(pattern: bytes, key: bytes) -> None:
    """It is as obvious as the other one for short ones."""
    assert matches_long(pattern.replace(b"\\", b"a"), key) == matches(pattern.replace(b"\\", b"a"), key)


@given(long_patterns, long_keys)
@example(b"*" + b"a" * 17 + b"*", b"b" * (WINDOW_BYTES - 1) + b"a" * 17)
@example(b"*" + b"[ab]" * 17 + b"*", b"c" * WINDOW_BYTES + b"a" * 17 + b"c" * 9000)
@example(b"*" + b"[ab]" * 17 + b"*", b"c" * (WINDOW_BYTES + 16) + b"a" * 17 + b"c" * 9000)
@example(b"*" + b"[ab]" * 300, b"ab" * 300)
@example(b"*" + b"[ab]" * 300 + b"*", b"c" * (WINDOW_BYTES - 1) + b"a" * 300)
@example(b"*[ab]*" + b"[ab]c" * 9 + b"*", b"a" + b"c" * (WINDOW_BYTES - 1) + b"ac" * 9)
@example(b"*" + b"[ab]" * 65 + b"*" + b"[^a]" * 200, b"b" * 265)
@example(b"*" + b"[ab]" * 65 + b"*" + b"[^a]" * 200, b"b" * 264)
def test_long_keys_match_as_short_ones_do(pattern: bytes, key: bytes) -> None:
    """In one go and in steps, wherever a part begins and however long it is."""
    glob = Glob(pattern)
    expected = matches_long(pattern, key)
    assert glob.match(key) == expected
    assert stepped(glob, key)[0] == expected


@given(patterns, keys)
def test_short_keys_match_the_same_in_every_way(pattern: bytes, key: bytes) -> None:
    """The search for long patterns, which a pattern of many stars is, agrees with the regular expression."""
    long = Glob(pattern + b"*" * ORDINARY_BYTES)
    assert long.match(key) == Glob(pattern + b"*").match(key)
    assert stepped(long, key)[0] == long.match(key)


WORST_PATTERNS = [
    b"*" + b"[^c]" * 250 + b"c",
    b"*" + b"[^c]" * 250 + b"c*",
    b"*" + b"[^c]" * 50 + b"c*",
    b"*" + b"[ab]" * 15 + b"c*",
    b"*" + b"?" * 1000 + b"c*",
    b"*" + b"a" * 90 + b"ba*",
    b"*" + b"a" * 8 + b"b" + b"a" * 7 + b"*",
    b"*" + b"a?" * 400 + b"c",
    b"*a" * 400 + b"*c*",
    b"*" + b"[^c]" * 20 + b"*" + b"[^c]" * 200 + b"c*",
]


@pytest.mark.parametrize("pattern", WORST_PATTERNS)
def test_the_worst_pattern_makes_way_on_the_longest_key(pattern: bytes) -> None:
    """A key of 8 KiB costs less than 2 ms, one of 1 MiB in proportion, and others are served in between."""
    glob = Glob(pattern)
    for length in (1, 16, 255, 8192, 1 << 20):
        cost = glob.cost(length)
        assert cost <= 50 + length // 4
        assert glob.cost(2 * length) <= 2 * cost + 50
        _, yielded = stepped(glob, b"a" * length)
        assert yielded <= 2 * cost // STEP_UNITS
    # It costs that much where the key has to be read to its end.
    if pattern.endswith(b"*") and b"*a" not in pattern:
        assert yielded >= glob.cost(1 << 20) // STEP_UNITS // 2


@given(st.binary(max_size=1024), st.integers(0, 1 << 20))
def test_what_a_match_costs_is_bounded(pattern: bytes, length: int) -> None:
    """Whatever the pattern is."""
    assert 1 <= Glob(pattern).cost(length) <= 300 + length // 4


class CountingMasks(list[int]):
    """Counts how often one is looked up."""

    looked_up = 0

    def __getitem__(self, place: Any) -> Any:
        """Count it."""
        self.looked_up += 1
        return super().__getitem__(place)


class CountingKey(bytes):
    """Counts the steps of seeking bytes in it, if all of them are tried at every place."""

    steps = 0

    def find(self, sought: Any, at: Any = 0, end: Any = None) -> int:
        """Count it."""
        found = super().find(sought, at, end)
        self.steps += ((end if found < 0 else found + 1) - at) * len(sought)
        return found


class CountingRegex:
    """Counts steps: the length of what it is given, times its own if a part of it has to be tried at every place."""

    def __init__(self, text: bytes, flags: int = 0) -> None:
        self._regex = re.compile(text, flags)
        sought = re.split(rb"\.\*\??", text)[1:]
        self._tokens = max([len(re.findall(rb"\[.*?\]|\\x..|\.", part)) for part in sought], default=1)
        self.steps = 0

    def fullmatch(self, key: bytes) -> Any:
        """Count it."""
        self.steps += len(key) * self._tokens
        return self._regex.fullmatch(key)

    def search(self, key: bytes, at: int, end: int) -> Any:
        """Count it; what is all literal is sought in one pass."""
        self.steps += end - at
        return self._regex.search(key, at, end)


@pytest.mark.one_build
@pytest.mark.parametrize("pattern", WORST_PATTERNS)
@pytest.mark.parametrize("length", [15, 240, 500, 8192, 100_000])
def test_the_worst_pattern_takes_linear_time(pattern: bytes, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in steps: how often a byte of the key is looked at, whatever looks at it."""
    made: list[CountingRegex] = []

    def compiled(text: bytes, flags: int = 0) -> CountingRegex:
        made.append(CountingRegex(text, flags))
        return made[-1]

    masks: list[CountingMasks] = []

    def counted(tokens: list[Any]) -> CountingMasks:
        masks.append(CountingMasks(glob_module_masks(tokens)))
        return masks[-1]

    glob_module_masks = glob_module._masks
    monkeypatch.setattr(glob_module, "re", SimpleNamespace(compile=compiled, Pattern=re.Pattern, DOTALL=re.DOTALL))
    monkeypatch.setattr(glob_module, "_masks", counted)
    key = CountingKey(b"a" * length)
    Glob(pattern).match(key)
    steps = key.steps + sum(regex.steps for regex in made) + sum(table.looked_up for table in masks)
    assert steps <= FEW_BYTES * length + 4096

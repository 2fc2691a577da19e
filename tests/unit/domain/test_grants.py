"""What a user may run, on which keys: all of a request has to be within one grant."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvs.domain.grants import (
    ADMIN,
    CATEGORY_NAMES,
    CONNECTION,
    EVERY_CATEGORY,
    EVERY_KEY,
    EVERYTHING,
    NOTHING,
    READ,
    TRANSACTION,
    WRITE,
    Grant,
    Grants,
)

READS_USERS: Final = Grants(Grant(READ, (b"user:",)))


def test_categories_are_different_bits() -> None:
    """And together they are all."""
    assert sum(CATEGORY_NAMES.values()) == EVERY_CATEGORY
    assert len(set(CATEGORY_NAMES.values())) == len(CATEGORY_NAMES)


def test_nothing_and_everything() -> None:
    """A new user may do nothing, not even PING; the default user everything."""
    assert not NOTHING.unrestricted
    assert not NOTHING.allows(b"ping", CONNECTION, [], [])
    assert not NOTHING.allows_command(b"ping", CONNECTION)
    assert NOTHING.prefixes() == ()
    assert EVERYTHING.unrestricted
    assert EVERYTHING.allows(b"flushall", WRITE | ADMIN, [(WRITE, b"a")], [(READ | WRITE, b"")])
    assert EVERYTHING.prefixes() == (b"",)


def test_a_command_needs_all_its_categories() -> None:
    """One that reads and administers is not for readers."""
    grants = Grants(Grant(READ | CONNECTION, EVERY_KEY))
    assert grants.allows_command(b"get", READ)
    assert grants.allows_command(b"object", READ | CONNECTION)
    assert not grants.allows_command(b"monitor", READ | ADMIN)
    assert not grants.allows_command(b"set", WRITE)


def test_commands_by_name_go_before_categories() -> None:
    """A subcommand before its command."""
    grants = Grants(Grant(READ, EVERY_KEY, (), frozenset([b"set", b"config|get"]), frozenset([b"get", b"config"])))
    assert grants.allows_command(b"set", WRITE)
    assert not grants.allows_command(b"get", READ)
    assert grants.allows_command(b"strlen", READ)
    assert grants.allows_command(b"config|get", ADMIN)
    assert not grants.allows_command(b"config|set", READ)
    whole = Grants(Grant(0, (), (), frozenset([b"client"])))
    assert whole.allows_command(b"client|list", ADMIN)
    assert not whole.allows_command(b"client2|list", ADMIN)


@pytest.mark.parametrize(
    ("key", "allowed"),
    [(b"user:1", True), (b"user:", True), (b"user", False), (b"users:1", False), (b"", False), (b"\xff", False)],
)
def test_keys_by_prefix(key: bytes, allowed: bool) -> None:
    """A prefix is bytes: nothing ends it but what is written at its end."""
    assert READS_USERS.allows(b"get", READ, [(READ, key)], []) is allowed
    assert READS_USERS.allows_key(b"get", READ, READ, key) is allowed
    assert READS_USERS.may_read(key) is allowed
    assert not READS_USERS.allows(b"get", READ, [(READ | WRITE, key)], [])
    assert not READS_USERS.may_write(key)


def test_a_prefix_without_a_delimiter_covers_more() -> None:
    """As the documents warn."""
    assert Grants(Grant(READ, (b"user:1",))).may_read(b"user:10")


def test_every_key_of_a_request_has_to_be_allowed() -> None:
    """One that is not is enough."""
    assert READS_USERS.allows(b"mget", READ, [(READ, b"user:1"), (READ, b"user:2")], [])
    assert not READS_USERS.allows(b"mget", READ, [(READ, b"user:1"), (READ, b"other:2")], [])
    assert not READS_USERS.allows(b"mget", READ, [(READ, b"other:2"), (READ, b"user:1")], [])


@pytest.mark.parametrize(
    ("prefix", "allowed"), [(b"user:", True), (b"user:1", True), (b"user", False), (b"", False), (b"v", False)]
)
def test_a_range_has_to_lie_within_a_grant(prefix: bytes, allowed: bool) -> None:
    """Or it is refused: what lies outside is not filtered."""
    assert READS_USERS.allows(b"keys", READ, [], [(READ, prefix)]) is allowed
    assert READS_USERS.allows_key(b"keys", READ, READ, prefix) is allowed
    assert not READS_USERS.allows(b"keys", READ, [(READ, b"user:1")], [(READ, prefix), (READ, b"other:")])


def test_two_grants_do_not_add_up() -> None:
    """All of a request has to be within one of them, its command and every key."""
    grants = Grants(Grant(READ, (b"a:",)), Grant(READ | WRITE, (b"b:",), (b"b:",)))
    assert grants.allows(b"get", READ, [(READ, b"a:1")], [])
    assert grants.allows(b"set", WRITE, [(WRITE, b"b:1")], [])
    assert not grants.allows(b"set", WRITE, [(WRITE, b"a:1")], [])
    assert not grants.allows(b"copy", WRITE, [(READ, b"a:1"), (WRITE, b"b:1")], [])
    assert not grants.allows(b"mget", READ, [(READ, b"a:1"), (READ, b"b:1")], [])
    assert not grants.allows(b"keys", READ, [], [(READ, b"")])
    assert grants.prefixes() == (b"a:", b"b:")


def test_to_read_and_to_write_a_key_takes_both() -> None:
    """The prefixes may differ."""
    grants = Grants(Grant(READ | WRITE, (b"a:",), (b"a:b:",)))
    assert grants.allows(b"getset", WRITE, [(READ | WRITE, b"a:b:c")], [])
    assert not grants.allows(b"getset", WRITE, [(READ | WRITE, b"a:c")], [])
    assert not Grants(Grant(WRITE, (), (b"a:",))).allows(b"getset", WRITE, [(READ | WRITE, b"a:b")], [])


def test_what_is_pending_may_be_committed_by_who_may_write_it() -> None:
    """By any command: by category, or by name."""
    assert Grants(Grant(READ), Grant(WRITE, (), (b"a:",))).may_write(b"a:1")
    assert Grants(Grant(0, (), (b"a:",), frozenset([b"set"]))).may_write(b"a:1")
    assert not Grants(Grant(READ | TRANSACTION, (b"a:",), (b"a:",))).may_write(b"a:1")
    assert not Grants(Grant(WRITE, (b"a:",))).may_write(b"a:1")


@pytest.mark.parametrize(
    "grant",
    [
        Grant(EVERY_CATEGORY & ~ADMIN, EVERY_KEY, EVERY_KEY),
        Grant(EVERY_CATEGORY, (b"a",), EVERY_KEY),
        Grant(EVERY_CATEGORY, EVERY_KEY, (b"a",)),
        Grant(EVERY_CATEGORY, EVERY_KEY, EVERY_KEY, frozenset(), frozenset([b"flushall"])),
    ],
)
def test_a_restriction_is_one(grant: Grant) -> None:
    """Whatever it is of."""
    assert not Grants(grant).unrestricted


def test_equal_grants_are_equal() -> None:
    """So that a reload knows what has changed. Prefixes beside the empty one are nothing."""
    assert Grants(Grant(READ, (b"a", b"a"))) == Grants(Grant(READ, (b"a",)))
    assert hash(Grants(Grant(READ, (b"a", b"a")))) == hash(Grants(Grant(READ, (b"a",))))
    assert Grants(Grant(READ, (b"a",))) != Grants(Grant(READ, (), (b"a",)))
    assert Grants(Grant(EVERY_CATEGORY, (b"a", b""), (b"", b"b"))) == EVERYTHING
    assert Grants(Grant(0, (), (), frozenset([b"get"]), frozenset([b"get"]))) == Grants(
        Grant(0, (), (), frozenset([b"get"]))
    )


prefixes = st.lists(st.binary(max_size=2), max_size=3).map(tuple)
accesses = st.sampled_from([READ, WRITE, READ | WRITE])
places = st.lists(st.tuples(accesses, st.binary(max_size=3)), max_size=3)


@given(
    st.lists(st.builds(Grant, st.integers(0, EVERY_CATEGORY), prefixes, prefixes), max_size=3),
    st.integers(1, EVERY_CATEGORY),
    places,
    places,
    st.binary(max_size=3),
)
def test_more_is_never_allowed_where_less_is_not(
    grants: list[Grant],
    categories: int,
    keys: list[tuple[int, bytes]],
    ranges: list[tuple[int, bytes]],
    behind: bytes,
) -> None:
    """A range that is allowed holds no key that is not, and a request that is allowed no part that is not."""
    user = Grants(*grants)
    if user.allows(b"x", categories, keys, ranges):
        assert user.allows_command(b"x", categories)
        for access, prefix in keys + ranges:
            assert user.allows(b"x", categories, [(access, prefix)], [])
        for access, prefix in ranges:
            assert user.allows_key(b"x", categories, access, prefix + behind)
    if user.unrestricted:
        assert user.allows(b"x", categories, keys, ranges)


names = st.text("ab", max_size=5).map(str.encode)


@given(st.lists(names.filter(bool), max_size=30), st.lists(names.filter(bool), min_size=12), names)
def test_many_prefixes_are_looked_up_as_few_are(reads: list[bytes], writes: list[bytes], key: bytes) -> None:
    """In order; and a prefix of another one stands for it."""
    grant = Grant(READ | WRITE, tuple(reads), tuple(writes))
    assert grant.covers(READ, key) == key.startswith(tuple(reads))
    assert grant.covers(WRITE, key) == key.startswith(tuple(writes))
    assert grant.covers(READ | WRITE, key) == (key.startswith(tuple(reads)) and key.startswith(tuple(writes)))

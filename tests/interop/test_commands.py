"""What COMMAND tells of the commands that Redis has as well is what Redis tells of them."""

from collections.abc import Mapping
from typing import Final

import pytest

from kvs.adapters.inbound.resp.commands.catalogue import CATEGORIES
from kvs.adapters.inbound.resp.commands.registry import COMMANDS
from tests.interop.test_hostile_arguments import Speaker, ordered, speakers
from tests.support.resp_wire import Reply, Typed

__all__ = ["speakers"]

CONTAINERS: Final = (b"acl", b"client", b"config", b"command", b"latency", b"memory", b"object", b"slowlog")
"""Commands with subcommands, of which kvs has not all, or in another order."""

OURS: Final = (
    *(b"start", b"commit", b"rollback", b"client|setinfo", b"client|no-touch"),
    *(b"delex", b"delifeq", b"msetex"),
)
"""Redis 7.0 has not these."""

EVERYTHING: Final = [
    command for one in COMMANDS for command in (one, *(one.subcommands or {}).values()) if command.name not in OURS
]
"""All that both have, subcommands as well."""

LEFT_OUT: Final = {b"summary", b"arguments", b"complexity", b"history", b"subcommands"}
"""Parts of COMMAND DOCS that are kvs's own, or missing."""


@pytest.mark.parametrize("version", [b"2", b"3"])
@pytest.mark.parametrize("name", [command.name for command in EVERYTHING], ids=bytes.decode)
def test_what_a_command_is(speakers: Mapping[str, Speaker], name: bytes, version: bytes) -> None:
    """Arity, flags, keys, categories, tips, key specifications; since when, in which group, and whether deprecated."""
    speakers["A"].say(b"HELLO", version)
    ours, theirs = (one_of(reply) for reply in speakers["A"].say(b"COMMAND", b"INFO", name))
    assert ours[:-1] == theirs[:-1]
    assert ours[-1] == theirs[-1] or name in CONTAINERS
    ours, theirs = (documented(reply, name) for reply in speakers["A"].say(b"COMMAND", b"DOCS", name))
    assert ours == theirs


def one_of(reply: Reply) -> list[Reply]:
    """Return the only item of an array."""
    assert isinstance(reply, list)
    (item,) = reply
    assert isinstance(item, list)
    return item


def pairs_of(reply: Reply) -> list[Reply]:
    """Return the keys and values of a map, by turns."""
    items = reply.value if isinstance(reply, Typed) else reply
    assert isinstance(items, list)
    return items


def documented(reply: Reply, name: bytes) -> list[Reply]:
    """Return what COMMAND DOCS says, but for what is left out."""
    key, value = pairs_of(reply)
    assert key == name
    facts = pairs_of(value)
    return [[word, fact] for word, fact in zip(facts[::2], facts[1::2], strict=True) if word not in LEFT_OUT]


def names_of(reply: Reply) -> set[Reply]:
    """Return names as a set, each of which has to be there once."""
    assert isinstance(reply, list)
    names = {name for name in reply if isinstance(name, bytes)}
    assert len(names) == len(reply)
    return set(names)


COMMON: Final[set[Reply]] = {command.name for command in EVERYTHING}


@pytest.mark.parametrize("category", [*CATEGORIES, "STRING", "nope", "server", "@string", ""])
def test_commands_by_category(speakers: Mapping[str, Speaker], category: str) -> None:
    """Of the commands that both have, the same are of a category."""
    ours, theirs = speakers["A"].say(b"COMMAND", b"LIST", b"FILTERBY", b"ACLCAT", category.encode())
    assert names_of(ours) - set(OURS) == names_of(theirs) & COMMON


@pytest.mark.parametrize("pattern", ["*", "client|*", "CONF*", "*|help", "g?t", "[gs]et", "get\0", "nope", ""])
def test_commands_by_pattern(speakers: Mapping[str, Speaker], pattern: str) -> None:
    """Subcommands are listed by both names, and letters may be small or not."""
    ours, theirs = speakers["A"].say(b"COMMAND", b"LIST", b"FILTERBY", b"PATTERN", pattern.encode())
    assert names_of(ours) - set(OURS) == names_of(theirs) & COMMON


def test_all_commands(speakers: Mapping[str, Speaker]) -> None:
    """Each is listed, counted and described, and so are its subcommands, within it."""
    for words in ((b"COMMAND", b"LIST"), (b"COMMAND", b"LIST", b"FILTERBY", b"PATTERN", b"*")):
        assert names_of(speakers["A"].say(*words)[0]) == COMMON | set(OURS)
    described = speakers["A"].say(b"COMMAND")[0]
    assert isinstance(described, list)
    assert speakers["A"].say(b"COMMAND", b"COUNT")[0] == len(described) == len(COMMANDS)
    for item, command in zip(described, COMMANDS, strict=True):
        assert isinstance(item, list)
        subcommands = item[-1]
        assert isinstance(subcommands, list)
        assert [one[0] for one in subcommands if isinstance(one, list)] == [
            subcommand.name for subcommand in (command.subcommands or {}).values()
        ]
    assert speakers["A"].say(b"COMMAND", b"LIST", b"FILTERBY", b"MODULE", b"x") == [[], []]


@pytest.mark.parametrize(
    "name", [b"get|x", b"client|", b"client|list|x", b"|", b"CLIENT|list", b"nope|list", b"client|nope"]
)
def test_names_of_subcommands(speakers: Mapping[str, Speaker], name: bytes) -> None:
    """Both names with a bar between them, in letters of any size; anything else is none."""
    ours, theirs = speakers["A"].say(b"COMMAND", b"INFO", name)
    assert ours == theirs
    ours, theirs = speakers["A"].say(b"COMMAND", b"DOCS", name)
    assert (ours == []) == (theirs == [])


@pytest.mark.parametrize("version", [b"2", b"3"])
@pytest.mark.parametrize(
    "line",
    [
        *(b"MSET a 1 b 2", b"GET a", b"SET a 1 NX", b"SET a 1 get", b"SET a GET", b"COPY a b REPLACE", b"RENAME a b"),
        *(b"DEL a b c", b"WATCH a b", b"PING", b"get", b"CLIENT LIST", b"CLIENT FOO", b"client", b"FOO", b"MSET a"),
        *(
            b"MSET a 1 b",
            b"APPEND a b",
            b"CONFIG GET a",
            b"BITOP AND a b c",
            b"BITOP NOT a b",
            b"LCS a b",
            b"LCS a b IDX",
        ),
        *(b"BITFIELD a", b"BITFIELD a GET u8 0", b"BITFIELD a SET u8 0 1", b"BITFIELD a OVERFLOW SAT get u8 0"),
        *(b"BITFIELD a FOO", b"BITFIELD a GET u8 0 FOO", b"BITFIELD a GET u8", b"BITFIELD a SET u8 0", b"SETBIT a 0 1"),
        *(b"BITFIELD a OVERFLOW", b"BITFIELD a GET u8 0 INCRBY u8 0 1", b"bitfield a overflow x get y z"),
    ],
)
def test_keys_of_commands_in_full(speakers: Mapping[str, Speaker], line: bytes, version: bytes) -> None:
    """GETKEYS names them, and GETKEYSANDFLAGS says what becomes of each."""
    speakers["A"].say(b"HELLO", version)
    for subcommand in (b"GETKEYS", b"GETKEYSANDFLAGS"):
        ours, theirs = speakers["A"].say(b"COMMAND", subcommand, *line.split())
        assert ordered(ours) == ordered(theirs)

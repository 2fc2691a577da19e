"""What others may see of a request."""

import pytest

from kvs.adapters.inbound.line.commands import COMMANDS as LINE
from kvs.adapters.inbound.protocol.command import CONTENT, OTHER, SECRET, VALUE, Command
from kvs.adapters.inbound.protocol.peer import Peer
from kvs.adapters.inbound.protocol.printing import REDACTED, shown
from kvs.adapters.inbound.resp.commands.registry import COMMANDS, OF_SENTINELS, command_of
from kvs.adapters.inbound.resp.context import ClientContext
from kvs.domain.grants import ADMIN, TRANSACTION, WRITE
from tests.support.resp_connection import RespServer

WITH_SUBCOMMANDS = [
    command
    for entry in [*COMMANDS, *OF_SENTINELS.values()]
    for command in (entry, *({} if entry.subcommands is None else entry.subcommands).values())
]
ALL: list[Command] = [*WITH_SUBCOMMANDS, *LINE.values()]

SERVER = RespServer()
CONTEXT = ClientContext(SERVER.limits, SERVER.shared, Peer())

commands = pytest.mark.parametrize("command", ALL, ids=lambda one: one.name.decode())


def printed(*words: bytes, values: bool = False) -> list[bytes]:
    """Return what is shown of a request in RESP."""
    return shown(command_of(list(words), CONTEXT), list(words), 32, 128, values=values)


@commands
def test_every_argument_has_a_kind(command: Command) -> None:
    """Each that must be there, and that may follow."""
    needed = abs(command.arity) - 1
    assert all(command.declares(at) for at in range(1, needed + 1 + (command.arity < 0)))


@commands
def test_no_secret_is_shown_and_values_are_if_wanted(command: Command) -> None:
    """Whatever the command, and however many arguments."""
    request = [command.name, *[b"argument:%d" % at for at in range(1, 10)]]
    with_values, without = (shown(command, request, 32, 128, values=values) for values in (True, False))
    for at in range(1, 10):
        kind = command.kind_of(at) if command.declares(at) else VALUE
        assert (with_values[at] == request[at]) == (kind != SECRET)
        assert (without[at] == request[at]) == (kind not in (SECRET, VALUE, CONTENT))
        assert kind != SECRET or with_values[at] == without[at] == REDACTED
        assert kind not in (VALUE, CONTENT) or without[at] == b"(10 bytes)"


SHOWN_OF_WRITES = {
    **dict.fromkeys(("expire", "pexpire", "expireat", "pexpireat", "getex", "setex", "psetex"), "deadlines"),
    **dict.fromkeys(("set", "delex", "copy"), "options"),
    **dict.fromkeys(("setbit", "setrange", "bitfield"), "offsets, and what is done there"),
    **dict.fromkeys(("bitop", "msetex"), "an operation, or how many keys there are"),
    **dict.fromkeys(("move", "swapdb"), "databases"),
    **dict.fromkeys(("flushall", "flushdb"), "options"),
}
"""What is shown of commands that write, beside keys."""


@commands
def test_what_is_written_is_not_shown(command: Command) -> None:
    """Of a command that writes, nothing is but its keys, and what is known to be no value."""
    if command.categories & WRITE and not command.categories & (TRANSACTION | ADMIN):
        assert OTHER not in command.arguments or command.grant_name.decode() in SHOWN_OF_WRITES


def test_contents_are_values() -> None:
    """Numbers, bits and texts of clients."""
    bitfield = [b"BITFIELD", b"k", b"SET", b"u8", b"0", b"200", b"GET", b"u8", b"#1", b"incrby", b"i5", b"1", b"-3"]
    hidden = [*bitfield[:5], b"(3 bytes)", *bitfield[6:-1], b"(2 bytes)"]
    assert printed(*bitfield) == hidden
    assert printed(*bitfield, values=True) == bitfield
    assert printed(b"BITFIELD", b"set", b"OVERFLOW", b"SAT", b"INCRBY", b"u8", b"0", b"9")[-2:] == [b"0", b"(1 bytes)"]
    assert printed(b"INCRBY", b"n", b"42") == [b"INCRBY", b"n", b"(2 bytes)"]
    assert printed(b"ECHO", b"hunter2") == [b"ECHO", b"(7 bytes)"]
    line = [b"INCR", b"n", b"42"]
    assert shown(LINE[b"INCR"], line, 32, 128, values=False) == [b"INCR", b"n", b"(2 bytes)"]


def test_values_in_options_are_values() -> None:
    """Wherever they are."""
    assert printed(b"SET", b"k", b"new", b"EX", b"5", b"ifeq", b"old") == [
        *(b"SET", b"k", b"(3 bytes)", b"EX", b"5", b"ifeq", b"(3 bytes)")
    ]
    assert printed(b"DELEX", b"k", b"IFNE", b"v", b"more") == [b"DELEX", b"k", b"IFNE", b"(1 bytes)", b"(4 bytes)"]
    assert printed(b"ACL", b"SETUSER", b"tom", b"on")[2:] == [b"tom", REDACTED]
    for mistaken in (b">hunter2", b"tom >hunter2", b"#abc"):
        assert printed(b"ACL", b"SETUSER", mistaken)[2:] == printed(b"ACL", b"DELUSER", mistaken)[2:] == [REDACTED]
    assert printed(b"HELLO", b"3", b"AUTH", b"default", b"hunter2")[2:] == [REDACTED] * 3
    assert printed(b"CONFIG", b"SET", b"requirepass", b"hunter2")[3:] == [REDACTED]


def test_arguments_are_cut_as_in_redis() -> None:
    """To 128 bytes each, and 32 of them."""
    long = b"x" * 128
    assert printed(b"GET", long) == [b"GET", long]
    assert printed(b"GET", long + b"yz") == [b"GET", long + b"... (2 more bytes)"]
    assert len(printed(b"DEL", *[b"k"] * 31)) == 32
    assert printed(b"DEL", *[b"k"] * 32) == [b"DEL", *[b"k"] * 30, b"... (2 more arguments)"]

"""START READONLY, over every command of both protocols: what is declared to write is refused, whatever there is."""

import json
from dataclasses import replace
from typing import Final

import pytest

from kvs.adapters.inbound.line.commands import COMMANDS as LINE
from kvs.adapters.inbound.resp.command import RespCommand
from kvs.adapters.inbound.resp.commands.registry import COMMANDS
from kvs.adapters.inbound.resp.connection import RespConnection
from kvs.domain.grants import WRITE
from tests.support.detection import new_detector
from tests.support.resp_connection import RespServer, ask
from tests.support.resp_wire import NULL, OK, Typed
from tests.support.sessions import UNLIMITED, Bench, output_of

PROMISED: Final = "START READONLY promised not to write"
REFUSED: Final = b"ERR " + PROMISED.encode()


def request_of(command: RespCommand) -> list[bytes]:
    """Return a request with as many arguments as there must be; the number of keys is one of them."""
    return [command.name, *[b"1"] * (abs(command.arity) - 1)]


def connected() -> RespConnection:
    """Return a client of an empty server."""
    server = RespServer()
    server.limits = replace(server.limits, max_value_bytes=UNLIMITED)
    return server.connect()


def is_refused(reply: object) -> bool:
    """Return whether a reply says that the transaction may not write."""
    return isinstance(reply, Typed) and isinstance(reply.value, bytes) and reply.value.startswith(REFUSED)


@pytest.mark.parametrize("command", [*COMMANDS], ids=lambda one: one.name.decode())
def test_commands_of_resp(command: RespCommand) -> None:
    """By the flags that COMMAND INFO shows; the transaction stays open, and answers what reads."""
    client = connected()
    assert ask(client, b"START", b"READONLY") == OK
    assert ask(client, b"START") == OK
    if "write" not in command.about.flags:
        if "readonly" in command.about.flags:
            assert not is_refused(ask(client, *request_of(command)))
        return
    assert is_refused(ask(client, *request_of(command)))
    assert ask(client, b"MGET", b"1", b"2") == [NULL, NULL]
    assert ask(client, b"COMMIT") == ask(client, b"ROLLBACK") == OK
    assert ask(client, b"START") == OK
    assert not is_refused(ask(client, *request_of(command)))


@pytest.mark.parametrize(
    "line",
    [
        *("MSETNX 1 v 3 w", "RENAMENX 1 1", "COPY 2 3", "COPY 1 1", "MSETEX 1 1 v NX", "MSETEX 1 2 v XX", "SETNX 1 v"),
        *("EXPIRE 2 5", "DELEX 2", "DELIFEQ 1 x", "SET 1 v NX", "DEL 2", "PERSIST 1", "GETEX 1", "BITFIELD 1 GET u8 0"),
    ],
)
def test_what_would_change_nothing_is_refused_all_the_same(line: str) -> None:
    """So that a reply does not depend on the data."""
    client = connected()
    ask(client, b"SET", b"1", b"v")
    ask(client, b"START", b"READONLY")
    assert is_refused(ask(client, *line.encode().split()))


@pytest.mark.parametrize("verb", [verb for verb, command in LINE.items() if command.categories & WRITE])
def test_commands_of_the_line_protocol(verb: bytes) -> None:
    """By their declared access."""
    assert LINE[verb].access & WRITE
    connection = new_detector(Bench()).connect()
    line = b" ".join([verb, b"nope", b"1"][: abs(LINE[verb].arity)])
    connection.receive(b"START READONLY\n" + line + b"\nGET nope\nCOMMIT\n")
    begun, refused, read, committed = map(json.loads, output_of(connection).splitlines())
    assert begun == committed == {"status": "Ok"}
    assert read["result"] is None
    assert (refused["code"], PROMISED in refused["mesg"]) == ("usage", True)

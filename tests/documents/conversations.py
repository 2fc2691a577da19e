"""Conversations over real connections: ``>`` and its reply, ``A>`` and ``B>``, and two terminals side by side."""

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, NamedTuple

from tests.documents.agreement import agree
from tests.documents.markdown import Block
from tests.support.harness import Client, Server

REQUEST: Final = re.compile(r"([A-Z]?)>(?: (.*))?")
LEAVES: Final = "(disconnects)"
TERMINALS: Final = re.compile(r"# terminal A +# terminal B")
CONNECTS: Final = "$ nc 127.0.0.1 4000"
KEYS: Final = re.compile(r"keys (\w*?)(\d+) to \1(\d+)")


class Step(NamedTuple):
    """A request and its reply.

    Attributes:
        where: The place of the request.
        client: Which client sends it.
        request: The line.
        reply: The reply, without its end.
    """

    where: str
    client: str
    request: str
    reply: str


def is_conversation(block: Block) -> bool:
    """Return whether a block is requests and replies."""
    return REQUEST.fullmatch(block.lines[0]) is not None


def is_two_terminals(block: Block) -> bool:
    """Return whether a block shows two terminals side by side."""
    return TERMINALS.match(block.lines[0]) is not None


def conversation(block: Block) -> Iterator[Step]:
    """Return the steps of a block of requests, each followed by its reply."""
    lines = iter(enumerate(block.lines, block.line + 1))
    for number, line in lines:
        where = f"{block.document}:{number}"
        request = REQUEST.fullmatch(line)
        assert request is not None, f"{where}: a request was expected, which begins with '>': {line!r}"
        asked = request[2] or ""
        _, reply = (number, "") if asked == LEAVES else next(lines, (number, ""))
        assert asked == LEAVES or reply.startswith("{"), f"{where}: no reply follows to {asked!r}"
        yield Step(where, request[1], asked, reply)


def two_terminals(block: Block) -> Iterator[Step]:
    """Return the steps of a block of two columns, in the order of its lines."""
    column = block.lines[0].index("# terminal B")
    waiting: dict[str, tuple[str, str]] = {}
    for number, line in enumerate(block.lines[1:], block.line + 2):
        where = f"{block.document}:{number}"
        for client, text in (("A", line[:column].strip()), ("B", line[column:].strip())):
            if text.startswith("{"):
                assert client in waiting, f"{where}: a reply without a request"
                asked_at, asked = waiting.pop(client)
                yield Step(asked_at, client, asked, text)
            elif text and text != CONNECTS:
                assert not waiting, f"{where}: no reply to what comes before"
                waiting[client] = where, text
    assert not waiting, f"{block.where}: no reply to {waiting}"


def replay(block: Block, steps: Iterator[Step], server: Server) -> None:
    """Have the conversation with a server, which has to give the same replies."""
    prepare(block, server)
    clients: dict[str, Client] = {}
    for step in steps:
        client = clients.get(step.client) or clients.setdefault(step.client, server.connect())
        if step.request == LEAVES:
            clients.pop(step.client).close()
            server.wait_left(client)
            continue
        client.send(step.request)
        agree(step.where, f"{step.client}> {step.request}", step.reply + "\n", client.raw_reply().decode())
    for client in clients.values():
        with suppress(OSError):  # which may have left by itself
            client.half_close()
        assert client.raw_rest() == b"", f"{block.where}: more has come than there are replies"


def prepare(block: Block, server: Server) -> None:
    """Store what the note ``given`` says is there before a block begins: ``keys a1 to a9``."""
    given = block.notes.get("given")
    if given is None:
        return
    keys = KEYS.fullmatch(given)
    assert keys is not None, f"{block.where}: the note 'given' says {given!r}, and not 'keys a1 to a9'"
    with Client(server.host, server.port) as client:
        for number in range(int(keys[2]), int(keys[3]) + 1):
            client.ok(f"PUT {keys[1]}{number:0{len(keys[2])}} 1")
    server.wait_left(client)

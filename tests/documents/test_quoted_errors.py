"""Every error of RESP that a document quotes is what the server answers."""

import re
from collections.abc import Iterator, Mapping
from typing import Final

import pytest

from tests.documents.agreement import agree
from tests.documents.markdown import REPLAYED, Span, codes, document
from tests.support.harness import Server
from tests.support.resp_wire import Typed, Wire, request

pytestmark = pytest.mark.one_build

FLAGS: Final = ("--max-arguments", "3", "--max-value-bytes", "8", "--max-key-bytes", "8", "--max-request-bytes", "50")
PROVOKED_BY: Final[Mapping[str, bytes]] = {
    "-ERR Protocol error: unbalanced quotes in request": b'ECHO "a\r\n',
    "-ERR Protocol error: too big inline request": b"ECHO a b c\r\n",
    "-ERR Protocol error: zero byte in inline request": b"ECHO \0\r\n",
    "-ERR Protocol error: expected '$', got 'x'": b"*1\r\nx4\r\n",
    "-ERR Protocol error: invalid multibulk length": b"*4\r\n",
    "-ERR Protocol error: invalid bulk length": b"*1\r\n$2000\r\n",
    "-ERR Protocol error: request of more than N bytes": b"*3\r\n$1000\r\n" + bytes(1000) + b"\r\n$1000\r\n",
    "-ERR Protocol error: expected CRLF behind a bulk string": b"*1\r\n$4\r\nPINGxy",
    "-ERR Protocol error: too big mbulk count string": b"*" + b"1" * 70_000,
    "-ERR DB index is out of range: ...": request("SELECT", 1),
    "-ERR REPLICAOF is not supported but with NO ONE: ...": request("REPLICAOF", "host", 4000),
    "-ERR a key cannot be empty": request("GET", ""),
    "-ERR CLIENT PAUSE is not supported": request("CLIENT", "PAUSE", 1),
    "-ERR CLIENT TRACKING needs RESP3 (HELLO 3), and no REDIRECT: ...": request("CLIENT", "TRACKING", "ON"),
    "-ERR CONFIG REWRITE is not supported: ...": request("CONFIG", "REWRITE"),
    "-ERR invalid cursor ...": request("SCAN", "7"),
}
"""What provokes each error that stands in the text, on a connection of its own. Those of the table of what does not mix
are provoked by what its rows and columns say."""

STATES: Final[Mapping[str, tuple[str, ...]]] = {
    "inside START": ("START",),
    "after WATCH": ("WATCH a",),
    "after MULTI": ("MULTI",),
}
"""What comes before, by the columns of the table of what does not mix."""

REQUESTS: Final[Mapping[str, str]] = {"WATCH": "WATCH b"}


def quoted() -> list[Span]:
    """Return every error that is quoted in a document."""
    return [span for path in REPLAYED for span in document(path).spans() if span.text.startswith("-ERR ")]


def ask(wire: Wire, data: bytes) -> str:
    """Send bytes, and return the first error that comes back, as it is quoted."""
    wire.send(data)
    while True:
        reply = wire.reply()
        if isinstance(reply, Typed) and reply.kind == "-":
            assert isinstance(reply.value, bytes)
            return "-" + reply.value.decode()


def mixed() -> list[tuple[str, str, str, str]]:
    """Return the cells of the table of what does not mix: the place, the state, the request, and what is said."""
    return [
        (row.where, state, command, row.cells[state])
        for row in document("docs/protocol.md").table("asked", *STATES)
        for state in STATES
        for command in row.cells["asked"].split(", ")
    ]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Return a server with limits that are easily reached."""
    with Server(*FLAGS) as server:
        yield server


def test_every_error_in_the_text_is_answered(server: Server) -> None:
    """To the very byte."""
    in_table = {code for *_, said in mixed() for code in codes(said)}
    for where, error in quoted():
        if error not in in_table:
            assert error in PROVOKED_BY, f"{where}: how is it provoked? Say so in {__file__}: {error}"
            with Wire((server.host, server.port)) as wire:
                asked = PROVOKED_BY[error]
                agree(where, repr(asked)[:99], re.sub(r"\bN\b", "...", error), ask(wire, asked))


@pytest.mark.parametrize(("where", "state", "command", "said"), mixed())
def test_what_does_not_mix(where: str, state: str, command: str, said: str, server: Server) -> None:
    """A cell in code is the error that is answered; any other means that there is none."""
    with Wire((server.host, server.port)) as wire:
        for before in STATES[state]:
            wire.ask(*before.split())
        reply = wire.ask(*REQUESTS.get(command, command).split())
    what = f"{command} {state}"
    if errors := codes(said):
        assert isinstance(reply, Typed), f"{where}: {what} is answered with {reply!r}"
        assert isinstance(reply.value, bytes), f"{where}: {what} is answered with {reply!r}"
        happened = reply.kind + reply.value.decode()
        agree(where, what, errors[0], happened if " " in errors[0] else happened.split()[0])
    else:
        assert not isinstance(reply, Typed) or reply.kind != "-", f"{where}: {what} is answered with {reply!r}"

"""Opening a relay to what answers where the leader should be, on real sockets."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import pytest

from kvs.adapters.inbound.net.certificates import ClientTls, TlsFiles
from kvs.adapters.inbound.net.opening import FULL, NO_LEADER, REFUSED, Opened, open_relay
from kvs.adapters.inbound.net.relay import ADMITTED
from kvs.domain.errors import LimitError
from kvs.lookup import Lookups
from kvs.ports.candidate import Leader
from tests.support.waiting import TIMEOUT_S

HOST: Final = "127.0.0.1"
PREAMBLE: Final = b"preamble\n"
LIMIT: Final = b'{"status": "Error", "code": "limit", "mesg": "There are too many clients already."}\n'

Answers = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def opened(answers: Answers, *, admits: bool = True) -> tuple[bytes, bytes]:
    """Open a relay to who answers like this; return what came behind the admission, at once and by the end."""
    return asyncio.run(_opened(answers, admits=admits))


async def _opened(answers: Answers, *, admits: bool) -> tuple[bytes, bytes]:
    served: asyncio.Future[None] = asyncio.Future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readuntil(b"\n") == PREAMBLE
        with suppress(ConnectionError):
            await answers(reader, writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        served.set_result(None)

    async with asyncio.timeout(TIMEOUT_S), await asyncio.start_server(serve, HOST, 0) as server:
        leader = Leader(HOST, server.sockets[0].getsockname()[1], 7, admits=admits)
        try:
            relay = await open_relay(leader, PREAMBLE, Lookups(), ClientTls(TlsFiles("", "", "")))
            return relay.received, await rest_of(relay)
        finally:
            await served  # which it is only when its socket is closed, too


async def rest_of(relay: Opened) -> bytes:
    """Return what comes up to the end."""
    loop, rest = asyncio.get_running_loop(), b""
    with relay.sock:
        while data := await loop.sock_recv(relay.sock, 100):
            rest += data
    return rest


def saying(*pieces: bytes) -> Answers:
    """Return who says this in pieces, and then waits for the other side to close, or closes if the last is empty."""

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if pieces and pieces[-1]:
            await reader.read()

    return answers


@pytest.mark.parametrize("size", [1, 5, 100])
def test_a_leader_that_admits(size: int) -> None:
    """What it says behind that is for the client."""
    said = ADMITTED + b"\nmessage"
    at_once, later = opened(saying(*(said[at : at + size] for at in range(0, len(said), size)), b""))
    assert at_once + later == b"message"


@pytest.mark.parametrize(
    ("pieces", "reason"),
    [
        ([], REFUSED),
        ([b"\0KVS-RELAY-AD", b""], NO_LEADER),
        ([b"HTTP/1.1 400 Bad Request\r\n\r\n"], NO_LEADER),
        ([b"\0" * 5000], NO_LEADER),
        ([b"[]\n"], NO_LEADER),
        ([b'{"status": "Error", "code": "protocol"}\n'], NO_LEADER),
    ],
    ids=["closed", "cut", "HTTP", "endless", "list", "server"],
)
def test_who_does_not_admit_is_no_leader(pieces: list[bytes], reason: str) -> None:
    """Whether it closes or talks."""
    with pytest.raises(OSError, match=reason):
        opened(saying(*pieces))


def test_who_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """For longer than a bounded time."""
    monkeypatch.setattr("kvs.adapters.inbound.net.opening.TIMEOUT_S", 0.1)

    async def answers(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        assert await reader.read() == b""  # the socket is closed, then

    with pytest.raises(TimeoutError):
        opened(answers)


def test_a_leader_with_too_many_clients() -> None:
    """Leads all the same."""
    with pytest.raises(LimitError, match=FULL):
        opened(saying(LIMIT, b""))


def test_a_leader_of_an_older_version() -> None:
    """Says nothing until it has a request."""
    assert opened(saying(b"reply", b""), admits=False) == (b"", b"reply")

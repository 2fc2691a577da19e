"""A channel with a guard: handshakes wait for their turn, are bounded, and end as they should."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import pytest

from kvs.adapters.inbound.net.certificates import ServerTls
from kvs.adapters.inbound.net.guard import Guard, Terms
from kvs.adapters.inbound.net.guarded import HANDSHAKE_UNITS
from kvs.adapters.inbound.net.handshakes import Handshakes
from kvs.adapters.inbound.net.reasons import CLOSED_BY_CLIENT, HANDSHAKE_DISPLACED, HANDSHAKE_FAILED
from kvs.adapters.inbound.net.tls import TlsStream
from kvs.domain.errors import LimitError
from tests.support.secured import SERVER_NAME, client_side, server_files
from tests.support.sessions import Bench
from tests.support.socketless import Socketless
from tests.support.waiting import TIMEOUT_S

# An interpreted class cannot derive from the compiled one.
pytestmark = pytest.mark.one_build

TLS: Final = ServerTls(server_files())
PONG: Final = b'{"status": "Ok", "result": "PONG"}\n'


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop go on until something is so."""
    while not condition():  # noqa: ASYNC110  # it is no event for others
        await asyncio.sleep(0)


class Secured:
    """A channel, and a client in TLS."""

    def __init__(self, *, tls_required: bool = False) -> None:
        self.client = TlsStream(client_side(), server_side=False, server_hostname=SERVER_NAME)
        self.channel = Socketless(Bench(), guard=Guard(Terms(TLS.now, tls_required)))
        self._taken = 0

    def taken(self) -> bytes:
        """Return what the client has been sent since this was last asked."""
        taken, self._taken = self.channel.sent[self._taken :], len(self.channel.sent)
        return taken

    async def until_sent(self) -> bytes:
        """Wait until the client has been sent something; return it."""
        sent = len(self.channel.sent)
        await until(lambda: len(self.channel.sent) > sent or sent > self._taken)
        return self.taken()

    async def shake_hands(self) -> None:
        """Do the handshake."""
        while not self.client.established:
            self.client.handshake()
            self.channel.arrive(self.client.take_sealed())
            if not self.client.established:
                self.client.feed(await self.until_sent())
        await until(lambda: not self.channel.beginning)
        self.client.receive(self.taken())


def play(script: Callable[[Secured], Awaitable[None]], *, tls_required: bool = False) -> None:
    """Run a script with a channel."""

    async def run() -> None:
        secured = Secured(tls_required=tls_required)
        async with asyncio.timeout(TIMEOUT_S):
            await script(secured)
        secured.channel.abort()

    asyncio.run(run())


def test_a_handshake_waits_for_its_turn() -> None:
    """Nothing more is read until then, and the work is charged."""

    async def script(secured: Secured) -> None:
        secured.client.handshake()
        secured.channel.arrive(secured.client.take_sealed())
        assert not secured.channel.reading
        assert secured.channel.sent == b""
        used = secured.channel.tick_of_all.used_units
        secured.client.feed(await secured.until_sent())
        assert secured.channel.reading
        assert secured.channel.tick_of_all.used_units - used >= HANDSHAKE_UNITS
        await secured.shake_hands()
        secured.channel.arrive(secured.client.seal(b"PING\n"))
        assert secured.client.receive(secured.taken()) == PONG

    play(script)


def test_the_end_of_tls_is_the_end_of_input() -> None:
    """What came before is answered; the client is told the end in TLS, by the transport."""

    async def script(secured: Secured) -> None:
        await secured.shake_hands()
        secured.channel.arrive(secured.client.seal(b"PING\nPI") + secured.client.finish())
        await until(lambda: secured.channel.closed)
        said = secured.client.receive(secured.taken())
        assert said.startswith(PONG)
        assert b"did not end in LF" in said
        assert secured.channel.reason in (CLOSED_BY_CLIENT, "usage")

    play(script)


def test_what_has_arrived_is_run_at_the_stop() -> None:
    """As much as the kernel has, counted in ciphertext; what comes later is not."""

    async def script(secured: Secured) -> None:
        await secured.shake_hands()
        packets = [secured.client.seal(b"PING\n" * 3), secured.client.seal(b"PING\n")]
        secured.channel.to_come = sum(map(len, packets))
        secured.channel.drain()
        for packet in packets:
            assert not secured.channel.connection.closing
            secured.channel.arrive(packet)
        assert secured.channel.connection.closing
        assert secured.client.receive(secured.taken()) == PONG * 4

    play(script)


def test_the_stop_in_the_middle_of_a_record() -> None:
    """Waits for no more than there is."""

    async def script(secured: Secured) -> None:
        await secured.shake_hands()
        packet = secured.client.seal(b"PING\n")[:-1]
        secured.channel.to_come = len(packet)
        secured.channel.drain()
        secured.channel.arrive(packet)
        assert secured.channel.connection.closing

    play(script)


def test_the_last_word_waits_for_the_handshake() -> None:
    """Of a server that is full, which closes at once otherwise."""

    async def script(secured: Secured) -> None:
        channel = secured.channel
        channel.connection.fail(LimitError("Full."))
        channel.tick_of_all.begin()
        channel.tick_of_all.mark_dirty(channel)
        channel.tick_of_all.end()
        assert channel.beginning
        assert (channel.sent, channel.closed) == (b"", False)
        await secured.shake_hands()
        await until(lambda: channel.closed)

    play(script)


def test_garbage_ends_it() -> None:
    """With the alert of TLS, if there is a handshake."""

    async def script(secured: Secured) -> None:
        await secured.shake_hands()
        sealed = secured.client.seal(b"START\nPUT a 1\n")
        secured.channel.arrive(sealed)
        assert secured.channel.connection.session.depth == 1
        secured.channel.arrive(secured.client.seal(b"COMMIT\n")[:-1] + b"x")
        await until(lambda: secured.channel.closed)
        assert secured.channel.reason == HANDSHAKE_FAILED
        assert secured.channel.connection.session.depth == 0
        secured.client.receive(secured.taken())
        assert "bad record mac" in secured.client.failure

    play(script)


def test_the_oldest_gives_way() -> None:
    """Beyond the bound; those that have done it are not counted."""

    async def run() -> None:
        handshakes = Handshakes(2)
        channels = [Secured(tls_required=True).channel for _ in range(4)]
        for channel in channels[:2]:
            handshakes.add(channel)
        handshakes.discard(channels[0])
        for channel in channels[2:]:
            handshakes.add(channel)
        assert [channel.reason for channel in channels] == ["", HANDSHAKE_DISPLACED, "", ""]
        assert len(handshakes) == 2
        for channel in channels:
            channel.abort()

    asyncio.run(run())

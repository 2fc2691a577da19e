"""A relayed connection between a client that has no socket and a leader at the other end of a real one."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import pytest

from kvs.adapters.inbound.net.relayed import RelayedConnection
from kvs.adapters.inbound.net.upstream import Upstream
from kvs.adapters.inbound.protocol.connection import Connection
from kvs.domain.errors import StorageUnavailableError
from tests.support.detection import new_detector
from tests.support.sessions import Bench
from tests.support.waiting import TIMEOUT_S

if TYPE_CHECKING:
    from kvs.application.memory_budget import MemoryBudget

MUCH: Final = b"x" * (1 << 20)
NO: Final = b'{"status": "Error", "code": "unavailable", "mesg": "No."}\n'


class Relay:
    """A client's connection that is handed over, and the leader's end of the socket.

    Attributes:
        former: The connection that has come upon the request.
        relayed: The one that takes its place, once it is handed over.
        leader: The leader's end.
        woken: How often the channel was woken.
        ended: How often the standby was told of the end.
    """

    def __init__(self, sent: bytes) -> None:
        self.loop = asyncio.get_running_loop()
        self.bench = Bench()
        self.budget: MemoryBudget = self.bench.budget
        former = new_detector(self.bench).connect()
        assert isinstance(former, Connection)
        self.former = former
        self.woken = 0
        self.ended = 0
        self.relayed: RelayedConnection | None = None
        self.ours, self.leader = socket.socketpair()
        for end in (self.ours, self.leader):
            end.setblocking(False)
        former.hand_over = self._hand_over
        former.receive(sent)

    @property
    def taken(self) -> RelayedConnection:
        """The relayed connection, which there is."""
        assert self.relayed is not None
        return self.relayed

    def connect(self) -> None:
        """Connect it to the leader."""
        self.taken.connect_by(None)
        upstream = Upstream(self.loop, self.ours, self.taken.take, self.taken.drained)
        self.taken.connected(upstream)

    async def received(self) -> bytes:
        """Return what the leader has received up to the end."""
        received = b""
        while data := await self.loop.sock_recv(self.leader, 1 << 20):
            received += data
        return received

    def output(self) -> bytes:
        """Return what goes to the client."""
        return b"".join(self.taken.take_output()[0])

    async def until_output(self) -> bytes:
        """Return what goes to the client, as soon as there is something."""
        while True:
            await asyncio.sleep(0)
            output = self.output()
            if output:
                return output

    async def until_closing(self) -> None:
        """Wait for the end."""
        while not self.taken.closing:  # noqa: ASYNC110  # it is no event for others
            await asyncio.sleep(0)

    def close(self) -> None:
        """Close everything, and see that nothing is left."""
        (self.relayed or self.former).close()
        self.former.close()
        self.leader.close()
        self.ours.close()
        assert self.budget.used_bytes == 0
        self.bench.assert_nothing_is_held()

    def _hand_over(self) -> None:
        relayed = self.relayed = RelayedConnection(self.former, self.budget, self._note_end)
        relayed.wake = self._wake
        relayed.connect_by(self.loop.create_task(asyncio.sleep(TIMEOUT_S)))

    def _wake(self) -> None:
        self.woken += 1

    def _note_end(self, _: RelayedConnection) -> None:
        self.ended += 1


def play(sent: bytes, script: Callable[[Relay], Awaitable[None]]) -> None:
    """Run a script with a client that has sent this."""

    async def run() -> None:
        relay = Relay(sent)
        async with asyncio.timeout(TIMEOUT_S):
            await script(relay)
        relay.close()
        assert relay.ended <= 1

    asyncio.run(run())


def test_all_from_the_first_request_on() -> None:
    """Goes to the leader; what was answered before is in front of the leader's replies."""

    async def script(relay: Relay) -> None:
        assert relay.taken.busy
        assert relay.taken.backlog
        relay.connect()
        assert not relay.taken.backlog
        assert relay.woken
        relay.taken.receive(b"PUT a b\n")
        relay.taken.end_of_input()
        assert await relay.received() == b"GET a\nPING\nPU" + b"PUT a b\n"
        relay.taken.take(b"theirs")
        assert relay.output() == b'{"status": "Ok", "result": "PONG"}\n' + b"theirs"

    play(b"PING\n GET a\nPING\nPU", script)


@pytest.mark.parametrize("ends", [False, True])
def test_input_that_ends_before_the_leader_is_reached(ends: bool) -> None:
    """Ends there, too."""

    async def script(relay: Relay) -> None:
        if ends:
            relay.taken.end_of_input()
        relay.connect()
        if not ends:
            relay.taken.end_of_input()
        assert await relay.received() == b"GET a\n"

    play(b"GET a\n", script)


@pytest.mark.parametrize("ends", [False, True])
def test_what_cannot_be_relayed_is_refused(ends: bool) -> None:
    """By the connection that was there before, which goes on; at the end of input it closes behind the rest."""

    async def script(relay: Relay) -> None:
        if ends:
            relay.taken.end_of_input()
        relay.taken.give_back(StorageUnavailableError("No."))
        assert relay.woken
        assert relay.taken.successor is relay.former
        assert relay.ended == 1
        out = b"".join(relay.former.take_output()[0])
        while relay.former.backlog:
            relay.former.resume()
            out += b"".join(relay.former.take_output()[0])
        assert out == NO + b'{"status": "Ok", "result": "PONG"}\n'
        assert relay.former.closing == ends

    play(b"GET a\nPING\n", script)


def test_a_leader_that_does_not_read() -> None:
    """Is not sent more: the client is not read from, until all has been taken; what is kept is charged."""

    async def script(relay: Relay) -> None:
        relay.connect()
        while not relay.taken.backlog:
            relay.taken.receive(MUCH)
        assert relay.taken.busy
        assert relay.budget.used_bytes > 0
        before = relay.woken
        while relay.taken.backlog:
            await relay.loop.sock_recv(relay.leader, 1 << 20)
        assert not relay.taken.busy
        assert relay.woken > before
        assert relay.budget.used_bytes == 0

    play(b"GET a\n", script)


def test_a_client_that_does_not_read() -> None:
    """The leader is not read from, until the client has taken what there is."""

    async def script(relay: Relay) -> None:
        relay.connect()
        relay.taken.output_full = True
        sending = asyncio.ensure_future(relay.loop.sock_sendall(relay.leader, MUCH * 8))
        while not relay.taken.backlog:  # noqa: ASYNC110  # as soon as something has come
            await asyncio.sleep(0)
        for _ in range(100):
            await asyncio.sleep(0)
        taken = relay.output()
        assert 0 < len(taken) < len(MUCH)
        assert not relay.taken.busy
        relay.taken.output_full = False
        relay.taken.resume()
        assert not relay.taken.backlog
        while len(taken) < 8 * len(MUCH):
            await asyncio.sleep(0)
            taken += relay.output()
        await sending

    play(b"GET a\n", script)


def test_both_wait_for_each_other_in_any_order() -> None:
    """Whoever begins to read again, the other side goes on by itself."""

    async def script(relay: Relay) -> None:
        relay.connect()
        while not relay.taken.backlog:
            relay.taken.receive(MUCH)
        relay.taken.output_full = True
        relay.leader.send(b"reply")
        assert await relay.until_output()
        relay.taken.output_full = False  # while it is busy, so the channel does not resume it
        while relay.taken.backlog:
            await relay.loop.sock_recv(relay.leader, 1 << 20)
        relay.leader.send(b"again")
        assert await relay.until_output()

    play(b"GET a\n", script)


@pytest.mark.parametrize("how", ["close", "end"])
def test_the_end(how: str) -> None:
    """A leader that closes ends the connection, behind what it has sent; so does a standby, at once."""

    async def script(relay: Relay) -> None:
        relay.connect()
        relay.leader.send(b"last")
        assert await relay.until_output() == b"last"
        if how == "end":
            relay.taken.end("reason")
        else:
            relay.leader.close()
        await relay.until_closing()
        assert relay.taken.close_reason == ("reason" if how == "end" else "closed by leader")
        assert relay.ended == 1
        assert relay.taken.receive(b"GET b\n") == 0

    play(b"GET a\n", script)

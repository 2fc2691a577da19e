"""What a client sees while commits are made durable: nothing, until they are; and everything, in order, then."""

import asyncio
import io
from collections.abc import Awaitable, Callable

import pytest

from kvs.adapters.inbound.net.registry import ChannelRegistry
from kvs.adapters.inbound.net.relay import RelayGuard, preamble
from kvs.adapters.inbound.net.sweep import Sweep
from kvs.adapters.inbound.net.timeouts import ServerLimits
from kvs.adapters.inbound.protocol.client_state import ClientState
from kvs.logs import make_logger
from tests.support.naive_storage import NaiveStorage
from tests.support.sessions import Bench
from tests.support.socketless import Socketless

# An interpreted class cannot derive from the compiled channel.
pytestmark = pytest.mark.one_build

OK = b"+OK\r\n"
OUTPUT_BYTES = 5000


class SlowDisk(NaiveStorage):
    """An engine whose batches are durable when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.mark = 0
        self.durable = 0
        self.failure: Exception | None = None
        self._seen = 0
        self._wake: Callable[[], None] = lambda: None

    def seal(self) -> int:
        """See :class:`kvs.ports.storage.Storage`."""
        if len(self._log) != self._seen:
            self._seen = len(self._log)
            self.mark += 1
        return self.mark

    @property
    def durable_mark(self) -> int:
        """See :class:`kvs.ports.storage.Storage`."""
        return self.durable

    def when_durable(self, wake: Callable[[], None]) -> None:
        """See :class:`kvs.ports.storage.Storage`."""
        self._wake = wake

    def check(self) -> None:
        """See :class:`kvs.ports.storage.Storage`."""
        if self.failure is not None:
            raise self.failure

    async def write(self, mark: int = 0) -> None:
        """Make batches durable, all of them or those up to a mark."""
        self.durable = mark or self.mark
        await self.tell()

    async def fail(self) -> None:
        """Fail all later batches."""
        self.failure = OSError("no disk")
        await self.tell()

    async def tell(self) -> None:
        """Wake the server, and wait until it has acted."""
        self._wake()
        await asyncio.sleep(0)
        await asyncio.sleep(0)


class Stage:
    """Clients of one server."""

    def __init__(self) -> None:
        self.disk = SlowDisk()
        self.bench = Bench(self.disk)
        self.a = Socketless(self.bench, max_output_bytes=OUTPUT_BYTES)
        self.b = Socketless(self.bench, self.a)

    def sent(self) -> list[bytes]:
        """Return what each has been sent since the last call."""
        sent = [self.a.sent, self.b.sent]
        self.a.sent = self.b.sent = b""
        return sent


def play(script: Callable[[Stage], Awaitable[None]]) -> None:
    """Run a script with a stage."""

    async def run() -> None:
        await script(Stage())

    asyncio.run(run())


def request(*words: str) -> bytes:
    """Encode a request."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word.encode()) for word in words)


def test_a_reader_waits_for_what_it_has_read() -> None:
    """What another has written is visible, and told only when it is durable."""

    async def script(stage: Stage) -> None:
        stage.a.arrive(request("SET", "k", "v"))
        stage.b.arrive(request("GET", "k"))
        assert stage.sent() == [b"", b""]
        await stage.disk.write()
        assert stage.sent() == [OK, b"$1\r\nv\r\n"]
        stage.b.arrive(request("GET", "k"))
        assert stage.sent() == [b"", b"$1\r\nv\r\n"]

    play(script)


@pytest.mark.parametrize(
    "words", [["GET", "n"], ["SET", "k", "w", "NX"], ["DEL", "n"], ["PING"], ["NONSENSE"], ["DBSIZE"]], ids=" ".join
)
def test_nothing_passes_what_is_held(words: list[str]) -> None:
    """Neither another's reply nor one's own, whatever it tells of."""

    async def script(stage: Stage) -> None:
        stage.a.arrive(request("SET", "k", "v"))
        for client in (stage.a, stage.b):
            client.arrive(request(*words))
        assert stage.sent() == [b"", b""]
        await stage.disk.write()
        for sent, before in zip(stage.sent(), [OK, b""], strict=True):
            assert sent.startswith(before)
            assert len(sent) > len(before)

    play(script)


def test_replies_come_in_order_each_with_its_batch() -> None:
    """A client that goes on sending is answered batch by batch."""

    async def script(stage: Stage) -> None:
        for number in range(3):
            stage.a.arrive(request("APPEND", "k", "x" * (number + 1)))
        for mark, reply in enumerate([b":1\r\n", b":3\r\n", b":6\r\n"], 1):
            await stage.disk.write(mark)
            assert stage.sent() == [reply, b""]

    play(script)


def test_a_connection_closes_behind_what_is_held() -> None:
    """Not before its last replies have been sent."""

    async def script(stage: Stage) -> None:
        stage.a.arrive(request("SET", "k", "v"))
        stage.a.arrive(request("QUIT"))
        assert (stage.sent(), stage.a.closed) == ([b"", b""], False)
        await stage.disk.write()
        assert (stage.sent(), stage.a.closed) == ([OK + OK, b""], True)

    play(script)


@pytest.mark.parametrize("last", [[["QUIT"]], [["SET", "k", "w"], ["QUIT"]]], ids=["quit", "set, quit"])
def test_a_connection_closes_behind_what_is_not_held_yet(last: list[list[str]]) -> None:
    """If an earlier batch turns out to be durable in the tick with the last requests."""

    async def script(stage: Stage) -> None:
        stage.a.arrive(request("SET", "k", "v"))
        stage.disk.durable = stage.disk.mark
        stage.a.arrive(b"".join(request(*words) for words in last))
        await stage.disk.write()
        assert (stage.sent(), stage.a.closed) == ([OK + OK * len(last), b""], True)

    play(script)


def test_a_drain_waits_for_what_is_held() -> None:
    """The last requests before a stop are answered, too."""

    async def script(stage: Stage) -> None:
        stage.a.arrive(request("SET", "k", "v"))
        stage.a.drain()
        stage.a.tick_of_all.end()
        assert not stage.a.closed
        await stage.disk.write()
        assert (stage.sent(), stage.a.closed) == ([OK, b""], True)

    play(script)


def test_a_client_with_much_held_output_is_not_served() -> None:
    """It goes on when that has been sent."""

    async def script(stage: Stage) -> None:
        stage.a.arrive(request("SET", "k", "v" * OUTPUT_BYTES))
        assert stage.a.reading
        stage.a.arrive(request("GET", "k"))
        assert not stage.a.reading
        await stage.disk.write()
        assert stage.a.reading
        assert [len(sent) for sent in stage.sent()] == [5 + OUTPUT_BYTES + 9, 0]

    play(script)


def test_held_output_counts_in_the_budget_of_all_clients() -> None:
    """If there is much of it, and until it has been sent, or its client has left."""

    async def script(stage: Stage) -> None:
        budget = stage.bench.budget
        stage.a.arrive(request("SET", "k", "v" * 5000))
        stage.b.arrive(request("GET", "k"))
        assert budget.used_bytes == 5000 + 9
        stage.b.abort()
        assert budget.used_bytes == 0
        await stage.disk.write()
        assert (stage.sent(), budget.used_bytes) == ([OK, b""], 0)

    play(script)


def test_a_client_goes_on_though_the_kernel_has_not_taken_all() -> None:
    """What is left is less than what stops it: the transport has not said so, and will not say that it may go on."""

    async def script(stage: Stage) -> None:
        stage.a.arrive(request("SET", "k", "v" * OUTPUT_BYTES))
        stage.a.arrive(request("GET", "k"))
        stage.a.unsent_bytes = OUTPUT_BYTES - 1
        await stage.disk.write()
        assert stage.a.reading
        assert not stage.a.connection.output_full

    play(script)


def test_a_client_that_takes_nothing_does_not_go_on() -> None:
    """Though nothing is held any more; it does when the transport says so."""

    async def script(stage: Stage) -> None:
        stage.a.arrive(request("SET", "k", "v" * OUTPUT_BYTES))
        stage.a.arrive(request("GET", "k"))
        stage.a.pause_writing()
        await stage.disk.write()
        assert not stage.a.reading
        stage.a.resume_writing()
        assert stage.a.reading

    play(script)


SESSION_S = 100.0


def look(client: Socketless, now_s: float) -> bool:
    """Look for timeouts; return whether the client has been ended."""
    limits = ServerLimits(10, 0, 0, 0, 0, SESSION_S, 0, OUTPUT_BYTES, 16, 1 << 20)
    log = make_logger("info", "json", io.StringIO())
    registry = ChannelRegistry()
    registry.add(client)
    Sweep(asyncio.get_running_loop(), registry, limits, lambda: None, log)._check(client, now_s)
    return client.connection.closing


def test_time_held_counts_for_no_timeout() -> None:
    """Neither as idle, nor for the duration of a transaction, while it is held and afterwards."""

    async def script(stage: Stage) -> None:
        loop = asyncio.get_running_loop()
        stage.b.arrive(request("START"))
        started_s = stage.b.connection.session.started_at_s = loop.time()
        stage.a.arrive(request("SET", "k", "v"))
        stage.b.arrive(request("GET", "k"))
        assert stage.b.idle_s(loop.time() + 1000) == 0.0
        assert not look(stage.b, loop.time() + 1000)
        begin_s = loop.time()
        await asyncio.sleep(0)
        await stage.disk.write()
        assert stage.b.connection.session.started_at_s > started_s
        assert stage.b.connection.session.started_at_s - started_s <= loop.time() - begin_s + 1
        assert stage.b.idle_s(loop.time() + 1000) >= 999
        assert look(stage.b, loop.time() + 1000)

    play(script)


def test_a_client_that_goes_on_sending_uses_its_own_time() -> None:
    """It does not wait for what is held, so its transaction grows old; one that begins meanwhile begins then."""

    async def script(stage: Stage) -> None:
        stage.b.arrive(request("START"))
        stage.a.arrive(request("SET", "k", "v"))
        for client in (stage.a, stage.b):
            client.arrive(request("PING"))
            client._held.since_s -= 50  # as if it had been held for that long
        stage.b.arrive(request("PING"))
        stage.a.arrive(request("START"))
        sessions = [client.connection.session for client in (stage.a, stage.b)]
        begun_s = [session.started_at_s for session in sessions]
        await stage.disk.write()
        for session, before_s in zip(sessions, begun_s, strict=True):
            assert session.started_at_s - before_s < 50

    play(script)


def test_a_relay_is_answered_before_the_stop() -> None:
    """Its preamble is input that has arrived, too, though no request. Of an older standby, which does not wait."""

    async def script(stage: Stage) -> None:
        said = preamble("secret", 1, "1.2.3.4:5", ClientState(version=2)).replace(b',"waits":true', b"")
        for client, data in ((stage.a, said + request("PING")), (stage.b, said[:10])):
            client._context.relays = RelayGuard("secret", 1)
            client.to_come = len(data)
            client.drain()
            client.arrive(data)
            for _ in range(10):
                await asyncio.sleep(0)
            assert client.answered
        assert stage.sent() == [b"+PONG\r\n", b""]

    play(script)


@pytest.mark.parametrize("behind", [[], [["QUIT"]], [["GET", "k"]] * 3], ids=["alone", "closing", "pipelined"])
def test_a_failure_is_told_once_and_nothing_else(behind: list[list[str]]) -> None:
    """To each client that is owed a reply, in place of the first; who is owed none is not disturbed."""

    async def script(stage: Stage) -> None:
        idle, late = Socketless(stage.bench, stage.a), Socketless(stage.bench, stage.a)
        for client in (idle, late):
            client.arrive(request("PING"))
            client.sent = b""
        stage.a.arrive(request("SET", "k", "v"))
        for words in behind:
            stage.a.arrive(request(*words))
        stage.b.arrive(request("GET", "k"))
        stage.a.tick_of_all._max_batches_in_flight = 1
        stage.a.tick_of_all._look_whether_full()
        late.arrive(request("GET", "k"))  # and is not run
        assert late.deferred
        await stage.disk.fail()
        assert late.sent.startswith(b"-OUTCOME_UNKNOWN ")
        assert stage.a.failures == [stage.disk.failure]
        for sent in stage.sent():
            assert sent.startswith(b"-OUTCOME_UNKNOWN ")
            assert sent.count(b"\r\n") == 1
        assert [channel.closed for channel in (stage.a, stage.b, idle)] == [True, True, False]
        await stage.disk.write()
        stage.b.arrive(request("GET", "k"))
        assert (stage.sent(), idle.sent) == ([b"", b""], b"")
        assert stage.bench.budget.used_bytes == 0

    play(script)

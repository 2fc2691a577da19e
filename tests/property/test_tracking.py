"""Clients that keep what they have read until they are told, while all kinds of clients change it.

Whatever happens in which order, no client has a value that is out of date once nothing is under way any more. What they
are told comes in shares, long after the changes became durable, and commands are interrupted.
"""

import io
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvs.adapters.inbound.line.connection import line_protocol
from kvs.adapters.inbound.line.limits import LineLimits
from kvs.adapters.inbound.protocol.connection import Connection
from kvs.adapters.inbound.protocol.observation import Observation
from kvs.adapters.storage.memory.storage import MemoryStorage
from kvs.domain.values import string_or_none
from kvs.logs import make_logger
from tests.support.resp_connection import RespServer
from tests.support.resp_wire import OK, QUEUED, Reply, Typed, read_reply, request, words
from tests.support.sessions import UNLIMITED, output_of
from tests.support.users import open_to_all

if TYPE_CHECKING:
    from kvs.application.changes import Change

KEYS: Final = [b"a1", b"a2", b"b1"]
PREFIX: Final = b"a"
MODES: Final = ["", "NOLOOP", "BCAST PREFIX a", "BCAST NOLOOP PREFIX a"]
UNITS: Final = 7
SHARE: Final = 20

pytestmark = pytest.mark.draws


class Step(NamedTuple):
    """A request by a client, or something that happens to all of them."""

    actor: str
    said: str


class Caching:
    """A client that keeps replies, as the caches of libraries do: each by its command and key.

    Attributes:
        cache: What it has, by name of command and key; None: a key that is absent.
    """

    def __init__(self, server: RespServer, mode: str) -> None:
        self.connection = server.connect()
        self.cache: dict[tuple[bytes, bytes], bytes | int | None] = {}
        self._prefix = PREFIX if "PREFIX" in mode else b""
        self._forgets_own = "NOLOOP" in mode
        self._asked: deque[list[bytes]] = deque()
        self._queue: list[list[bytes]] | None = None
        self.say("HELLO 3")
        self.say(f"CLIENT TRACKING ON {mode}")

    def say(self, line: str) -> None:
        """Send a request."""
        asked = words(line)
        self._asked.append(asked)
        self.connection.receive(request(*asked))

    def hear(self) -> None:
        """Read what has come: replies in order, and messages between them."""
        output = output_of(self.connection)
        stream = io.BytesIO(output)
        while stream.tell() < len(output):
            reply = read_reply(stream)
            if isinstance(reply, Typed) and reply.kind == ">":
                self._forget(reply)
            else:
                self._answer(self._asked.popleft(), reply)

    def _forget(self, message: Typed) -> None:
        assert isinstance(message.value, list)
        name, keys = message.value
        assert name == b"invalidate"
        if isinstance(keys, list):
            for key in keys:
                assert isinstance(key, bytes)
                self._drop(key)
        else:
            assert keys == Typed("_", None)
            self.cache.clear()

    def _answer(self, asked: list[bytes], reply: Reply) -> None:
        if reply == QUEUED:
            assert self._queue is not None
            self._queue.append(asked)
            return
        name = asked[0]
        if name == b"MULTI" and reply == OK:
            self._queue = []
        elif name in (b"EXEC", b"DISCARD"):
            queue, self._queue = self._queue, None
            for queued, part in zip(queue or [], reply if isinstance(reply, list) else [], strict=False):
                self._answer(queued, part)
        elif name in (b"GET", b"EXISTS"):
            self._keep(name, asked[1:], [reply])
        elif name == b"MGET":
            self._keep(name, asked[1:], reply if isinstance(reply, list) else [])
        elif self._forgets_own and len(asked) > 1:
            for key in asked[1:]:
                self._drop(key)

    def _keep(self, name: bytes, keys: list[bytes], values: list[Reply]) -> None:
        for key, value in zip(keys, values, strict=False):
            if key.startswith(self._prefix) and (isinstance(value, bytes | int) or value == Typed("_", None)):
                self.cache[name, key] = value if isinstance(value, bytes | int) else None

    def _drop(self, key: bytes) -> None:
        for name in (b"GET", b"MGET", b"EXISTS"):
            self.cache.pop((name, key), None)


class World:
    """A server, clients that keep values, and others that do not."""

    def __init__(self) -> None:
        self.server = RespServer(storage=MemoryStorage(0, UNLIMITED), max_tick_requests=SHARE)
        self.server.limits.max_value_bytes = 100
        self.server.limits.max_arguments = 1000
        self.bench = self.server.bench
        self.bench.tracking._units = UNITS
        self.bench.tracking.max_keys = 2
        self.caching = {mode: Caching(self.server, mode) for mode in MODES}
        self._plain = self.server.connect()
        log = make_logger("info", "json", self.bench.log)
        open_line = line_protocol(
            LineLimits(100, 100, SHARE, 1 << 20), self.bench.budget, Observation(), open_to_all(), log
        )
        self._line = open_line(self.bench.open(), None)
        self._held: list[list[Change]] = []

    def do(self, step: Step) -> None:
        """Do a step."""
        if step.actor in self.caching:
            self.caching[step.actor].say(step.said)
        elif step.actor == "plain":
            self._plain.receive(request(*words(step.said)))
        elif step.actor == "line":
            self._line.receive(step.said.encode() + b"\n")
        elif step.said == "time passes":
            self.bench.expiry.end_tick()
            self.bench.clock.now_s += 1
            self._tick()
        else:
            self._tick(durable=step.said == "tick")

    def settle(self) -> None:
        """Let everything end that is under way."""
        self._tick()
        while self._held or self.bench.tracking.has_work or any(each.backlog for each in self._connections()):
            self._tick()

    def check(self) -> None:
        """Compare what clients keep with what there is."""
        session = self.bench.open()
        there = {key: string_or_none(session.get(key)) for key in KEYS}
        session.close()
        for mode, client in self.caching.items():
            for (name, key), value in client.cache.items():
                now = int(there[key] is not None) if name == b"EXISTS" else there[key]
                assert value == now, f"{mode or 'default'}: {name!r} {key!r} is {now!r}, and kept as {value!r}"

    def _tick(self, *, durable: bool = True) -> None:
        """Let a tick end; if it is not durable yet, what it has changed is told later."""
        bench = self.bench
        bench.expiry.end_tick()
        bench.expiry.begin_tick()
        for connection in self._connections():
            connection.resume(SHARE)
        self._held.append(bench.changes.take())
        if durable:
            for changes in self._held:
                if changes:
                    bench.tracking.became_durable(changes)
            self._held = []
        if bench.tracking.has_work:
            bench.tracking.step()
        for client in self.caching.values():
            client.hear()
        output_of(self._plain)
        output_of(self._line)

    def _connections(self) -> Iterator[Connection]:
        yield from (client.connection for client in self.caching.values())
        yield self._plain
        yield self._line


NAMES: Final = [key.decode() for key in KEYS]
LONG: Final = " ".join(NAMES * 40)
key_names = st.sampled_from(NAMES)
READS: Final = st.one_of(
    st.builds("GET {}".format, key_names), st.builds("EXISTS {}".format, key_names), st.just(f"MGET {LONG}")
)
WRITES: Final = st.one_of(
    st.builds("SET {} {}".format, key_names, st.integers(0, 9)),
    st.builds("SET {} {} PX 1500".format, key_names, st.integers(0, 9)),
    st.builds("DEL {}".format, key_names),
    st.builds("INCR {}".format, key_names),
    st.builds("PEXPIRE {} 500".format, key_names),
    st.just("FLUSHALL"),
    st.just("MSET a1 1 b1 2"),
)
BLOCKS: Final = st.sampled_from(["START", "COMMIT", "ROLLBACK", "MULTI", "EXEC", "DISCARD"])
LINES: Final = st.one_of(
    st.builds("PUT {} {}".format, key_names, st.integers(0, 9)),
    st.builds("DEL {}".format, key_names),
    st.builds("EXPIRE {} 1.5".format, key_names),
    st.sampled_from(["START", "COMMIT", "ROLLBACK"]),
)
STEPS: Final = st.one_of(
    st.builds(Step, st.sampled_from(MODES), READS),
    st.builds(Step, st.sampled_from(MODES), st.one_of(READS, WRITES, BLOCKS)),
    st.builds(Step, st.just("plain"), st.one_of(WRITES, BLOCKS)),
    st.builds(Step, st.just("line"), LINES),
    st.builds(Step, st.just("all"), st.sampled_from(["tick", "tick", "a tick that is not durable", "time passes"])),
)


def steps(*said: str) -> list[Step]:
    """Return steps of the client in default mode, or with another before a colon."""
    found = []
    for line in said:
        actor, colon, rest = line.rpartition(": ")
        found.append(Step(actor if colon else "", rest))
    return found


@given(script=st.lists(STEPS, max_size=40))
@example(script=steps("plain: SET a1 1 PX 500", "GET a1", "all: tick", "all: time passes", "all: time passes"))
@example(script=steps("START", "SET a1 1", "GET a1", "ROLLBACK"))
@example(script=steps("BCAST PREFIX a: START", "BCAST PREFIX a: SET a1 1", "BCAST PREFIX a: GET a1"))
@example(script=steps("START", "GET b1", "plain: SET a1 1", "GET a1", "GET b1"))
@example(script=steps(f"MGET {LONG}", "plain: SET a1 1", "all: tick"))
@example(script=steps("NOLOOP: GET a1", "NOLOOP: SET a1 1", "NOLOOP: GET a1", "all: tick", "line: PUT a1 2"))
@example(script=steps("GET a1", "line: START", "line: PUT a1 1", "all: tick", "line: COMMIT"))
@example(script=steps("MULTI", "GET a1", "SET a1 1", "EXEC"))
@example(script=steps("plain: SET a1 1", "GET a1", "all: tick", "plain: FLUSHALL"))
@example(script=steps("plain: SET a1 1", "GET a1", "all: tick", "plain: START", "plain: FLUSHALL", "plain: COMMIT"))
@example(script=steps("plain: SET a1 1", "GET a1", "all: tick", "line: DEL a1"))
@example(script=steps("GET a1", "all: tick", "plain: INCR a1"))
@example(
    script=steps("NOLOOP: MULTI", "NOLOOP: SET a1 1", "NOLOOP: GET a1", "NOLOOP: EXEC", "all: tick", "line: PUT a1 2")
)
@example(script=steps("GET a1", "plain: SET a1 1", "all: a tick that is not durable", "EXISTS a1", "all: tick"))
@example(script=steps("plain: SET a1 1", "START", "FLUSHALL", "GET a1", "ROLLBACK"))
def test_nobody_keeps_what_is_out_of_date(script: list[Step]) -> None:
    """After any steps, once nothing is under way."""
    world = World()
    for step in script:
        world.do(step)
    world.settle()
    world.check()
    world.do(Step("all", "time passes"))
    world.do(Step("all", "time passes"))
    world.settle()
    world.check()
    for client in world.caching.values():
        client.connection.close()
    world.settle()
    assert not world.bench.changes.wanted
    assert world.bench.tracking.table.items == 0

"""RESP out of any bytes, in whatever pieces they come: the same replies, no exception, and no more held than may be."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvs.adapters.inbound.net.registry import ChannelRegistry
from kvs.adapters.inbound.protocol import run_loop
from kvs.adapters.inbound.protocol.buffer import ReceiveBuffer
from kvs.adapters.inbound.protocol.connection import CHARGE_STEP_BYTES
from kvs.adapters.inbound.protocol.errors import ProtocolViolationError
from kvs.adapters.inbound.protocol.gate import Gate
from kvs.adapters.inbound.protocol.observation import Observation
from kvs.adapters.inbound.resp.connection import RespConnection
from kvs.adapters.inbound.resp.context import ServerContext
from kvs.adapters.inbound.resp.limits import ARGUMENT_OVERHEAD_BYTES, SLACK_BYTES, RespLimits
from kvs.adapters.inbound.resp.parser import HEADER_BYTES, LARGE_BULK_BYTES, MAX_LINE_BYTES, RequestParser
from kvs.adapters.storage.memory.storage import MemoryStorage
from kvs.application.disposal import Disposal
from tests.support.sessions import UNLIMITED, Bench, output_of, stored
from tests.support.users import open_to_all

MAX_KEY_BYTES: Final = 16
MAX_VALUE_BYTES: Final = 32
MAX_ARGUMENTS: Final = 12
MAX_BULK_BYTES: Final = MAX_VALUE_BYTES + SLACK_BYTES

REFUSAL: Final = b"-LIMIT The clients together hold max_clients_bytes"


def small_limits(max_tick_requests: int = 1 << 20, max_tick_output_bytes: int = UNLIMITED) -> RespLimits:
    """Return small limits on sizes, and those on what a tick may do."""
    return RespLimits(
        MAX_KEY_BYTES,
        MAX_VALUE_BYTES,
        MAX_ARGUMENTS,
        max_request_bytes=1,  # made as long as the longest SET
        max_reply_bytes=4096,
        max_transaction_bytes=2048,
        max_tick_requests=max_tick_requests,
        max_tick_output_bytes=max_tick_output_bytes,
    )


LIMITS: Final = small_limits()

OBSERVATION: Final = Observation()
"""Records the requests of all connections: it has thousands of counters, and they are tens of thousands."""

SECURITY: Final = open_to_all()
"""Lets everybody do everything, and is shared likewise."""


class Wire:
    """A connection, and all it has answered; it is checked for what it holds whenever it was given something."""

    def __init__(self, limits: RespLimits = LIMITS) -> None:
        self.bench = Bench(MemoryStorage(0, UNLIMITED), max_transaction_depth=3)
        self.limits = limits
        shared = ServerContext(
            ChannelRegistry(),
            {b"save": b""},
            self.bench.clock,
            self.bench.clock,
            Disposal(),
            OBSERVATION,
            self.bench.tracking,
            SECURITY,
        )
        gate = Gate(limits.max_key_bytes, limits.max_value_bytes, self.bench.budget, shared.security)
        self.connection = RespConnection(
            self.bench.open(), None, limits, shared, gate, self.bench.budget, self.bench.logger
        )
        self.output = b""

    def feed(self, chunks: Sequence[bytes]) -> "Wire":
        """Hand over what came, a chunk a tick, and run all of it."""
        for chunk in filter(None, chunks):
            self.connection.receive(chunk)
            self.output += output_of(self.connection)
            while self.connection.backlog:
                self.connection.resume()
                self.output += output_of(self.connection)
            self.check()
        return self

    def check(self) -> None:
        """Assert that no more is held than may be, and that the budget knows."""
        parser, buffer = self.connection._parser, self.connection._buffer
        assert sum(map(len, parser._arguments)) <= parser.held_bytes
        assert parser.held_bytes + buffer.held_bytes <= self.limits.max_request_bytes + HEADER_BYTES
        charged = self.bench.budget.used_bytes
        assert charged <= CHARGE_STEP_BYTES + self.limits.max_request_bytes + 2 * self.limits.max_transaction_bytes
        if self.connection.closing:
            assert not self.connection.mid_request
            assert not self.connection.backlog
            self.bench.assert_nothing_is_held()

    def end(self) -> "Wire":
        """Tell of the end of input, and take what follows."""
        self.connection.end_of_input()
        self.output += output_of(self.connection)
        assert self.connection.closing
        self.check()
        return self


@contextmanager
def scanning(on: bool) -> Iterator[None]:
    """Have connections go byte by byte over ordinary requests, or not, which is for the build to say otherwise.

    The compiled build does not let itself be told. It does so always, but not where a request comes in pieces.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_loop, "HAS_FAST_PATH", on)
        yield


def encoded(arguments: Sequence[bytes]) -> bytes:
    """Return a request as it goes over the wire."""
    return b"*%d\r\n" % len(arguments) + b"".join(b"$%d\r\n%b\r\n" % (len(one), one) for one in arguments)


def as_line(words: Sequence[bytes]) -> bytes:
    """Return a request as an inline command, with each word in quotes."""
    return b" ".join(b'"%b"' % b"".join(b"\\x%02x" % byte for byte in word) for word in words) + b"\r\n"


def pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """Return data in pieces, cut at some places, counted from the beginning or around."""
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[first:last] for first, last in zip([0, *places], [*places, len(data)], strict=True)]


def byte_by_byte(data: bytes) -> list[bytes]:
    """Return data in pieces of one byte."""
    return pieces(data, range(len(data)))


def fits(request: Sequence[bytes]) -> bool:
    """Return whether a request is not too long as a whole."""
    return sum(len(one) + ARGUMENT_OVERHEAD_BYTES for one in request) <= LIMITS.max_request_bytes


NAMES: Final = st.sampled_from(
    [
        *(b"GET", b"SET", b"get", b"SET", b"GET", b"sEt", b"DEL", b"MGET", b"MSET", b"INCR", b"APPEND", b"EXISTS"),
        *(b"PING", b"ECHO", b"MULTI", b"EXEC", b"WATCH", b"DISCARD", b"START", b"COMMIT", b"ROLLBACK", b"RESET"),
        *(b"PEXPIRETIME", b"PERSIST"),
        *(b"HELLO", b"DBSIZE", b"KEYS", b"FOO", b"", b"GE", b"GETS", b"SETX", b"G\xc5T"),
    ]
)
ARGUMENTS: Final = st.one_of(
    st.sampled_from([b"k", b"k", b"a", b"1", b"3", b"", b"NX", b"*"]),
    st.sampled_from([b"k" * size for size in (MAX_KEY_BYTES, MAX_KEY_BYTES + 1, MAX_VALUE_BYTES, MAX_VALUE_BYTES + 1)]),
    st.sampled_from([b"x" * MAX_BULK_BYTES, b"\r\n", b"\n", b"\r", b"$1\r\nk\r\n", b"*1\r\n$4\r\nPING\r\n"]),
    st.binary(max_size=12),
)
UNITS: Final = st.sampled_from([b"EX", b"EX", b"PX", b"px", b"eX", b"EXAT", b"NX", b"XX", b"E", b"XE", b"\x05X"])
AMOUNTS: Final = st.one_of(
    st.sampled_from([b"1", b"5", b"60", b"999999999999", b"1000000000000", b"9" * 13, b"9" * 16, b"9" * 19, b"9" * 20]),
    st.sampled_from([b"0", b"00", b"01", b"-1", b"+5", b" 5", b"5x", b"1.5", b"", b"x", b"4\x005"]),
)
REQUESTS: Final = st.one_of(
    st.builds(lambda *parts: [b"SET", *parts], ARGUMENTS, ARGUMENTS, UNITS, AMOUNTS),
    st.builds(lambda *parts: [b"SET", b"k", b"v", *parts], UNITS, AMOUNTS),
    st.builds(lambda name, arguments: [name, *arguments], NAMES, st.lists(ARGUMENTS, max_size=4)),
    st.builds(lambda key: [b"GET", key], ARGUMENTS),
    st.builds(lambda key, value: [b"SET", key, value], ARGUMENTS, ARGUMENTS),
)
QUEUES: Final = st.lists(
    st.one_of(REQUESTS, st.builds(lambda value: [b"SET", b"k", value], ARGUMENTS)), max_size=4
).map(lambda requests: [[b"WATCH", b"k"], [b"MULTI"], *requests, [b"EXEC"]])
PIPELINES: Final = st.lists(st.one_of(REQUESTS.map(lambda request: [request]), QUEUES), max_size=10).map(
    lambda groups: [request for group in groups for request in group]
)
FITTING: Final = REQUESTS.filter(fits)
CUTS: Final = st.lists(st.integers(0, 1 << 30), max_size=10)

FRAGMENTS: Final = st.sampled_from(
    [
        *(b"*", b"$", b"\r\n", b"\n", b"\r", b"-1", b"0", b"1", b"3", b"16", b"9", b"99999999999", b"+", b" ", b"\x00"),
        *(
            b"*2\r\n$3\r\nGET\r\n",
            b"*3\r\n$3\r\nSET\r\n",
            b"$1\r\nk\r\n",
            b"$17\r\n",
            b"*1\r\n$4\r\nPING\r\n",
            b"*9\r\n",
        ),
        *(
            b"GET",
            b"*2\r\n$3\r\nget\r\n$1\r\nk\r\n",
            b"*3\r\n$3\r\nset\r\n$1\r\nk\r\n$1\r\nv\r\n",
            b"$1057\r\n",
            b"$-1\r\n",
            b"*5\r\n$3\r\nset\r\n$1\r\nk\r\n$1\r\nv\r\n$2\r\nEX\r\n$1\r\n5\r\n",
            b"*5\r\n$3\r\nSET\r\n",
            b"$2\r\nPX\r\n",
            b"*" + b"1" * 33,
            b"$" + b"0" * 40,
            b"\n\n",
        ),
        *(b"PING\r\n", b"SET k v\n", b'GET "k"\r\n', b" \t\r\n", b"GET k", b'"', b"'", b"\\", b":", b" HTTP/1.1"),
    ]
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Return a pipeline with some bytes taken out, put in or written over."""
    data = b"".join(map(encoded, draw(PIPELINES)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        put_in = draw(st.one_of(FRAGMENTS, st.binary(max_size=3)))
        data = data[:at] + put_in + data[at + draw(st.integers(0, 4)) :]
    return data


BYTES: Final = st.one_of(mutated(), st.lists(FRAGMENTS, max_size=20).map(b"".join), st.binary(max_size=60))


@given(data=BYTES, cuts=CUTS, share=st.sampled_from([1, 2, 60, 1 << 20]), room=st.sampled_from([1, 40, UNLIMITED]))
@example(
    b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\nvv\r\n*2\r\n$3\r\nGET\r\n$1\r\n", [7], 1, 1
)
@example(encoded([b"MGET", *[b"k" * 1000] * 4]), [2000, 3000], 1, 1)
@example(b"*" + b"1" * 40 + b"\r\n" + encoded([b"PING"]), [1, 33, 41], 1, 1)
@example(b"*2\r\n$3\r\nGET\r\n$" + b"9" * 33 + b"\r", [20, 47], 1, 1)
@example(b"*1\r\n$4\r\nPING\r\n*-9223372036854775808\r\n\n\n" + encoded([b"PING"]), [30], 1, 1)
@example(b"PING\r\n" + encoded([b"GET", b"k"]) + b'SET k "a\\x00"\n' + encoded([b"GET", b"k"]), [3, 30, 40], 1, 1)
@example(b"PING\r\n \r\n*0\r\n \nPING\n" + b"x" * LIMITS.max_request_bytes, [3, 2000], 1, 1)
def test_any_bytes_in_any_pieces(data: bytes, cuts: list[int], share: int, room: int) -> None:
    """They have the same replies, by either way of reading them, however they are cut into packets and ticks."""
    with scanning(on=False):
        alone = Wire().feed(byte_by_byte(data))
        whole = Wire().feed([data])
        cut = Wire().feed(pieces(data, cuts))
    with scanning(on=True):
        scanned = Wire().feed([data])
        scanned_cut = Wire(small_limits(share, room)).feed(pieces(data, cuts))
    for wire in (whole, cut, scanned, scanned_cut):
        assert wire.output == alone.output
        assert wire.connection.requests == alone.connection.requests
        assert wire.connection.closing == alone.connection.closing
        assert wire.connection.mid_request == alone.connection.mid_request
        assert stored(wire.bench) == stored(alone.bench)
    for wire in (alone, whole, cut, scanned, scanned_cut):
        wire.end()
        assert wire.output == scanned.end().output


@pytest.mark.parametrize("scans", [False, True])
@given(requests=st.lists(FITTING, max_size=12), more=FITTING, cut=st.integers(0, 1 << 30))
def test_what_is_complete_is_run_and_nothing_else(
    scans: bool, requests: list[list[bytes]], more: list[bytes], cut: int
) -> None:
    """Every request is run, and of one more any part that is not all of it is unfinished, and is not run."""
    whole = encoded(more)
    part = whole[: cut % len(whole)]
    with scanning(scans):
        wire = Wire().feed([b"".join(map(encoded, requests)) + part])
        assert not wire.connection.closing
        assert wire.connection.requests == len(requests)
        assert wire.connection.mid_request == (part != b"")
        wire.feed([whole[len(part) :]])
        assert wire.connection.requests == len(requests) + 1
        assert not wire.connection.mid_request
        wire.end()
        assert b"was not complete" not in wire.output
        cut_short = Wire().feed([part]).end()
        assert cut_short.connection.requests == 0
        assert (b"was not complete" in cut_short.output) == (part != b"")


@pytest.mark.parametrize("scans", [False, True])
@given(requests=st.lists(FITTING, max_size=8), lines=st.lists(st.sampled_from([b"", b"\n", b"\r\n"])), cuts=CUTS)
def test_empty_lines_are_skipped(scans: bool, requests: list[list[bytes]], lines: list[bytes], cuts: list[int]) -> None:
    """Between requests and behind the last, in whatever packets they come; a CR alone is half of one."""
    spread = [*lines[: len(requests)], *[b"\n"] * (len(requests) - len(lines))]
    with scanning(scans):
        plain = Wire().feed([b"".join(map(encoded, requests))])
        data = b"".join(encoded(one) + line for one, line in zip(requests, spread, strict=True)) + b"".join(lines)
        spaced = Wire().feed(pieces(data, cuts))
    assert spaced.output == plain.output
    assert spaced.connection.requests == len(requests)
    assert not spaced.connection.mid_request
    assert b"was not complete" not in spaced.end().output


@pytest.mark.parametrize("begun", [b"*", b"*-", b"*1\r\n$"])
@pytest.mark.parametrize("digit", [b"1", b"0", b"x"])
@pytest.mark.parametrize("size", [13, 1000, MAX_LINE_BYTES])
def test_a_header_that_does_not_end_is_not_kept(begun: bytes, digit: bytes, size: int) -> None:
    """However much of it comes, in pieces of any size; it is refused where a line of Redis would be too long."""
    wire = Wire().feed([begun])
    come = len(begun) - (begun.rfind(b"$") if b"$" in begun else 0)
    while come < MAX_LINE_BYTES:
        step = min(size, MAX_LINE_BYTES - come)
        wire.feed([digit * step])
        come += step
        assert wire.connection._buffer.held_bytes <= HEADER_BYTES
        assert wire.connection.mid_request
        assert wire.output == b""
    what = b"bulk" if b"$" in begun else b"mbulk"
    assert wire.feed([digit]).output == b"-ERR Protocol error: too big %b count string\r\n" % what
    wire.end()


@given(requests=st.lists(st.lists(st.binary(max_size=80), min_size=1, max_size=MAX_ARGUMENTS), max_size=8), cuts=CUTS)
def test_arguments_come_out_as_they_went_in(requests: list[list[bytes]], cuts: list[int]) -> None:
    """Whatever bytes they are, and wherever they are cut."""
    buffer = ReceiveBuffer()
    parser = RequestParser(buffer, LIMITS)
    out = []
    for chunk in filter(None, pieces(b"".join(map(encoded, requests)), cuts)):
        parser.feed(chunk)
        while (arguments := parser.next()) is not None:
            out.append(arguments)
    assert out == requests
    assert not parser.mid_request
    assert parser.held_bytes == buffer.held_bytes == 0


ROOM_BYTES: Final = LIMITS.max_request_bytes - MAX_BULK_BYTES - 2 * ARGUMENT_OVERHEAD_BYTES
"""What the last of two arguments may hold, if the first is as long as one may be."""


@pytest.mark.parametrize(
    ("at_the_limit", "beyond", "words"),
    [
        (encoded([b""] * MAX_ARGUMENTS), encoded([b""] * (MAX_ARGUMENTS + 1)), "multibulk length"),
        (encoded([b"v" * MAX_BULK_BYTES]), encoded([b"v" * (MAX_BULK_BYTES + 1)]), "bulk length"),
        (
            encoded([b"v" * MAX_BULK_BYTES, b"v" * ROOM_BYTES]),
            encoded([b"v" * MAX_BULK_BYTES, b"v" * (ROOM_BYTES + 1)]),
            f"request of more than {LIMITS.max_request_bytes} bytes",
        ),
    ],
    ids=["arguments", "one argument", "all of a request"],
)
def test_what_is_as_much_as_may_be_is_a_request_and_more_is_none(
    at_the_limit: bytes, beyond: bytes, words: str
) -> None:
    """To the argument, and to the byte."""
    parser = RequestParser(ReceiveBuffer(), LIMITS)
    parser.feed(at_the_limit)
    assert parser.next() is not None
    parser.feed(beyond)
    with pytest.raises(ProtocolViolationError, match=words):
        parser.next()


@pytest.mark.parametrize("scans", [False, True])
@given(
    entries=st.dictionaries(st.binary(min_size=1, max_size=MAX_KEY_BYTES), st.binary(max_size=MAX_VALUE_BYTES)),
    cuts=CUTS,
)
def test_values_come_out_as_they_went_in(scans: bool, entries: dict[bytes, bytes], cuts: list[int]) -> None:
    """Whatever bytes keys and values are."""
    sets = b"".join(encoded([b"SET", key, value]) for key, value in entries.items())
    gets = b"".join(encoded([b"GET", key]) for key in entries)
    with scanning(scans):
        wire = Wire().feed(pieces(sets + gets, cuts))
    values = b"".join(b"$%d\r\n%b\r\n" % (len(value), value) for value in entries.values())
    assert wire.output == b"+OK\r\n" * len(entries) + values


def check_framing(requests: Sequence[Sequence[bytes]], chunks: Sequence[bytes], tight: Sequence[bool]) -> None:
    """Assert that ECHO has one reply for each request, though memory is wanting while some of the chunks come."""
    wire = Wire()
    for chunk, exhausted in zip(chunks, tight, strict=False):
        wire.bench.budget.limit_bytes = 0 if exhausted else UNLIMITED
        wire.connection.receive(chunk)
        assert not wire.connection.backlog
        wire.output += output_of(wire.connection)
        assert wire.connection.input_bytes() <= SLACK_BYTES or not exhausted
    wire.bench.budget.limit_bytes = UNLIMITED
    wire.feed([encoded([b"PING"])])
    assert not wire.connection.closing
    assert not wire.connection.mid_request
    rest = wire.output
    for _, *values in requests:
        if rest.startswith(b"-"):
            assert rest.startswith(REFUSAL) or len(values) != 1
            rest = rest[rest.index(b"\r\n") + 2 :]
        else:
            reply = b"$%d\r\n%b\r\n" % (len(values[0]), values[0])
            assert rest.startswith(reply)
            rest = rest[len(reply) :]
    assert rest == b"+PONG\r\n"


LONG: Final = st.sampled_from([b"x" * (SLACK_BYTES - 40), b"x" * (SLACK_BYTES + 1), b"\r\n" * 500])
ECHOES: Final = st.builds(
    lambda values: [b"ECHO", *values], st.lists(st.one_of(LONG, ARGUMENTS), min_size=1, max_size=3)
)


@given(
    requests=st.lists(ECHOES.filter(fits), min_size=1, max_size=5),
    cuts=CUTS,
    tight=st.lists(st.booleans(), min_size=12),
)
def test_framing_outlives_want_of_memory(requests: list[list[bytes]], cuts: list[int], tight: list[bool]) -> None:
    """While there is none, what comes is dropped; each request still has one reply, and the next its own."""
    check_framing(requests, pieces(b"".join(map(encoded, requests)), cuts), tight)
    lines = [request for request in requests if len(as_line(request)) <= LIMITS.max_request_bytes]
    check_framing(lines, pieces(b"".join(map(as_line, lines)), cuts), tight)


@pytest.mark.parametrize("scans", [False, True])
@pytest.mark.parametrize("write", [encoded, as_line])
def test_the_reply_to_a_dropped_request_is_not_overtaken(
    scans: bool, write: Callable[[Sequence[bytes]], bytes]
) -> None:
    """By the fast path, when there is memory again by the time its end comes, with more behind it."""
    dropped = write([b"ECHO", b"x" * 500] if write is as_line else [b"ECHO", b"x" * (SLACK_BYTES + 10)])
    with scanning(scans):
        wire = Wire()
        wire.bench.budget.limit_bytes = 0
        wire.feed([dropped[:-3]])
        assert wire.connection.mid_request
        assert wire.connection.input_bytes() == 0
        wire.bench.budget.limit_bytes = UNLIMITED
        wire.feed([dropped[-3:] + encoded([b"GET", b"k"]) * 2])
    assert wire.output.startswith(REFUSAL)
    assert wire.output.endswith(b"\r\n$-1\r\n$-1\r\n")
    assert wire.connection.requests == 3


def test_every_cut_of_a_request_that_is_dropped() -> None:
    """In two places, the first of them where it is dropped, be that in a header or in a bulk string."""
    requests = [[b"ECHO", b"x" * (SLACK_BYTES + 10), b"\r\n$3\r\n", b"", b"y"], [b"ECHO", b"z"]]
    data = b"".join(map(encoded, requests))
    for first in (SLACK_BYTES, *range(SLACK_BYTES + 20, len(data))):
        for second in range(first, len(data)):
            check_framing(requests, pieces(data, [first, second]), [True, True, False])


ORDINARY: Final = (
    encoded([b"SET", b"k", b"v"]),
    encoded([b"GET", b"k"]),
    encoded([b"set", b"key:1", b""]),
    encoded([b"GET", b"k" * MAX_KEY_BYTES]),
    encoded([b"SET", b"k" * MAX_KEY_BYTES, b"v" * MAX_VALUE_BYTES]),
    encoded([b"MSET", b"k", b"v", b"l", b""]),
    encoded([b"mset", *[b"k", b"v"] * 5]),
    encoded([b"WATCH", b"k"]) + encoded([b"MULTI"]) + encoded([b"SET", b"k", b"v"]) + encoded([b"EXEC"]),
)


@pytest.mark.parametrize("ordinary", ORDINARY)
def test_every_mutation_of_an_ordinary_request(ordinary: bytes) -> None:
    """A byte less, another one, or one more, at every place, and every cut: both ways of reading answer the same."""
    said = encoded([b"SET", b"k", b"first"]), encoded([b"GET", b"k"])
    for at in range(len(ordinary) + 1):
        mutations = {ordinary[:at], ordinary[:at] + ordinary[at + 1 :]}
        for byte in b"\r\n*$0123459GEMSTgemst+- \x00\xff":
            mutations |= {ordinary[:at] + bytes([byte]) + ordinary[at + skipped :] for skipped in (0, 1)}
        for mutation in mutations:
            with scanning(on=True):
                short = Wire().feed([said[0] + mutation, said[1]]).end()
            with scanning(on=False):
                long = Wire().feed([said[0], *byte_by_byte(mutation + said[1])]).end()
            assert short.output == long.output, mutation
            assert short.connection.requests == long.connection.requests, mutation


class TestLargeBulk:
    """Arguments that arrive in many pieces, and are not joined with what follows them."""

    @staticmethod
    def wire() -> Wire:
        """Return a connection that takes large values."""
        limits = RespLimits(
            MAX_KEY_BYTES, 1 << 20, MAX_ARGUMENTS, UNLIMITED, UNLIMITED, UNLIMITED, UNLIMITED, UNLIMITED
        )
        return Wire(limits)

    @pytest.mark.parametrize("size", [LARGE_BULK_BYTES - 1, LARGE_BULK_BYTES, LARGE_BULK_BYTES + 1, 1 << 20])
    @pytest.mark.parametrize("seed", range(10))
    def test_large_value_comes_out_as_it_went_in(self, size: int, seed: int) -> None:
        draw = random.Random(seed)
        value = draw.randbytes(size)
        requests = [[b"SET", b"k", value], [b"STRLEN", b"k"], [b"MSET", b"l", value, b"m", value], [b"PING"]]
        data = b"".join(map(encoded, requests))
        cuts = sorted([*draw.sample(range(1, len(data)), 30), len(data) - draw.randrange(1, 60)])
        wire = self.wire().feed([data[low:high] for low, high in pairwise([0, *cuts, len(data)])])
        assert wire.output == b"+OK\r\n:%d\r\n+OK\r\n+PONG\r\n" % size
        for key in (b"k", b"l", b"m"):
            assert wire.bench.storage.get(key) == value

    @pytest.mark.parametrize("end", [b"\n\r", b"\r\r", b"xx"])
    def test_large_value_without_crlf_loses_the_framing(self, end: bytes) -> None:
        value = bytes(LARGE_BULK_BYTES)
        wire = self.wire().feed([b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n" % len(value), value, end + b"\r\n"])
        assert wire.output.startswith(b"-ERR Protocol error: expected CRLF")
        assert wire.connection.closing
        assert wire.bench.storage.get(b"k") is None

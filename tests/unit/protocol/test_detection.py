"""``*`` tells the protocol, or else the first line that is not PING; until one has come, a connection speaks lines."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvs.adapters.inbound.line.commands import COMMANDS
from kvs.adapters.inbound.line.connection import LineConnection
from kvs.adapters.inbound.line.limits import LINE_OVERHEAD_BYTES
from kvs.adapters.inbound.resp.connection import RespConnection
from kvs.domain.errors import TimedOutError
from tests.support.detection import MAX_KEY_BYTES, MAX_VALUE_BYTES, new_detector
from tests.support.sessions import UNLIMITED, Bench, output_of

if TYPE_CHECKING:
    from kvs.adapters.inbound.protocol.connection import Connection

PONG: Final = b"+PONG\r\n"
LINE_PONG: Final = b'{"status": "Ok", "result": "PONG"}\n'


class Opened:
    """A new client's connection, which is replaced as a channel does it, and all it has answered.

    Attributes:
        connection: The connection that goes on.
        output: What it has answered.
    """

    def __init__(self, max_tick_requests: int = 1000) -> None:
        self.bench = Bench()
        self.connection: Connection = new_detector(self.bench, max_tick_requests).connect()
        self.output = b""

    @property
    def protocol(self) -> str:
        """Return which it is, once that is known."""
        if self.connection.detector is not None:
            return "unknown"
        # isinstance may be wrong of compiled classes that are abstract: they share a cache.
        return "RESP" if RespConnection in type(self.connection).__mro__ else "lines"

    def feed(self, *chunks: bytes) -> "Opened":
        """Hand over what came, a chunk a tick, and run all of it."""
        for chunk in chunks:
            self.receive(chunk)
            while self.connection.backlog:
                self.connection.resume()
                self._follow()
            self.output += output_of(self.connection)
        return self

    def receive(self, chunk: bytes) -> None:
        """Hand over what came, and run a share of it."""
        self.connection.receive(chunk)
        self._follow()

    def end(self) -> "Opened":
        """Tell of the end of input, take what follows, and leave."""
        self.connection.end_of_input()
        self.output += output_of(self.connection)
        assert self.connection.closing
        self.connection.close()
        self.bench.assert_nothing_is_held()
        return self

    def _follow(self) -> None:
        self.connection = cast("Connection", self.connection.successor or self.connection)
        assert self.connection.closing or self.connection.session.id in self.bench.sessions._open


def pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """Return data in pieces, cut at some places."""
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[first:last] for first, last in zip([0, *places], [*places, len(data)], strict=True) if first < last]


LONGEST: Final = (1 << 16) - len("SET k \r")

OPENINGS: Final[list[tuple[bytes, str]]] = [
    (b"*", "RESP"),
    (b"*1\n", "RESP"),
    (b"*x\r\n", "RESP"),
    (b"SET k v\r\n", "RESP"),
    (b"set k v\r\n", "RESP"),
    (b" \tSET k v\r\n", "RESP"),
    (b'SET k "unbalanced\r\n', "RESP"),
    (b"SET k \xff\r\n", "RESP"),
    (b"MSET a 1 b 2\r\n", "RESP"),
    (b"LPUSH a 1\r\n", "RESP"),  # a command of Redis that kvs does not have gets an error of Redis
    (b"SYNC\r\n", "RESP"),
    (b"AUTH secret\r\n", "RESP"),
    (b"HELLO\r\n", "RESP"),
    (b"HELLO 3\r\n", "RESP"),
    (b"INFO replication\r\n", "RESP"),
    (b"info  all \r\n", "RESP"),
    (b"SET k " + b"v" * LONGEST + b"\r\n", "RESP"),
    # What the line protocol has is its own.
    (b"INFO\r\n", "lines"),
    (b"INFO \t\r\n", "lines"),
    *((verb + b" a b\r\n", "lines") for verb in COMMANDS if verb != b"INFO"),
    *((verb + b"\r\n", "lines") for verb in COMMANDS if verb != b"PING"),
    # So is what neither has, and what ends in LF alone.
    (b"SETT k v\r\n", "lines"),
    (b"HEAD x\r\n", "lines"),
    (b"$4\r\n", "lines"),
    (b"\xff\r\n", "lines"),
    (b"\r\n", "lines"),
    (b" \r\n", "lines"),
    (b"\n", "lines"),
    (b"SET k v\n", "lines"),
    (b"INFO replication\n", "lines"),
    (b"HELLO 3\n", "lines"),
    (b"PING\n", "lines"),
    (b"SET k " + b"v" * (LONGEST + 1) + b"\r\n", "lines"),
    # And so is HTTP, which it refuses.
    (b"SET / HTTP/1.1\r\n", "lines"),
    (b"SET / HTTP/1.1 \t \r\n", "lines"),
    (b"POST / HTTP/1.1\r\n", "lines"),
    (b"Host: localhost\r\n", "lines"),
    # These tell nothing yet.
    (b"", "unknown"),
    (b"SET k v", "unknown"),
    (b"SET k v\r", "unknown"),
    (b"PING", "unknown"),
    (b"PING\r\n", "unknown"),
    (b"ping\r\nPiNg\r\n", "unknown"),
]


@pytest.mark.parametrize(
    ("opening", "protocol"), OPENINGS, ids=lambda value: repr(value[:30]) if isinstance(value, bytes) else value
)
@pytest.mark.parametrize("pings", [0, 1, 3])
def test_the_first_line_that_is_no_ping_decides(opening: bytes, protocol: str, pings: int) -> None:
    """However many packets it comes in; the session stays the same."""
    if opening[:4].upper() == b"QUIT" and pings:
        protocol = "RESP" if opening == b"QUIT\r\n" else "lines"
    data = b"PING\r\n" * pings + opening
    cuts = range(len(data)) if len(data) < 100 else (1, 4, 1000, len(data) - 1)
    for chunks in ([data], pieces(data, cuts)):
        opened = Opened()
        session = opened.connection.session
        opened.feed(*chunks)
        assert opened.protocol == protocol
        assert opened.connection.session is session
        assert opened.output.startswith(PONG * pings)
        opened.end()


@pytest.mark.parametrize("known", ["RESP", "lines"])
@pytest.mark.parametrize(
    ("line", "in_lines", "in_resp"),
    [
        (b"PING\r\n", LINE_PONG, PONG),
        (b"PING\n", LINE_PONG, PONG),
        (b"DEL k\r\n", b'{"status": "Ok", "result": false}\n', b":0\r\n"),
        (b"COUNT\n", b'{"status": "Ok", "result": 0}\n', b"-ERR unknown command 'COUNT'"),
        (b"SET k v\r\n", b'{"status": "Error", "code": "unknown_command"', b"+OK\r\n"),
        (b"HELLO\r\n", b'{"status": "Error", "code": "unknown_command"', b"*14\r\n"),
        (b"*1\r\n$4\r\nPING\r\n", b'{"status": "Error", "code": "unknown_command"', PONG),
    ],
)
def test_what_is_decided_stays(known: str, line: bytes, in_lines: bytes, in_resp: bytes) -> None:
    """Whatever comes later, the answers are those of the one protocol."""
    opened = Opened().feed(b"PING\r\n", b"ECHO x\r\n" if known == "RESP" else b"GET x\r\n")
    before = len(opened.output)
    opened.feed(line)
    assert opened.protocol == known
    assert opened.output[before:].startswith(in_resp if known == "RESP" else in_lines)
    opened.end()


def test_quit_behind_pings_is_answered_as_they_were() -> None:
    """And by a line, if it is the first."""
    opened = Opened().feed(b"PING\r\nquit\r\nSET k v\r\n")
    assert opened.output == PONG + b"+OK\r\n"
    assert opened.end().bench.storage.get(b"k") is None
    assert Opened().feed(b"QUIT\r\n").end().output == b'{"status": "Ok"}\n'
    assert Opened().feed(b"PING\r\nQUIT\n").end().output == PONG + b'{"status": "Ok"}\n'


@pytest.mark.parametrize("share", [1, 3, 1000])
@pytest.mark.parametrize("ends", [False, True])
def test_pings_are_run_in_shares(share: int, ends: bool) -> None:
    """More of them than a share allows wait, with what comes behind them, and all of it is run at the end of input."""
    opened = Opened(max_tick_requests=share)
    opened.receive(b"PING\r\n" * 10 + b"SET k v\r\nGET k\r\n")
    assert opened.connection.requests <= share
    if ends:
        opened.connection.end_of_input()
    opened.feed(b"")
    assert opened.output == PONG * 10 + b"+OK\r\n$1\r\nv\r\n"
    assert opened.connection.requests == 12
    assert opened.connection.closing == ends
    opened.end()


def test_tls_is_refused_at_its_first_byte() -> None:
    """The byte that a handshake begins with ends a connection that has not begun otherwise."""
    opened = Opened().feed(b"\x16")
    assert opened.connection.closing
    assert b'"protocol"' in opened.output
    opened.end()


def test_an_unfinished_line_is_unfinished_in_any_protocol() -> None:
    """It holds what it holds, can time out, and is not run at the end of input."""
    opened = Opened().feed(b"PING\r\n", b"SET k v")
    assert opened.connection.mid_request
    assert opened.connection.input_bytes() == len(b"SET k v")
    opened.end()
    assert b"The last line did not end in LF" in opened.output
    assert opened.bench.storage.get(b"k") is None


def test_no_more_is_held_than_of_any_line() -> None:
    """A line that is too long ends a connection whose protocol is not known."""
    longest = MAX_KEY_BYTES + MAX_VALUE_BYTES + LINE_OVERHEAD_BYTES
    opened = Opened().feed(b"PING\r\n", *[b"x" * 1000] * (longest // 1000 + 1))
    assert opened.connection.closing
    assert b'"too_large"' in opened.output
    opened.end()


def test_what_is_dropped_for_want_of_memory_is_a_line() -> None:
    """It cannot tell the protocol any more, and has an error, as any line that is dropped."""
    opened = Opened()
    opened.bench.budget.limit_bytes = 0
    opened.feed(b"SET k ", b"x" * (LINE_OVERHEAD_BYTES + 1))
    assert opened.connection.input_bytes() == 0
    opened.bench.budget.limit_bytes = UNLIMITED
    opened.feed(b"x\r\nPING\r\n")
    first, second = opened.output.splitlines(keepends=True)
    assert first.startswith(b'{"status": "Error", "code": "limit"')
    assert second == LINE_PONG
    opened.end()


def test_detection_is_over_once_a_connection_has_failed() -> None:
    """An error before the protocol is known is a line of JSON, and what comes behind it is not run."""
    opened = Opened().feed(b"PING\r\n")
    opened.connection.fail(TimedOutError("too slow"))
    opened.feed(b"*1\r\n$4\r\nPING\r\n")
    assert isinstance(opened.connection, LineConnection)
    assert opened.output.startswith(PONG + b'{"status": "Error", "code": "timeout"')
    opened.end()


WORDS: Final = st.sampled_from(
    [
        *(b"PING", b"PING", b"PING\r\n", b"QUIT", b"SET", b"GET", b"k", b"v", b"INFO x", b"HELLO", b"ECHO", b"START"),
        *(b"*1\r\n$4\r\nPING\r\n", b"*", b"Host:", b"HTTP/1.1", b'"a b"', b"'", b" ", b"\r", b"\xff", b"\x16", b""),
    ]
)
ENDS: Final = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n"])
LINES: Final = st.tuples(st.lists(WORDS, max_size=4).map(b" ".join), ENDS).map(b"".join)


@given(
    data=st.lists(LINES, max_size=8).map(b"".join),
    cuts=st.lists(st.integers(0, 200), max_size=12),
    share=st.sampled_from([1, 2, 60, 1000]),
)
def test_any_pieces_are_answered_alike(data: bytes, cuts: list[int], share: int) -> None:
    """The same protocol is found, and the same replies are given, however the input is cut into packets and ticks."""
    whole = Opened().feed(data)
    for chunks in (pieces(data, cuts), pieces(data, range(len(data)))):
        cut = Opened(max_tick_requests=share).feed(*chunks)
        assert cut.protocol == whole.protocol
        assert cut.connection.requests == whole.connection.requests
        assert cut.connection.closing == whole.connection.closing
        assert cut.connection.mid_request == whole.connection.mid_request
        assert cut.output == whole.output
        cut.end()

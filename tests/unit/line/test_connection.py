"""The line protocol: one table of bytes in and replies out, fed whole, byte by byte, in any split, and with a tail."""

import inspect
import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvs.adapters.inbound.line.commands import COMMANDS, HELP
from kvs.adapters.inbound.line.connection import LONG_LINE_BYTES, line_protocol
from kvs.adapters.inbound.line.fast_path import SCANNED_BYTES
from kvs.adapters.inbound.line.keys import NO_PATTERN, PAGE_KEYS
from kvs.adapters.inbound.line.limits import LINE_OVERHEAD_BYTES, LineLimits
from kvs.adapters.inbound.line.replies import LONG_BYTES, SHORT_BYTES
from kvs.adapters.inbound.protocol import errors as wire_errors
from kvs.adapters.inbound.protocol.command import SLOW_COST
from kvs.adapters.inbound.protocol.observation import Observation
from kvs.adapters.storage.memory.storage import MemoryStorage
from kvs.domain import errors
from kvs.domain.commit import CommitRequest, Conflict, prefix_range
from kvs.domain.errors import KvsError, OutcomeUnknownError, StorageUnavailableError, TimedOutError, UnsupportedError
from kvs.domain.values import NO_DEADLINE, Record, Value, string_of
from kvs.logs import make_logger
from kvs.ports.storage import Storage
from tests.support.harness import OK, Reply, agrees, error
from tests.support.scripted_storage import ScriptedStorage, raising
from tests.support.sessions import UNLIMITED, Bench, output_of
from tests.support.users import open_to_all

MAX_KEY_BYTES = 16
MAX_VALUE_BYTES = 32
MAX_DEPTH = 3


def limits(max_tick_requests: int = 1 << 20, max_tick_output_bytes: int = UNLIMITED) -> LineLimits:
    """Return small limits on sizes, and none on what a tick may do."""
    return LineLimits(MAX_KEY_BYTES, MAX_VALUE_BYTES, max_tick_requests, max_tick_output_bytes)


MAX_LINE_BYTES = limits().max_line_bytes


class Wire:
    """A connection, and all it has answered."""

    def __init__(self, storage: Storage | None = None, bench: Bench | None = None, **kwargs: int) -> None:
        self.bench = bench or Bench(storage or MemoryStorage(0, UNLIMITED), max_transaction_depth=MAX_DEPTH)
        self.limits = limits(**kwargs)
        logger = make_logger("info", "json", self.bench.log)
        self.connection = line_protocol(self.limits, self.bench.budget, Observation(), open_to_all(), logger)(
            self.bench.open(), None
        )
        self.output = b""

    def feed(self, chunks: Iterable[bytes]) -> "Wire":
        """Hand over what came, a chunk a tick."""
        for chunk in filter(None, chunks):
            self.connection.receive(chunk)
            self.take()
            while self.connection.backlog:
                self.connection.resume()
                self.take()
        return self

    def take(self) -> int:
        """Take the output of a tick; return how many replies it was."""
        output = output_of(self.connection)
        self.output += output
        return output.count(b"\n")

    def end(self) -> "Wire":
        """Tell of the end of input, and take what follows."""
        self.connection.end_of_input()
        self.take()
        while self.connection.backlog:
            self.connection.resume()
            self.take()
        return self

    def replies(self) -> list[Reply]:
        """Return all replies so far."""
        assert self.output.endswith(b"\n") or not self.output
        return [json.loads(line) for line in self.output.splitlines()]


def bytes_of(data: bytes) -> list[bytes]:
    """Return the data a byte at a time."""
    return [data[at : at + 1] for at in range(len(data))]


def result(value: Any, message: str | None = None) -> Reply:
    """Return an answer with a result."""
    return {"status": "Ok", "result": value} if message is None else {"status": "Ok", "result": value, "mesg": message}


def absent(key: str) -> Reply:
    """Return what GET says of a key that is not there."""
    return result(None, f"{key} was not found.")


def refusing(outcome: Exception | Conflict) -> ScriptedStorage:
    """Return an engine that raises or answers this to a commit."""

    def commit(request: CommitRequest) -> object:
        assert request.writes  # what only reads asks no engine
        if isinstance(outcome, Conflict):
            return outcome
        raise outcome

    return ScriptedStorage({"commit": commit})


def of_another_type() -> MemoryStorage:
    """Return an engine with a value that is no string."""
    storage = MemoryStorage(0, UNLIMITED)
    storage.put(b"k", Record(b"v", NO_DEADLINE, kind=1))
    return storage


def unreadable() -> ScriptedStorage:
    """Return an engine that cannot be read."""
    return ScriptedStorage({"get": raising(RuntimeError("k"))})


K = b"k" * MAX_KEY_BYTES
V = b"v" * MAX_VALUE_BYTES
usage, unknown, encoding, too_large, violation = map(
    error, ("usage", "unknown_command", "encoding", "too_large", "protocol")
)
TRANSACTION = b"START\nPUT k 1\nCOMMIT\nGET k\nROLLBACK\n"

Case = tuple[str, bytes, list[Reply]]
CASES: list[Case] = [
    # Every command.
    ("put and get", b"PUT k v\nGET k\n", [OK, result("v")]),
    ("get absent", b"GET k\n", [absent("k")]),
    ("delete", b"PUT k v\nDEL k\nDEL k\nGET k\n", [OK, result(True), result(False), absent("k")]),
    ("incr", b"INCR n\nINCR n 41\nINCR n -2\nGET n\nTTL n\n", [*map(result, (1, 42, 40, "40")), result(None)]),
    ("incr of no number", b"PUT n x\nINCR n\nINCR n x\nINCR\nINCR n 1 2\nGET n\n", [OK, *[usage] * 4, result("x")]),
    (
        "expire",
        b"EXPIRE k 9\nPUT k v\nEXPIRE k 9.5\nTTL k\nGET k\n",
        [result(False), OK, result(True), result(9.5), result("v")],
    ),
    (
        "persist",
        b"PERSIST k\nPUT k v\nPERSIST k\nEXPIRE k 9\nPERSIST k\nTTL k\nPERSIST k\n",
        [result(False), OK, result(False), result(True), result(True), result(None), result(False)],
    ),
    (
        "put ends expire",
        b"PUT k v\nEXPIRE k 9\nPUT k w\nTTL k\nTTL none\n",
        [OK, result(True), OK, result(None), absent("none")],
    ),
    (
        "expired at once",
        b"PUT k v\nEXPIRE k 0\nGET k\nPUT k v\nEXPIRE k -1\nGET k\n",
        [OK, result(True), absent("k")] * 2,
    ),
    (
        "expire in a frame",
        b"PUT k v\nSTART\nSTART\nEXPIRE k 9\nTTL k\nROLLBACK\nTTL k\nCOMMIT\nTTL k\n",
        [OK, OK, OK, result(True), result(9.0), OK, result(None), OK, result(None)],
    ),
    (
        "incr keeps the deadline",
        b"INCR n\nEXPIRE n 9\nINCR n\nTTL n\n",
        [result(1), result(True), result(2), result(9.0)],
    ),
    (
        "expire words",
        b"EXPIRE\nEXPIRE k\nEXPIRE k x\nEXPIRE k 1e3\nEXPIRE k 1.\nEXPIRE k 999999999999999\nTTL\nTTL a b\nPERSIST\n",
        [usage] * 9,
    ),
    ("overwrite", b"PUT k v\nPUT k w\nGET k\n", [OK, OK, result("w")]),
    (
        "keys in byte order",
        "PUT b 1\nPUT é 1\nPUT a 1\nPUT aa 1\nPUT Z 1\nKEYS\nKEYS a\nKEYS x\n".encode(),
        [OK] * 5 + [result(["Z", "a", "aa", "b", "é"]), result(["a", "aa"]), result([])],
    ),
    (
        "keys after a key",
        b"PUT a1 1\nPUT a2 1\nPUT a3 1\nPUT b 1\nKEYS a a1\nKEYS a a0\nKEYS a a3\nKEYS  a2\nKEYS a b\n",
        [OK] * 4 + [result(["a2", "a3"]), result(["a1", "a2", "a3"]), result([]), result(["a3", "b"]), result([])],
    ),
    (
        "after is the rest of the line",
        b"PUT a 1\nPUT b 1\nKEYS  a b c\nKEYS a 0 1\n",
        [OK, OK, result(["b"]), result(["a"])],
    ),
    ("count", b"PUT a 1\nPUT ab 1\nPUT b 1\nCOUNT\nCOUNT a\nCOUNT x\n", [OK] * 3 + [result(3), result(2), result(0)]),
    ("ping", b"PING\n", [result("PONG")]),
    ("help", b"HELP\n", [result(HELP.decode())]),
    ("auth", b"AUTH default any thing \nAUTH nobody x\n", [OK, error("unauthenticated")]),
    ("auth in a transaction", b"START\nAUTH default x\nROLLBACK\nAUTH default x\n", [OK, usage, OK, OK]),
    ("auth with a word", b"AUTH\nAUTH x\nPING\n", [usage, usage, result("PONG")]),
    ("exit", b"EXIT\n", [OK]),
    ("quit", b"QUIT\n", [OK]),
    ("exit runs nothing behind it", b"PUT k 1\nEXIT\nPUT k 2\nnonsense\n", [OK, OK]),
    (
        "nested transactions",
        b"PUT a 1\nSTART\nPUT a 2\nSTART\nDEL a\nROLLBACK\nGET a\nCOMMIT\nGET a\nEXIT\n",
        [OK, OK, OK, OK, result(True), OK, result("2"), OK, result("2"), OK],
    ),
    ("commit outside", b"COMMIT\nPING\n", [error("no_transaction"), result("PONG")]),
    ("rollback outside", b"ROLLBACK\nPING\n", [error("no_transaction"), result("PONG")]),
    (
        "an error leaves the transaction",
        b"START\nPUT k 1\nnonsense\nPUT k\n\xff\nGET k\nCOMMIT\nGET k\n",
        [OK, OK, unknown, usage, encoding, result("1"), OK, result("1")],
    ),
    (
        "too deep",
        b"START\n" * (MAX_DEPTH + 1) + b"ROLLBACK\n" * (MAX_DEPTH + 1),
        [OK] * MAX_DEPTH + [error("limit")] + [OK] * MAX_DEPTH + [error("no_transaction")],
    ),
    # The verb.
    ("lower case", b"put k v\ngEt k\n", [OK, result("v")]),
    ("blanks before the verb", b" \t PUT k v\n\tGET k\n  PING\n", [OK, result("v"), result("PONG")]),
    (
        "blanks after what has no value",
        b"PUT k v\nGET k \t \nDEL k  \nSTART \t\nCOMMIT \nKEYS \t\nCOUNT \nPING\t\nPING \t \nEXIT \n",
        [OK, result("v"), result(True), OK, OK, result([]), result(0), result("PONG"), result("PONG"), OK],
    ),
    ("a tab does not end the verb", b"GET\tk\nPUT\tk v\n", [unknown, unknown]),
    ("unknown command", b"FETCH k\nk\nPUTT k v\n", [unknown] * 3),
    ("unknown and very long", b"X" * 500 + b" k\n", [unknown]),
    ("unknown and not ASCII", "ÜBER k\nPÜT k v\n".encode(), [unknown, unknown]),
    # Words.
    ("put without a value", b"PUT k\nPUT\nPUT \n", [usage] * 3),
    ("put the empty value", b"PUT k \nGET k\n", [OK, result("")]),
    ("put an empty key", b"PUT  v\nPUT   v\n", [usage, usage]),
    ("values are verbatim", b"PUT k  a  b \t \nGET k\n", [OK, result(" a  b \t ")]),
    ("get words", b"GET\nGET \nGET  \nGET a b\nGET  a\n", [usage] * 5),
    ("del words", b"DEL\nDEL \nDEL a b\nDEL  a\n", [usage] * 4),
    (
        "words after what takes none",
        b"START x\nCOMMIT x\nROLLBACK x\nPING x\nINFO x\n",
        [usage] * 5,
    ),
    (
        "help about one command",
        b"HELP PUT\nhelp get \t\nHELP x\nHELP PUT GET\n",
        [result(COMMANDS[b"PUT"].help), result(COMMANDS[b"GET"].help), unknown, usage],
    ),
    (
        "read-only transactions",
        b"PUT k 1\nSTART READONLY\nPUT k 2\nDEL k\nDEL absent\nGET k\nKEYS\nCOUNT\nCOMMIT\nPUT k 2\nGET k\n",
        [OK, OK, usage, usage, usage, result("1"), result(["k"]), result(1), OK, OK, result("2")],
    ),
    (
        "read-only all the way in",
        b"START READONLY\nSTART\nPUT k 1\nSTART READONLY\nPUT k 1\nROLLBACK\nCOMMIT\nPUT k 1\nROLLBACK\nCOMMIT\n",
        [OK, OK, usage, OK, usage, OK, OK, usage, OK, error("no_transaction")],
    ),
    (
        "read-only inside what may write",
        b"START\nSTART READONLY\nPUT k 1\nSTART\nSTART READONLY\nCOMMIT\nCOMMIT\nGET k\n",
        [OK, usage, OK, OK, usage, OK, OK, result("1")],
    ),
    (
        "how to say read-only",
        b"start readonly\nPUT k 1\nCOMMIT\n Start ReadOnly \t \nPUT k 1\nCOMMIT\nSTART \t\nPUT k 1\nCOMMIT\n",
        [OK, usage, OK, OK, usage, OK, OK, OK, OK],
    ),
    (
        "how not to say read-only",
        b"START READONLY x\nSTART  READONLY\nSTART READ ONLY\nSTART READONLYS\nSTARTREADONLY\nCOMMIT\n",
        [usage] * 4 + [unknown, error("no_transaction")],
    ),
    ("exit with a word", b"START\nPUT k 1\nEXIT x\nQUIT x\nGET k\n", [OK, OK, usage, usage, result("1")]),
    ("count words", b"COUNT a b\n", [usage]),
    ("a key may contain a tab, and not end in one", b"PUT a\tb v\nGET a\tb\nPUT a\t v\n", [OK, result("v"), usage]),
    ("empty lines", b"\n\r\n \t\nPING\n", [usage, usage, usage, result("PONG")]),
    # CR.
    ("a CR before the LF", b"PUT k v\r\nGET k\r\nPING\r\n", [OK, result("v"), result("PONG")]),
    ("two CRs before the LF", b"PUT k v\r\r\nGET k\n", [OK, result("v\r")]),
    ("a CR within a value", b"PUT k a\rb\nGET k\nPUT k \r\nGET k\n", [OK, result("a\rb"), OK, result("")]),
    ("a CR is no line end", b"PING\rPING\n", [unknown]),
    # Sizes.
    (
        "keys just below, at and above the limit",
        b"PUT %b 1\nPUT %b 2\nPUT %b 3\nCOUNT\n" % (K[1:], K, K + b"k"),
        [OK, OK, too_large, result(2)],
    ),
    (
        "every command has the limit on keys",
        b"GET %b\nDEL %b\nKEYS %b\nCOUNT %b\nPUT %b 1\nPING\n" % ((K + b"k",) * 5),
        [too_large] * 5 + [result("PONG")],
    ),
    (
        "every command takes the longest key",
        b"PUT %b 1\nGET %b\nKEYS %b\nCOUNT %b\nDEL %b\n" % ((K,) * 5),
        [OK, result("1"), result([K.decode()]), result(1), result(True)],
    ),
    (
        "values just below, at and above the limit",
        b"PUT a %b\nPUT b %b\nPUT c %b\nGET a\nGET b\nGET c\n" % (V[1:], V, V + b"v"),
        [OK, OK, too_large, result(V[1:].decode()), result(V.decode()), absent("c")],
    ),
    (
        "a value of many bytes in few characters",
        "PUT a {}\nPUT a {}\nGET a\n".format("é" * 16, "é" * 17).encode(),
        [OK, too_large, result("é" * 16)],
    ),
    ("the longest line", b"PUT k " + b"v" * (MAX_LINE_BYTES - 6) + b"\nPING\n", [too_large, result("PONG")]),
    (
        "a line that is longer than all limits",
        b"PING\nPUT k " + b"v" * (MAX_LINE_BYTES - 5) + b"\nPING\n",
        [result("PONG"), too_large],
    ),
    ("a line that never ends", b"PING\n" + b"v" * (3 * MAX_LINE_BYTES), [result("PONG"), too_large]),
    ("the longest blank line", b" " * MAX_LINE_BYTES + b"\nPING\n", [usage, result("PONG")]),
    # UTF-8.
    ("not UTF-8", b"PUT k \xff\nPUT \xc3\xa9 1\nGET \xc3\nG\xe9T k\n", [encoding, OK, encoding, encoding]),
    ("overlong and surrogate UTF-8", b"PUT k \xc0\x80\nPUT k \xed\xa0\x80\nGET k\n", [encoding, encoding, absent("k")]),
    ("UTF-8 is looked at first", b"nonsense \xff\n\xff\nPUT \xff\n", [encoding] * 3),
    ("all of Unicode", "PUT é 日本 \U0001f600 \u2028\nGET é\n".encode(), [OK, result("日本 \U0001f600 \u2028")]),
    ("NUL and DEL", b"PUT \0 \x7f\0\nGET \0\n", [OK, result("\x7f\0")]),
    # What is not our protocol.
    ("HTTP get", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", [violation]),
    ("HTTP put with a body", b"PUT /k HTTP/1.0\r\nContent-Length: 7\r\n\r\nPUT a 1\n", [violation]),
    ("HTTP in lower case verbs", b"post /k HTTP/2.0\nPUT a 1\n", [violation]),
    ("HTTP after empty lines", b"\r\n\nGET / HTTP/1.1\r\nPUT a 1\n", [usage, usage, violation]),
    ("a header", b"PING\nHost: localhost\nPUT a 1\n", [result("PONG"), violation]),
    ("a header without a value", b"PING\nX-Empty:\nPUT a 1\n", [result("PONG"), violation]),
    ("a value that looks like HTTP, later", b"PING\nPUT k HTTP/1.1\nGET k\n", [result("PONG"), OK, result("HTTP/1.1")]),
    ("almost HTTP", b"PUT k HTTP/1.1x\nGET k\n", [OK, result("HTTP/1.1x")]),
    ("no digits", b"PUT k HTTP/x.1\nGET k\n", [OK, result("HTTP/x.1")]),
    ("a key with a colon", b"PUT k: v\nGET k:\n", [OK, result("v")]),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\nPUT a 1\n", [violation]),
    ("TLS without a line end", b"\x16", [violation]),
    ("0x16 after an empty line", b"\n\x16\x03 x\nPING\n", [usage, unknown, result("PONG")]),
    ("0x16 after a line that is not UTF-8", b"\xff\n\x16\x03 x\nPING\n", [encoding, unknown, result("PONG")]),
    ("0x16 within a line", b"PUT k \x16\nGET k\n", [OK, result("\x16")]),
    ("0x16 first in a later line", b"PING\n\x16 k\nPING\n", [result("PONG"), unknown, result("PONG")]),
]
ENGINES: list[tuple[str, Callable[[], Storage], bytes, list[Reply]]] = [
    (
        "conflict",
        lambda: refusing(Conflict((b"r",), (prefix_range(b"p"),))),
        TRANSACTION,
        [OK, OK, error("conflict"), absent("k"), error("no_transaction")],
    ),
    (
        "another type",
        of_another_type,
        b"GET k\nINCR k\nTTL k\nDEL k\n",
        [error("wrongtype"), error("wrongtype"), result(None), result(True)],
    ),
    (
        "no deadlines",
        lambda: ScriptedStorage({"update": raising(UnsupportedError("never"))}),
        b"PUT k v\nEXPIRE k 9\nTTL k\n",
        [OK, error("unsupported"), result(None)],
    ),
    (
        "unavailable",
        lambda: refusing(StorageUnavailableError("not now")),
        TRANSACTION,
        [OK, OK, error("unavailable"), result("1"), OK],
    ),
    (
        "outcome unknown",
        lambda: refusing(OutcomeUnknownError("who knows")),
        TRANSACTION,
        [OK, OK, error("outcome_unknown"), absent("k"), error("no_transaction")],
    ),
    ("timeout", lambda: refusing(TimedOutError("too old")), TRANSACTION, [OK, OK, error("timeout")]),
    (
        "broken commit",
        lambda: refusing(RuntimeError("broken")),
        TRANSACTION,
        [OK, OK, error("outcome_unknown"), absent("k"), error("no_transaction")],
    ),
    ("internal", unreadable, b"GET k\nPING\n", [error("internal"), result("PONG")]),
]
TABLE: list[tuple[str, Callable[[], Storage], bytes, list[Reply]]] = [
    *((name, lambda: MemoryStorage(0, UNLIMITED), data, replies) for name, data, replies in CASES),
    *ENGINES,
]
table = pytest.mark.parametrize(
    ("engine", "data", "replies"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)


def check(wire: Wire, replies: list[Reply]) -> None:
    """Assert that these and no others are the replies."""
    actual = wire.replies()
    assert len(actual) == len(replies), actual
    for one, predicted in zip(actual, replies, strict=True):
        assert agrees(one, predicted), f"{one} is not {predicted}"


@table
def test_fed_whole(engine: Callable[[], Storage], data: bytes, replies: list[Reply]) -> None:
    """All of it in one packet."""
    check(Wire(engine()).feed([data]), replies)


@table
def test_fed_byte_by_byte(engine: Callable[[], Storage], data: bytes, replies: list[Reply]) -> None:
    """Every byte in a packet of its own."""
    check(Wire(engine()).feed(bytes_of(data)), replies)


@table
def test_fed_with_a_tail(engine: Callable[[], Storage], data: bytes, replies: list[Reply]) -> None:
    """A line that is not complete runs only when it is, and never at the end of input."""
    for chunks in ([data + b"PUT tail 1"], [*bytes_of(data), b"PUT tail", b" 1"]):
        wire = Wire(engine()).feed(chunks)
        check(wire, replies)
        if not wire.connection.closing:
            assert wire.connection.mid_request
            wire.end()
            check(wire, [*replies, usage])
        assert wire.connection.closing
        assert wire.bench.storage.count(b"tail") == 0


@table
def test_connection_that_has_ended_holds_nothing(
    engine: Callable[[], Storage], data: bytes, replies: list[Reply]
) -> None:
    """At the end of input, or after what closes the connection, no snapshot is open and no memory charged."""
    wire = Wire(engine()).feed([data]).end()
    assert wire.connection.closing
    check(wire, replies)
    wire.bench.assert_nothing_is_held()
    wire.connection.close()
    wire.feed([b"PING\n"]).end()
    check(wire, replies)
    wire.bench.assert_nothing_is_held()


@given(st.data())
def test_fed_in_random_splits(data: st.DataObject) -> None:
    """The replies are the same, however the bytes are cut into packets and the requests into ticks."""
    _, engine, stream, _ = data.draw(st.sampled_from(TABLE))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=8)))
    chunks = [stream[first:last] for first, last in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    whole = Wire(engine()).feed([stream])
    split = Wire(engine(), max_tick_requests=data.draw(st.sampled_from([1, 2, 60, 1 << 20]))).feed(chunks)
    assert split.output == whole.output
    assert split.connection.closing == whole.connection.closing
    assert split.connection.requests == whole.connection.requests


words = st.one_of(
    st.sampled_from([b"", b"k", b"key:1", b"k" * MAX_KEY_BYTES, b"k" * (MAX_KEY_BYTES + 1), "é".encode(), b"k\t"]),
    st.binary(max_size=4).map(lambda raw: raw.translate(None, b" \r\n")),
)
values = st.one_of(
    words,
    st.sampled_from(
        [b"two words", b' "\\" ', b"v" * MAX_VALUE_BYTES, b"v" * (MAX_VALUE_BYTES + 1), b"v \xc3\xa9 v", b"v\xc3"]
    ),
    st.sampled_from([b"v" * (SCANNED_BYTES + more) for more in (-1, 0, 1)]),
)
ordinary_lines = st.one_of(
    words.map(b"GET ".__add__),
    st.tuples(words, values).map(b" ".join).map(b"PUT ".__add__),
    st.sampled_from([b"START", b"COMMIT", b"ROLLBACK", b"PING"]),
    st.sampled_from(
        [b"", b"GET", b"PUT", b"PUT k", b"GETk", b"PUT  v", b"GET k ", b"DEL k", b"get k", b"STARTING", b"COUNT"]
    ),
)


@given(st.lists(ordinary_lines, max_size=20))
def test_short_ways_of_ordinary_lines_lead_to_the_same_replies(lines: list[bytes]) -> None:
    """A line with a CR is never ordinary, so it takes the long way; nothing else may depend on it."""
    short = Wire().feed([b"PING\n", b"".join(line + b"\n" for line in lines)])
    long = Wire().feed([b"PING\n", b"".join(line + b"\r\n" for line in lines)])
    assert short.output == long.output
    assert short.connection.requests == long.connection.requests == len(lines) + 1


fragments = st.sampled_from(
    [
        *(b"%b " % verb for verb in COMMANDS if verb != b"INFO"),  # which tells of the time
        *(b" ", b"\n", b"\n", b"\r\n", b"\t", b"\r", b"\x16", b"\xff", b"k", b"a", b"v v", b":", b" HTTP/1.1", b"put "),
        *("é".encode(), b"x" * MAX_LINE_BYTES),
    ]
)


@given(
    st.lists(st.one_of(fragments, fragments, st.binary(max_size=3)), max_size=40).map(b"".join),
    st.lists(st.integers(1, 40), max_size=20),
)
def test_any_bytes_in_any_split_get_one_reply_a_line(stream: bytes, sizes: list[int]) -> None:
    """Never a crash, never two answers, and the same ones whatever the packets."""
    whole = Wire().feed([stream]).end()
    lines, _, rest = stream.rpartition(b"\n")
    due = (lines.count(b"\n") + 1 if b"\n" in stream else 0) + (rest != b"")
    replies = whole.replies()
    assert len(replies) <= due
    assert all(reply["status"] in ("Ok", "Error") for reply in replies)
    if len(replies) < due:
        assert replies[-1] == OK or replies[-1]["code"] in ("protocol", "too_large")
    chunks, at = [], 0
    for size in sizes:
        chunks.append(stream[at : at + size])
        at += size
    chunks.append(stream[at:])
    split = Wire().feed(chunks).end()
    assert split.output == whole.output
    split.bench.assert_nothing_is_held()


def test_table_has_every_command_and_every_code() -> None:
    """A command or an error that is added has to be added here."""
    data = b"\n".join(row[2] for row in TABLE)
    assert all(verb in data for verb in COMMANDS)
    codes = {reply["code"] for row in TABLE for reply in row[3] if reply["status"] == "Error"}
    kinds = [kind for module in (errors, wire_errors) for _, kind in inspect.getmembers(module, inspect.isclass)]
    raised = {kind.code for kind in kinds if issubclass(kind, KvsError)}
    assert codes == raised - {"forbidden"} | {"conflict"}  # which test_grants has


# What the replies look like.


@pytest.mark.parametrize("code", [code for code in range(0x80) if code not in b"\n"])
def test_every_character_comes_back_as_json(code: int) -> None:
    """Control characters are escaped, quotes and backslashes too, all else is as it was."""
    wire = Wire().feed([b"PUT k a%bz\nGET k\n" % bytes((code,))])
    assert wire.replies()[1]["result"] == f"a{chr(code)}z"
    line = wire.output.splitlines()[1]
    assert all(byte >= 0x20 for byte in line)
    assert line.isascii()


def test_line_feed_that_another_protocol_stored_is_escaped() -> None:
    """This protocol cannot send one, but has to show one."""
    bench = Bench()
    bench.storage.put(b"k", b"a\nb")
    bench.storage.put(b"x\ny", b"")
    wire = Wire(bench=bench).feed([b"GET k\nKEYS\n"])
    assert wire.replies() == [result("a\nb"), result(["k", "x\ny"])]
    assert wire.output.count(b"\n") == 2


@pytest.mark.parametrize("size", [SHORT_BYTES, SHORT_BYTES + 1, LONG_BYTES, LONG_BYTES + 1])
@pytest.mark.parametrize("line", [b"GET k\n", b"GET k\r\n"])
def test_value_of_any_length_is_one_reply_among_others(line: bytes, size: int) -> None:
    """Whether it is made at once or in steps, and on either way."""
    bench = Bench()
    bench.storage.put(b"k", b"v" * (size - 1) + b'"')
    wire = Wire(bench=bench).feed([b"PING\n", b"GET x\n" + line * 2 + b"GET x\n"])
    value = result("v" * (size - 1) + '"')
    assert wire.replies() == [result("PONG"), absent("x"), value, value, absent("x")]
    assert wire.connection.requests == 5


@pytest.mark.parametrize("line", [b"GET k\n", b"GET k\r\n"])
def test_long_value_full_of_escapes_costs_what_they_take(line: bytes) -> None:
    """On either way; a unit is a microsecond, in which it escapes less than 256 bytes."""
    bench = Bench()
    bench.storage.put(b"k", b'"' * LONG_BYTES)
    wire = Wire(bench=bench).feed([b"PING\n"])
    assert wire.connection.receive(line * 4) >= 4 * LONG_BYTES // 256


def test_value_that_another_protocol_stored_and_is_not_utf8_is_an_encoding_error() -> None:
    """A line of JSON cannot carry it; the connection lives."""
    bench = Bench()
    bench.storage.put(b"k", b"\xff")
    check(Wire(bench=bench).feed([b"GET k\nCOUNT\nPING\n"]), [encoding, result(1), result("PONG")])


def test_bytes_of_replies_are_as_documented() -> None:
    """Spaces and the order of fields, for those who match text."""
    wire = Wire().feed([b"PUT k v\nGET k\nGET x\nDEL k\nDEL k\nCOUNT\nKEYS\nCOMMIT\n"])
    assert wire.output.splitlines()[:-1] == [
        b'{"status": "Ok"}',
        b'{"status": "Ok", "result": "v"}',
        b'{"status": "Ok", "result": null, "mesg": "x was not found."}',
        b'{"status": "Ok", "result": true}',
        b'{"status": "Ok", "result": false}',
        b'{"status": "Ok", "result": 0}',
        b'{"status": "Ok", "result": []}',
    ]
    assert wire.output.splitlines()[-1].startswith(b'{"status": "Error", "code": "no_transaction", "mesg": "')


@pytest.mark.parametrize(
    ("line", "meant"),
    [("GTE k", "GET"), ("strat", "START"), ("ROLBACK", "ROLLBACK"), ("comit", "COMMIT"), ("DELETE k", "DEL")],
)
def test_mistyped_command_is_told_what_may_have_been_meant(line: str, meant: str) -> None:
    """Did you mean."""
    (reply,) = Wire().feed([line.encode() + b"\n"]).replies()
    assert f"Did you mean {meant}?" in reply["mesg"]


def test_verb_unlike_any_other_is_told_of_help() -> None:
    """No guess is better than a wild one."""
    (reply,) = Wire().feed([b"xyzzy\n"]).replies()
    assert "Did you mean" not in reply["mesg"]
    assert "HELP" in reply["mesg"]


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        *(("SET k v", "PUT"), ("begin", "START"), ("ABORT", "ROLLBACK"), ("MULTI", "START"), ("EXEC", "COMMIT")),
        *(("DISCARD", "ROLLBACK"), ("UNDO", "ROLLBACK"), ("LIST", "KEYS"), ("SCAN 0", "KEYS"), ("REMOVE k", "DEL")),
    ],
)
def test_command_of_other_programs_is_hinted_at_by_its_meaning(line: str, meant: str) -> None:
    """However unlike the letters are."""
    (reply,) = Wire().feed([line.encode() + b"\n"]).replies()
    assert reply["code"] == "unknown_command"
    assert f"Did you mean {meant}?" in reply["mesg"]


@pytest.mark.parametrize("verb", COMMANDS)
def test_help_says_how_each_command_is_used(verb: bytes) -> None:
    """HELP VERB, in any letters, begins with the verb, and nothing runs."""
    wire = Wire().feed([b"HELP %b\nhelp %b\nCOUNT\n" % (verb, verb.lower())])
    first, second, third = wire.replies()
    assert first == second
    assert first["result"].startswith(verb.decode())
    assert third == result(0)


@pytest.mark.parametrize("line", [b"GETX\n", b"HELP GETX\n"])
def test_the_search_for_a_suggestion_is_charged(line: bytes) -> None:
    """Wherever it is made."""
    assert Wire().connection.receive(line) >= SLOW_COST


def test_pattern_is_explained_where_nothing_was_found() -> None:
    """KEYS and COUNT take prefixes; a key may begin with a star."""
    wire = Wire().feed([b"PUT ab 1\nKEYS *\nKEYS a*\nCOUNT a*\nKEYS a\nKEYS x\nPUT ** 1\nKEYS *\nCOUNT *\n"])
    replies = wire.replies()
    explained = NO_PATTERN.decode()
    assert replies[1] == replies[2] == result([], explained)
    assert replies[3] == result(0, explained)
    assert replies[4:6] == [result(["ab"]), result([])]
    assert replies[7:] == [result(["**"]), result(1)]


@pytest.mark.parametrize(
    "line", [b"X" * MAX_LINE_BYTES, b"GET " + b"k" * 1000, b"PUT k " + b"v" * 900, b"\x01" * 900, "é".encode() * 500]
)
def test_error_never_repeats_a_long_line(line: bytes) -> None:
    """Every reply is bounded, whatever was sent."""
    wire = Wire().feed([line + b"\n"])
    assert len(wire.replies()) == 1
    assert len(wire.output) < 1000


def test_conflict_names_what_changed() -> None:
    """The keys, and the prefixes under which keys came or went."""
    wire = Wire(refusing(Conflict((b"key", b"q\xff"), (prefix_range(b"pre"), prefix_range(b""))))).feed(
        [b"START\nPUT k 1\nCOMMIT\n"]
    )
    message = wire.replies()[2]["mesg"]
    assert '"key"' in message
    assert '"pre"' in message
    assert "\\xff" in message


def test_real_conflict_between_two_connections() -> None:
    """The second to commit is told, and its session is outside any transaction."""
    first = Wire()
    second = Wire(bench=first.bench)
    first.feed([b"PUT n 1\nSTART\nGET n\n"])
    second.feed([b"START\nGET n\nPUT n 2\nCOMMIT\n"])
    first.feed([b"PUT n 3\nCOMMIT\nGET n\nCOMMIT\n"])
    check(second, [OK, result("1"), OK, OK])
    check(first, [OK, OK, result("1"), OK, error("conflict"), result("2"), error("no_transaction")])
    assert '"n"' in first.replies()[4]["mesg"]


def test_info_is_one_line_of_json() -> None:
    """Figures about the session and the server."""
    wire = Wire().feed([b"START\nPUT k 1\nINFO\n"])
    about = wire.replies()[2]["result"]
    assert about["session"]["depth"] == 1
    assert about["session"]["pending_writes"] == 1
    assert about["server"]["keys"] == 0


# Pages.


def test_keys_comes_in_pages_and_says_how_to_go_on() -> None:
    """Following the message lists every key once, in order."""
    wire = Wire()
    for number in range(2 * PAGE_KEYS + 1):
        wire.bench.storage.put(b"p%05d" % number, b"")
    wire.bench.storage.put(b"a", b"")
    wire.bench.storage.put(b"z", b"")
    found: list[str] = []
    line = "KEYS p"
    for size in (PAGE_KEYS, PAGE_KEYS, 1):
        wire.output = b""
        (reply,) = wire.feed([line.encode() + b"\n"]).replies()
        assert len(reply["result"]) == size
        found += reply["result"]
        line = reply.get("mesg", "").rpartition("go on with: ")[2]
        assert (line == f"KEYS p {found[-1]}") == (size == PAGE_KEYS)
    assert found == [f"p{number:05}" for number in range(2 * PAGE_KEYS + 1)]


@pytest.mark.parametrize(("keys", "more"), [(PAGE_KEYS - 1, False), (PAGE_KEYS, False), (PAGE_KEYS + 1, True)])
@pytest.mark.parametrize("inside", [False, True])
def test_keys_says_that_there_is_more_only_above_a_page(keys: int, more: bool, inside: bool) -> None:
    """Just below, at and just above, in a transaction and outside, with no prefix."""
    wire = Wire()
    for number in range(keys):
        wire.bench.storage.put(b"%05d" % number, b"")
    reply = wire.feed([b"START\n" if inside else b"PING\n", b"KEYS\n"]).replies()[1]
    assert len(reply["result"]) == min(keys, PAGE_KEYS)
    assert ("mesg" in reply) == more
    if more:
        next_line = reply["mesg"].rpartition("go on with: ")[2]
        assert wire.feed([next_line.encode() + b"\n"]).replies()[2] == result([f"{PAGE_KEYS:05}"])


# How much one client may do in one tick.


def ticks_of(wire: Wire, stream: bytes) -> list[int]:
    """Hand over what came in one piece; return how many replies came of each tick."""
    wire.connection.receive(stream)
    done = [wire.take()]
    while wire.connection.backlog:
        wire.connection.resume()
        done.append(wire.take())
    return done


greeted = pytest.mark.parametrize("greeting", [[], [b"PING\n"]], ids=["first of all", "behind a first line"])


@greeted
@pytest.mark.parametrize(("allowed", "ticks"), [(1, [1] * 7), (3, [3, 3, 1]), (6, [6, 1]), (7, [7]), (8, [7])])
def test_tick_runs_so_many_requests_and_the_rest_waits(greeting: list[bytes], allowed: int, ticks: list[int]) -> None:
    """Errors count as much as what succeeds."""
    wire = Wire(max_tick_requests=allowed).feed(greeting)
    assert ticks_of(wire, b"PUT a 1\nGET a\n\nGET b\nPUT\nGET a\nCOUNT x y\n") == ticks
    wire = Wire(max_tick_requests=allowed).feed(greeting)
    assert ticks_of(wire, b"PUT a 1\nGET a\nSTART\nGET b\nCOMMIT\nGET a\nPING\n") == ticks
    assert wire.connection.requests == 7 + len(greeting)


def test_backlog_is_before_what_comes_meanwhile() -> None:
    """Receiving more does not give a client more than its share."""
    wire = Wire(max_tick_requests=2)
    wire.connection.receive(b"PUT k 1\nPUT k 2\nGET k\n")
    wire.connection.receive(b"PUT k 3\nGET k\r\n")
    assert wire.take() == 2
    wire.connection.resume()
    assert wire.take() == 2
    wire.connection.resume()
    assert wire.take() == 1
    assert not wire.connection.backlog
    check(wire, [OK, OK, result("2"), OK, result("3")])


def test_backlog_is_looked_at_line_by_line_where_it_must_be() -> None:
    """Plain lines, and then one with a CR and one that is not UTF-8, met in one backlog."""
    wire = Wire(max_tick_requests=1)
    wire.connection.receive(b"PING\nPUT k 1\n")
    wire.connection.receive(b"PUT k 2\r\n")
    wire.feed([b"PUT k \xff\nGET k\n"])
    check(wire, [result("PONG"), OK, OK, encoding, result("2")])


@pytest.mark.parametrize("line", [b"KEYS\n", b"COUNT\n", b"INFO\n", b"nonsense\n"])
def test_slow_commands_count_for_many(line: bytes) -> None:
    """What takes tens of microseconds uses a share up sooner."""
    wire = Wire(max_tick_requests=2 * SLOW_COST)
    wire.connection.receive(line * 10)
    assert wire.take() == 2


@greeted
@pytest.mark.parametrize(("spare", "ticks"), [(-1, [2, 1]), (0, [2, 1]), (1, [3])])
def test_tick_ends_when_its_output_is_full(greeting: list[bytes], spare: int, ticks: list[int]) -> None:
    """The reply that fills the allowance is the last of its tick."""
    reply = len(b'{"status": "Ok", "result": "PONG"}\n')
    assert ticks_of(Wire(max_tick_output_bytes=2 * reply + spare).feed(greeting), b"PING\n" * 3) == ticks


def test_output_that_nobody_takes_stops_the_requests() -> None:
    """Resuming does nothing before the replies have been taken."""
    wire = Wire(max_tick_output_bytes=1)
    wire.connection.receive(b"PING\n" * 3)
    wire.connection.resume()
    wire.connection.resume()
    assert wire.take() == 1
    wire.connection.resume()
    assert wire.take() == 1


def test_end_of_input_waits_for_the_backlog() -> None:
    """Every complete line is answered before the connection closes."""
    wire = Wire(max_tick_requests=1)
    wire.connection.receive(b"PING\nPUT k 1\nGET k\nPUT k 2")
    wire.connection.end_of_input()
    assert not wire.connection.closing
    while wire.connection.backlog:
        wire.connection.resume()
    wire.take()
    assert wire.connection.closing
    check(wire, [result("PONG"), OK, result("1"), usage])
    assert wire.bench.storage.get(b"k") == b"1"


@pytest.mark.parametrize("piece_bytes", [1000, 1 << 14])
def test_long_line_in_pieces_is_joined_once(piece_bytes: int) -> None:
    """Its bytes are copied no more often than if it had come in two pieces."""
    bench = Bench(MemoryStorage(0, UNLIMITED))
    wide = LineLimits(MAX_KEY_BYTES, 2 << 20, 1 << 20, UNLIMITED)
    connection = line_protocol(
        wide, bench.budget, Observation(), open_to_all(), make_logger("info", "json", bench.log)
    )(bench.open(), None)
    value = b"v" * (1 << 20)
    line = b"PUT k " + value + b"\n"
    buffer = connection._buffer
    copied_bytes, last = 0, buffer.data
    for at in range(0, len(line), piece_bytes):
        piece = line[at : at + piece_bytes]
        connection.receive(piece)
        if buffer.data is not last and buffer.data is not piece:
            copied_bytes += len(buffer.data)
        last = buffer.data
    assert output_of(connection) == b'{"status": "Ok"}\n'
    assert bench.storage.get(b"k") == value
    assert copied_bytes <= 2 * len(line)


def test_over_long_line_waits_for_the_backlog() -> None:
    """What came before it is answered first, and nothing after it."""
    wire = Wire(max_tick_requests=1)
    wire.connection.receive(b"PUT k 1\nGET k\n" + b"x" * (MAX_LINE_BYTES + 1) + b"\nPUT k 2\n")
    wire.connection.receive(b"PUT k 3\n")
    while wire.connection.backlog:
        wire.connection.resume()
    wire.take()
    check(wire, [OK, result("1"), too_large])
    assert wire.connection.closing


def test_exit_drops_the_backlog() -> None:
    """Nothing after it on the connection runs, waiting or yet to come."""
    wire = Wire(max_tick_requests=2)
    wire.connection.receive(b"PUT k 1\nPING\nEXIT\nPUT k 2\nPUT k 3\n")
    wire.take()
    wire.connection.resume()
    assert wire.connection.closing
    assert not wire.connection.backlog
    wire.connection.receive(b"PUT k 4\n")
    wire.connection.resume()
    wire.take()
    check(wire, [OK, result("PONG"), OK])
    assert wire.bench.storage.get(b"k") == b"1"


def test_large_listing_is_answered_in_order_with_what_follows() -> None:
    """A listing that takes several ticks holds up its own client only."""
    wire = Wire(max_tick_requests=1000)
    wire.feed([b"START\n" + b"".join(b"PUT %06d 1\n" % number for number in range(5000))])
    wire.output = b""
    wire.connection.receive(b"COUNT\nKEYS 004999\nPUT x 1\nCOUNT\n")
    ticks = 1
    while wire.connection.backlog:
        wire.connection.resume()
        ticks += 1
    wire.take()
    check(wire, [result(5000), result(["004999"]), OK, result(5001)])
    assert ticks > 3
    assert wire.connection.requests == 5005


# When the clients together hold all the memory they may.


class Exhausted:
    """A connection with an open transaction, and a budget that somebody else has used up."""

    def __init__(self) -> None:
        self.wire = Wire()
        self.wire.feed([b"PUT k 0\nSTART\nPUT k 1\n"])
        self.wire.output = b""
        self.budget = self.wire.bench.budget
        self.budget.limit_bytes = self.budget.used_bytes + 100_000
        self.budget.used_bytes += 100_000

    def free(self) -> None:
        """Let the others leave."""
        self.budget.used_bytes -= 100_000


limit = error("limit")


@pytest.mark.parametrize("line", [b"PUT k 2", b"GET k", b"DEL k", b"START", b"KEYS", b"COUNT"])
def test_new_work_is_refused_without_memory(line: bytes) -> None:
    """Each is answered by a limit, and the transaction is as it was."""
    exhausted = Exhausted()
    wire = exhausted.wire.feed([line + b"\n", b"PING\n"])
    check(wire, [limit, result("PONG")])
    exhausted.free()
    wire.output = b""
    check(wire.feed([b"GET k\nCOMMIT\nCOMMIT\nGET k\n"]), [result("1"), OK, error("no_transaction"), result("1")])


@pytest.mark.parametrize(("line", "after"), [(b"COMMIT", b"1"), (b"ROLLBACK", b"0"), (b"EXIT", b"0"), (b"QUIT", b"0")])
def test_what_frees_memory_runs_without_memory(line: bytes, after: bytes) -> None:
    """A client can always get out, and keep its work."""
    wire = Exhausted().wire.feed([line + b"\n"])
    check(wire, [OK])
    assert wire.bench.storage.get(b"k") == after
    assert wire.bench.storage.open_snapshots == 0


def test_memory_bound_lets_everything_run_just_below_it() -> None:
    """The bound is reached when all of it is in use."""
    exhausted = Exhausted()
    exhausted.budget.used_bytes -= 1
    check(exhausted.wire.feed([b"GET k\n"]), [result("1")])
    exhausted.budget.used_bytes += 1
    check(exhausted.wire.feed([b"GET k\n"]), [result("1"), limit])


LONG = b"PUT k " + b"v" * LINE_OVERHEAD_BYTES
"""The beginning of a line that is longer than any that always runs."""


def test_long_unfinished_line_is_dropped_without_memory_and_answered_once_it_ends() -> None:
    """Its bytes are not kept; its reply is due all the same, even if there is memory by then."""
    exhausted = Exhausted()
    wire, connection = exhausted.wire, exhausted.wire.connection
    held = exhausted.budget.used_bytes
    for _ in range(1000):
        wire.feed([LONG])
    assert connection.mid_request
    assert exhausted.budget.used_bytes == held
    check(wire, [])
    exhausted.free()
    check(wire.feed([b" and more\nGET k\n"]), [limit, result("1")])
    assert not connection.mid_request


@pytest.mark.parametrize(("more", "dropped"), [(-1, False), (0, False), (1, True)])
def test_line_is_dropped_only_above_a_length(more: int, dropped: bool) -> None:
    """Up to it a line is kept, and refused or run by what the memory is when it ends."""
    exhausted = Exhausted()
    wire = exhausted.wire.feed([b"PUT k".ljust(LINE_OVERHEAD_BYTES + more, b"v")])
    exhausted.free()
    check(wire.feed([b"\n"]), [limit if dropped else usage])


@pytest.mark.parametrize("line", [b"COMMIT\n", b"  rollback  \r\n", b"EXIT\n", b"PING\n", b"HELP\n"])
def test_what_frees_memory_runs_without_memory_even_byte_by_byte(line: bytes) -> None:
    """A client that types can get out as well."""
    wire = Exhausted().wire.feed(bytes_of(line))
    assert wire.replies()[0]["status"] == "Ok"


def test_dropped_line_is_answered_in_its_place() -> None:
    """What was complete before it is answered first, what came after it afterwards."""
    exhausted = Exhausted()
    wire = exhausted.wire.feed([b"PING\n" + LONG])
    exhausted.free()
    wire.feed([b" 2", b"\n", b"\nPI", b"NG\n"])
    check(wire, [result("PONG"), limit, usage, result("PONG")])


def test_dropped_line_that_never_ends_is_answered_at_the_end_of_input() -> None:
    """It was cut short, as any other unterminated line."""
    wire = Exhausted().wire.feed([LONG]).end()
    check(wire, [usage])
    assert wire.connection.closing


def test_0x16_within_a_dropped_first_line_is_no_tls() -> None:
    """Only the first byte of a connection can open TLS."""
    bench = Bench()
    wire = Wire(bench=bench)
    bench.budget.used_bytes = bench.budget.limit_bytes
    wire.feed([LONG, b"\x16 v"])
    bench.budget.used_bytes = 0
    check(wire.feed([b"\nPING\n"]), [limit, result("PONG")])


def test_connection_is_charged_for_what_it_holds_and_paid_back() -> None:
    """Waiting requests, an unfinished one, and replies that nobody has taken."""
    wire = Wire(max_tick_requests=1)
    budget = wire.bench.budget
    wire.connection.receive(b"PUT k 1\n" * 10_000 + b"PUT k")
    assert 70_000 < budget.used_bytes < 100_000
    wire.connection.close()
    wire.bench.assert_nothing_is_held()
    wire = Wire()
    wire.connection.receive(b"PING\n" * 10_000)
    assert 300_000 < wire.bench.budget.used_bytes < 400_000
    wire.connection.end_of_input()
    assert wire.take() == 10_000
    wire.bench.assert_nothing_is_held()


# Failing, and the log.


def test_failing_sends_one_error_and_closes() -> None:
    """A timeout from outside: what was complete has run, nothing runs any more, and the session is closed."""
    wire = Wire().feed([b"START\nPUT k 1\nPUT k"])
    wire.connection.fail(TimedOutError("too slow"))
    wire.connection.fail(TimedOutError("again"))
    wire.take()
    wire.feed([b" 2\nPUT k 3\n"]).end()
    check(wire, [OK, OK, error("timeout")])
    assert wire.connection.closing
    assert not wire.connection.mid_request
    wire.bench.assert_nothing_is_held()


def test_protocol_refusal_is_logged_without_control_characters() -> None:
    """The event tells what was received, cut short and escaped."""
    wire = Wire().feed([b"\x1b[2J" + b"x" * 500 + b": not a word of the rest\n"])
    (line,) = wire.bench.log.getvalue().splitlines()
    assert line.isprintable()
    event = json.loads(line)
    assert event["event"] == "protocol_refused"
    assert event["session"] == wire.connection.session.id
    assert "x" in event["received"]
    assert len(event["received"]) < 200
    assert "rest" not in wire.bench.log.getvalue()


def test_log_has_nothing_of_what_clients_do_wrong_every_day() -> None:
    """Usage, unknown commands and conflicts are answers, not events."""
    wire = Wire().feed([b"PUT\nnonsense\n\xff\nCOMMIT\nGET %b\n" % (K * 2)])
    assert len(wire.replies()) == 5
    assert wire.bench.log.getvalue() == ""


class TestLongLine:
    """A long line is not copied as a whole, and means what a short one means."""

    @staticmethod
    def outcome(line: bytes) -> tuple[list[Reply], Value | None]:
        """Return the replies to a line after another one, and the value stored since."""
        wire = Wire()
        wire.limits.max_value_bytes = wire.limits.max_line_bytes = 1 << 20
        logger = make_logger("info", "json", wire.bench.log)
        wire.connection = line_protocol(wire.limits, wire.bench.budget, Observation(), open_to_all(), logger)(
            wire.bench.open(), None
        )
        wire.feed([b"PING\n", line])
        stored = wire.bench.storage.get(b"k")
        return wire.replies(), stored

    @pytest.mark.parametrize(
        "template",
        [
            b"PUT k %b\n",
            b"PUT k %b\r\n",
            b"PUT k %b\r\r\n",
            b"put k  %b \n",
            b" PUT k %b\n",
            b"\tPUT k %b\n",
            b"PUT  %b\n",
            b"PUT k\t %b\n",
            b"PUT k %b HTTP/1.1\n",
            "PUT k é%b\n".encode(),
            "PUT k %bé\n".encode(),
            "PUT é %b\n".encode(),
            b"PUT k \xff%b\n",
            b"FOO k %b\n",
            b"START k %b\n",
            b"COUNT k %b\n",
        ],
    )
    def test_long_line_means_what_a_short_one_means(self, template: bytes) -> None:
        short, long = b"v" * 10, b"v" * (2 * LONG_LINE_BYTES)
        replies, stored = self.outcome(template % short)
        assert self.outcome(template % long) == (replies, stored and string_of(stored).replace(short, long))

    def test_position_of_a_byte_that_is_not_utf8_is_that_in_the_line(self) -> None:
        value = b"v" * LONG_LINE_BYTES
        (_, reply), _ = self.outcome(b"PUT k %b\xff\n" % value)
        assert reply["mesg"] == f"The line is not UTF-8 (at byte {len(value) + 6})."


def test_incr_tells_what_is_no_number() -> None:
    """What is there, or what is to be added."""
    output = Wire().feed([b'PUT n x\nINCR n\nINCR n 1"\n']).output
    assert [json.loads(line).get("mesg") for line in output.splitlines()] == [
        None,
        "The value under this key is not a whole number of 64 bits.",
        '"1\\"" is not a whole number of 64 bits to add.',
    ]

"""What takes long in RESP is done in shares, with others served in between, and comes to the same."""

import tracemalloc

import pytest

from kvs.adapters.inbound.protocol.command import SLOW_COST
from kvs.adapters.inbound.protocol.errors import UnknownCommandError
from kvs.adapters.inbound.resp.commands import keys
from kvs.adapters.inbound.resp.commands.charged import LARGE_COPY_BYTES, STORED_BYTES_PER_UNIT
from kvs.adapters.inbound.resp.commands.registry import BY_NAME, command_of
from kvs.adapters.inbound.resp.connection import RespConnection
from kvs.adapters.inbound.resp.glob import literal_prefix
from kvs.adapters.storage.memory.storage import MemoryStorage
from kvs.domain.errors import UsageError
from kvs.domain.grants import READ
from tests.support.resp_connection import RespServer, answer, ask
from tests.support.resp_wire import NULL, NULL_ARRAY, OK, PONG, QUEUED, Typed, request
from tests.support.sessions import output_of

SHARE = 10
BIG = b"v" * (LARGE_COPY_BYTES + 1)


def queued(server: RespServer, *commands: tuple[bytes, ...]) -> RespConnection:
    """Return a connection with commands in its queue."""
    connection = server.connect()
    assert ask(connection, b"MULTI") == OK
    for command in commands:
        assert ask(connection, *command) == QUEUED
    return connection


def begun(connection: RespConnection, *words: bytes) -> None:
    """Ask what is not answered in one tick."""
    connection.receive(request(*words))
    assert output_of(connection) == b""
    assert connection.backlog


def test_a_tick_runs_so_many_requests() -> None:
    """Of whatever kind; the rest waits for the next tick."""
    server = RespServer(max_tick_requests=SHARE)
    for words in ((b"PING",), (b"STRLEN", b"k"), (b"NOSUCH",), (b"GET",)):
        connection = server.connect()
        connection.receive(request(*words) * (2 * SHARE + 1))
        replies = []
        while connection.backlog:
            replies.append(output_of(connection).count(b"\r\n"))
            connection.resume()
        assert [*replies, output_of(connection).count(b"\r\n")] == [SHARE, SHARE, 1]


def test_a_long_queue_makes_way_for_others() -> None:
    """They see nothing of it before all of it is there."""
    server = RespServer(max_tick_requests=SHARE)
    connection, other = queued(server, *[(b"INCR", b"n")] * (5 * SHARE)), server.connect()
    begun(connection, b"EXEC")
    assert ask(other, b"PING") == PONG
    assert ask(other, b"EXISTS", b"n") == 0
    assert answer(connection) == list(range(1, 5 * SHARE + 1))
    assert ask(other, b"STRLEN", b"n") == 2
    server.assert_nothing_is_left()


def test_a_long_queue_that_others_came_before_is_run_again() -> None:
    """From its beginning, against the data of that moment; and what it answers is of that run alone."""
    server = RespServer(max_tick_requests=SHARE)
    connection, other = queued(server, *[(b"INCR", b"n")] * (2 * SHARE)), server.connect()
    begun(connection, b"EXEC")
    assert ask(other, b"INCRBY", b"n", b"100") == 100
    assert answer(connection) == list(range(101, 101 + 2 * SHARE))
    server.assert_nothing_is_left()


def test_what_is_watched_may_change_while_a_long_queue_is_run() -> None:
    """Its commit validates that as well."""
    server = RespServer(max_tick_requests=SHARE)
    connection, other = server.connect(), server.connect()
    assert ask(connection, b"WATCH", b"w") == OK
    assert ask(connection, b"MULTI") == OK
    for _ in range(2 * SHARE):
        assert ask(connection, b"INCR", b"n") == QUEUED
    begun(connection, b"EXEC")
    assert ask(other, b"SET", b"w", b"") == OK
    assert answer(connection) == NULL_ARRAY
    assert ask(other, b"EXISTS", b"n") == 0
    server.assert_nothing_is_left()


def test_a_search_in_a_queue_makes_way_for_others() -> None:
    """And goes on where it was, as of the moment of EXEC."""
    server = RespServer()
    for number in range(10_000):
        server.bench.storage.put(b"%05d" % number, b"")
    connection, other = queued(server, (b"KEYS", b"*9999"), (b"SET", b"k", b"")), server.connect()
    begun(connection, b"EXEC")
    assert ask(other, b"SET", b"x9999", b"") == OK
    assert answer(connection) == [[b"09999", b"x9999"], OK]  # run again, for the set of keys has changed
    server.assert_nothing_is_left()


@pytest.mark.parametrize("words", [(b"KEYS", b"*"), (b"EXEC",)])
def test_what_is_under_way_and_holds_little_is_not_refused_for_want_of_memory(words: tuple[bytes, ...]) -> None:
    """It would leave its snapshot open, and its question unanswered."""
    server = RespServer(max_tick_requests=SHARE)
    for number in range(3000):
        server.bench.storage.put(b"%05d" % number, b"")
    connection = queued(server, *[(b"EXISTS", b"n")] * (2 * SHARE)) if words == (b"EXEC",) else server.connect()
    begun(connection, *words)
    server.bench.budget.limit_bytes = 0
    reply = answer(connection)
    assert isinstance(reply, list)
    assert len(reply) == (3000 if words == (b"KEYS", b"*") else 2 * SHARE)
    assert connection.session.depth == 0
    refused = ask(connection, b"KEYS", b"*")
    assert isinstance(refused, Typed)
    assert refused.kind == "-"
    server.assert_nothing_is_left()


def test_who_leaves_while_something_is_under_way_leaves_nothing_behind() -> None:
    """Neither the snapshot of a transaction nor that of watched keys."""
    server = RespServer(max_tick_requests=SHARE)
    for number in range(10_000):
        server.bench.storage.put(b"%05d" % number, b"")
    connection = server.connect()
    assert ask(connection, b"WATCH", b"w") == OK
    begun(connection, b"KEYS", b"*")
    assert server.bench.storage.open_snapshots == 2
    connection.close()
    server.assert_nothing_is_left()


@pytest.mark.parametrize("words", [(b"APPEND", b"k", b"x"), (b"SETRANGE", b"k", b"0", b"x")])
def test_copying_long_values_counts(words: tuple[bytes, ...]) -> None:
    """A tick copies so many bytes, however short the requests for it are."""
    server = RespServer(max_tick_requests=SHARE)
    server.limits.max_value_bytes = 1 << 20
    server.bench.storage.put(b"k", bytes(SHARE << 14))
    connection = server.connect()
    connection.receive(request(*words) * 3)
    assert connection.backlog
    assert output_of(connection).count(b"\r\n") == 1


LONG = b"x" * (1 << 15)


@pytest.mark.parametrize(
    "words", [(b"SET", b"k", b"", b"IFEQ", LONG), (b"DELIFEQ", b"k", LONG), (b"DELEX", b"k", b"IFEQ", LONG)]
)
def test_a_queue_of_long_comparisons_makes_way_for_others(words: tuple[bytes, ...]) -> None:
    """They cost as much as copying what is compared."""
    server = RespServer(max_tick_requests=SHARE)
    server.limits.max_value_bytes = server.limits.max_bulk_bytes = len(LONG)
    begun(queued(server, *[words] * 3), b"EXEC")
    short = (b"k" if word is LONG else word for word in words)
    assert isinstance(ask(queued(server, *[tuple(short)] * 3), b"EXEC"), list)


@pytest.mark.parametrize("words", [(b"KEYS", b"*"), (b"EXEC",)])
def test_what_is_under_way_may_lose_its_snapshot(words: tuple[bytes, ...]) -> None:
    """The client knows of no transaction, so none of its is ended: it is told to try again."""
    server = RespServer(max_tick_requests=SHARE, storage=MemoryStorage(0, 1))
    for number in range(10_000):
        server.bench.storage.put(b"%05d" % number, b"")
    queue = [(b"HELLO", b"3"), *[(b"INCR", b"n")] * (2 * SHARE)]
    connection = queued(server, *queue) if words == (b"EXEC",) else server.connect()
    begun(connection, *words)
    other = server.connect()
    for number in range(100):
        assert ask(other, b"SETNX", b"%05d" % number, b"") == 0
        assert ask(other, b"SET", b"%05d" % number, b"") == OK
    assert not connection.session.expired
    reply = answer(connection)
    assert isinstance(reply, Typed)
    assert str(reply).startswith("-b'UNAVAILABLE ")
    assert ask(connection, b"EXISTS", b"n") == 0
    assert ask(connection, b"GET", b"n") == NULL  # in the version of before
    assert not connection.closing
    server.assert_nothing_is_left()


def test_commands_about_connections_are_run_behind_a_queue_in_shares() -> None:
    """The transaction is applied before, and others see it; each has its reply in its place."""
    server = RespServer(max_tick_requests=2 * SLOW_COST)
    connection, other = queued(server, (b"INCR", b"n"), *[(b"CLIENT", b"LIST")] * 5, (b"INCR", b"n")), server.connect()
    begun(connection, b"EXEC")
    assert ask(other, b"GET", b"n") == b"2"
    connection.resume()
    assert output_of(connection) == b""
    assert ask(other, b"INCR", b"n") == 3
    assert answer(connection) == [1, *[b""] * 5, 2]
    assert ask(connection, b"GET", b"n") == b"3"
    server.assert_nothing_is_left()


def test_what_is_run_behind_a_queue_has_no_more_room_than_is_left() -> None:
    """Beyond, it is not run, and has an error for a reply; what was applied stays so."""
    server = RespServer(max_reply_bytes=700, max_key_bytes=700)
    connection = queued(server, (b"INCR", b"n"), *[(b"CLIENT", b"HELP")] * 2, *[(b"CLIENT", b"TRACKINGINFO")] * 12)
    assert ask(connection, b"CLIENT", b"SETNAME", b"me") == QUEUED
    reply = ask(connection, b"EXEC")
    assert isinstance(reply, Typed)
    assert ask(connection, b"EXISTS", b"n") == 0  # the first of it is part of the queue, which is refused as a whole
    connection = queued(server, (b"INCR", b"n"), *[(b"CLIENT", b"TRACKINGINFO")] * 12, (b"CLIENT", b"SETNAME", b"me"))
    reply = ask(connection, b"EXEC")
    assert isinstance(reply, list)
    assert reply[0] == 1
    errors = [isinstance(one, Typed) and one.kind == "-" for one in reply]
    assert errors == sorted(errors)
    assert 1 < sum(errors) < len(errors) - 1
    assert ask(connection, b"CLIENT", b"GETNAME") == NULL


def test_what_is_run_behind_a_queue_is_not_run_if_that_is_not_applied() -> None:
    """As when something watched has changed."""
    server = RespServer()
    connection, other = server.connect(), server.connect()
    assert ask(connection, b"WATCH", b"w") == OK
    assert ask(other, b"SET", b"w", b"") == OK
    assert ask(connection, b"MULTI") == OK
    assert ask(connection, b"CLIENT", b"SETNAME", b"me") == QUEUED
    assert ask(connection, b"HELLO", b"3", b"SETNAME", b"me") == QUEUED
    assert ask(connection, b"EXEC") == NULL_ARRAY
    assert ask(connection, b"CLIENT", b"GETNAME") == NULL


def test_a_queue_that_is_run_again_begins_in_the_version_it_began_in() -> None:
    """Whatever version a HELLO in it chose the first time."""
    server = RespServer(max_tick_requests=SHARE)
    commands = [(b"GET", b"no"), (b"HELLO", b"3"), (b"GET", b"no"), *[(b"INCR", b"n")] * SHARE]
    connection, other = queued(server, *commands), server.connect()
    begun(connection, b"EXEC")
    assert ask(other, b"INCRBY", b"n", b"100") == 100
    reply = answer(connection)
    assert isinstance(reply, list)
    assert (reply[0], reply[2]) == (NULL, Typed("_", None))
    assert reply[3:] == list(range(101, 101 + SHARE))
    assert ask(connection, b"GET", b"no") == Typed("_", None)
    server.assert_nothing_is_left()


@pytest.mark.parametrize(
    "words",
    [
        (b"APPEND", b"big", b"x"),
        (b"SETRANGE", b"new", b"%d" % (len(BIG) - 1), b"x"),
        (b"SETBIT", b"big", b"0", b"1"),
        (b"BITFIELD", b"big", b"SET", b"u8", b"0", b"1"),
        (b"BITFIELD", b"big", *(b"SET", b"u8", b"0", b"1") * 20),
    ],
    ids=lambda words: b" ".join(words[:3]).decode(),
)
def test_a_value_that_is_refused_is_charged(words: tuple[bytes, ...]) -> None:
    """It has been made, and there was no room for it in the transaction."""
    server = RespServer()
    server.limits.max_value_bytes = 2 * len(BIG)
    connection = server.connect()
    server.bench.storage.put(b"big", BIG)
    server.bench.limits.max_transaction_bytes = len(BIG) // 2
    assert ask(connection, b"START") == OK
    units = connection.receive(request(*words))
    while connection.backlog:
        units += connection.resume()
    assert output_of(connection).startswith(b"-LIMIT")
    assert units >= len(BIG) // STORED_BYTES_PER_UNIT


@pytest.mark.parametrize(
    "words",
    [
        (b"APPEND", b"big", b"x"),
        (b"BITFIELD", b"big", b"GET", b"u8", b"0", b"SET", b"u8", b"0", b"%d" % BIG[0]),
        (b"BITFIELD", b"big", b"OVERFLOW", b"FAIL", b"INCRBY", b"u2", b"0", b"9"),
        (b"SETBIT", b"big", b"0", b"0"),
    ],
    ids=lambda words: b" ".join(words[:3]).decode(),
)
def test_a_value_that_stays_as_it_was_is_not_copied(words: tuple[bytes, ...]) -> None:
    """So such a request costs nothing, however long the value is."""
    server = RespServer()
    server.limits.max_value_bytes = len(BIG)
    connection = server.connect()
    server.bench.storage.put(b"big", BIG)
    tracemalloc.start()
    try:
        ask(connection, *words)
        assert tracemalloc.get_traced_memory()[1] < len(BIG)
    finally:
        tracemalloc.stop()
    assert server.bench.storage.get(b"big") == BIG


@pytest.mark.parametrize("pattern", [b"?" * 1000, b"[a-c]" * 50], ids=["long", "compiled"])
@pytest.mark.parametrize("command", [(b"KEYS",), (b"SCAN", b"0", b"MATCH")], ids=["KEYS", "SCAN"])
def test_a_pattern_is_charged_though_there_is_no_key(command: tuple[bytes, ...], pattern: bytes) -> None:
    """To get ready for it takes up to a millisecond."""
    assert RespServer().connect().receive(request(*command, pattern)) >= 500


@pytest.mark.one_build  # a compiled function is not replaced
def test_of_many_patterns_only_the_last_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the grants, too."""
    seen: list[bytes] = []

    def noted(pattern: bytes) -> bytes:
        seen.append(pattern)
        return literal_prefix(pattern)

    monkeypatch.setattr(keys, "literal_prefix", noted)
    words = [b"SCAN", b"0", *[word for at in range(1000) for word in (b"match", b"p%d*" % at)]]
    assert BY_NAME[b"scan"].ranges(words) == [(READ, b"p999")]
    assert seen == [b"p999*"]


@pytest.mark.parametrize("words", [[BIG], [b"CLIENT", BIG], [b"\0" * len(BIG), b"x"]], ids=["name", "part", "zeros"])
def test_a_name_that_is_too_long_is_not_copied(words: list[bytes]) -> None:
    """It is none, which its beginning shows."""
    connection = RespServer().connect()
    tracemalloc.start()
    try:
        with pytest.raises((UnknownCommandError, UsageError)):
            command_of(words, connection._context)
        assert tracemalloc.get_traced_memory()[1] < len(BIG) // 2
    finally:
        tracemalloc.stop()


def test_histograms_of_commands_that_are_named() -> None:
    """In their order, each once, and of a command with subcommands all of them."""
    server = RespServer()
    connection = server.connect()
    for words in ((b"PING",), (b"CLIENT", b"ID"), (b"CLIENT", b"GETNAME")):
        ask(connection, *words)
    reply = ask(connection, b"LATENCY", b"HISTOGRAM", b"Client|Getname", b"no", b"PING", b"client", b"ping")
    assert isinstance(reply, list)
    assert reply[::2] == [b"client|getname", b"ping", b"client|id"]


LARGE_COPIES = [
    ((b"APPEND", b"big", b"x"), len(BIG) + 1),
    ((b"SETRANGE", b"big", b"0", b"x"), len(BIG)),
    ((b"SETRANGE", b"new", b"%d" % (len(BIG) - 1), b"x"), len(BIG)),
    ((b"GETRANGE", b"big", b"0", b"-2"), BIG[:-1]),
    ((b"SETBIT", b"big", b"0", b"1"), BIG[0] >> 7),
    ((b"BITFIELD", b"big", b"SET", b"u8", b"0", b"1"), [BIG[0]]),
    ((b"BITFIELD", b"big", *(b"SET", b"u8", b"0", b"1") * 20), [BIG[0], *[1] * 19]),
]
"""Requests of few bytes that copy a large value, and their replies."""

large_copies = pytest.mark.parametrize(
    ("words", "reply"), LARGE_COPIES, ids=[b" ".join(words[:3]).decode() for words, _ in LARGE_COPIES]
)


def server_with_a_large_value() -> RespServer:
    """Return one that takes longer ones as well."""
    server = RespServer()
    server.limits.max_value_bytes = 2 * len(BIG)
    server.bench.storage.put(b"big", BIG)
    return server


@large_copies
def test_a_large_copy_waits_for_its_turn(words: tuple[bytes, ...], reply: object) -> None:
    """It is not made with the quota of a packet, for there may be many."""
    server = server_with_a_large_value()
    connections = [server.connect() for _ in range(3)]
    for connection in connections:
        assert connection.receive(request(*words), 30) <= 30 + len(words) // 4
        assert output_of(connection) == b""
    assert server.bench.storage.get(b"big") == BIG
    connection = connections[0]
    units = 0
    while connection.backlog:
        units += connection.resume(30)
    assert units >= len(BIG) // STORED_BYTES_PER_UNIT
    assert answer(connection) == reply


def test_a_large_part_is_copied_in_shares() -> None:
    """Of which none costs much more than its quota."""
    connection = server_with_a_large_value().connect()
    units = [connection.receive(request(b"GETRANGE", b"big", b"1", b"-1"), 30)]
    while connection.backlog:
        units.append(connection.resume(30))
    assert sum(units) >= len(BIG) // STORED_BYTES_PER_UNIT
    assert max(units) <= len(BIG) // STORED_BYTES_PER_UNIT // 3
    assert answer(connection) == BIG[1:]


@large_copies
def test_a_large_copy_comes_to_the_same_in_a_queue(words: tuple[bytes, ...], reply: object) -> None:
    """Where others are served in between as well."""
    server = server_with_a_large_value()
    connection = queued(server, words, (b"PING",))
    begun(connection, b"EXEC")
    assert answer(connection) == [reply, PONG]
    server.assert_nothing_is_left()


def test_a_small_copy_is_made_at_once() -> None:
    """With the quota of the packet."""
    server = RespServer()
    server.limits.max_value_bytes = 100
    connection = server.connect()
    for words, reply in (
        ((b"APPEND", b"k", b"abc"), b":3\r\n"),
        ((b"SETRANGE", b"k", b"5", b"f"), b":6\r\n"),
        ((b"GETRANGE", b"k", b"1", b"-3"), b"$3\r\nbc\0\r\n"),
        ((b"SETBIT", b"k", b"0", b"1"), b":0\r\n"),
        ((b"BITFIELD", b"k", b"SET", b"u8", b"8", b"1"), b"*1\r\n:98\r\n"),
    ):
        connection.receive(request(*words), 1)
        assert output_of(connection) == reply

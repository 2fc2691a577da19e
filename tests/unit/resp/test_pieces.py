"""Replies made of many parts: large values are sent without a copy, and small ones are joined in shares."""

import io

import pytest

from kvs.adapters.inbound.resp.connection import RespConnection
from kvs.adapters.inbound.resp.pieces import LARGE_PART_BYTES, PIECE_BYTES, Pieces
from kvs.ports.session import COPIED_BYTES_PER_UNIT, Work
from tests.support.resp_connection import RespServer, ask
from tests.support.resp_wire import NULL, OK, QUEUED, Typed, read_reply, request

BIG = bytes(range(256)) * (1 << 10)
SMALL = b"s" * 4000
MANY = 320
SHARE = 10


def filled(max_tick_requests: int = 1000, max_reply_bytes: int = 1 << 30) -> RespServer:
    """Return a server with a large value and a small one."""
    server = RespServer(max_tick_requests=max_tick_requests, max_reply_bytes=max_reply_bytes)
    server.limits.max_arguments = MANY + 1
    server.limits.max_value_bytes = server.limits.max_bulk_bytes = len(BIG)
    server.bench.storage.put(b"big", BIG)
    server.bench.storage.put(b"small", SMALL)
    return server


def pieces_of(connection: RespConnection, *requests: tuple[bytes, ...]) -> tuple[list[bytes], int]:
    """Return the pieces of all replies, and how many shares they have taken."""
    connection.receive(b"".join(request(*words) for words in requests))
    shares = 1
    while connection.backlog:
        connection.resume()
        shares += 1
    return connection.take_output()[0], shares


def copied_bytes(pieces: list[bytes]) -> int:
    """Return the length of all pieces that are not the stored value itself."""
    return sum(len(piece) for piece in pieces if piece is not BIG)


@pytest.mark.parametrize(
    "requests",
    [
        [(b"MGET", b"big", b"no", b"big", b"big")],
        [(b"MULTI",), *[(b"GET", b"big")] * 3, (b"EXEC",)],
        [(b"MULTI",), (b"MGET", b"big", b"big"), (b"GET", b"big"), (b"EXEC",)],
        [(b"MULTI",), (b"CLIENT", b"GETNAME"), *[(b"GET", b"big")] * 3, (b"EXEC",)],
        [(b"CLIENT", b"TRACKING", b"ON"), (b"MGET", *[b"no"] * 100, b"big", b"big", b"big")],
        [(b"START",), (b"MGET", b"big", b"big", b"big")],
    ],
)
def test_large_values_are_not_copied(requests: list[tuple[bytes, ...]]) -> None:
    """As by GET: a copy would hold others up for as long as it takes."""
    connection = filled().connect()
    if requests[0][0] == b"CLIENT":
        ask(connection, b"HELLO", b"3")
    pieces, _ = pieces_of(connection, *requests)
    assert sum(piece is BIG for piece in pieces) == 3
    assert copied_bytes(pieces) < 1000


@pytest.mark.parametrize(
    "requests",
    [
        [(b"MGET", *[b"small"] * MANY)],
        [(b"MULTI",), *[(b"GET", b"small")] * MANY, (b"EXEC",)],
        [(b"MULTI",), (b"MGET", *[b"small"] * MANY), (b"EXEC",)],
    ],
)
def test_small_values_are_joined_in_shares(requests: list[tuple[bytes, ...]]) -> None:
    """What is copied at a time is bounded, and charged."""
    pieces, shares = pieces_of(filled(SHARE).connect(), *requests)
    assert max(map(len, pieces)) < PIECE_BYTES + LARGE_PART_BYTES
    joins = MANY * len(SMALL) // PIECE_BYTES
    assert shares >= MANY // SHARE + joins - 1


@pytest.mark.parametrize("words", [(b"KEYS", b"*"), (b"SCAN", b"0", b"COUNT", b"1000")])
def test_keys_are_joined_in_shares(words: tuple[bytes, ...]) -> None:
    """There may be many, and long ones."""
    server = RespServer(max_tick_requests=SHARE)
    keys = [b"%04000d" % number for number in range(MANY)]
    for key in keys:
        server.bench.storage.put(key, b"")
    pieces, shares = pieces_of(server.connect(), words)
    assert max(map(len, pieces)) < PIECE_BYTES + LARGE_PART_BYTES
    assert shares >= MANY * len(keys[0]) // PIECE_BYTES
    reply = read_reply(io.BytesIO(b"".join(pieces)))
    assert reply == (keys if words[0] == b"KEYS" else [b"0", keys])


def test_a_few_small_values_are_one_piece() -> None:
    """It costs the least."""
    connection = filled().connect()
    assert pieces_of(connection, (b"MGET", b"small", b"no"))[0] == [b"*2\r\n$4000\r\n%b\r\n$-1\r\n" % SMALL]
    assert len(pieces_of(connection, (b"MULTI",), (b"GET", b"small"), (b"EXEC",))[0]) == 3


def test_large_and_small_values_are_in_order() -> None:
    """Also among errors, and with what is run behind a queue."""
    server = filled()
    connection = server.connect()
    assert ask(connection, b"MGET", b"small", b"big", b"no", b"big", b"small") == [SMALL, BIG, NULL, BIG, SMALL]
    assert ask(connection, b"MGET", *[b"small", b"no"] * 50) == [SMALL, NULL] * 50
    queue = [(b"GET", b"big"), (b"CLIENT", b"SETNAME", b"me"), (b"INCR", b"big"), (b"MGET", b"big", b"no")]
    queue += [(b"SET", b"big", b"x", b"GET"), (b"CLIENT", b"GETNAME"), (b"GET", b"big")]
    assert ask(connection, b"MULTI") == OK
    for words in queue:
        assert ask(connection, *words) == QUEUED
    reply = ask(connection, b"EXEC")
    assert isinstance(reply, list)
    assert [*reply[:2], *reply[3:]] == [BIG, OK, [BIG, NULL], BIG, b"me", b"x"]
    assert isinstance(reply[2], Typed)
    server.assert_nothing_is_left()


@pytest.mark.parametrize("number", [1, 2, 3])
def test_pieces_count_in_the_length_of_a_reply(number: int) -> None:
    """EXEC refuses what is longer than allowed, and applies nothing of it."""
    server = filled(max_reply_bytes=2 * len(BIG) + 100)
    connection = server.connect()
    for words in ((b"MULTI",), (b"SET", b"k", b"v"), *[(b"GET", b"big")] * number):
        ask(connection, *words)
    reply = ask(connection, b"EXEC")
    if number < 3:
        assert reply == [OK, *[BIG] * number]
    else:
        assert isinstance(reply, Typed)
        assert ask(connection, b"EXISTS", b"k") == 0


def test_a_queue_that_is_run_again_has_the_values_of_that_run() -> None:
    """Nothing is left of large values of the run before."""
    server = filled(SHARE)
    connection, other = server.connect(), server.connect()
    for words in ((b"MULTI",), (b"GET", b"big"), *[(b"INCR", b"n")] * (2 * SHARE)):
        ask(connection, *words)
    connection.receive(request(b"EXEC"))
    assert connection.backlog
    assert ask(other, b"SET", b"big", b"") == OK
    assert ask(other, b"INCR", b"n") == 1
    while connection.backlog:
        connection.resume()
    pieces, _ = connection.take_output()
    assert b"".join(pieces).startswith(b"*21\r\n$0\r\n\r\n:2\r\n")


def test_what_is_joined_is_charged() -> None:
    """By its bytes, and by their number; what is not copied is not."""
    work = Work()
    pieces = Pieces(work)
    pieces.add(BIG)
    assert work.left == 0
    for _ in range(20):
        pieces.add(SMALL)
    assert pieces.end()[0] is BIG
    assert -work.left >= 20 * len(SMALL) // COPIED_BYTES_PER_UNIT

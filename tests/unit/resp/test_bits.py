"""Commands about bits, against strings of the digits 0 and 1."""

import tracemalloc
from functools import partial
from operator import and_, or_, xor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvs.adapters.inbound.resp.commands.bits import (
    STEP_BYTES,
    SetBit,
    bit_range,
    bits_between,
    combine,
    count_ones_in_steps,
    find_bit,
    find_bit_in_steps,
    invert,
)
from kvs.ports.session import Work
from tests.support.resp_connection import RespServer, answer, ask
from tests.support.resp_wire import OK, QUEUED, error, request
from tests.support.sessions import Bench, run, shares, suspend

VALUES = st.binary(max_size=40)
LONG = 3 * STEP_BYTES + 7


def digits(value: bytes) -> str:
    """Return the bits of a value."""
    return "".join(f"{byte:08b}" for byte in value)


@given(value=VALUES, first=st.integers(0, 400), length=st.integers(1, 70))
def test_bits_between_pads_with_zeros(value: bytes, first: int, length: int) -> None:
    """Wherever the value ends."""
    expected = digits(value).ljust(first + length, "0")[first : first + length]
    assert bits_between(value, first, first + length - 1) == int(expected, 2)


@given(value=VALUES.filter(len), bit=st.integers(0, 1), data=st.data())
def test_find_bit_returns_the_first(value: bytes, bit: int, data: st.DataObject) -> None:
    """Between two bits of a value, or -1."""
    first = data.draw(st.integers(0, 8 * len(value) - 1))
    last = data.draw(st.integers(first, 8 * len(value) - 1))
    assert find_bit(value, bit, first, last) == digits(value).find(str(bit), first, last + 1)


@given(size=st.integers(0, 5), first=st.integers(-50, 50), last=st.integers(-50, 50), in_bits=st.booleans())
def test_bit_range_counts_negative_positions_from_the_end(size: int, first: int, last: int, in_bits: bool) -> None:
    """And is empty where Redis finds nothing."""
    unit = 1 if in_bits else 8
    positions = range(size * 8 // unit)
    low = first if first >= 0 else max(0, first + len(positions))
    high = last if last >= 0 else max(0, last + len(positions))
    chosen = positions[low : high + 1]
    start, end = bit_range(size, first, last, in_bits=in_bits)
    assert range(start, end + 1) == range(chosen.start * unit, chosen.stop * unit) or (start > end and not chosen)


@given(value=VALUES, offset=st.integers(0, 400), bit=st.integers(0, 1))
def test_set_bit_changes_one_bit(value: bytes, offset: int, bit: int) -> None:
    """And extends the value to have it."""
    before = digits(value).ljust((offset | 7) + 1, "0")
    expected = before[:offset] + str(bit) + before[offset + 1 :]
    new = SetBit(offset, bit)(value)
    if expected == digits(value):
        assert new is None  # so that it is no change to whoever watches the key
    else:
        assert isinstance(new, bytes)
        assert digits(new) == expected


def test_set_bit_of_an_absent_key_stores_zeros() -> None:
    """Even to clear a bit."""
    assert SetBit(9, 0)(None) == b"\0\0"
    assert SetBit(9, 1)(None) == b"\0\x40"


@pytest.mark.parametrize("last", [8 * LONG - 1, 8 * LONG - 3, 8 * STEP_BYTES, 5])
@pytest.mark.parametrize("first", [0, 5])
def test_count_ones_in_steps_makes_way_for_others(first: int, last: int) -> None:
    """After each step, and counts as in one."""
    value = bytes(range(256)) * (LONG // 256 + 1)
    work = Work()
    yields, ones = shares(count_ones_in_steps(value, first, last, work), work, units=1)
    assert ones == digits(value)[first : last + 1].count("1")
    assert yields == last // (8 * STEP_BYTES) + 1


@pytest.mark.parametrize("bit", [0, 1])
@pytest.mark.parametrize("at", [5, 100, 8 * STEP_BYTES - 1, 8 * STEP_BYTES, 8 * STEP_BYTES + 9, 8 * LONG - 1])
def test_find_bit_in_steps_makes_way_for_others(bit: int, at: int) -> None:
    """After each step, and finds the same, at the borders of steps as well."""
    blank = bytes(LONG) if bit else b"\xff" * LONG
    value = SetBit(at, bit)(blank)
    assert isinstance(value, bytes)
    work = Work()
    for first in (0, at - 3, at):
        for last in (at, at + 1, 8 * LONG - 1):
            steps = find_bit_in_steps(value, bit, first, min(last, 8 * LONG - 1), work)
            assert shares(steps, work)[1] == at
    for first, last in ((0, at - 1), (3, at - 1), (at + 1, 8 * LONG - 1)):
        assert shares(find_bit_in_steps(value, bit, first, last, work), work)[1] == -1
    yields, _ = shares(find_bit_in_steps(blank, bit, 0, 8 * LONG - 1, work), work, units=1)
    assert yields == 4
    assert shares(find_bit_in_steps(blank, 1 - bit, 9, 8 * LONG - 1, work), work, units=1) == (0, 9)


SOURCES = [b"", b"\x0f", b"\xf0\xff\x55", bytes(range(256)), bytes(range(255, -1, -1)) * (LONG // 256)]


@pytest.mark.parametrize("combination", [and_, or_, xor])
@pytest.mark.parametrize("chosen", [(0,), (1, 2), (2, 1), (3, 4), (4, 3, 2), (4, 4), (2, 0, 3), (0, 4), (4, 0)])
def test_combine_pads_to_the_longest(combination: object, chosen: tuple[int, ...]) -> None:
    """The result replaces the target, or deletes it if it is empty."""
    assert callable(combination)
    bench = Bench()
    session = bench.open()
    values = [SOURCES[number] for number in chosen]
    for number, value in enumerate(values):
        if value:
            session.put(b"%d" % number, value)
    session.put(b"target", b"old")
    size = max(map(len, values))
    expected = bytearray(values[0].ljust(size, b"\0"))
    for value in values[1:]:
        expected = bytearray(map(combination, expected, value.ljust(size, b"\0")))
    keys = [b"%d" % number for number in range(len(values))]
    yields, stored = shares(session.transact(partial(combine, combination, b"target", keys)), session.work, units=1)
    assert stored == size
    assert session.get(b"target") == (bytes(expected) or None)
    assert yields >= size // STEP_BYTES
    bench.assert_nothing_is_held()


@pytest.mark.parametrize("value", SOURCES)
def test_invert_inverts_every_bit(value: bytes) -> None:
    """And a second time brings the value back."""
    session = Bench().open()
    session.put(b"source", value)
    session.put(b"target", b"old")
    yields, size = shares(session.transact(partial(invert, b"target", b"source")), session.work, units=1)
    assert size == len(value)
    assert session.get(b"target") == (bytes(255 - byte for byte in value) or None)
    assert yields >= size // STEP_BYTES
    assert run(session.transact(partial(invert, b"source", b"target"))) == size
    assert session.get(b"source") == (value or None)


@pytest.mark.parametrize("operation", [partial(combine, or_, b"t", [b"s"]), partial(invert, b"t", b"s")])
def test_a_client_is_charged_for_a_result_under_way(operation: partial) -> None:  # type: ignore[type-arg]
    """And nothing is stored, if the client leaves."""
    session = Bench().open()
    session.put(b"s", bytes(LONG))
    steps = suspend(session.transact(operation), session.work, units=1)
    assert session.work.held_bytes == LONG
    steps.close()
    assert session.get(b"t") is None


def server(max_value_bytes: int = 1 << 20) -> RespServer:
    """Return a server of long values."""
    server = RespServer()
    server.limits.max_value_bytes = max_value_bytes
    return server


TOO_LONG = error("ERR string exceeds maximum allowed size (proto-max-bulk-len)")
NO_BIT = error("ERR bit offset is not an integer or out of range")


@pytest.mark.parametrize(
    "words",
    [
        (b"SETBIT", b"k", b"%d"),
        (b"BITFIELD", b"k", b"SET", b"u1", b"%d"),
        (b"BITFIELD", b"k", b"OVERFLOW", b"FAIL", b"INCRBY", b"i1", b"%d"),
    ],
)
def test_values_are_refused_before_they_are_too_long(words: tuple[bytes, ...]) -> None:
    """In the words of Redis for the numbers that it refuses, else in those of the limit; and before memory is taken."""
    connection = server(max_value_bytes=10).connect()
    tracemalloc.start()
    try:
        for offset, refusal in [(80, TOO_LONG), (2**32 - 1, TOO_LONG), (2**32, NO_BIT), (2**63 - 1, NO_BIT)]:
            assert ask(connection, *words[:-1], words[-1] % offset, b"1") == refusal
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert ask(connection, b"EXISTS", b"k") == 0
    ask(connection, *words[:-1], words[-1] % 79, b"1")
    assert ask(connection, b"STRLEN", b"k") == 10


def test_bits_beyond_those_of_redis_exist_if_values_may_be_longer() -> None:
    """The limit of Redis is a setting there, too."""
    connection = server(max_value_bytes=1 << 30).connect()
    assert ask(connection, b"GETBIT", b"k", b"%d" % (2**33 - 1)) == 0
    assert ask(connection, b"GETBIT", b"k", b"%d" % 2**33) == NO_BIT


def test_long_values_are_the_same_in_steps_and_at_once() -> None:
    """Alone, and in the queue of a MULTI."""
    value = bytes(STEP_BYTES) + b"\x10" + b"\xff" * STEP_BYTES
    resp = server()
    resp.bench.storage.put(b"k", value)
    connection = resp.connect()
    requests = [(b"BITCOUNT", b"k"), (b"BITPOS", b"k", b"1"), (b"BITPOS", b"k", b"0", b"%d" % (STEP_BYTES + 1))]
    replies = [8 * STEP_BYTES + 1, 8 * STEP_BYTES + 3, 8 * len(value)]
    assert [ask(connection, *words) for words in requests] == replies
    assert ask(connection, b"MULTI") == OK
    assert [ask(connection, *words) for words in requests] == [QUEUED] * 3
    assert ask(connection, b"EXEC") == replies
    assert ask(connection, b"BITCOUNT", b"k", b"0", b"%d" % STEP_BYTES) == 1
    resp.assert_nothing_is_left()


def test_a_transaction_reads_and_writes_bits() -> None:
    """It sees its own writes, others do not, and what it has read conflicts."""
    resp = server()
    connection, other = resp.connect(), resp.connect()
    assert ask(connection, b"START") == OK
    assert ask(connection, b"SETBIT", b"k", b"7", b"1") == 0
    assert ask(connection, b"BITOP", b"NOT", b"n", b"k") == 1
    assert ask(connection, b"BITFIELD", b"n", b"INCRBY", b"u8", b"0", b"1") == [255]
    assert ask(connection, b"BITCOUNT", b"n") == 8
    assert ask(connection, b"LCS", b"k", b"n", b"LEN") == 0
    assert ask(other, b"GETBIT", b"k", b"7") == 0
    assert ask(connection, b"COMMIT") == OK
    assert ask(other, b"GETBIT", b"k", b"7") == 1
    assert ask(connection, b"START") == OK
    assert ask(connection, b"BITCOUNT", b"k") == 1
    assert ask(connection, b"SET", b"other", b"") == OK
    assert ask(other, b"SETBIT", b"k", b"0", b"1") == 0
    assert "CONFLICT" in str(ask(connection, b"COMMIT"))
    resp.assert_nothing_is_left()


@pytest.mark.parametrize("words", [(b"BITOP", b"NOT", b"t", b"k"), (b"LCS", b"k", b"s")])
def test_the_budget_of_all_clients_includes_what_is_under_way(words: tuple[bytes, ...]) -> None:
    """So that many of them are refused before memory runs out."""
    resp = server()
    resp.bench.storage.put(b"k", bytes(LONG))
    resp.bench.storage.put(b"s", b"abcdefghij")
    connection = resp.connect()
    before = resp.bench.budget.used_bytes
    connection.receive(request(*words))
    assert connection.backlog
    assert resp.bench.budget.used_bytes >= before + LONG
    answer(connection)
    assert resp.bench.budget.used_bytes < before + LONG
    resp.assert_nothing_is_left()

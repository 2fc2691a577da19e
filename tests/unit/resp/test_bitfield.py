"""BITFIELD, against strings of the digits 0 and 1."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvs.adapters.inbound.protocol.peer import Peer
from kvs.adapters.inbound.resp.commands.bitfield import (
    FAIL,
    INCREMENT,
    SATURATE,
    SET,
    SHORT,
    WRAP,
    Operation,
    Program,
    Run,
    field_type,
    flags_of_key,
)
from kvs.adapters.inbound.resp.context import ClientContext
from kvs.domain.errors import UsageError
from tests.support.resp_connection import RespServer, ask
from tests.support.resp_wire import NULL, OK, QUEUED, error
from tests.support.sessions import output_of

INT64 = st.integers(-(2**63), 2**63 - 1)


@given(
    value=st.binary(max_size=20),
    offset=st.integers(0, 200),
    width=st.integers(1, 64),
    signed=st.booleans(),
    data=st.data(),
)
def test_fields_are_written_and_read_at_any_bit(
    value: bytes, offset: int, width: int, signed: bool, data: st.DataObject
) -> None:
    """And no other bit is touched."""
    low = -(2 ** (width - 1)) if signed else 0
    number = data.draw(st.integers(low, low + 2**width - 1))
    operation = Operation(SET, signed, width, offset, 0, WRAP)
    before = "".join(f"{byte:08b}" for byte in value).ljust((offset + width + 7) // 8 * 8, "0")
    old = int(before[offset : offset + width], 2)
    assert operation.read(value) == (old - 2**width if signed and old >= 2 ** (width - 1) else old)
    buffer = bytearray(int(before, 2).to_bytes(len(before) // 8, "big"))
    operation.write(buffer, number)
    written = f"{number % 2**width:0{width}b}"
    assert "".join(f"{byte:08b}" for byte in buffer) == before[:offset] + written + before[offset + width :]
    assert operation.read(buffer) == number


@given(number=st.integers(-(2**64), 2**64), width=st.integers(1, 64), signed=st.booleans())
def test_numbers_are_made_to_fit(number: int, width: int, signed: bool) -> None:
    """By the width of the field, and what is to become of an overflow."""
    low = -(2 ** (width - 1)) if signed else 0
    high = low + 2**width - 1

    def fit(overflow: int) -> int | None:
        return Operation(INCREMENT, signed, width, 0, 0, overflow).fit(number)

    wrapped = fit(WRAP)
    assert wrapped is not None
    assert low <= wrapped <= high
    assert (wrapped - number) % 2**width == 0
    assert fit(SATURATE) == min(max(number, low), high)
    assert fit(FAIL) == (number if low <= number <= high else None)


@pytest.mark.parametrize(
    ("signed", "amount", "stored"),
    [
        (False, -1, 255),  # all of them are above the highest
        (False, 256, 255),
        (True, 128, 127),
        (True, -129, -128),
        (True, 128 - 2**63, -128),
        (True, 127 - 2**63, 127),  # what is missing to the highest has more than 63 bits
        (True, -(2**63), 127),
    ],
)
def test_what_is_set_saturates_as_in_redis(signed: bool, amount: int, stored: int) -> None:
    """Its arithmetic has 64 bits."""
    assert Operation(SET, signed, 8, 0, amount, SATURATE).fit(amount) == stored


@pytest.mark.parametrize("text", [b"", b"8", b"i", b"i0", b"i65", b"u64", b"u0", b"I8", b"u08", b"u+8", b"u-1", b"x8"])
def test_types_that_are_none(text: bytes) -> None:
    """They have the one error that says what a type is like."""
    with pytest.raises(UsageError, match="Invalid bitfield type"):
        field_type(text)


@pytest.mark.parametrize(("text", "read"), [(b"i64", (True, 64)), (b"u63", (False, 63)), (b"i1\0x", (True, 1))])
def test_types(text: bytes, read: tuple[bool, int]) -> None:
    """Both signs, with their widest fields; a zero byte ends the text, as in C."""
    assert field_type(text) == read


@pytest.mark.parametrize(
    ("words", "writes"),
    [
        (b"BITFIELD k", False),
        (b"BITFIELD k GET u8 0 get u8 0 OVERFLOW SAT", False),
        (b"BITFIELD k GET u8 0 set u8 0 1", True),
        (b"BITFIELD k INCRBY u8 0 1", True),
        (b"BITFIELD k GET u8", True),
        (b"BITFIELD k OVERFLOW", True),
        (b"BITFIELD k FOO", True),
    ],
)
def test_flags_of_the_key(words: bytes, writes: bool) -> None:
    """A request that is not understood is taken for one that writes."""
    assert (flags_of_key(words.split())[0] == "RW") == writes


def server() -> RespServer:
    """Return a server of values of some length, and of long requests."""
    server = RespServer(max_tick_requests=100)
    server.limits.max_value_bytes = 1000
    server.limits.max_arguments = 10_000
    return server


LONG = 4 * SHORT
INCREMENTS = [b"INCRBY", b"u8", b"0", b"1"] * LONG
GETS = [b"GET", b"u8", b"0"] * LONG


def test_many_operations_make_way_for_others() -> None:
    """And are one change all the same."""
    resp = server()
    connection, other = resp.connect(), resp.connect()
    expected = [(number + 1) % 256 for number in range(LONG)]
    assert ask(other, b"SET", b"k", b"\0") == OK
    connection.receive(b"*%d\r\n$8\r\nBITFIELD\r\n$1\r\nk\r\n" % (2 + len(INCREMENTS)))
    connection.receive(b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in INCREMENTS))
    shares = 0
    while connection.backlog:
        assert ask(other, b"GET", b"k") == b"\0"
        connection.resume()
        shares += 1
    assert shares > 4
    assert output_of(connection).split(b"\r\n")[1:-1] == [b":%d" % number for number in expected]
    assert ask(connection, b"BITFIELD", b"k", *GETS) == [LONG % 256] * LONG
    assert ask(connection, b"BITFIELD_RO", b"k", *GETS) == [LONG % 256] * LONG
    assert ask(connection, b"BITFIELD_RO", b"k", *INCREMENTS) == error(
        "ERR BITFIELD_RO only supports the GET subcommand"
    )
    assert ask(connection, b"BITFIELD", b"k", *GETS, b"FOO") == error("ERR syntax error")
    assert ask(connection, b"BITFIELD", b"k", *INCREMENTS, b"SET", b"u8", b"#1000", b"1") == error(
        "ERR string exceeds maximum allowed size (proto-max-bulk-len)"
    )
    resp.assert_nothing_is_left()


def test_many_operations_after_which_another_client_came_first_are_run_again() -> None:
    """From the beginning, on the value of that moment."""
    resp = server()
    connection, other = resp.connect(), resp.connect()
    assert ask(connection, b"MULTI") == OK
    assert ask(connection, b"BITFIELD", b"k", *INCREMENTS) == QUEUED
    connection.receive(b"*1\r\n$4\r\nEXEC\r\n")
    assert connection.backlog
    assert ask(other, b"SET", b"k", b"\x64") == OK
    while connection.backlog:
        connection.resume()
    first = output_of(connection).split(b"\r\n")[2]
    assert first == b":101"


def test_a_run_may_be_repeated() -> None:
    """An engine does so if another client comes first; only the last run counts."""
    resp = server()
    words = [b"BITFIELD", b"k", b"INCRBY", b"u8", b"0", b"1"]
    program = Program(words, ClientContext(resp.limits, resp.shared, Peer()))
    while not program.complete:
        program.parse()
    run = Run(program)
    assert run(b"\1x") == b"\2x"
    assert run(b"\7") == b"\x08"
    assert run.fields == [8]


@pytest.mark.parametrize("action", [b"SET", b"INCRBY"])
def test_what_fails_still_extends_the_value(action: bytes) -> None:
    """As in Redis."""
    connection = server().connect()
    assert ask(connection, b"BITFIELD", b"k", b"OVERFLOW", b"FAIL", action, b"u8", b"20", b"256") == [NULL]
    assert ask(connection, b"GET", b"k") == bytes(4)


def test_equal_values_are_no_change() -> None:
    """Whoever watches the key is not disturbed."""
    resp = server()
    connection, other = resp.connect(), resp.connect()
    assert ask(other, b"SET", b"k", b"a") == OK
    assert ask(connection, b"WATCH", b"k") == OK
    assert ask(other, b"BITFIELD", b"k", b"SET", b"u8", b"0", b"97", b"GET", b"u8", b"0") == [97, 97]
    assert ask(other, b"BITFIELD", b"k", *[b"SET", b"u8", b"0", b"97"] * LONG) == [97] * LONG
    assert ask(connection, b"MULTI") == OK
    assert ask(connection, b"EXEC") == []

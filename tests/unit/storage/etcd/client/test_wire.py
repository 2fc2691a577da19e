"""Messages of Protocol Buffers, and those of etcd."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvs.adapters.storage.etcd.client.answers import (
    DELETE,
    Event,
    Header,
    KeyValue,
    WatchAnswer,
    lease_result,
    range_result,
    status_result,
    txn_result,
    watch_answer,
)
from kvs.adapters.storage.etcd.client.requests import absent, get, prefix_end, put, txn_request, watch_request
from kvs.adapters.storage.etcd.client.wire import (
    WireError,
    bytes_field,
    number_field,
    numbers_and_bytes,
    read_varint,
    signed,
    varint,
)

pytestmark = pytest.mark.one_build

HEADER = Header(1 << 63, 2, 3, 4)
HEADER_BYTES = b"".join(number_field(field, value) for field, value in enumerate(HEADER, 1))


@pytest.mark.parametrize(
    ("number", "encoded"),
    [(0, "00"), (1, "01"), (127, "7f"), (128, "8001"), (300, "ac02"), (-1, "ffffffffffffffffff01")],
)
def test_a_number_is_encoded_in_groups_of_seven_bits(number: int, encoded: str) -> None:
    """A negative one as its complement."""
    assert varint(number).hex() == encoded
    decoded, at = read_varint(bytes.fromhex(encoded) + b"more", 0)
    assert (signed(decoded), at) == (number, len(encoded) // 2)


@given(st.lists(st.tuples(st.integers(1, 1000), st.integers(1, 2**64 - 1) | st.binary(max_size=150)), max_size=6))
def test_fields_are_read_as_they_were_written(fields: list[tuple[int, int | bytes]]) -> None:
    """Numbers and bytes, in order."""
    message = b"".join(
        number_field(field, value) if isinstance(value, int) else bytes_field(field, value) for field, value in fields
    )
    read = [(field, data or number) for field, number, data in numbers_and_bytes(message)]
    assert read == [(field, value or 0) for field, value in fields]


@given(st.binary(max_size=60))
def test_no_bytes_are_read_as_anything_but_fields_or_an_error(message: bytes) -> None:
    """By no decoder, and they end."""
    for decode in (range_result, txn_result, lease_result, status_result, watch_answer):
        with suppress(WireError):
            decode(message)


@pytest.mark.parametrize(
    "message",
    [
        "08",
        "0880",
        "08ffffffffffffffffffff01",
        "0a05616263",
        "0b",
        "0c",
        "0900000000",
        "0d000000",
        "0affffffffffffffff7f",
    ],
)
def test_what_is_cut_off_or_of_no_known_type_is_an_error(message: str) -> None:
    """So that half an answer is never taken for one."""
    with pytest.raises(WireError):
        list(numbers_and_bytes(bytes.fromhex(message)))


def test_unknown_fields_are_passed_over() -> None:
    """As later versions of etcd add some: numbers, bytes, and those of fixed size."""
    unknown = b"\xa9\x06" + bytes(8) + b"\xad\x06" + bytes(4) + number_field(200, 7) + bytes_field(201, b"x")
    answer = bytes_field(1, HEADER_BYTES + unknown) + unknown + number_field(2, 1)
    assert txn_result(answer) == (HEADER, True, ())


def test_a_transaction_is_encoded_as_protoc_would() -> None:
    """The bytes were made by Google's library."""
    request = txn_request([absent(b"k")], [put(b"k", b"v", 5)], [get(b"k")])
    assert b"".join(request).hex() == "0a0710011a016b2800" + "120a12080a016b1201761805" + "1a050a030a016b"


def test_a_watch_answer_has_its_events_and_their_keys() -> None:
    """Of a deleted key there is no value."""
    kv = bytes_field(1, b"k") + number_field(2, 5) + number_field(3, 6) + number_field(4, 7) + number_field(6, -2)
    event = number_field(1, 1) + bytes_field(2, kv)
    message = bytes_field(1, HEADER_BYTES) + number_field(7, 1) + bytes_field(11, event)
    assert watch_answer(message) == WatchAnswer(
        HEADER, False, False, 0, "", True, (Event(DELETE, KeyValue(b"k", 5, 6, 7, b"", -2)),)
    )
    assert watch_request(b"k", b"l", 9)[:2] == b"\x0a\x0c"


@pytest.mark.parametrize(
    ("prefix", "end"), [(b"a", b"b"), (b"a/", b"a0"), (b"a\xff", b"b"), (b"\xff\xff", b"\0"), (b"", b"\0")]
)
def test_the_end_of_a_prefix_is_behind_all_that_begin_with_it(prefix: bytes, end: bytes) -> None:
    """A zero byte means that there is no end."""
    assert prefix_end(prefix) == end

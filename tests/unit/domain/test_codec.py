"""The codec: what is encoded comes back, in a format that does not change, and nothing damaged is taken for a value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvs.domain.codec import MAX_KIND, DamagedValueError, decode, encode, fields_of, value_of
from kvs.domain.values import MAX_DEADLINE_MS, NO_DEADLINE, STRING, Record, Value

DEADLINES = st.integers(1, MAX_DEADLINE_MS)
KINDS = st.integers(0, MAX_KIND)
VALUES: st.SearchStrategy[Value] = st.one_of(
    st.binary(),
    st.builds(Record, st.binary(), DEADLINES, KINDS),
    st.builds(Record, st.binary(), st.just(NO_DEADLINE), st.integers(1, MAX_KIND)),
)

GOLDEN: list[tuple[Value, str]] = [
    (b"", "0100"),
    (b"Ada", "0100416461"),
    (Record(b"Ada", 1), "01800000000000000001416461"),
    (Record(b"", MAX_DEADLINE_MS), "01800020000000000000"),
    (Record(b"\x00\xff", NO_DEADLINE, 5), "010500ff"),
    (Record(b"\x00\xff", 1764350000000, MAX_KIND), "01ff0000019acb747b8000ff"),
]


@given(VALUES)
def test_a_value_comes_back(value: Value) -> None:
    """From its bytes, and from its fields, with its type."""
    for returned in (decode(encode(value)), value_of(*fields_of(value))):
        assert type(returned) is type(value)
        assert returned == value


@pytest.mark.parametrize(("value", "expected"), GOLDEN)
def test_the_format_stays_as_it_is(value: Value, expected: str) -> None:
    """Whatever was once stored has to be read."""
    assert encode(value).hex() == expected
    assert decode(bytes.fromhex(expected)) == value


def test_a_string_without_a_deadline_is_bare_bytes() -> None:
    """Also if it was once something else."""
    assert type(decode(encode(Record(b"v", NO_DEADLINE, STRING)))) is bytes


@given(st.binary())
def test_any_bytes_are_a_value_or_refused(data: bytes) -> None:
    """No two encodings are of the same value, so that what is read is what was written."""
    try:
        value = decode(data)
    except DamagedValueError:
        return
    assert encode(value) == data


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("", "cut off"),
        ("01", "cut off"),
        ("0000", "format 0"),
        ("0200", "format 2; this version of kvs knows format 1"),
        ("0180", "deadline is missing"),
        ("018000000000000000", "deadline is missing"),
        ("01800000000000000000", "deadline is missing"),
        ("01800020000000000001", "deadline is not a time"),
        ("0180ffffffffffffffff", "deadline is not a time"),
    ],
)
def test_damaged_bytes_are_refused(data: str, words: str) -> None:
    """With the reason."""
    with pytest.raises(DamagedValueError, match=words):
        decode(bytes.fromhex(data))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ((0, 0, "text"), "payload"),
        ((0, 0, None), "payload"),
        ((None, 0, b""), "kind"),
        ((-1, 0, b""), "kind"),
        ((MAX_KIND + 1, 0, b""), "kind"),
        ((b"", 0, b""), "kind"),
        ((0, None, b""), "deadline"),
        ((0, -1, b""), "deadline"),
        ((0, MAX_DEADLINE_MS + 1, b""), "deadline"),
        ((0, 1.5, b""), "deadline"),
    ],
)
def test_damaged_fields_are_refused(fields: tuple[object, object, object], words: str) -> None:
    """With the reason."""
    with pytest.raises(DamagedValueError, match=words):
        value_of(*fields)

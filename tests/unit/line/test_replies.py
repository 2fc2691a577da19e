"""Replies around values: the escaping, and the same in slices."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvs.adapters.inbound.line import replies
from kvs.adapters.inbound.line.replies import LONG_BYTES, SLICE_BYTES
from kvs.adapters.inbound.protocol.errors import EncodingError
from kvs.ports.session import Work
from tests.support.sessions import shares

characters = st.one_of(st.sampled_from('"\\\n\r\t\0\x1f\x7f /az\u00e9\u20ac\U0001f600'), st.characters(codec="utf-8"))
texts = st.text(characters, max_size=20).map(str.encode)
pieces = st.lists(st.one_of(texts, st.binary(max_size=6)), max_size=4).map(b"".join)


SHARE = 1000


def stepped(value: bytes) -> tuple[int, bytes]:
    """Return how often the reply to a value made way for others when made in shares, and the reply."""
    work = Work()
    return shares(replies.result_steps(value, work), work, SHARE)


def outcome(value: bytes, in_steps: bool) -> bytes | str:
    """Return the reply to a value, or the message of the error."""
    try:
        return stepped(value)[1] if in_steps else replies.result(value)
    except EncodingError as error:
        return str(error)


@given(texts)
@example(bytes(range(128)))
def test_reply_is_json(value: bytes) -> None:
    """The value comes back out of it; it is one line; and only what has to be escaped is."""
    reply = replies.result(value)
    assert json.loads(reply) == {"status": "Ok", "result": value.decode()}
    assert reply.index(b"\n") == len(reply) - 1
    assert replies.quoted(value) in reply
    plain = json.dumps(value.decode(), ensure_ascii=False).replace("\\b", "\\u0008").replace("\\f", "\\u000c")
    if b"\\" not in value:
        assert replies.quoted(value) == plain.encode()


@given(pieces)
def test_reply_of_what_is_no_text_is_refused(value: bytes) -> None:
    """And where it is that it ceases to be text is said."""
    try:
        value.decode()
    except UnicodeDecodeError as error:
        with pytest.raises(EncodingError, match=rf"not UTF-8 \(at byte {error.start}\)"):
            replies.result(value)
        assert not replies.is_utf8(value)
    else:
        assert json.loads(replies.result(value))["result"] == value.decode()
        assert replies.is_utf8(value)


paddings = st.builds(
    lambda unit, size: (unit * size)[: size - size % len(unit)],
    st.sampled_from([b"a", b'"', b"\0", "\u00e9".encode(), "\U0001f600".encode()]),
    st.builds(lambda slices, less: slices * SLICE_BYTES - less, st.integers(1, 3), st.integers(-9, 9)),
)


@given(paddings, pieces, st.one_of(st.just(b""), paddings), pieces)
@example(b"a" * (SLICE_BYTES - 1), "\u00e9".encode(), b"", b"")
@example(b"a" * (SLICE_BYTES - 2), "\U0001f600".encode(), b"", b"")
@example(b"a" * (SLICE_BYTES - 3), "\U0001f600".encode(), b"a", b"")
@example(b"a" * (SLICE_BYTES - 1), b"\xf0\x9f\x98", b"", b"")
@example(b"a" * (SLICE_BYTES - 4), b"\xf0\x9f\x98\x80\x80", b"", b"")
@example(b"a" * (SLICE_BYTES - 4), b"\x80" * 9, b"", b"")
@example(b"a" * (SLICE_BYTES - 1), b'"', b"", b"")
@example(b"a" * (SLICE_BYTES - 1), b"\\n", b"", b"")
def test_reply_made_in_slices_is_the_same(first: bytes, odd: bytes, second: bytes, last: bytes) -> None:
    """Wherever the value is divided: within an escape that it has already, a character, or what is none."""
    value = first + odd + second + last
    assert outcome(value, in_steps=True) == outcome(value, in_steps=False)


@pytest.mark.parametrize("value", [b"", b"a", b'"' * 100, b"a" * SLICE_BYTES, b"a" * LONG_BYTES])
def test_short_reply_makes_no_way(value: bytes) -> None:
    """It is done at once."""
    assert stepped(value) == (0, replies.result(value))


@pytest.mark.parametrize("unit", [b"a", b'"', bytes(range(32)), "\u00e9".encode()])
def test_long_reply_makes_way(unit: bytes) -> None:
    """Often enough: two hundred bytes more are a unit of work, or a KiB that is copied."""
    value = unit * ((1 << 22) // len(unit))
    yielded, reply = stepped(value)
    assert reply == replies.result(value)
    units = (len(value) >> 10) + ((len(reply) - len(value)) >> 8)
    assert yielded >= units // SHARE

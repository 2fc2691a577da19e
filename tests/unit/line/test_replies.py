"""Replies around values: the escaping, and the same in slices."""

import json
from collections.abc import Callable
from ctypes import CDLL, c_size_t, c_void_p

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvs.adapters.inbound.line import replies
from kvs.adapters.inbound.line.replies import LONG_BYTES, SHORT_BYTES
from kvs.adapters.inbound.protocol.errors import EncodingError
from kvs.ports.session import COPIED_BYTES_PER_UNIT, Work
from tests.support.sessions import shares

characters = st.one_of(st.sampled_from('"\\\n\r\t\0\x1f\x7f /az\u00e9\u20ac\U0001f600'), st.characters(codec="utf-8"))
texts = st.text(characters, max_size=20).map(str.encode)
pieces = st.lists(st.one_of(texts, st.binary(max_size=6)), max_size=4).map(b"".join)


SHARE = 1000

PRICES = [(b"a", 4096), (b'"', 256), (bytes(range(32)), 256), ("\u00e9".encode(), 1024)]
"""What values consist of, and how many bytes of it are at least a unit of work."""


def stepped(value: bytes) -> tuple[int, bytes]:
    """Return how often the reply to a value made way for others when made in shares, and the reply."""
    work = Work()
    yields, pieces = shares(replies.result_steps(value, work), work, SHARE)
    return yields, b"".join(pieces)


def outcome(reply: Callable[[bytes], bytes], value: bytes) -> bytes | str:
    """Return the reply to a value, or the message of the error."""
    try:
        return reply(value)
    except EncodingError as error:
        return str(error)


WAYS: list[Callable[[bytes], bytes]] = [
    replies.result,
    lambda value: replies.longer_result(value, Work()),
    lambda value: stepped(value)[1],
]
"""The same reply, as it is made for short, longer and long values."""


@given(texts)
@example(bytes(range(128)))
def test_reply_is_json(value: bytes) -> None:
    """The value comes back out of it; it is one line; and only what has to be escaped is."""
    reply = replies.result(value)
    assert json.loads(reply) == {"status": "Ok", "result": value.decode()}
    assert reply.index(b"\n") == len(reply) - 1
    assert replies.quoted(value) in reply
    assert replies.quoted(value) == json.dumps(value.decode(), ensure_ascii=False).encode()


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
    st.builds(lambda slices, less: slices * LONG_BYTES - less, st.integers(1, 3), st.integers(-9, 9)),
)


@given(paddings, pieces, st.one_of(st.just(b""), paddings), pieces)
@example(b"a" * (LONG_BYTES - 1), "\u00e9".encode(), b"", b"")
@example(b"a" * (LONG_BYTES - 2), "\U0001f600".encode(), b"", b"")
@example(b"a" * (LONG_BYTES - 3), "\U0001f600".encode(), b"a", b"")
@example(b"a" * (LONG_BYTES - 1), b"\xf0\x9f\x98", b"", b"")
@example(b"a" * (LONG_BYTES - 4), b"\xf0\x9f\x98\x80\x80", b"", b"")
@example(b"a" * (LONG_BYTES - 4), b"\x80" * 9, b"", b"")
@example(b"a" * (LONG_BYTES - 1), b'"', b"", b"")
@example(b"a" * (LONG_BYTES - 1), b"\\n", b"", b"")
def test_reply_is_the_same_however_it_is_made(first: bytes, odd: bytes, second: bytes, last: bytes) -> None:
    """Wherever the value is divided: within an escape that it has already, a character, or what is none."""
    value = first + odd + second + last
    short, longer, long = (outcome(way, value) for way in WAYS)
    assert short == longer == long


@pytest.mark.parametrize("size", [SHORT_BYTES, SHORT_BYTES + 1])
@pytest.mark.parametrize("unit", ["a", '"', "\0", "\u00e9"])
def test_string_of_any_length_is_json(unit: str, size: int) -> None:
    """Whether it is checked first, or encoded at once."""
    text = unit * (size // len(unit.encode()))
    assert replies.quoted(text.encode()) == json.dumps(text, ensure_ascii=False).encode()


@pytest.mark.parametrize("way", [*WAYS, replies.quoted])
@pytest.mark.parametrize("unit", [b"a", b'"', "\u00e9".encode()])
def test_reply_occupies_little_more_than_its_length(way: Callable[[bytes], bytes], unit: bytes) -> None:
    """What the encoder returns occupies sixteen times as much, and no budget counts that."""
    try:
        usable_bytes = CDLL(None).malloc_usable_size
    except AttributeError:
        pytest.skip("this C library does not say how long a block is")
    usable_bytes.restype, usable_bytes.argtypes = c_size_t, [c_void_p]
    reply = way(unit * 2000)
    assert usable_bytes(id(reply)) < 2 * len(reply)


@pytest.mark.parametrize("value", [b"", b"a", b'"' * 100, b"a" * LONG_BYTES])
def test_short_reply_makes_no_way(value: bytes) -> None:
    """It is done at once."""
    assert stepped(value) == (0, replies.result(value))


@pytest.mark.parametrize(("unit", "bytes_per_unit"), PRICES)
def test_long_reply_makes_way(unit: bytes, bytes_per_unit: int) -> None:
    """Often enough for what it costs, and not for the length of its escapes."""
    value = unit * ((1 << 22) // len(unit))
    yielded, reply = stepped(value)
    assert reply == replies.result(value)
    least = len(value) // bytes_per_unit // SHARE
    assert least <= yielded <= 3 * least


@pytest.mark.parametrize(("unit", "bytes_per_unit"), PRICES)
def test_reply_at_once_costs_as_much_as_in_steps(unit: bytes, bytes_per_unit: int) -> None:
    """The escaping costs the same in both; the caller charges for the length of a reply in one piece."""
    work = Work()
    reply = replies.longer_result(unit * (LONG_BYTES // len(unit)), work)
    assert work.left <= -(LONG_BYTES // 2 // bytes_per_unit)
    charged, work.left = work.left, 0
    list(replies.result_steps(unit * (LONG_BYTES // len(unit)), work))
    assert charged - len(reply) // COPIED_BYTES_PER_UNIT - 1 <= work.left < charged


@given(st.lists(texts, max_size=4), st.one_of(st.none(), texts))
@example([b"a" * SHORT_BYTES, b"a" * (SHORT_BYTES + 1), b'"' * LONG_BYTES, b""], b"\n")
def test_list_is_json(listed: list[bytes], message: bytes | None) -> None:
    """Written as a reply with a result of one text is."""
    reply = shares(replies.list_steps(listed, message, work := Work()), work, SHARE)[1]
    json_texts = b"[%b]" % b", ".join(map(replies.quoted, listed))
    assert b"".join(reply) == replies.result_json(json_texts, message)


def test_long_reply_is_in_pieces_that_are_made_and_freed_one_by_one() -> None:
    """A buffer that grows with the reply would be copied at times, all of it in one share."""
    value = b"\x01" * (4 * LONG_BYTES)
    work = Work()
    for steps in (replies.result_steps(value, work), replies.list_steps([value], value, work)):
        pieces = shares(steps, work, SHARE)[1]
        assert max(map(len, pieces)) <= len(b"\\u0001") * LONG_BYTES


def test_list_of_what_is_no_text_is_refused() -> None:
    """Wherever it is."""
    with pytest.raises(EncodingError):
        list(replies.list_steps([b"a", b"\xff"], None, Work()))


@pytest.mark.parametrize("size", [SHORT_BYTES // 8, 2000])
def test_list_costs_as_much_as_its_escapes(size: int) -> None:
    """Short texts as well, of which there may be many."""
    work = Work()
    work.left = 1 << 30
    list(replies.list_steps([b'"' * size] * 1000, None, work))
    assert (1 << 30) - work.left >= size * 1000 // replies.ESCAPES_PER_UNIT


def test_key_that_is_absent_costs_as_much_as_its_escapes() -> None:
    """The reply to GET names it."""
    work = Work()
    reply = json.loads(replies.absent(b"\x01" * 8000, work))
    assert reply == {"status": "Ok", "result": None, "mesg": "\x01" * 8000 + " was not found."}
    assert -work.left >= 8000 // replies.ESCAPES_PER_UNIT
    assert json.loads(replies.absent(b"\x01" * 80, work))["mesg"] == "\x01" * 80 + " was not found."

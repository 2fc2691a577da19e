"""Inline commands: the words of a line are those that Redis finds, however it comes, and no longer line is taken."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvs.adapters.inbound.protocol.buffer import ReceiveBuffer
from kvs.adapters.inbound.protocol.errors import HttpError, ProtocolViolationError
from kvs.adapters.inbound.resp.inline import words_of
from kvs.adapters.inbound.resp.limits import ARGUMENT_OVERHEAD_BYTES, RespLimits
from kvs.adapters.inbound.resp.parser import ESCAPE_BYTES, MAX_LINE_BYTES, RequestParser
from tests.support.sessions import UNLIMITED

SPACES: Final = b" \t\n\v\f\r"
HEX: Final = b"0123456789abcdefABCDEF"
CONTROLS: Final = dict(zip(b"nrtba", b"\n\r\t\b\a", strict=True))

UNBALANCED: Final = None

CASES: Final[list[tuple[bytes, list[bytes] | None]]] = [
    (b"", []),
    (b" \t\v\f\r", []),
    (b"PING", [b"PING"]),
    (b"  SET\tk\rv  ", [b"SET", b"k", b"v"]),
    (b"\vSET\vk \fv\f", [b"SET\vk", b"v\f"]),  # they separate words, but end none
    (b"SET k \xc5\xbc\xff", [b"SET", b"k", b"\xc5\xbc\xff"]),
    (b"\xa0a\x85b", [b"\xa0a\x85b"]),
    (b'SET "a key" "a  value"', [b"SET", b"a key", b"a  value"]),
    (b"SET 'a key' 'a  value'", [b"SET", b"a key", b"a  value"]),
    (b"SET \"\" ''", [b"SET", b"", b""]),
    (b'ECHO "it\'s" \'"quoted"\'', [b"ECHO", b"it's", b'"quoted"']),
    (b"ECHO ab\"c d\" e'f g'", [b"ECHO", b"abc d", b"ef g"]),
    (rb'"\n\r\t\b\a"', [b"\n\r\t\b\a"]),
    (rb'"\x41\xfF\x00\x0a"', [b"A\xff\0\n"]),
    (rb'"\x4" "\xg1" "\x" "\X41"', [b"x4", b"xg1", b"x", b"X41"]),
    (rb'"\q\"\\\' \\n \\\n"', [b"q\"\\' \\n \\\n"]),
    (rb'"\x5cn\x22"', [rb"\n" + b'"']),  # what an escape stands for is no escape
    (rb"'\n\x41\\\''", [rb"\n\x41\\'"]),
    (rb"\n a\x41b", [rb"\n", rb"a\x41b"]),  # not in quotes
    (b'"a"\t"b"\v"c"\f"d"\r', [b"a", b"b", b"c", b"d"]),
    (b'"', UNBALANCED),
    (b"'", UNBALANCED),
    (b'SET k "v', UNBALANCED),
    (b"SET k 'v", UNBALANCED),
    (b'SET k "v"x', UNBALANCED),
    (b"SET k 'v'x", UNBALANCED),
    (b'SET k "v""w"', UNBALANCED),
    (b"SET k 'v'\"w\"", UNBALANCED),
    (b"SET k it's", UNBALANCED),
    (rb'"v\"', UNBALANCED),
    (rb"'v\'", UNBALANCED),
    (rb"'v\\'", UNBALANCED),
    (b'"v\\', UNBALANCED),
]


@pytest.mark.parametrize(("line", "words"), CASES)
def test_the_words_of_a_line(line: bytes, words: list[bytes] | None) -> None:
    """Blanks, quotes and escapes; ``tests/interop`` asks a real Redis."""
    assert split_as_redis(line) == words
    assert found(line) == words


def found(line: bytes) -> list[bytes] | None:
    """Return the words of a line, or None if its quotes are not balanced."""
    try:
        return words_of(line)
    except HttpError:
        raise
    except ProtocolViolationError:
        return UNBALANCED


def split_as_redis(line: bytes) -> list[bytes] | None:
    """Return what ``sdssplitargs`` of Redis returns, which this follows byte by byte."""
    text, at, words = line + b"\0\0\0\0", 0, list[bytes]()
    while True:
        while text[at] in SPACES:
            at += 1
        if not text[at]:
            return words
        word, quote = bytearray(), 0
        while True:
            byte, following = text[at], text[at + 1]
            if not quote:
                if byte in b" \n\r\t\0":
                    break
                if byte in b"\"'":
                    quote = byte
                else:
                    word.append(byte)
            elif not byte:
                return UNBALANCED
            elif byte == quote:
                if following and following not in SPACES:
                    return UNBALANCED
                at += 1
                break
            elif quote == ord("'"):
                escaped = byte == ord("\\") and following == quote
                word.append(quote if escaped else byte)
                at += escaped
            elif byte == ord("\\") and following == ord("x") and text[at + 2] in HEX and text[at + 3] in HEX:
                word.append(int(text[at + 2 : at + 4], 16))
                at += 3
            elif byte == ord("\\") and following:
                word.append(CONTROLS.get(following, following))
                at += 1
            else:
                word.append(byte)
            at += 1
        words.append(bytes(word))


SPECIAL: Final = (b"\\x41", b"\\\\", b'\\"', b"\\'", b'" "', b"' '")
PARTS: Final = st.sampled_from([*(bytes([byte]) for byte in b"abxn4F \t\v\f\r\"\"\"'''\\\\\\\xff"), *SPECIAL])


@given(line=st.one_of(st.lists(PARTS, max_size=20).map(b"".join), st.binary(max_size=20)))
def test_any_line_has_the_words_that_redis_finds(line: bytes) -> None:
    """Or is refused, as Redis refuses it."""
    line = line.replace(b"\0", b"").replace(b"\n", b"").replace(b":", b"")
    assert found(line) == split_as_redis(line)


@given(words=st.lists(st.binary(max_size=20), min_size=1, max_size=5))
def test_any_bytes_can_be_said(words: list[bytes]) -> None:
    """Each as an escape, in double quotes."""
    line = b" ".join(b'"%b"' % b"".join(b"\\x%02x" % byte for byte in word) for word in words)
    if not words[0].endswith(b":"):
        assert words_of(line) == words


# In the parser.


def new_parser(max_request_bytes: int = UNLIMITED, max_arguments: int = 1 << 16) -> tuple[RequestParser, ReceiveBuffer]:
    """Return a parser and its input."""
    buffer = ReceiveBuffer()
    limits = RespLimits(100, 1 << 20, max_arguments, 1, UNLIMITED, UNLIMITED, UNLIMITED, UNLIMITED)
    limits.max_request_bytes = max_request_bytes
    return RequestParser(buffer, limits), buffer


def parsed(data: bytes, size: int) -> list[list[bytes]]:
    """Return the requests in data that comes in pieces of so many bytes."""
    parser, _ = new_parser()
    requests = []
    for at in range(0, len(data), size):
        parser.feed(data[at : at + size])
        while (words := parser.next()) is not None:
            requests.append(words)
    assert not parser.mid_request
    return requests


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1 << 20])
def test_lines_and_arrays_take_turns(end: bytes, size: int) -> None:
    """Ended by LF or CRLF, with lines of blanks in between; a line that begins with a blank is no array."""
    lines = [b"PING", b"", b" ECHO 'a b' ", b"\t \v", b"*", b" *1", b"SET k v"]
    array = b"*2\r\n$4\r\nECHO\r\n$4\r\na\r\nb\r\n"
    data = b"".join(array * 2 + line + end for line in lines if line != b"*") + array
    expected: list[list[bytes]] = []
    for words in ([[b"PING"]], [], [[b"ECHO", b"a b"]], [], [[b"*1"]], [[b"SET", b"k", b"v"]]):
        expected += [[b"ECHO", b"a\r\nb"]] * 2 + words
    assert parsed(data, size) == [*expected, [b"ECHO", b"a\r\nb"]]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("size", [1, 1000, 1 << 20])
def test_a_line_may_be_64_kib_long(end: bytes, size: int) -> None:
    """To the byte, whatever the pieces, with its CR, and whether its end has come or not."""
    longest = b"ECHO " + b"x" * (MAX_LINE_BYTES - len(b"ECHO ") - len(end) + 1)
    assert parsed(longest + end, size) == [longest.split()]
    for beyond in (longest + b"x" + end, longest + b"xxx"):
        with pytest.raises(ProtocolViolationError, match="Protocol error: too big inline request"):
            parsed(beyond, size)


def test_a_line_is_bounded_as_any_request() -> None:
    """By the number of its words, and by what these hold together."""
    parser, _ = new_parser(max_arguments=3)
    parser.feed(b"a b c\n")
    assert parser.next() == [b"a", b"b", b"c"]
    parser.feed(b"a b c d\n")
    with pytest.raises(ProtocolViolationError, match="too big inline request"):
        parser.next()
    most = len(b"a b c") + 3 * ARGUMENT_OVERHEAD_BYTES
    parser, _ = new_parser(max_request_bytes=most)
    parser.feed(b"a b c\n")
    assert parser.next() == [b"a", b"b", b"c"]
    parser.feed(b"a b cc\n")
    with pytest.raises(ProtocolViolationError, match=f"request of more than {most} bytes"):
        parser.next()


def test_a_line_is_charged_for_its_words_and_escapes() -> None:
    """An escape takes longer to read than a byte."""
    parser, _ = new_parser()
    parser.feed(b'a "\\n\\n"\nPING\n')
    parser.next()
    assert parser.request_bytes == len(b'a "\\n\\n"') + 2 * (ARGUMENT_OVERHEAD_BYTES + ESCAPE_BYTES)
    parser.next()
    assert parser.request_bytes == len(b"PING") + ARGUMENT_OVERHEAD_BYTES


def test_what_comes_in_small_pieces_is_joined_once() -> None:
    """No piece of a line is looked at again before its end has come: a client could otherwise cause quadratic time."""
    parser, buffer = new_parser()
    parser.feed(b"SET k ")
    assert parser.next() is None
    for _ in range(1000):
        before = buffer.data
        parser.feed(b"xy")
        assert parser.next() is None
        assert buffer.data is before
    parser.feed(b"\nPI")
    assert parser.next() == [b"SET", b"k", b"xy" * 1000]
    assert parser.next() is None
    parser.feed(b"NG\n")
    assert parser.next() == [b"PING"]

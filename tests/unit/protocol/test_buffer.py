"""The receive buffer: any pieces, nothing lost, nothing doubled, and no copying with every piece that follows."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvs.adapters.inbound.protocol.buffer import ReceiveBuffer

HEADER_BYTES = 4

FRAMES = st.lists(st.binary(max_size=60), max_size=8)
CUTS = st.lists(st.integers(0, 1 << 20), max_size=30)


class Reader:
    """Reads frames, each with its length before it, and counts how often each byte was copied."""

    def __init__(self) -> None:
        self.buffer = ReceiveBuffer()
        self.frames: list[bytes] = []
        self.copies: list[int] = []
        self.bodies: list[int] = []
        self._consumed = 0

    def receive(self, piece: bytes) -> None:
        """Take a piece, and read all frames that are there."""
        buffer = self.buffer
        self.copies += [0] * len(piece)
        buffer.feed(piece)
        before = buffer.data
        if buffer.ready() and buffer.data is not before:
            for at in range(self._consumed, len(self.copies)):
                self.copies[at] += 1
        while buffer.ready() and self._read():
            pass
        assert buffer.held_bytes == len(self.copies) - self._consumed

    def _read(self) -> bool:
        buffer = self.buffer
        there = len(buffer.data) - buffer.at
        size = HEADER_BYTES
        if there >= HEADER_BYTES:
            size += int.from_bytes(buffer.data[buffer.at : buffer.at + HEADER_BYTES], "big")
        if there < size or there < HEADER_BYTES:
            buffer.need(size)
            return False
        end = buffer.at + size
        self.frames.append(buffer.data[buffer.at + HEADER_BYTES : end])
        self.bodies += range(self._consumed + HEADER_BYTES, self._consumed + size)
        self._consumed += size
        buffer.at = end
        return True


def encoded(frames: Sequence[bytes]) -> bytes:
    """Return frames as they come."""
    return b"".join(len(frame).to_bytes(HEADER_BYTES, "big") + frame for frame in frames)


@given(frames=FRAMES, cuts=CUTS, tail=st.binary(max_size=3))
@example(frames=[b"x" * 1000], cuts=list(range(1005)), tail=b"")
def test_a_buffer_loses_and_doubles_nothing_and_joins_a_body_at_most_twice(
    frames: list[bytes], cuts: list[int], tail: bytes
) -> None:
    """However it is cut: once with what came before it, and once when the last of it is there."""
    data = encoded(frames) + tail
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    reader = Reader()
    for first, last in zip([0, *places], [*places, len(data)], strict=True):
        reader.receive(data[first:last])
    assert reader.frames == frames
    assert all(reader.copies[at] <= 2 for at in reader.bodies)
    assert max(reader.copies, default=0) <= 3
    assert reader.buffer.held_bytes == len(tail)
    reader.buffer.clear()
    assert reader.buffer.held_bytes == 0
    reader.buffer.feed(b"new")
    assert reader.buffer.ready()
    assert reader.buffer.data == b"new"


def test_a_buffer_hands_on_a_piece_as_it_came() -> None:
    """What is used up before the next comes is not copied at all."""
    buffer = ReceiveBuffer()
    for piece in (b"one", b"three"):
        buffer.feed(piece)
        assert buffer.ready()
        assert buffer.data is piece
        buffer.at = len(piece)


class TestTake:
    @pytest.mark.parametrize("seed", range(200))
    def test_take_returns_the_next_bytes_and_leaves_the_rest(self, seed: int) -> None:
        draw = random.Random(seed)
        data = draw.randbytes(draw.randrange(1, 60))
        buffer = ReceiveBuffer()
        at = 0
        while at < len(data):
            size = draw.randrange(1, 20)
            buffer.feed(data[at : at + size])
            at += size
        skipped = draw.randrange(len(buffer.data) + 1)
        buffer.at = skipped
        size = draw.randrange(len(data) - skipped + 1)
        assert buffer.take(size) == data[skipped : skipped + size]
        assert buffer.held_bytes == len(data) - skipped - size
        buffer.feed(b"more")
        assert buffer.ready()
        assert buffer.data[buffer.at :] == data[skipped + size :] + b"more"

    def test_take_fulfils_what_was_needed(self) -> None:
        buffer = ReceiveBuffer()
        buffer.feed(b"abc")
        buffer.need(5)
        buffer.feed(b"def")
        assert buffer.take(4) == b"abcd"
        assert buffer.ready()
        assert buffer.data[buffer.at :] == b"ef"


def test_a_line_is_waited_for() -> None:
    """Up to its line feed, or to more bytes than it may have; afterwards a line feed is a byte as any other."""
    buffer = ReceiveBuffer()
    buffer.feed(b"ab")
    buffer.need_line(6)
    for piece in (b"", b"cd", b"ef"):
        buffer.feed(piece)
        assert not buffer.ready()
    buffer.feed(b"g")
    assert buffer.ready()
    assert buffer.data == b"abcdefg"
    buffer.need_line(100)
    buffer.feed(b"\nhi")
    assert buffer.ready()
    assert buffer.data == b"abcdefg\nhi"
    buffer.at = 8
    buffer.need(6)
    buffer.feed(b"\n\n")
    assert not buffer.ready()
    buffer.clear()
    buffer.feed(b"a")
    buffer.need_line(100)
    buffer.clear()
    buffer.feed(b"b")
    assert buffer.ready()

"""Unsent output, over a real socket: nothing is lost, added or reordered, and each call sends a bounded part."""

import os
import random
import socket
from collections.abc import Iterator

import pytest

from kvs.adapters.inbound.net.unsent import LARGE_PIECE_BYTES, MAX_WRITE_BYTES, SLOWLY_FREED_BYTES, UnsentOutput
from kvs.application.disposal import Disposal


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected sockets, neither of which blocks."""
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        other.setblocking(False)
        yield one, other


def transfer(unsent: UnsentOutput, sender: socket.socket, receiver: socket.socket) -> tuple[bytes, list[int]]:
    """Send everything; return what arrives, and how much each call sent."""
    arrived = bytearray()
    sent = []
    while unsent.size:
        before = unsent.size
        try:
            unsent.send(sender.fileno())
        except BlockingIOError:
            arrived += receiver.recv(1 << 20)
        else:
            sent.append(before - unsent.size)
    while True:
        try:
            arrived += receiver.recv(1 << 20)
        except BlockingIOError:
            return bytes(arrived), sent


def pieces_of(sizes: list[int]) -> list[bytes]:
    """Return pieces of these sizes, all different."""
    return [random.Random(at).randbytes(size) for at, size in enumerate(sizes)]


@pytest.mark.parametrize(
    "sizes",
    [
        [1],
        [5] * 5000,
        [MAX_WRITE_BYTES],
        [3 * MAX_WRITE_BYTES + 1],
        [6, MAX_WRITE_BYTES, 2, 6, MAX_WRITE_BYTES, 2],
        [LARGE_PIECE_BYTES - 1, LARGE_PIECE_BYTES] * 20,
        [0, 3, 0, LARGE_PIECE_BYTES, 0],
    ],
)
def test_unsent_output_arrives_whole_and_in_order(ends: tuple[socket.socket, socket.socket], sizes: list[int]) -> None:
    """Whatever sizes the pieces have, and however little the kernel takes."""
    pieces = pieces_of(sizes)
    unsent = UnsentOutput(None)
    unsent.add(pieces[: len(pieces) // 2])
    unsent.add(pieces[len(pieces) // 2 :])
    assert unsent.size == sum(sizes)
    arrived, sent = transfer(unsent, *ends)
    assert arrived == b"".join(pieces)
    assert max(sent) <= MAX_WRITE_BYTES


def test_unsent_output_that_is_added_between_calls_follows(ends: tuple[socket.socket, socket.socket]) -> None:
    """Also where a piece was sent in part."""
    sender, receiver = ends
    first, second = pieces_of([10 * MAX_WRITE_BYTES, 100])
    unsent = UnsentOutput(None)
    unsent.add([first])
    unsent.send(sender.fileno())
    unsent.add([second])
    assert transfer(unsent, sender, receiver)[0] == first + second


def test_unsent_output_is_kept_when_the_connection_is_lost(ends: tuple[socket.socket, socket.socket]) -> None:
    """The error is the caller's to handle."""
    sender, receiver = ends
    receiver.close()
    unsent = UnsentOutput(None)
    unsent.add([b"x" * 10])
    with pytest.raises(OSError, match=os.strerror(32)):
        unsent.send(sender.fileno())
    assert unsent.size == 10


@pytest.mark.parametrize("way", ["send", "take", "drop"])
def test_long_pieces_are_left_to_the_disposal(ends: tuple[socket.socket, socket.socket], way: str) -> None:
    """Those of many clients may end at the same moment, or be dropped at once."""
    disposal = Disposal()
    unsent = UnsentOutput(disposal)
    unsent.add([b"a" * (SLOWLY_FREED_BYTES - 1)])
    if way == "send":
        transfer(unsent, *ends)
    assert not disposal.has_work
    unsent.add([b"a" * SLOWLY_FREED_BYTES])
    if way == "send":
        transfer(unsent, *ends)
    while way == "take" and unsent.size:
        unsent.take()
    if way == "drop":
        unsent.drop()
    assert disposal.has_work

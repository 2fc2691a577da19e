"""Output that the kernel has not taken yet."""

import os
from collections import deque
from typing import Final, final

MAX_WRITE_BYTES: Final = 256 << 10
"""Most bytes that one call gives to the kernel, which copies them: 50 to 100 us. Others are served in between."""

LARGE_PIECE_BYTES: Final = 16 << 10
"""Smaller pieces are joined, because the kernel takes a limited number at a time."""


MAX_PIECES: Final = 1000
"""Most pieces of one call; Linux takes 1,024."""


@final
class UnsentOutput:
    """A queue of pieces; large ones are not copied.

    Attributes:
        size: Number of bytes.
    """

    __slots__ = ("_pieces", "_sent", "size")

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._sent = 0  # bytes of the first piece
        self.size = 0

    def add(self, pieces: list[bytes]) -> None:
        """Append pieces."""
        small: list[bytes] = []
        for piece in pieces:
            self.size += len(piece)
            if len(piece) < LARGE_PIECE_BYTES:
                small.append(piece)
                continue
            if small:
                self._pieces.append(b"".join(small))
                small = []
            self._pieces.append(piece)
        if small:
            self._pieces.append(b"".join(small))

    def send(self, fd: int) -> None:
        """Send up to :data:`MAX_WRITE_BYTES`.

        Raises:
            OSError: The kernel takes none, or the connection is lost.
        """
        batch: list[memoryview] = []
        first, room = self._sent, MAX_WRITE_BYTES
        for piece in self._pieces:
            part = memoryview(piece)[first : first + room]
            batch.append(part)
            first = 0
            room -= len(part)
            if room <= 0 or len(batch) == MAX_PIECES:
                break
        sent = os.writev(fd, batch)
        self.size -= sent
        self._sent += sent
        while self._pieces and self._sent >= len(self._pieces[0]):
            self._sent -= len(self._pieces.popleft())

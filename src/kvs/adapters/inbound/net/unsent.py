"""Output that the kernel has not taken yet."""

import os
from collections import deque
from typing import TYPE_CHECKING, Final, final

from kvs.application.disposal import Disposal
from kvs.override import override

if TYPE_CHECKING:
    from kvs.adapters.inbound.net.guard import Guard

MAX_WRITE_BYTES: Final = 256 << 10
"""Most bytes that one call gives to the kernel, which copies them: 50 to 100 us. Others are served in between."""

LARGE_PIECE_BYTES: Final = 16 << 10
"""Smaller pieces are joined, because the kernel takes a limited number at a time."""

MAX_PIECES: Final = 1000
"""Most pieces of one call; Linux takes 1,024."""

SLOWLY_FREED_BYTES: Final = 1 << 20
"""Length from which a piece is left to the disposal: 16 MiB are freed in 1.4 ms, and clients in turn end together."""


class UnsentOutput:
    """A queue of pieces; large ones are not copied.

    Args:
        disposal: Frees large ones; None: they are freed at once.

    Attributes:
        size: Number of bytes.
    """

    __slots__ = ("_disposal", "_pieces", "_sent", "size")

    def __init__(self, disposal: Disposal | None) -> None:
        self._disposal: Final = disposal
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
            self._sent -= self._drop_first()

    def take(self) -> bytes:
        """Remove and return up to :data:`MAX_WRITE_BYTES`."""
        taken: list[bytes] = []
        room = MAX_WRITE_BYTES
        while self._pieces and room > 0:
            first = self._pieces[0]
            part = first[self._sent : self._sent + room]
            taken.append(part)
            room -= len(part)
            self._sent += len(part)
            if self._sent >= len(first):
                self._sent = 0
                self._drop_first()
        self.size -= MAX_WRITE_BYTES - room
        return b"".join(taken)

    def drop(self) -> None:
        """Drop everything."""
        while self._pieces:
            self._drop_first()

    def _drop_first(self) -> int:
        """Drop the first piece; return its length."""
        piece = self._pieces.popleft()
        if self._disposal is not None and len(piece) >= SLOWLY_FREED_BYTES:
            self._disposal.add([piece])
        return len(piece)


@final
class UnsealedOutput(UnsentOutput):
    """Output of a connection in TLS, which is encrypted no earlier than the kernel takes it: others get their turn.

    Args:
        guard: Its guard.
        disposal: See :class:`UnsentOutput`.
    """

    __slots__ = ("_guard", "_sealed")

    def __init__(self, guard: "Guard", disposal: Disposal) -> None:
        super().__init__(disposal)
        self._guard: Final = guard
        self._sealed: Final = UnsentOutput(disposal)

    def add_sealed(self, data: bytes) -> None:
        """Append ciphertext behind all other."""
        self._sealed.add([data])
        self.size += len(data)

    @override
    def send(self, fd: int) -> None:
        sealed, tls = self._sealed, self._guard.tls
        if not sealed.size and tls is not None:
            self.add_sealed(tls.seal(self.take()))
        before = sealed.size
        try:
            sealed.send(fd)
        finally:
            self.size -= before - sealed.size

"""Replies put together from many parts. Small ones are joined; large ones are sent as they are, without a copy."""

from typing import Final, final

from kvs.ports.session import COPIED_BYTES_PER_UNIT, Work

LARGE_PART_BYTES: Final = 1 << 14
"""Length from which it takes less time to send a part in a piece of its own than to copy it."""

PIECE_BYTES: Final = 1 << 16
"""Length from which small parts are joined: 10 us of copying."""

PARTS_PER_UNIT: Final = 8


@final
class Pieces:
    """The pieces of a reply.

    Args:
        work: Charged for what is copied. Who adds parts has to yield when it is used up.
    """

    __slots__ = ("_parts", "_parts_bytes", "_pieces", "_work")

    def __init__(self, work: Work) -> None:
        self._work: Final = work
        self._pieces: list[bytes] = []
        self._parts: list[bytes] = []  # that are not joined yet
        self._parts_bytes = 0

    def add(self, part: bytes) -> None:
        """Append a part."""
        size = len(part)
        if size > LARGE_PART_BYTES:
            self._join()
            self._pieces.append(part)
            return
        self._parts.append(part)
        self._parts_bytes += size
        if self._parts_bytes >= PIECE_BYTES:
            self._join()

    def end(self) -> list[bytes]:
        """Return all pieces."""
        self._join()
        return self._pieces

    def _join(self) -> None:
        if self._parts:
            self._work.left -= len(self._parts) // PARTS_PER_UNIT + self._parts_bytes // COPIED_BYTES_PER_UNIT
            self._pieces.append(b"".join(self._parts))
            self._parts = []
            self._parts_bytes = 0

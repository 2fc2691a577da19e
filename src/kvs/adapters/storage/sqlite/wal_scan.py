"""Distinguishes a truncated write-ahead log from a damaged one.

SQLite reads the WAL as far as its checksums are valid, and treats the rest as an unfinished write. So a damaged page in
the middle would silently undo every commit after it. But each commit is synced before the next one is written: a commit
with data after it was finished, and if it cannot be read, it is damaged. Only damage to the last commit, or to the end
mark of the one before it, looks like an unfinished commit.

Source: the file format, https://www.sqlite.org/fileformat2.html#the_write_ahead_log.
"""

import struct
import sys
from array import array
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

if TYPE_CHECKING:
    from mypy_extensions import i64  # the compiler keeps it in a register

_HEADER: Final = struct.Struct(">8I")
HEADER_BYTES: Final = _HEADER.size
_FRAME: Final = struct.Struct(">6I")
_SALTS_AT: Final = 8
SECTOR_BYTES: Final = 512
"""Unit that a disk writes atomically."""

_CHUNK_BYTES: Final = 1 << 20

_MAGIC: Final = 0x377F0682  # the lowest bit is the byte order in which checksums read their input


def scan_wal(path: Path) -> tuple[int | None, int]:
    """Return the offset of the first damage, if any, and the end of the last readable commit, both in bytes.

    No connection may have the database open. Damage is certain only if every commit was synced.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None, 0
    with file:
        header = file.read(_HEADER.size)
        if not header.strip(b"\0"):
            return (None, 0) if _is_blank(file) else (0, 0)  # the header is synced before any frame
        if len(header) < _HEADER.size:
            return 0, 0
        magic, _, page_bytes, _, salt1, salt2, *checksum = _HEADER.unpack(header)
        swap = (magic & 1 == 0) == (sys.byteorder == "big")
        if magic & ~1 != _MAGIC or _checksum(header[:24], (0, 0), swap=swap) != tuple(checksum):
            return 0, 0
        return _scan_frames(file, page_bytes, (salt1, salt2), (checksum[0], checksum[1]), swap=swap)


def _scan_frames(
    file: BinaryIO, page_bytes: int, salts: tuple[int, int], checksum: tuple[int, int], *, swap: bool
) -> tuple[int | None, int]:
    damaged: int | None = None
    finished = False  # a commit ends after the damage
    at = end = _HEADER.size
    while True:
        frame = file.read(_FRAME.size)
        page = file.read(page_bytes)
        if len(frame) < _FRAME.size or len(page) < page_bytes:
            return None, end
        _, size_after_commit, salt1, salt2, *expected = _FRAME.unpack(frame)
        salted = (salt1, salt2) == salts
        right = _checksum(page, _checksum(frame[:8], checksum, swap=swap), swap=swap) == tuple(expected)
        current = salted or (right and damaged is None)  # in the second case only its salts are damaged
        if damaged is None and not (salted and right):
            damaged = at
        elif damaged is not None and current and finished:
            return damaged, end
        torn = not right and (at + _SALTS_AT) % SECTOR_BYTES == 0  # the bytes before the salts may be older
        at += _FRAME.size + page_bytes
        if size_after_commit and damaged is None:
            end = at
        elif size_after_commit and current and not torn:
            finished = True
        checksum = (expected[0], expected[1])


def _is_blank(file: BinaryIO) -> bool:
    """Return whether the rest of a file is zeros, as if nothing has reached the disk since it was created."""
    while chunk := file.read(_CHUNK_BYTES):
        if chunk.strip(b"\0"):
            return False
    return True


def _checksum(data: bytes, start: tuple[int, int], *, swap: bool) -> tuple[int, int]:
    """Return SQLite's checksum: two interleaved sums over 32-bit words."""
    words = array("I", data)
    if swap:
        words.byteswap()
    one: i64 = start[0]
    two: i64 = start[1]
    even = True
    word: i64
    for word in words:
        if even:
            one = (one + word + two) & 0xFFFFFFFF
        else:
            two = (two + word + one) & 0xFFFFFFFF
        even = not even
    return one, two

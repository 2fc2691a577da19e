"""Tells a write-ahead log that was cut short from one that is damaged.

SQLite reads a log as far as its checksums hold and takes the rest for a write that never finished. So a damaged page in
the middle would undo, without a word, every commit behind it. But a commit is synced before anything follows it: where
something follows, it had been finished, and if it cannot be read, it is damaged. Only damage to the very last commit,
or to what marks the end of the one before it, looks like one that was never finished.

Source: the file format, https://www.sqlite.org/fileformat2.html#the_write_ahead_log.
"""

import os
import struct
import sys
from array import array
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from kvs.engine import StorageOpenError

if TYPE_CHECKING:
    from mypy_extensions import i64  # an int in a register, to the compiler

_HEADER: Final = struct.Struct(">8I")
_FRAME: Final = struct.Struct(">6I")
_SALTS_AT: Final = 8
SECTOR_BYTES: Final = 512
"""What a disk writes whole or not at all."""

_MAGIC: Final = 0x377F0682  # the lowest bit says in which byte order checksums read their input


def check_log(path: Path) -> int:
    """Check the write-ahead log of a database that no connection has open, and whose every commit was synced.

    Returns:
        Where its last commit ends, in bytes from its beginning.

    Raises:
        StorageOpenError: It is damaged, or cannot be read.
    """
    log_path = _log_of(path)
    try:
        damage, end = _scan(log_path)
    except OSError as error:
        raise StorageOpenError(f"{log_path}: cannot be read: {error.strerror or error}") from None
    if damage is not None:
        raise StorageOpenError(
            f"{log_path}: is damaged at byte {damage}, before commits that had been acknowledged; nothing was changed. "
            "Restore a backup; or, if the machine lost power while durability was not full, start with that durability"
        )
    return end


def cut_log(path: Path) -> None:
    """Check a log likewise, and cut off what is behind its last commit: what there is of one that never finished.

    The next commits would be written over it. If one of them did not finish either, the rest of the first would seem to
    follow it, as if it had.

    Raises:
        StorageOpenError: It is damaged, or cannot be read or written to.
    """
    end = check_log(path)
    log_path = _log_of(path)
    try:
        with log_path.open("r+b") as file:
            if file.seek(0, os.SEEK_END) > end:
                file.truncate(end)
                os.fsync(file.fileno())
    except FileNotFoundError:
        pass
    except OSError as error:
        raise StorageOpenError(f"{log_path}: cannot be written to: {error.strerror or error}") from None


def find_damage(path: Path) -> int | None:
    """Return where in a log the first damage is, in bytes from its beginning; None if all its commits can be read."""
    return _scan(path)[0]


def _log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _scan(path: Path) -> tuple[int | None, int]:
    """Return where the first damage is, if there is any, and where the last commit ends that can be read."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None, 0
    with file:
        header = file.read(_HEADER.size)
        if not header.strip(b"\0"):
            return None, 0  # nothing has reached the disk since it was made
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
    finished = False  # behind the damage, a commit has come to its end
    at = end = _HEADER.size
    while True:
        frame = file.read(_FRAME.size)
        page = file.read(page_bytes)
        if len(frame) < _FRAME.size or len(page) < page_bytes:
            return None, end
        _, size_after_commit, salt1, salt2, *expected = _FRAME.unpack(frame)
        salted = (salt1, salt2) == salts
        right = _checksum(page, _checksum(frame[:8], checksum, swap=swap), swap=swap) == tuple(expected)
        current = salted or (right and damaged is None)  # for then only its salts are damaged
        if damaged is None and not (salted and right):
            damaged = at
        elif damaged is not None and current and finished:
            return damaged, end
        torn = not right and (at + _SALTS_AT) % SECTOR_BYTES == 0  # what stands before the salts may be older
        at += _FRAME.size + page_bytes
        if size_after_commit and damaged is None:
            end = at
        elif size_after_commit and current and not torn:
            finished = True
        checksum = (expected[0], expected[1])


def _checksum(data: bytes, start: tuple[int, int], *, swap: bool) -> tuple[int, int]:
    """Return SQLite's checksum: two sums that feed each other, over 32-bit words."""
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

"""The *mark*: a small file beside the database that records how far the journal had come.

A WAL that was truncated, zeroed or deleted looks like an empty one, and an older copy of the database looks like any
other. So the number of the journal's last row is also kept in this file. It is written after every commit and not
synced: it survives a kill of the process, and after a power cut it may be older than the database, but never newer.
With ``durability`` other than ``full``, only the last synced row is required after a power cut; if the machine has
booted since, there may have been one.

After the mark, the file holds a *reserve* of zeros, which is released when a write fails: if the disk is full and the
server's log is on it, there is room to log the reason.
"""

import os
import platform
import subprocess
from contextlib import suppress
from pathlib import Path
from struct import Struct
from typing import Final, final
from uuid import UUID
from zlib import crc32

import msgspec

from kvs.engine import StorageOpenError

_MAGIC: Final = b"kvs-mark"
_FIELDS: Final = Struct(">8s16sQQ16s?")
_CHECKSUM: Final = Struct(">I")
_BYTES: Final = _FIELDS.size + _CHECKSUM.size
"""Less than a sector, which a disk writes atomically."""

RESERVE_AT: Final = 4096
RESERVE_BYTES: Final = 64 << 10

_UNKNOWN_BOOT: Final = bytes(16)


class Mark(msgspec.Struct, frozen=True):
    """The content of a mark.

    Attributes:
        instance: Identity of the database.
        seq: Number of the last row of the journal that was committed.
        synced_seq: Number of the last row that was synced.
        boot: Identity of the machine's boot in which the mark was written.
        all_synced: Whether each commit in the WAL was synced before the next one, so that a power cut can damage only
            the last one.
    """

    instance: bytes
    seq: int
    synced_seq: int
    boot: bytes
    all_synced: bool

    def encoded(self) -> bytes:
        fields = _FIELDS.pack(_MAGIC, self.instance, self.seq, self.synced_seq, self.boot, self.all_synced)
        return fields + _CHECKSUM.pack(crc32(fields))

    @property
    def of_this_boot(self) -> bool:
        """Whether the machine has not rebooted since the mark was written, so no unsynced data are lost."""
        return self.boot != _UNKNOWN_BOOT and self.boot == boot_identity()

    @property
    def required_seq(self) -> int:
        """The last row that the journal must have."""
        return self.seq if self.of_this_boot else self.synced_seq


def mark_path(path: Path) -> Path:
    """Return the path of the mark of a database."""
    return path.with_name(path.name + "-mark")


def read_mark(path: Path) -> Mark | None:
    """Return the mark of a database; None if there is none, or none has reached the disk.

    Raises:
        StorageOpenError: It is damaged, or cannot be read.
    """
    where = mark_path(path)
    try:
        with where.open("rb") as file:
            data = file.read(_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageOpenError(f"{where}: cannot be read: {error.strerror or error}") from None
    if not data.strip(b"\0"):
        return None
    fields, checksum = data[: _FIELDS.size], data[_FIELDS.size :]
    if len(data) == _BYTES and _CHECKSUM.unpack(checksum)[0] == crc32(fields):
        magic, instance, seq, synced_seq, boot, all_synced = _FIELDS.unpack(fields)
        if magic == _MAGIC:
            return Mark(instance, seq, synced_seq, boot, all_synced)
    raise StorageOpenError(
        f"{where}: is damaged, so it is not known whether acknowledged commits are missing; nothing was changed. "
        "Without it a database is accepted that was closed in an orderly way: move it away, or restore a backup"
    )


@final
class MarkFile:
    """Writes the mark of the database whose identity is ``instance``. Not thread-safe.

    Attributes:
        all_synced: Written with the mark; see :class:`Mark`.
    """

    def __init__(self, path: Path, instance: bytes) -> None:
        self.all_synced = False
        self._instance = instance
        self._boot = boot_identity()
        self._descriptor = os.open(mark_path(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def write(self, seq: int, synced_seq: int) -> None:
        """Record the last rows that were committed and synced. One system call, which does not wait for the disk."""
        data = Mark(self._instance, seq, synced_seq, self._boot, self.all_synced).encoded()
        if os.pwrite(self._descriptor, data, 0) != len(data):
            raise OSError(None, "the mark was written in part")

    def sync(self) -> None:
        os.fsync(self._descriptor)

    def allocate_reserve(self) -> None:
        """Allocate the reserve, if there is room for it."""
        with suppress(OSError):
            os.pwrite(self._descriptor, bytes(RESERVE_BYTES), RESERVE_AT)

    def release_reserve(self) -> None:
        with suppress(OSError):
            os.ftruncate(self._descriptor, _BYTES)

    def close(self) -> None:
        os.close(self._descriptor)


def boot_identity() -> bytes:
    """Return the identity of this boot of the machine; zeros if it is unknown."""
    text = ""
    with suppress(OSError, subprocess.SubprocessError):
        if platform.system() == "Darwin":
            command = ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"]
            text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout  # noqa: S603
        else:
            text = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    try:
        return UUID(text.strip()).bytes
    except ValueError:
        return _UNKNOWN_BOOT

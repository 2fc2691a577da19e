"""The *mark*: a small file beside the database that says how far the journal had come.

A log that was cut off, zeroed or deleted looks like one into which nothing had been written yet, and an older copy of
the database looks like any other. So the number of the last row is kept in a place of its own, too. It is written
behind every commit and not synced: a kill of the process cannot take it back, and after a power cut it may be old, but
is never ahead of what the disk has. With ``durability`` other than ``full`` only the row up to which everything was
synced counts after a power cut; another boot of the machine tells that there may have been one.

Behind the mark, the file holds a *reserve* of zeros. It is given back when writing fails: on a full disk that the
server's log is on as well, there is room then to log the reason.
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
"""Less than a sector, which a disk writes whole or not at all."""

RESERVE_AT: Final = 4096
RESERVE_BYTES: Final = 64 << 10

_UNKNOWN_BOOT: Final = bytes(16)


class Mark(msgspec.Struct, frozen=True):
    """What a mark says.

    Attributes:
        instance: Identity of the database that it belongs to.
        seq: Number of the last row of the journal that was committed.
        synced_seq: Number of the last row that was synced.
        boot: Identity of the machine's boot during which it was written.
        all_synced: Whether each commit in the log was synced before the next one, so that no power cut can have damaged
            what the log has before its last commit.
    """

    instance: bytes
    seq: int
    synced_seq: int
    boot: bytes
    all_synced: bool

    def encoded(self) -> bytes:
        """Return what the file holds."""
        fields = _FIELDS.pack(_MAGIC, self.instance, self.seq, self.synced_seq, self.boot, self.all_synced)
        return fields + _CHECKSUM.pack(crc32(fields))

    @property
    def of_this_boot(self) -> bool:
        """Whether the machine has been up since it was written, so that nothing can have been lost with its cache."""
        return self.boot != _UNKNOWN_BOOT and self.boot == boot_identity()

    @property
    def required_seq(self) -> int:
        """The row that the journal must have come to."""
        return self.seq if self.of_this_boot else self.synced_seq


def mark_path(path: Path) -> Path:
    """Return where the mark of a database is."""
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
    """Writes the mark of a database. Not thread-safe.

    Args:
        path: Of the database.
        instance: Identity of the database.

    Attributes:
        all_synced: What is said of the log; see :class:`Mark`.

    Raises:
        OSError: It cannot be made.
    """

    def __init__(self, path: Path, instance: bytes) -> None:
        self.all_synced = False
        self._instance = instance
        self._boot = boot_identity()
        self._descriptor = os.open(mark_path(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def write(self, seq: int, synced_seq: int) -> None:
        """Say that rows up to these were committed, and synced. A call of the system, and no wait for the disk.

        Raises:
            OSError: It cannot be written.
        """
        data = Mark(self._instance, seq, synced_seq, self._boot, self.all_synced).encoded()
        if os.pwrite(self._descriptor, data, 0) != len(data):
            raise OSError(None, "the mark was written in part")

    def sync(self) -> None:
        """Make it last.

        Raises:
            OSError: It cannot be synced.
        """
        os.fsync(self._descriptor)

    def reserve(self) -> None:
        """Take a reserve, if there is room for one."""
        with suppress(OSError):
            os.pwrite(self._descriptor, bytes(RESERVE_BYTES), RESERVE_AT)

    def give_back(self) -> None:
        """Give the reserve back."""
        with suppress(OSError):
            os.ftruncate(self._descriptor, _BYTES)

    def close(self) -> None:
        """Release it."""
        os.close(self._descriptor)


def boot_identity() -> bytes:
    """Return what tells this boot of the machine from every other; zeros where nothing tells."""
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

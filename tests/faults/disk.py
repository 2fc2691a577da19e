"""A disk that loses power: what it was made to keep, and what it has been given since.

What is on it for certain is what was there when the last sync began. Of what came after, it may have kept any part, in
any order, down to single sectors; only what was written to the same place comes one over the other.

Names are a matter of their own. A sync of a file keeps its contents and not its name, though all common file systems of
Linux keep the name of a new file, too; a sync of the directory keeps the names. Changes of names reach the disk in
their order, as the journal of a file system writes them: what may be lost is the last ones.
"""

import enum
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final, TypeAlias
from uuid import uuid4

import msgspec

from kvs.adapters.storage.sqlite.file import NAME
from kvs.adapters.storage.sqlite.mark import mark_path, read_mark
from tests.faults.recording import Create, Event, MakeDirectory, Remove, SyncBegun, SyncEnded, Truncate, Write

KEEP_CHANCES: Final = (0.1, 0.5, 0.9)


class Kept(enum.Enum):
    """What a disk has kept of what it was not made to keep."""

    NONE = "none"
    ALL = "all"
    CALLS = "some calls"
    BLOCKS = "some blocks of 4096 bytes"
    SECTORS = "some sectors of 512 bytes"


_UNIT_BYTES: Final = {Kept.CALLS: 1 << 60, Kept.BLOCKS: 4096, Kept.SECTORS: 512}

Image: TypeAlias = dict[str, bytes] | None
"""The files by name; None: there is not even the directory."""


@dataclass(eq=False, slots=True)
class _File:
    synced: bytearray = field(default_factory=bytearray)
    pending: list[Write | Truncate] = field(default_factory=list)
    kept: int = 0  # how many changes have become part of ``synced``


_Names: TypeAlias = dict[str, _File]


class Disk:
    """A data directory on such a disk, empty and not yet made."""

    def __init__(self) -> None:
        self._names: _Names = {}
        self._synced_names: _Names = {}
        self._pending_names: list[_Names] = []  # what they were after each change since
        self._kept_names = 0  # how many changes have become part of ``synced_names``
        self._made = self._made_for_good = False
        self._syncs: dict[int, tuple[str, _File | None, int]] = {}

    def take(self, event: Event) -> None:
        """Take in an event."""
        match event:
            case MakeDirectory():
                self._made = True
            case Create(name):
                if name not in self._names:
                    self._rename(self._names | {name: _File()})
            case Remove(name):
                self._rename({kept: file for kept, file in self._names.items() if kept != name})
            case Write(name) | Truncate(name):
                self._names[name].pending.append(event)
            case SyncBegun(name, number):
                file = self._names.get(name)
                changes = file.kept + len(file.pending) if file else self._kept_names + len(self._pending_names)
                self._syncs[number] = name, file, changes
            case SyncEnded(number):
                self._sync(*self._syncs.pop(number))

    def crash(self, kept: Kept, chance: Random) -> Image:
        """Return what is found after a loss of power."""
        made = self._made_for_good or kept is Kept.ALL or (kept is not Kept.NONE and chance.random() < 0.5)
        if not (self._made and made):
            return None
        if kept is Kept.NONE:
            return {name: bytes(file.synced) for name, file in self._synced_names.items()}
        names = [self._synced_names, *self._pending_names]
        found = names[-1] if kept is Kept.ALL else chance.choice(names)
        return {name: self._contents(file, kept, chance) for name, file in found.items()}

    def _rename(self, names: _Names) -> None:
        self._names = names
        self._pending_names.append(names)

    def _sync(self, name: str, file: _File | None, changes: int) -> None:
        """Keep what had been changed when the sync began. Another one may have done so meanwhile."""
        if file is not None:
            count = max(changes - file.kept, 0)
            for change in file.pending[:count]:
                _apply(file.synced, change)
            del file.pending[:count]
            file.kept += count
        elif name == "..":
            self._made_for_good = self._made
        elif changes > self._kept_names:
            count = changes - self._kept_names
            self._synced_names = self._pending_names[count - 1]
            del self._pending_names[:count]
            self._kept_names += count

    @staticmethod
    def _contents(file: _File, kept: Kept, chance: Random) -> bytes:
        contents = bytearray(file.synced)
        keep_chance = 1.0 if kept is Kept.ALL else chance.choice(KEEP_CHANCES)
        for change in file.pending:
            if isinstance(change, Truncate) or kept is Kept.ALL:
                parts: list[Write | Truncate] = [change]
            else:
                parts = [*_parts(change, _UNIT_BYTES[kept])]
            for part in parts:
                if chance.random() < keep_chance:
                    _apply(contents, part)
        return bytes(contents)


def _parts(write: Write, unit_bytes: int) -> list[Write]:
    """Cut a write where units of the disk begin."""
    parts = []
    offset, end = write.offset, write.offset + len(write.data)
    while offset < end:
        next_ = min(end, (offset // unit_bytes + 1) * unit_bytes)
        parts.append(Write(write.name, offset, write.data[offset - write.offset : next_ - write.offset]))
        offset = next_
    return parts


def _apply(contents: bytearray, change: Write | Truncate) -> None:
    size = change.size if isinstance(change, Truncate) else change.offset + len(change.data)
    if len(contents) < size:
        contents += bytes(size - len(contents))  # a hole reads as zeros
    if isinstance(change, Truncate):
        del contents[change.size :]
    else:
        contents[change.offset : size] = change.data


def lay_out(image: Image, directory: Path) -> None:
    """Make a directory of an image, as another boot finds it: shared memory does not outlast the machine."""
    if image is not None:
        directory.mkdir()
        for name, contents in image.items():
            if not name.endswith("-shm"):
                (directory / name).write_bytes(contents)
        boot_anew(directory)


def boot_anew(directory: Path) -> None:
    """Have the mark of a data directory be one of an earlier boot of the machine."""
    mark = read_mark(directory / NAME)
    if mark is not None:
        mark_path(directory / NAME).write_bytes(msgspec.structs.replace(mark, boot=uuid4().bytes).encoded())

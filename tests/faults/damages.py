"""Damages to the files of a data directory, generated, and the judgement of what becomes of a damaged one.

The rule: a start serves exactly what was acknowledged; or it, ``kvs verify`` and ``kvs backup`` refuse, each in one
line that names the file, and every file is as it was, with none besides.
"""

import shutil
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Final, TypeAlias

from kvs.adapters.storage.sqlite.backup import back_up, verify
from kvs.adapters.storage.sqlite.file import NAME
from kvs.engine import StorageOpenError
from tests.faults.recovery import recover

Contents: TypeAlias = Mapping[str, bytes]
"""Files by name."""

PREFIXES_BYTES: Final = (1, 32, 512, 4096)
UNITS_BYTES: Final = (1, 24, 512, 4096)
"""What damages begin and end at multiples of."""

TELLING: Final = {NAME, f"{NAME}-wal", f"{NAME}-mark"}
"""Files that tell that there were data."""


@dataclass(frozen=True, slots=True)
class Left:
    """A data directory that a server has left.

    Attributes:
        how: How it ended.
        files: What is in it.
        older: What was in it earlier.
        data: What had been acknowledged.
        durability: Of the server.
    """

    how: str
    files: Contents
    older: Sequence[Contents]
    data: Mapping[bytes, bytes]
    durability: str = "full"


@dataclass(frozen=True, slots=True)
class Damage:
    """What has become of files.

    Attributes:
        how: What was done, for messages.
        changes: What each of them holds now; None: it is missing.
    """

    how: str
    changes: Mapping[str, bytes | None]


def plain_damages(left: Left) -> Iterator[Damage]:
    """Yield the damages that leave nothing to chance: of each file one of a kind."""
    for name, contents in left.files.items():
        yield Damage(f"{name} emptied", {name: b""})
        yield Damage(f"{name} zeroed", {name: bytes(len(contents))})
        for prefix in PREFIXES_BYTES:
            zeroed = bytes(min(prefix, len(contents))) + contents[prefix:]
            yield Damage(f"{name}, {prefix} bytes zeroed", {name: zeroed})
        yield Damage(f"{name} cut to half", {name: contents[: len(contents) // 2]})
    for number, older in enumerate(left.older):
        for name, contents in older.items():
            if contents != left.files.get(name):
                yield Damage(f"{name} as in older copy {number}", {name: contents})


def losses(left: Left) -> Iterator[Damage]:
    """Yield the loss of any files that leaves one which tells of data."""
    for count in range(1, len(left.files)):
        for lost in combinations(sorted(left.files), count):
            if not TELLING.isdisjoint(left.files.keys() - set(lost)):
                yield Damage(f"{', '.join(lost)} missing", dict.fromkeys(lost))


def chance_damages(left: Left, chance: Random) -> Iterator[Damage]:
    """Yield damages at any place, without end."""
    names = [name for name, contents in left.files.items() if contents]
    while True:
        name = chance.choice(names)
        contents = left.files[name]
        start, end = sorted(_place(chance, len(contents)) for _ in range(2))
        match chance.randrange(6):
            case 0:
                how, damaged = f"cut to {start}", contents[:start]
            case 1:
                how, damaged = f"{start} to {end} zeroed", contents[:start] + bytes(end - start) + contents[end:]
            case 2:
                how, damaged = f"first {end} zeroed", bytes(end) + contents[end:]
            case 3:
                garbage = chance.randbytes(end - start)
                how, damaged = f"{start} to {end} garbage", contents[:start] + garbage + contents[end:]
            case 4:
                how, damaged = f"{start} to {end} cut out", contents[:start] + contents[end:]
            case _:
                at, bit = chance.randrange(len(contents)), 1 << chance.randrange(8)
                flipped = bytes([contents[at] ^ bit])
                how, damaged = f"byte {at} ^ {bit:#x}", contents[:at] + flipped + contents[at + 1 :]
        yield Damage(f"{name} {how}", {name: damaged})


def _place(chance: Random, size: int) -> int:
    unit, size = chance.choice(UNITS_BYTES), min(size, chance.choice((100, 4096, size)))
    return min(chance.randrange(size + 1) // unit * unit, size)


def violation(left: Left, damage: Damage, directory: Path) -> str | None:
    """Damage a copy, verify it, back it up, and start on it; return how a promise is violated, or None.

    Args:
        left: The undamaged directory.
        damage: The damage.
        directory: Where to make the copy; it does not exist before and after.
    """
    files = {name: contents for name, contents in left.files.items() if name not in damage.changes}
    files |= {name: contents for name, contents in damage.changes.items() if contents is not None}
    data_directory, copy = directory / "data", directory / "copy"

    def start(where: Path) -> None:
        assert recover(where, left.durability) == left.data, "what is served is not what was acknowledged"

    def back_up_and_start() -> None:
        back_up(data_directory, copy, lambda *_: None)
        start(copy)

    told = {}
    try:
        data_directory.mkdir(parents=True)
        for name, contents in files.items():
            (data_directory / name).write_bytes(contents)
        told["verify"] = _refusal(lambda: verify(data_directory), data_directory)
        told["backup"] = _refusal(back_up_and_start, data_directory)
        assert contents_of(data_directory) == files, "verify or backup has changed something"
        told["start"] = _refusal(lambda: start(data_directory), data_directory)
        assert not told["start"] or contents_of(data_directory) == files, "a refused start has changed something"
        assert len(set(map(bool, told.values()))) == 1, "they do not agree"
    except Exception:  # noqa: BLE001  # whatever it is, it is wrong
        return f"{left.how}; {damage.how}: {told} {traceback.format_exc(limit=-2)}"
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return None


def _refusal(act: Callable[[], object], directory: Path) -> str:
    """Do something with a directory; return why it was refused, which is a line that names a file, or nothing."""
    told = ""
    try:
        act()
    except StorageOpenError as error:
        told = str(error)
    assert told.isprintable(), f"it is not one line: {told!r}"
    assert not told or str(directory / NAME) in told, f"no file is named: {told}"
    return told


def contents_of(directory: Path) -> dict[str, bytes]:
    """Return what is in a directory."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}

"""Bytes of the files are damaged: what is served is right, or nothing is, and one line names the file."""

import random
import shutil
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from kvs.adapters.storage.sqlite.compaction import Compaction
from kvs.adapters.storage.sqlite.file import NAME, connect, open_database
from kvs.adapters.storage.sqlite.journal import SqliteJournal
from kvs.adapters.storage.sqlite.wal_scan import SECTOR_BYTES
from kvs.domain.values import NO_DEADLINE, Key, Value, with_deadline
from kvs.engine import StorageOpenError
from tests.faults.points import scratch_directory
from tests.faults.recovery import LOG, recover
from tests.faults.scale import FULL_SCALE, full_scale_has_time
from tests.support.journals import append
from tests.support.seeds import SEED

if TYPE_CHECKING:
    from kvs.adapters.storage.journal_writer import Row

pytestmark = [pytest.mark.draws, full_scale_has_time]

WAL_NAME: Final = NAME + "-wal"
PAGE_BYTES: Final = 4096
FRAME_BYTES: Final = 24 + PAGE_BYTES
LOG_HEADER_BYTES: Final = 32
JOURNAL_BYTES: Final = 1 << 20

SAMPLE: Final = 120
FULL_SAMPLE: Final = 20_000
LATE_MS: Final = 1 << 45
"""A time in the future."""

MASKS: Final = (0x01, 0x80, 0xFF)
"""The lowest bit, the highest, or all of a byte."""

Data = dict[Key, Value]


@dataclass(frozen=True, slots=True)
class Files:
    """A data directory that nobody has open.

    Attributes:
        path: The directory.
        states: The data after each commit, the last one last.
    """

    path: Path
    states: list[Data]


class Maker:
    """Fills a data directory, and compacts, and copies the WAL, when it is told to."""

    def __init__(self, path: Path, journal: SqliteJournal, compaction: Compaction, chance: random.Random) -> None:
        self.states: list[Data] = [{}]
        self.compact = compaction.compact
        self.checkpoint = compaction.checkpoint
        self._path = path
        self._journal = journal
        self._random = chance

    def commit(self, rows: int, most_bytes: int = 300) -> None:
        """Commit random puts and deletes."""
        batch: list[Row] = []
        data = dict(self.states[-1])
        for _ in range(rows):
            key = b"key%d" % self._random.randrange(80)
            if self._random.random() < 0.25:
                batch.append((key, None))
                data.pop(key, None)
            else:
                value = self._random.randbytes(self._random.randrange(most_bytes))
                deadline_ms = LATE_MS + self._random.randrange(1000) if self._random.random() < 0.3 else NO_DEADLINE
                data[key] = with_deadline(value, deadline_ms)
                batch.append((key, data[key]))
        append(self._journal, batch, horizon_ms=len(self.states) * 1000)
        self.states.append(data)

    def copy_to(self, path: Path) -> Files:
        """Copy the files as they are, which is what a kill leaves."""
        shutil.copytree(self._path, path)
        return Files(path, self.states)


@contextmanager
def made(path: Path) -> Iterator[Maker]:
    """Make a data directory; at the end it is closed in an orderly way."""
    path.mkdir()
    database = path / NAME
    with closing(open_database(database, "full")) as connection, closing(connect(database, "full")) as background:
        journal = SqliteJournal(connection, database, last_seq=0, rows=0, row_bytes=0, max_bytes=JOURNAL_BYTES)
        yield Maker(path, journal, Compaction(background, journal, LOG), random.Random(1))


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Return a directory in memory."""
    with scratch_directory() as directory:
        yield directory


def closed_files(path: Path) -> Files:
    """Make a database with entries, a journal, values of several pages and free pages; close it."""
    with made(path) as maker:
        maker.commit(150)
        maker.commit(4, 12_000)
        maker.compact()
        maker.commit(60)
        maker.commit(3, 12_000)
    return Files(path, maker.states)


def left_log(path: Path) -> Files:
    """Make a database whose log has several commits."""
    with made(path) as maker:
        for rows in (10, 1, 40, 1, 5, 2):
            maker.commit(rows, 1000)
        return maker.copy_to(path.with_name("left"))


def left_log_started_anew(path: Path) -> Files:
    """Make one whose log has been started anew, with older commits behind the newer ones."""
    with made(path) as maker:
        maker.commit(200, 1000)
        maker.checkpoint()
        for rows in (3, 1, 2):
            maker.commit(rows, 1000)
        return maker.copy_to(path.with_name("left"))


Allowed = Callable[[int, bytes], Sequence[Data]]
"""What may be served if the byte at an offset is damaged, and the file is now this."""


def check_damage(files: Files, name: str, damages: Sequence[tuple[int, int]], allowed: Allowed) -> None:
    """Damage a file in each of these ways: an offset, and a mask to flip bits of the byte there."""
    originals = {path.name: path.read_bytes() for path in files.path.iterdir() if not path.name.endswith("-shm")}
    wrong: list[str] = []
    refused = 0
    for offset, mask in damages:
        shutil.rmtree(files.path)
        files.path.mkdir()
        for other, contents in originals.items():
            (files.path / other).write_bytes(contents)
        damaged = bytearray(originals[name])
        damaged[offset] ^= mask
        (files.path / name).write_bytes(damaged)
        told = f"{name}, byte {offset} of {len(originals[name])} ^ {mask:#x}: "
        try:
            data = recover(files.path, use=True)
        except StorageOpenError as error:
            refused += 1
            if not (str(error).isprintable() and str(files.path) in str(error)):
                wrong.append(f"{told}the refusal is {str(error)!r}")
        except Exception:  # noqa: BLE001  # whatever it is, it is wrong
            wrong.append(told + traceback.format_exc())
        else:
            if data not in allowed(offset, bytes(damaged)):
                wrong.append(told + "what is served is wrong")
    print(f"{len(damages)} damages of {name}, {refused} refused")  # noqa: T201  # shown if the test fails, or with -s
    assert not wrong, "\n".join([f"{len(wrong)} are wrong", *wrong[:20]])


def damages_of(offsets: Sequence[int], interesting: Sequence[int]) -> list[tuple[int, int]]:
    """Return a sample of damages; at full scale all of the interesting ones and a larger sample."""
    chance = random.Random(SEED)
    if FULL_SCALE:
        every = [(offset, mask) for offset in interesting for mask in MASKS]
        return every + [(offset, 1 << chance.randrange(8)) for offset in chance.choices(offsets, k=FULL_SAMPLE)]
    chosen = chance.choices(interesting, k=SAMPLE // 2) + chance.choices(offsets, k=SAMPLE // 2)
    return [(offset, chance.choice((*MASKS, 1 << chance.randrange(8)))) for offset in chosen]


def structure_of(database: bytes) -> list[int]:
    """Return the offsets of what pages begin with: headers, pointers to cells, numbers of other pages."""
    offsets = list(range(100))
    for page in range(0, len(database), PAGE_BYTES):
        start = page + 100 if page == 0 else page
        cells = int.from_bytes(database[start + 3 : start + 5], "big") if database[start] in (2, 5, 10, 13) else 0
        offsets += range(start, min(start + 12 + 2 * cells, page + PAGE_BYTES))
    return offsets


def test_a_closed_database(scratch: Path) -> None:
    """Wherever it is damaged, it is refused, or what is served is right."""
    files = closed_files(scratch / "data")
    assert recover(files.path) == files.states[-1]
    contents = (files.path / NAME).read_bytes()
    damages = damages_of(range(len(contents)), structure_of(contents))
    check_damage(files, NAME, damages, lambda *_: files.states[-1:])


@pytest.mark.parametrize("make", [left_log, left_log_started_anew])
def test_the_log_that_a_kill_leaves(scratch: Path, make: Callable[[Path], Files]) -> None:
    """It is refused, or what is served is right.

    Only damage to the last commit looks like one that was never finished, and so does the loss of the mark, a number of
    pages, that ends the one before it.
    """
    files = make(scratch / "data")
    contents = (files.path / WAL_NAME).read_bytes()
    frames = range(LOG_HEADER_BYTES, len(contents), FRAME_BYTES)
    current = [frame for frame in frames if contents[frame + 8 : frame + 16] == contents[16:24]]
    commits = [frame for frame in current if any(contents[frame + 4 : frame + 8])]
    mark = commits[-2] + 4
    assert (mark + 4) % SECTOR_BYTES, "the mark and what follows it lie in different sectors"
    last = range(commits[-2] + FRAME_BYTES, commits[-1] + FRAME_BYTES)

    def allowed(offset: int, damaged: bytes) -> Sequence[Data]:
        lost = 2 if not any(damaged[mark : mark + 4]) else offset in last
        return files.states[-1 - lost :]

    interesting = [*range(LOG_HEADER_BYTES), *(frame + at for frame in frames for at in range(24))]
    check_damage(files, WAL_NAME, damages_of(range(len(contents)), interesting), allowed)

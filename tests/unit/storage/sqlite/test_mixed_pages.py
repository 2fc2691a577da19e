"""A file whose pages are of different times, as a power cut leaves it if nothing is synced, is a state or refused."""

import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest

from kvs.adapters.storage.sqlite import compaction as compaction_module
from kvs.adapters.storage.sqlite.backup import back_up
from kvs.adapters.storage.sqlite.compaction import Compaction
from kvs.adapters.storage.sqlite.file import DATABASE_ERRORS, NAME, connect
from kvs.adapters.storage.sqlite.loader import Loader, check_structure
from kvs.adapters.storage.sqlite.schema import CorruptionError
from kvs.domain.values import Key, Value
from kvs.engine import StorageOpenError
from tests.faults.points import scratch_directory
from tests.support.journals import append
from tests.support.seeds import seeds

from .test_engine import compaction_by_hand

if TYPE_CHECKING:
    from kvs.adapters.storage.journal_writer import Row

pytestmark = pytest.mark.one_build

PAGE_BYTES = 4096
RECORDINGS = 6
STATES = 60
MIXES = 1500
IN_PART = "a commit is there in part"
WINDOW = 8
"""How many states the pages of one file are from: a later write of a page seldom comes long before an earlier one."""

Contents = dict[Key, Value]


class Recording:
    """The file after each transaction, and every state of the data.

    Attributes:
        files: The pages of the file after each of them.
        states: The data after each commit.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / NAME
        self.files: list[list[bytes]] = []
        self.states: list[Contents] = [{}]

    def take(self, *_: object) -> None:
        """Record the file as it is now."""
        with closing(connect(self._path, "off")) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        data = self._path.read_bytes()
        self.files.append([data[at : at + PAGE_BYTES] for at in range(0, len(data), PAGE_BYTES)])


def recorded(directory: Path, random: Random, monkeypatch: pytest.MonkeyPatch, *, compacts: bool) -> Recording:
    """Record commits of several rows each, and either a long journal, or clears and compactions in small slices."""
    recording = Recording(directory)
    monkeypatch.setattr(compaction_module, "SLICE_BYTES", 6 * compaction_module.ROW_COST_BYTES)
    monkeypatch.setattr(compaction_module, "SLICE_DROPPED_ROWS", 40)
    monkeypatch.setattr(Compaction, "_pause", recording.take)
    with compaction_by_hand(directory) as (journal, compaction):
        while len(recording.files) < STATES:
            clears = compacts and random.random() < 0.25
            data = {} if clears else dict(recording.states[-1])
            rows: list[Row] = [
                (b"key%02d" % random.randrange(40), random.choice([None, random.randbytes(random.randrange(700))]))
                for _ in range(random.randrange(2, 25) if not clears else random.choice([0, 1, 15]))
            ]
            append(journal, rows, clears=clears)
            for key, value in rows:
                data.pop(key, None)
                if value is not None:
                    data[key] = value
            recording.states.append(data)
            recording.take()
            if compacts and random.random() < 0.3:
                compaction.compact()
    return recording


def mixed(recording: Recording, random: Random) -> bytes:
    """Return a file whose pages are each of one of a few states in a row."""
    first = random.randrange(len(recording.files) - WINDOW)
    versions = recording.files[first : first + random.randrange(2, WINDOW + 1)]
    length = len(random.choice(versions))
    rate = random.choice([0.1, 0.5])  # of pages that are not of the last state
    pages = []
    for number in range(length):
        own = [version[number] for version in versions if number < len(version)]
        pages.append(own[-1] if random.random() > rate else random.choice(own))
    return b"".join(pages)


def read(path: Path) -> Contents:
    """Return the data in a file.

    Raises:
        CorruptionError: It is damaged.
    """
    data: Contents = {}
    with closing(sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)) as connection:
        for key, value in Loader().rows(connection):
            data.pop(key, None)
            if value is not None:
                data[key] = value
        check_structure(connection)
    return data


def refusal_of(path: Path, states: list[Contents]) -> str:
    """Return why a file is refused; empty if it is served, as one of the states."""
    try:
        data = read(path)
    except (CorruptionError, *DATABASE_ERRORS) as error:
        return str(error)
    assert data in states
    return ""


def is_backed_up(directory: Path, copy: Path, states: list[Contents]) -> bool:
    """Return whether an incomplete backup can be made, as one of the states."""
    with suppress(StorageOpenError):
        back_up(directory, copy, incomplete=True)
        assert read(copy / NAME) in states
        return True
    return False


@pytest.mark.draws
def test_pages_of_different_times_are_a_state_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never a commit in part, nor one without those before it; and a backup leaves out such a part."""
    refusals: list[str] = []
    backed_up = 0
    for seed in seeds(RECORDINGS):
        random = Random(seed)
        with scratch_directory() as directory:
            recording = recorded(directory, random, monkeypatch, compacts=seed % 3 > 0)
            (directory / "mixed").mkdir()
            for number in range(MIXES):
                (directory / "mixed" / NAME).write_bytes(mixed(recording, random))
                refusals.append(refusal_of(directory / "mixed" / NAME, recording.states))
                if IN_PART in refusals[-1]:
                    backed_up += is_backed_up(directory / "mixed", directory / f"copy{number}", recording.states)
    assert backed_up
    assert refusals.count("") > RECORDINGS * MIXES / 50
    for reason in (IN_PART, "commits are missing", "entries are missing or old"):
        assert any(reason in refusal for refusal in refusals), reason

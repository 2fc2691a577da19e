"""Any file of a data directory is damaged or lost: what is served is right, or nothing is and nothing changes."""

import json
import random
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Final

import pytest

from tests.faults.damages import Contents, Damage, Left, chance_damages, contents_of, losses, plain_damages, violation
from tests.faults.disk import boot_anew
from tests.faults.points import scratch_directory
from tests.faults.scale import FULL_SCALE, full_scale_has_time
from tests.faults.server import TIMEOUT_S, ServerProcess
from tests.support.seeds import SEED

pytestmark = full_scale_has_time

SAMPLE: Final = 30
"""Damages at any place, for each directory, in an ordinary run."""

FULL_SAMPLE: Final = 20_000
KEYS: Final = 60


class Author:
    """Has random puts and deletes stored, and keeps what was acknowledged."""

    def __init__(self) -> None:
        self.data: dict[bytes, bytes] = {}
        self._random = random.Random(1)

    def write(self, server: ServerProcess, commits: int) -> None:
        """Have commits made, some of several keys, each acknowledged before the next."""
        with socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S) as sock, sock.makefile("rb") as replies:
            for _ in range(commits):
                writes = {self._key(): self._value() for _ in range(self._random.randrange(1, 4))}
                lines = [b"START", *map(_line, writes, writes.values()), b"COMMIT"]
                sock.sendall(b"".join(line + b"\n" for line in lines))
                for _ in lines:
                    assert json.loads(replies.readline())["status"] == "Ok"
                for key, value in writes.items():
                    self.data.pop(key, None) if value is None else self.data.update({key: value})

    def _key(self) -> bytes:
        return b"key/%d" % self._random.randrange(KEYS)

    def _value(self) -> bytes | None:
        if self._random.random() < 0.2:
            return None
        return self._random.randbytes(self._random.choice((10, 200, 3000))).hex().encode()


def _line(key: bytes, value: bytes | None) -> bytes:
    return b"DEL " + key if value is None else b"PUT %b %b" % (key, value)


def run(directory: Path, author: Author, commits: int, *, killed: bool, durability: str = "full") -> Contents:
    """Run a server for some commits; return what it leaves."""
    with ServerProcess(directory, "--storage-option", f"durability={durability}") as server:
        assert server.listens(), server.other_lines
        author.write(server, commits)
        if killed:
            server.kill()
            server.wait_exit()
        else:
            assert server.stop() == 0
    return contents_of(directory)


def closed(directory: Path) -> Left:
    """Leave a directory that was closed in an orderly way, three times."""
    author = Author()
    older = [run(directory, author, commits, killed=False) for commits in (10, 30)]
    return Left("closed", run(directory, author, 20, killed=False), older, author.data)


def killed_first(directory: Path) -> Left:
    """Leave a directory of the very first server, killed: all there is is in the log."""
    author = Author()
    return Left("killed", run(directory, author, 25, killed=True), [], author.data)


def killed_later(directory: Path) -> Left:
    """Leave a directory in which a server was killed that had gone on with what others had left, killed and closed."""
    author = Author()
    older = [run(directory, author, 30, killed=killed) for killed in (False, True)]
    return Left("killed later", run(directory, author, 30, killed=True), older, author.data)


def killed_unsynced(directory: Path) -> Left:
    """Leave one in which a server was killed that leaves the syncs to time, or to the system."""
    author = Author()
    older = [run(directory, author, 30, killed=True, durability="off")]
    files = run(directory, author, 30, killed=True, durability="normal")
    return Left("killed, durability normal", files, older, author.data, "normal")


def powerless(directory: Path) -> Left:
    """Leave one whose machine lost power when everything had been synced."""
    left = killed_later(directory)
    boot_anew(directory)
    return replace(left, how="power cut", files=contents_of(directory))


@pytest.fixture(scope="module", params=[closed, killed_first, killed_later, killed_unsynced, powerless])
def left(request: pytest.FixtureRequest) -> Iterator[Left]:
    """Return what a server has left; how it ended is varied."""
    with scratch_directory() as directory:
        yield request.param(directory / "data")


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Return a directory in memory."""
    with scratch_directory() as directory:
        yield directory


def wrong(left: Left, damages: Iterator[Damage], scratch: Path) -> list[str]:
    """Return what is wrong in each case."""
    found = (violation(left, damage, scratch / str(number)) for number, damage in enumerate(damages))
    return [told for told in found if told is not None]


def expect_none(found: list[str]) -> None:
    """Fail if anything is wrong, and say what."""
    assert not found, "\n".join([f"{len(found)} are wrong", *found[:20]])


def test_without_damage(left: Left, scratch: Path) -> None:
    """What was acknowledged is served, and verify finds nothing."""
    refused = Left(left.how, left.files, (), {b"what nobody": b"has stored"}, left.durability)
    assert violation(left, Damage("none", {}), scratch / "right") is None
    assert "is not what was acknowledged" in (violation(refused, Damage("none", {}), scratch / "wrong") or "")


def test_damaged_in_every_way(left: Left, scratch: Path) -> None:
    """Each file is empty, zeroed, cut to half, or as it was earlier."""
    expect_none(wrong(left, plain_damages(left), scratch))


def test_lost(left: Left, scratch: Path) -> None:
    """Any files are missing, whichever they are."""
    expect_none(wrong(left, losses(left), scratch))


def test_damaged_anywhere(left: Left, scratch: Path) -> None:
    """Each file is cut, zeroed, overwritten or flipped at generated places."""
    damages = chance_damages(left, random.Random(f"{SEED} {left.how}"))
    expect_none(wrong(left, islice(damages, FULL_SAMPLE if FULL_SCALE else SAMPLE), scratch))


# The tests of the test.


@pytest.fixture(scope="module")
def two_lefts() -> Iterator[list[Left]]:
    """Return what a server has left that was closed, and one that was killed."""
    with scratch_directory() as directory:
        yield [make(directory / make.__name__) for make in (closed, killed_later)]


@pytest.mark.parametrize(
    ("name", "planted"),
    [
        ("inspection.require_all", lambda *_: None),
        ("inspection.require_same", lambda *_, **__: None),
        ("inspection.read_mark", lambda _: None),
        ("inspection.Inspection.connect", lambda self: sqlite3.connect(self.path, check_same_thread=False)),
        ("engine.inspected", lambda *_, **__: nullcontext(None)),
    ],
)
def test_what_is_left_out_would_be_found(
    monkeypatch: pytest.MonkeyPatch, two_lefts: list[Left], scratch: Path, name: str, planted: Callable[..., object]
) -> None:
    """Without any one of the things that notice, or that keep a refused start from leaving traces."""
    monkeypatch.setattr(f"kvs.adapters.storage.sqlite.{name}", planted)
    for left in two_lefts:
        damages = [*plain_damages(left), *losses(left), *islice(chance_damages(left, random.Random(1)), SAMPLE)]
        if any(wrong(left, iter([damage]), scratch) for damage in damages):
            return
    pytest.fail("nothing is found")

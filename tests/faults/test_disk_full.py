"""A disk that is really full: a small file system of its own, filled under load, then made larger."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.faults.ledger import Progress
from tests.faults.points import HISTORY, SCRIPT
from tests.faults.recovery import recover
from tests.faults.server import Players, ServerProcess

FULL: Final = "database or disk is full"
SIZES: Final = ("512k", "1m", "1500k")
"""With the smallest the first commits do not fit, with the largest the database, its log and some of what is folded do;
all of the script would take more than twice as much."""


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """Return where a file system of the given size is mounted."""
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={request.param}", "kvs-test", str(path)]
    try:
        outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if outcome.returncode:
        pytest.skip(f"nothing can be mounted here: {outcome.stderr.strip()}")
    yield path
    subprocess.run(["umount", str(path)], check=True)


@pytest.mark.parametrize("small_disk", SIZES, indirect=True)
def test_filled_under_load(small_disk: Path) -> None:
    """The server says which file could not be written and why, and stops; with more room everything goes on."""
    directory = small_disk / "data"
    progress = Progress(HISTORY)
    with ServerProcess(directory) as server:
        assert server.wait_for("listening")
        with Players(server, progress) as players:
            assert not players.play(SCRIPT), "the disk is not small enough"
        assert server.wait_exit() == 1
        (failure,) = server.events("sync_failed")
        assert str(directory / "kvs.db") in failure["reason"]
        assert FULL in failure["reason"]
        assert not server.other_lines
    with ServerProcess(directory) as server:
        if not server.wait_for("listening"):  # it may start on a full disk, or refuse to
            assert server.wait_exit() == 1
            (line,) = server.other_lines
            assert str(directory) in line
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    with ServerProcess(directory) as server:
        assert server.wait_for("listening"), server.other_lines
        assert server.stop() == 0
    assert HISTORY.objection(recover(directory, use=True), progress.acknowledged) is None

"""Ctrl-C at any moment of a command: no traceback, wherever it comes.

The moments are counted in calls of functions, and so the same in every run. In a callback of a weak reference, such as
the import of a module has, Python prints an exception and goes on as if nothing had happened.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from tests.support.dumps import dump_of, environment, run_kvs
from tests.support.harness import TIMEOUT_S

from .conftest import FULL_SCALE

pytestmark = pytest.mark.one_build

MOMENTS: Final = 20 if FULL_SCALE else 3
"""For each command, in equal distances. Each command has others: most of what they do is to import the same modules."""

PROGRAM: Final = """
import os, sys
at, only, calls = int(sys.argv.pop(1)), sys.argv.pop(1), 0

def count(frame, event, argument):
    global calls
    code = frame.f_code
    if event != "call" or (only and not (code.co_name == only and "importlib" in code.co_filename)):
        return
    calls += 1
    if calls == at:
        sys.setprofile(None)
        os.kill(os.getpid(), 2)

from kvs.__main__ import main
try:
    sys.setprofile(count)
    main()
finally:
    sys.setprofile(None)
    if not at:
        print("calls:", calls, file=sys.stderr)
"""

COMMANDS: Final = {
    "version": ("--version",),
    "help": ("--help",),
    "config": ("config", "--config", "kvs.toml"),
    "engines": ("engines",),
    "verify": ("verify", "data"),
    "backup": ("backup", "data", "copy"),
    "dump": ("dump", "--data-dir", "data", "dumped"),
    "load": ("load", "--data-dir", "data", "dump"),
    "serve": ("--config", "kvs.toml", "--data-dir", "data", "--host", "192.0.2.1"),  # where it cannot listen
}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with what the commands need."""
    directory = tmp_path_factory.mktemp("filled")
    (directory / "kvs.toml").write_text("port = 4100\n", encoding="utf-8")
    (directory / "dump").write_bytes(dump_of({b"%d" % number: b"v" for number in range(10)}))
    assert run_kvs("load", "--data-dir", str(directory / "data"), str(directory / "dump")).returncode == 0
    return directory


@pytest.fixture
def directory(filled: Path, tmp_path: Path) -> Path:
    """Return a copy of that directory."""
    return Path(shutil.copytree(filled, tmp_path / "copy"))


def interrupted(
    directory: Path, at: int, arguments: Sequence[str], only: str = ""
) -> "subprocess.CompletedProcess[str]":
    """Run a command, and send it SIGINT in this call, the first being that of main; or only in calls of an import."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(at), only, *arguments],
        cwd=directory,
        env=environment() | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


@pytest.mark.parametrize("only", ["", "cb"])
@pytest.mark.parametrize("name", COMMANDS)
def test_ctrl_c_at_any_moment(directory: Path, name: str, only: str) -> None:
    """The command ends without a word, or says that it was interrupted, or has done what it had to do."""
    whole = interrupted(directory, 0, COMMANDS[name], only)
    total = int(whole.stderr.rpartition("calls: ")[2])
    offset = (1 + list(COMMANDS).index(name)) / (1 + len(COMMANDS))
    for at in [2, *(int(total * (part + offset) / MOMENTS) for part in range(MOMENTS)), total]:
        for left in directory.glob("copy/*"):
            left.unlink()
        ran = interrupted(directory, at, COMMANDS[name], only)
        said = f"in call {at} of {total}: {ran.returncode}: {ran.stderr}"
        assert "Traceback" not in ran.stderr, said
        assert "Exception ignored" not in ran.stderr, said
        interruption = "interrupted" in ran.stderr if name != "serve" else False
        assert ran.returncode in (-signal.SIGINT, 1 if interruption else 0, whole.returncode), said
    assert not list(directory.glob(".dumped*"))

"""Commands whose standard output or standard error cannot be written: one line, exit code 1, no traceback.

Every command of the command line is run, with arguments that make it print. All print their help in the same way, so
that of each is tried with one stream, and that of one with all.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from kvs.cli.main import COMMANDS
from tests.support.harness import TIMEOUT_S, run_to_end

pytestmark = pytest.mark.one_build

PRINTING: Final[dict[str, tuple[str, ...]]] = {
    "config": (),
    "engines": (),
    "verify": ("data",),
    "backup": ("data", "copy"),
    "dump": ("--data-dir", "data"),
    "users": ("token",),
}
"""Arguments of commands that print something, but for their help."""

SILENT: Final = {"serve", "load"}
"""Commands that print nothing to standard output but their help."""

OF_SERVERS: Final = {"cluster", "ping"}
"""Commands that need etcd or a server to print more than their help."""

RUNS: Final = {
    **{name: (name, *arguments) for name, arguments in PRINTING.items()},
    "dump --help": ("dump", "--help"),
    "--help": ("--help",),
    "--version": ("--version",),
    "engines memory": ("engines", "memory"),
}

HELPS: Final[dict[str, tuple[str, ...]]] = {f"{name} --help": (name, "--help") for name in COMMANDS}
"""The help of each command."""

every_run = pytest.mark.parametrize("run_name", RUNS)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data directory with one key in it."""
    directory = tmp_path_factory.mktemp("data")
    dump = directory / "dump"
    dump.write_text('{"key":"a","value":"1"}\n', encoding="utf-8")
    ran = run_to_end("load", "--data-dir", str(directory / "data"), str(dump))
    assert ran.returncode == 0, ran.stderr
    return directory / "data"


def run(
    name: str, redirected: str, data_dir: Path, tmp_path: Path, **streams: int
) -> "subprocess.CompletedProcess[bytes]":
    """Run a command in a shell that redirects its streams."""
    places = {"data": str(data_dir), "copy": str(tmp_path / "copy")}
    arguments = [places.get(argument, argument) for argument in (RUNS | HELPS)[name]]
    env = {name: value for name, value in os.environ.items() if not name.startswith("KVS_")}
    return subprocess.run(
        ["/bin/sh", "-c", f'"$@" {redirected}', "sh", sys.executable, "-m", "kvs", *arguments],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=streams.get("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        timeout=TIMEOUT_S,
        check=False,
    )


def test_every_command_is_run() -> None:
    """One that is new has to be named here."""
    assert COMMANDS.keys() == PRINTING.keys() | SILENT | OF_SERVERS


@pytest.mark.parametrize("run_name", RUNS | HELPS)
@pytest.mark.parametrize(("redirected", "reason"), [(">/dev/full", "No space left on device"), (">&-", "it is closed")])
def test_output_that_cannot_be_written(
    run_name: str, redirected: str, reason: str, data_dir: Path, tmp_path: Path
) -> None:
    """The reason is given in one line, and the exit code is 1."""
    ran = run(run_name, redirected, data_dir, tmp_path)
    assert ran.returncode == 1
    (line,) = ran.stderr.decode().splitlines()
    assert line.startswith("kvs: ")
    assert line.endswith(f"cannot be written: {reason}")


@every_run
def test_output_that_nobody_reads(run_name: str, data_dir: Path, tmp_path: Path) -> None:
    """As with ``kvs config | head -0``: exit code 1, and not a word."""
    reading, writing = os.pipe()
    os.close(reading)
    ran = run(run_name, "", data_dir, tmp_path, stdout=writing)
    os.close(writing)
    assert (ran.returncode, ran.stderr) == (1, b"")


def test_names_in_no_encoding(tmp_path: Path) -> None:
    """A directory may be called by any bytes; what cannot be written as it is, is escaped."""
    env = {"PYTHONIOENCODING": "utf-8:strict", "KVS_DATA_DIR": str(tmp_path / os.fsdecode(b"\xff"))}
    ran = run_to_end("config", env=env)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert f"{tmp_path}/\\udcff" in ran.stdout


@every_run
@pytest.mark.parametrize("redirected", ["2>/dev/full", "2>&-", "<&- 2>&-"])
def test_errors_that_cannot_be_written(run_name: str, redirected: str, data_dir: Path, tmp_path: Path) -> None:
    """A command that succeeds does not mind."""
    ran = run(run_name, redirected, data_dir, tmp_path)
    assert ran.returncode == 0
    assert ran.stdout


@every_run
@pytest.mark.parametrize("redirected", [">/dev/full 2>/dev/full", ">&- 2>&-"])
def test_nothing_can_be_written(run_name: str, redirected: str, data_dir: Path, tmp_path: Path) -> None:
    """The exit code is what is left."""
    assert run(run_name, redirected, data_dir, tmp_path).returncode == 1


@pytest.mark.parametrize("redirected", ["2>/dev/full", "2>&-", ">&- 2>&-"])
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--no-such-flag"], 2),
        (["--port", "99999"], 2),
        (["--host", "192.0.2.1", "--port", "0", "--protected-mode", "false"], 1),
        (["verify", "x"], 1),
    ],
    ids=["usage", "setting", "address", "directory"],
)
def test_failures_that_cannot_be_told(arguments: list[str], code: int, redirected: str) -> None:
    """The exit code is that of the failure."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("KVS_")}
    command = ["/bin/sh", "-c", f'"$@" {redirected}', "sh", sys.executable, "-m", "kvs", *arguments]
    assert subprocess.run(command, env=env, stdin=subprocess.DEVNULL, timeout=TIMEOUT_S, check=False).returncode == code

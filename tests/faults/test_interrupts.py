"""Signals at every place of a start: after each file that is opened, and after each read of the database."""

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from tests.faults.scale import FULL_SCALE
from tests.support.seeds import SEED

SAMPLE: Final = 12
TIMEOUT_S: Final = 60.0
KVS: Final = (sys.executable, "-m", "kvs")
ENVIRONMENT: Final = {name: value for name, value in os.environ.items() if not name.startswith("KVS_")}

pytestmark = pytest.mark.usefixtures("strace")


def recorded(output: Path, call: str, flags: Sequence[str], command: Sequence[str]) -> list[str]:
    """Run a command that stops at once, or is told to when it listens; return its main thread's calls of a name."""
    tracing = ["strace", "-qqq", "-s", "1000", "-o", str(output), "-e", f"trace={call}", *flags]
    with subprocess.Popen(
        [*tracing, *command], env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if '"listening"' in line:
                pid = int(re.findall(r"\d+", Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())[0])
                os.kill(pid, 15)
        assert process.wait(TIMEOUT_S) == 0
    return [line for line in output.read_text(encoding="utf-8", errors="replace").splitlines() if line.startswith(call)]


def interrupted(call: str, number: int, name: str, flags: Sequence[str], command: Sequence[str]) -> tuple[int, str]:
    """Run a command whose main thread gets a signal at a call; return its exit code and what it said."""
    inject = f"inject={call}:signal={name}:when={number}"
    tracing = ["strace", "-D", "-qqq", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject, *flags]
    ran = subprocess.run(
        [*tracing, *command],
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return ran.returncode, ran.stderr


def some_of(numbers: range) -> list[int]:
    """Return all of them at full scale, else some, the first among them."""
    if FULL_SCALE or len(numbers) <= SAMPLE:
        return list(numbers)
    return [numbers[0], *sorted(random.Random(SEED).sample(numbers[1:], SAMPLE - 1))]


@pytest.mark.parametrize(
    "arguments", [["config"], ["engines"], ["--port", "0", "--log-format", "json"]], ids=lambda a: a[0]
)
def test_ctrl_c_shows_no_traceback(tmp_path: Path, arguments: list[str]) -> None:
    """From the first module of kvs that is imported on, up to the end; a server ends in an orderly way at last.

    Before that, the interpreter starts, and nothing of ours is there to do anything about it.
    """
    command = [*KVS, *arguments]
    subprocess.run([*KVS, "--version"], env=ENVIRONMENT, stdout=subprocess.DEVNULL, check=True)  # so that all is cached
    calls = recorded(tmp_path / "calls", "openat", [], command)
    first = next(at for at, call in enumerate(calls, 1) if "/kvs/cli/" in call)
    for number in some_of(range(first, len(calls) + 1)):
        code, said = interrupted("openat", number, "INT", [], command)
        assert "Traceback" not in said, (number, calls[number - 1], said)
        assert code in (-2, 0, 1), (number, calls[number - 1], said)
        if code == 0 and arguments[0] == "--port":
            assert [json.loads(line)["event"] for line in said.splitlines()][-2:] == ["stopping", "stopped"], said


def test_loading_a_database_is_stopped(tmp_path: Path) -> None:
    """Wherever the signal comes while the file is read, the end is orderly, and the directory undamaged."""
    directory = tmp_path / "data"
    entries = "".join(f'{{"key": "k{number}", "value": "{"x" * 1000}"}}\n' for number in range(2000))
    load = [*KVS, "load", "--data-dir", str(directory)]
    subprocess.run(load, input=entries, env=ENVIRONMENT, text=True, capture_output=True, check=True)
    command = [*KVS, "--port", "0", "--log-format", "json", "--data-dir", str(directory)]
    flags = ["-P", str(directory / "kvs.db")]
    calls = recorded(tmp_path / "calls", "pread64", flags, command)
    assert len(calls) > SAMPLE
    for number in some_of(range(1, len(calls) + 1)):
        code, said = interrupted("pread64", number, "TERM", flags, command)
        assert code == 0, (number, said)
        events = [json.loads(line)["event"] for line in said.splitlines()]
        assert events[-2:] == ["stopping", "stopped"], (number, said)
    subprocess.run([*KVS, "verify", str(directory)], env=ENVIRONMENT, stdout=subprocess.DEVNULL, check=True)

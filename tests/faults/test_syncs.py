"""What is synced, as the kernel is told, where no loss of power is played through."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.harness import polling

OPEN_AND_WAIT = """
import sys
from kvs.engines import open_storage
from kvs.config import Given, Settings
from kvs.logs import make_logger
options = {"durability": Given(sys.argv[2], "test")}
with open_storage(Settings(storage="sqlite", data_dir=sys.argv[1]), options, make_logger("error", "json")) as storage:
    storage.put(b"k", b"v")
    storage.sync()
    print("synced", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("durability", ["full", "normal"])
def test_synced_by_python(strace: None, tmp_path: Path, durability: str) -> None:
    """The name of every directory that is made; and if commits do not wait for it, soon, the log of what they wrote."""
    record = tmp_path / "record"
    command = ["strace", "-f", "-y", "-e", "trace=fsync", "-o", str(record)]
    with subprocess.Popen(
        [*command, sys.executable, "-c", OPEN_AND_WAIT, str(tmp_path / "a" / "b" / "c"), durability],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"synced\n"
        if durability == "normal":
            for _ in polling("the log is synced"):
                if "kvs.db-wal>" in record.read_text():
                    break
        process.communicate()
        assert process.returncode == 0
    synced = [Path(name) for name in re.findall(r"fsync\(\d+<([^>]+)>", record.read_text())]
    assert {tmp_path, tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a" / "b" / "c"} <= set(synced)
    assert (tmp_path / "a" / "b" / "c" / "kvs.db-wal" in synced) == (durability == "normal")

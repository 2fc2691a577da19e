"""The client of Node.js: what it does with Redis it does with kvs."""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeAlias

import pytest

from tests.interop.conftest import missing, program
from tests.support.harness import TIMEOUT_S, Client

Address: TypeAlias = tuple[str, int]

PACKAGE: Final = "redis@5.8.2"
"""The one that these conversations were written for; it runs with Node.js 18 and newer."""

SCRIPT: Final = Path(__file__).parent / "node_client.js"

CONVERSATIONS: Final = re.findall(r"^  async (\w+)\(", SCRIPT.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.fixture(scope="session")
def directory() -> Iterator[str]:
    """Return where the package has been installed, for this session only and only if it is asked for."""
    if os.environ.get("TEST_CLIENTS") != "required":
        pytest.skip(f"{PACKAGE} is installed with TEST_CLIENTS=required only")
    program("node")
    with tempfile.TemporaryDirectory(prefix="kvs-test-") as directory:
        command = [
            program("npm"),
            "install",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            "--prefix",
            directory,
            PACKAGE,
        ]
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=100, check=False)
        if done.returncode:
            missing(f"{PACKAGE} cannot be installed: {done.stderr}")
        yield directory


@pytest.mark.parametrize("version", ["2", "3"])
@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_conversation(directory: str, address: Address, conversation: str, version: str) -> None:
    """What is asserted is in the script."""
    command = [program("node"), str(SCRIPT), directory, str(address[1]), version, conversation]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
    with Client(*address) as line:
        assert line.ask("COUNT")["result"] > 0 or conversation == "clients"


def test_there_are_conversations() -> None:
    """They are read out of the script."""
    assert len(CONVERSATIONS) == 9

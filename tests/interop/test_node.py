"""Node.js: what its client and the programs upon it do with Redis they do with kvs."""

import re
import subprocess
from pathlib import Path
from typing import Final, TypeAlias

import pytest

from tests.interop.conftest import program
from tests.support.harness import TIMEOUT_S, Client

Address: TypeAlias = tuple[str, int]

CLIENT: Final = Path(__file__).with_name("node_client.js")
PROGRAMS: Final = Path(__file__).with_name("node_programs.js")


def conversations_in(script: Path) -> list[str]:
    """Return the names of what a script can be asked to do."""
    return re.findall(r"^  async (\w+)\(", script.read_text(encoding="utf-8"), re.MULTILINE)


def talk(script: Path, directory: Path, address: Address, version: str, *conversations: str) -> None:
    """Have a script do something, one after the other in one process; what is asserted is in the script."""
    command = [program("node"), str(script), str(directory), str(address[1]), version, *conversations]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, [*conversations], "")


@pytest.mark.parametrize("version", ["2", "3"])
def test_conversations(node_packages: Path, address: Address, version: str) -> None:
    """With the client alone, in both versions of the protocol."""
    talk(CLIENT, node_packages, address, version, *conversations_in(CLIENT))
    with Client(*address) as line:
        assert line.ask("COUNT")["result"] > 0


@pytest.mark.parametrize("version", ["2", "3"])
def test_programs(node_packages: Path, address: Address, version: str) -> None:
    """connect-redis with express-session, @keyv/redis, cache-manager; and what is kept expires."""
    talk(PROGRAMS, node_packages, address, version, *conversations_in(PROGRAMS))


def test_there_are_conversations() -> None:
    """They are read out of the scripts."""
    assert len(conversations_in(CLIENT)) == 9
    assert len(conversations_in(PROGRAMS)) == 4

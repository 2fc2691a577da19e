"""``kvs users``: what it prints is what a users file takes, and no secret is shown."""

import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from kvs.application.secret_hashes import hash_token, is_password

pytestmark = pytest.mark.one_build

TIMEOUT_S: Final = 60
COMMAND: Final = (sys.executable, "-m", "kvs", "users")


def run(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*COMMAND, *arguments], input=given, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


def test_the_hash_of_a_file(tmp_path: Path) -> None:
    """Without the newline at its end."""
    path = tmp_path / "password"
    path.write_text("secret\n")
    ran = run("hash", str(path))
    assert ran.stderr == ""
    assert is_password(b"secret", ran.stdout.removesuffix("\n"))


def test_the_hash_of_standard_input() -> None:
    """A pipe."""
    assert is_password(b"secret", run("hash", given="secret\n").stdout.removesuffix("\n"))


def test_nothing_has_no_hash() -> None:
    """It is a mistake."""
    ran = run("hash", given="\n")
    assert (ran.returncode, ran.stdout, ran.stderr) == (2, "", "kvs: password: /dev/stdin is empty\n")


def test_a_terminal_is_asked_twice_and_shows_nothing() -> None:
    """The hash goes to standard output alone."""
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen([*COMMAND, "hash"], stdin=theirs, stdout=subprocess.PIPE, stderr=theirs) as process:
            seen = b""
            for prompt in (b"Password: ", b"Again: "):
                while prompt not in seen:
                    seen += os.read(ours, 1000)
                os.write(ours, b"secret\n")
            output, _ = process.communicate(timeout=TIMEOUT_S)
    finally:
        os.close(theirs)
        os.close(ours)
    assert is_password(b"secret", output.decode().removesuffix("\n"))
    assert b"secret" not in seen


def test_a_token_and_its_hash() -> None:
    """Another one each time."""
    words = run("token").stdout.split()
    assert words[0::2] == ["token", "sha256"]
    assert words[3] == hash_token(words[1].encode())
    assert run("token").stdout.split()[1] != words[1]


def test_a_file_is_checked(tmp_path: Path) -> None:
    """As a server does; commands of both protocols are known."""
    path = tmp_path / "users.toml"
    path.write_text("[users.tom]\ngrants = [{ allow = ['count', 'SET', 'client|id'] }]\n[users.ann]\nenabled = false\n")
    assert run("check", str(path)).stdout == "ann (off)\ntom\n"
    path.write_text("[users.tom]\ngrants = [{ allow = ['gett'] }]\n")
    ran = run("check", str(path))
    assert ran.returncode == 2
    assert ran.stderr == f"kvs: users_file: {path}: user 'tom': grant 1: there is no command 'gett'\n"

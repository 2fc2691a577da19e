"""The unit of systemd: that it is taken, what it leaves to an intruder, and that a server can live with it."""

import os
import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Final

import pytest

from kvs.sources import SECRETS
from tests.support.harness import OK, TIMEOUT_S, Server

from .files import DEPLOY, check_command, check_settings_file

UNIT: Final = DEPLOY / "systemd" / "kvs.service"
MAX_EXPOSURE: Final = 1.5

PROGRAM: Final = "systemd-analyze"
needs_systemd = pytest.mark.skipif(shutil.which(PROGRAM) is None, reason=f"no {PROGRAM} here")


def directives() -> dict[str, list[str]]:
    """Return the values of each directive of the unit, in their order."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def analyze(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run systemd-analyze."""
    return subprocess.run(
        [PROGRAM, "--no-pager", *arguments], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


@pytest.mark.one_build
def test_it_runs_kvs_with_settings_that_there_are(tmp_path: Path) -> None:
    """With a file of settings beside it."""
    (command,) = directives()["ExecStart"]
    check_command(UNIT.name, shlex.split(command))
    settings = UNIT.with_name("kvs.toml")
    check_settings_file(settings.name, settings.read_text(encoding="utf-8"), tmp_path)
    assert f"/etc/kvs/{settings.name}" in command


@pytest.mark.one_build
def test_its_credentials_are_secrets_of_settings() -> None:
    """All of those that the server finds by itself."""
    names = [value.partition(":")[0] for value in directives()["LoadCredential"]]
    assert names == list(SECRETS)


@pytest.mark.one_build
@needs_systemd
def test_systemd_takes_it(tmp_path: Path) -> None:
    """Once its program is there."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text(encoding="utf-8").replace("/opt/kvs/bin/kvs", "/bin/true"), encoding="utf-8")
    verified = analyze("verify", "--man=no", str(unit))
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")


@pytest.mark.one_build
@needs_systemd
def test_what_it_leaves_to_an_intruder() -> None:
    """Little, in the scale of systemd, from 0 to 10."""
    analyzed = analyze("security", "--offline=true", f"--threshold={MAX_EXPOSURE * 10:.0f}", str(UNIT))
    assert analyzed.returncode == 0, analyzed.stdout


def allowed_calls() -> set[str]:
    """Return the system calls that the unit allows."""
    listed = analyze("syscall-filter").stdout
    groups: dict[str, list[str]] = {}
    for line in listed.splitlines():
        if line.startswith("@"):
            groups[line.strip()] = group = []
        elif line.startswith("    ") and not line.strip().startswith("#"):
            group.append(line.strip())

    def calls(names: list[str]) -> set[str]:
        found: set[str] = set()
        for name in names:
            found |= calls(groups[name]) if name.startswith("@") else {name}
        return found

    allowed: set[str] = set()
    for value in directives()["SystemCallFilter"]:
        if value.startswith("~"):
            allowed -= calls(value[1:].split())
        else:
            allowed |= calls(value.split())
    return allowed


@pytest.mark.servers
@needs_systemd
def test_a_server_can_live_with_it(tmp_path: Path) -> None:
    """With the system calls that are left, without memory that can be written and run, and with these sockets."""
    if shutil.which("strace") is None:
        pytest.skip("no strace here")
    trace = tmp_path / "trace"
    data, audit = tmp_path / "data", tmp_path / "audit"
    limits = directives()["LimitNOFILE"][0]
    before = ("strace", "-f", "-qq", "-s", "0", "-o", str(trace))
    flags = ("--storage", "sqlite", "--data-dir", str(data), "--audit-log", str(audit), "--host", "localhost")
    with Server(*flags, before=before, open_files=("-Sn", limits) if _allows(int(limits)) else ()) as server:
        client = server.connect()
        assert client.ask("PUT a 1") == OK
        child = int(Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text("ascii").split()[0])
        os.kill(child, signal.SIGHUP)
        server.wait_for("reloaded")
        client.close()
        server.wait_left(client)
        os.kill(child, signal.SIGTERM)
        assert server.wait_exit() == 0
    text = trace.read_text(encoding="utf-8", errors="replace")
    calls = set(re.findall(r"^\d+ +(\w+)\(", text, re.MULTILINE))
    allowed = allowed_calls()
    assert {"fdatasync", "epoll_wait", "accept4"} & calls
    assert {"read", "clone3", "fsync"} <= allowed
    refused = calls - allowed
    if os.geteuid() == 0:
        refused.discard("fchown")  # SQLite's, as root only, which the unit's user is not
    if not _allows(int(limits)):
        refused -= {"setrlimit", "prlimit64"}
    assert not refused
    executable = [line for line in text.splitlines() if "PROT_EXEC" in line]
    assert executable
    assert not [line for line in executable if "PROT_WRITE" in line or "mprotect" in line]
    families = set(re.findall(r"socket\((\w+)", text))
    assert {"AF_INET"} <= families <= set(directives()["RestrictAddressFamilies"][0].split())


def _allows(open_files: int) -> bool:
    """Return whether the limit on open files may be raised to what the unit gives."""
    import resource  # noqa: PLC0415  # Unix only

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return hard == resource.RLIM_INFINITY or hard >= open_files

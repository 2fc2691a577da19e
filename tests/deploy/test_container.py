"""The container: what its file says, and a server that runs as in one, in namespaces of its own."""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.documents.commands import check_install
from tests.documents.markdown import ROOT
from tests.support.harness import TIMEOUT_S, Server, polling

from .containerfile import environment, stages, texts, words
from .files import DEPLOY, check_command, check_environment, check_settings_file

SETTINGS: Final = DEPLOY / "container" / "kvs.toml"
UID: Final = "10001"


@pytest.mark.one_build
def test_the_file(tmp_path: Path) -> None:
    """It builds from what there is, and runs kvs without rights, on one volume, with a check of its health."""
    settings = check_settings_file(SETTINGS.name, SETTINGS.read_text(encoding="utf-8"), tmp_path)
    build, run = stages()
    for stage in (build, run):
        assert texts(stage, "FROM")[0].startswith("docker.io/library/python:3.13-slim")
    copied = [text for text in texts(build, "COPY") + texts(run, "COPY") if not text.startswith("--from=build ")]
    for text in copied:
        *sources, _ = text.split()
        for source in sources:
            assert (ROOT / source).exists()
            assert f"!{source.removeprefix('./')}" in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    check_environment("ENV", environment(build) | environment(run))
    assert texts(run, "USER") == [f"{UID}:{UID}"]
    assert texts(run, "VOLUME") == [settings.data_dir]
    assert texts(run, "EXPOSE") == [str(settings.port)]
    assert f"{SETTINGS.relative_to(ROOT)} {environment(run)['KVS_CONFIG']}" in copied
    entry = words(run, "ENTRYPOINT")
    check_command("ENTRYPOINT", [*entry, *words(run, "CMD")])
    check_command("HEALTHCHECK", words(run, "HEALTHCHECK"))
    (installs,) = re.findall(r"install --no-cache-dir (\S+)", texts(build, "RUN")[1])
    check_install("deploy/container/Containerfile", [installs.strip('"')])
    assert texts(run, "STOPSIGNAL") == ["SIGTERM"]
    order = [instruction.word for instruction in run]
    assert order.index("USER") > max(at for at, word in enumerate(order) if word == "RUN")


@pytest.fixture
def contained(tmp_path: Path) -> tuple[str, ...]:
    """Return what to put before a command to run it as in a container, with one writable directory."""
    volume = tmp_path / "volume"
    volume.mkdir()
    command = [
        *("bwrap", "--unshare-user", "--uid", UID, "--gid", UID, "--unshare-pid", "--as-pid-1", "--unshare-ipc"),
        *("--cap-drop", "ALL", "--die-with-parent", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"),
        *("--bind", str(volume), str(volume), "--chdir", str(volume)),
    ]
    if shutil.which("bwrap") is None:
        pytest.skip("no bubblewrap here")
    ran = subprocess.run([*command, "true"], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if ran.returncode:
        pytest.skip(f"no namespaces here: {ran.stderr.strip()}")
    return tuple(command)


def children_of(pid: int) -> list[int]:
    """Return the children of a process, also those that have ended and are not buried."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


@pytest.mark.servers
def test_a_server_as_in_a_container(contained: tuple[str, ...], tmp_path: Path) -> None:
    """It is process 1, has no rights, writes to its volume only, buries orphans, and keeps its data."""
    env = environment(stages()[1]) | {"PATH": os.environ["PATH"], "KVS_CONFIG": str(SETTINGS)}
    env |= {"KVS_HOST": "127.0.0.1", "KVS_DATA_DIR": str(tmp_path / "volume")}
    for stored in (False, True):
        with Server(before=contained, env=env) as server:
            client = server.connect()
            (inner,) = children_of(server.pid)
            status = Path(f"/proc/{inner}/status").read_text(encoding="ascii")
            lines = dict(line.split(":\t", 1) for line in status.splitlines())
            assert lines["NSpid"].split()[-1] == "1"
            assert int(lines["CapEff"], 16) == 0
            assert client.ask("GET a").get("result") == ("1" if stored else None)
            client.ok("PUT a 1")
            bury_orphan(inner)
            client.close()
            server.wait_left(client)
            os.kill(inner, signal.SIGTERM)
            assert server.wait_exit() == 0
    assert {path.name for path in (tmp_path / "volume").iterdir()} >= {"kvs.db"}


def bury_orphan(pid: int) -> None:
    """Have a process end whose parent has ended before, in the namespace of another process, which has to bury it."""
    inside = ("nsenter", "--target", str(pid), "--user", "--pid", "--preserve-credentials")
    script = "exec 3<&0; (read -r _ <&3) & exit 0"
    with subprocess.Popen([*inside, "sh", "-c", script], stdin=subprocess.PIPE) as parent:
        assert parent.stdin is not None
        assert parent.wait(TIMEOUT_S) == 0
        for _ in polling("it is an orphan"):
            if children_of(pid):
                break
    for _ in polling("it is buried"):
        if not children_of(pid):
            break

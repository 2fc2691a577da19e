"""The example of an engine in a package of its own: installed, chosen by name, killed, and true to the contract."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.harness import TIMEOUT_S, run_to_end

from .conftest import StartServer

pytestmark = pytest.mark.one_build

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "kvs-wholefile"
TRACES = shutil.ignore_patterns("*.egg-info", "build", "__pycache__", "*.so")
MINUTES_S = 300


class Installed:
    """The package, built from a copy and installed into a folder of its own, without a network.

    Attributes:
        copy: The copy; the build leaves its traces there.
        env: What a process needs to find the package.
    """

    def __init__(self, directory: Path) -> None:
        self.copy = directory / "copy"
        shutil.copytree(EXAMPLE, self.copy, ignore=TRACES)
        site = directory / "site"
        offline = ("--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
        run(sys.executable, "-m", "pip", "install", "--quiet", *offline, "--target", str(site), str(self.copy))
        self.env = {"PYTHONPATH": ":".join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))}


def run(*command: str, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a command that has to succeed; return what it said."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | dict(env or {}),
        capture_output=True,
        text=True,
        timeout=MINUTES_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="session")
def transport_flags() -> tuple[str, ...]:
    """Return no flags: no transport has a say in this."""
    return ()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Install the package."""
    return Installed(tmp_path_factory.mktemp("wholefile"))


def flags(directory: Path) -> tuple[str, ...]:
    """Return the flags that choose the engine."""
    return ("--storage", "wholefile", "--data-dir", str(directory / "data"))


def test_what_was_acknowledged_outlives_a_killed_server(
    installed: Installed, start_server: StartServer, tmp_path: Path
) -> None:
    """The engine is found by the name in its entry point; an open transaction ends with the server."""
    server = start_server(*flags(tmp_path), env=installed.env)
    one, other = server.connect(), server.connect()
    one.ok("PUT a 1", "PUT b 1", "START", "GET a", "PUT a 2", "DEL b", "PUT é ü", "COMMIT")
    other.ok("START", "PUT never 1")
    assert one.info("server")["engine"] == "wholefile"
    assert server.stop(signal.SIGKILL) == -signal.SIGKILL
    client = start_server(*flags(tmp_path), env=installed.env).connect()
    assert client.ask("KEYS")["result"] == ["a", "é"]
    assert (client.get("a"), client.get("é")) == ("2", "ü")


def test_its_option_is_set_as_any_setting(installed: Installed, start_server: StartServer, tmp_path: Path) -> None:
    """By flag or by variable; beyond the limit only that write is refused."""
    in_environment = installed.env | {"KVS_STORAGE_WHOLEFILE_MAX_KEYS": "2"}
    client = start_server(*flags(tmp_path), env=in_environment).connect()
    client.ok("PUT a 1", "PUT b 1", "START", "PUT c 1")
    assert client.ask("COMMIT")["code"] == "limit"
    client.ok("DEL a", "COMMIT")
    assert client.ask("KEYS")["result"] == ["b", "c"]
    refused = run_to_end(*flags(tmp_path), "--storage-option", "max_keys=0", env=installed.env)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "storage.wholefile.max_keys" in refused.stderr


def test_what_it_cannot_open_it_says_in_a_line(installed: Installed, start_server: StartServer, tmp_path: Path) -> None:
    """A directory in use, one that is none, a file of something else, and no directory at all."""
    start_server(*flags(tmp_path), env=installed.env)
    in_use = run_to_end(*flags(tmp_path), "--port", "0", env=installed.env)
    (tmp_path / "file").write_text("no directory")
    no_directory = run_to_end(*flags(tmp_path / "file"), "--port", "0", env=installed.env)
    (tmp_path / "other" / "data").mkdir(parents=True)
    (tmp_path / "other" / "data" / "kvs.msgpack").write_bytes(b"\xc1")
    damaged = run_to_end(*flags(tmp_path / "other"), "--port", "0", env=installed.env)
    nowhere = run_to_end("--storage", "wholefile", "--port", "0", env=installed.env)
    assert [(end.returncode, end.stderr.count("\n")) for end in (in_use, no_directory, damaged, nowhere)] == [
        (1, 1),
        (1, 1),
        (1, 1),
        (2, 1),
    ]
    assert "in use by another server" in in_use.stderr
    assert "Not a directory" in no_directory.stderr
    assert "damaged" in damaged.stderr
    assert "--data-dir" in nowhere.stderr


def test_kvs_engines_lists_it(installed: Installed) -> None:
    """With what its descriptor says."""
    listed = [line.split(maxsplit=4) for line in run_to_end("engines", env=installed.env).stdout.splitlines()]
    assert ["wholefile", "yes", "no", "no"] in [line[:4] for line in listed]


@pytest.mark.timeout(300)  # it makes an environment, and runs the whole contract
def test_the_commands_of_its_readme(tmp_path: Path) -> None:
    """In a clone, in a virtual environment that is empty but for what pip would download; its tests pass as well."""
    clone, venv = tmp_path / "clone", tmp_path / "venv"
    shutil.copytree(ROOT / "src", clone / "src", ignore=TRACES)
    shutil.copytree(EXAMPLE, clone / "examples" / EXAMPLE.name, ignore=TRACES)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone)
    run(sys.executable, "-m", "venv", str(venv))
    (site,) = venv.glob("lib/python*/site-packages")
    for old in site.glob("setuptools*"):  # comes with Python 3.11; a build in isolation would have a new one
        shutil.rmtree(old)
    (site / "downloaded.pth").write_text(f"{Path(pytest.__file__).parents[1]}\n")
    env = {
        "PATH": f"{venv / 'bin'}:{os.environ['PATH']}",
        "KVS_BUILD": "pure",
        "KVS_PORT": "0",
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # which pip takes for: no isolation
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # those of kvs's own tests are not there
        "PYTEST_ADDOPTS": "-W error -p no:cacheprovider",
    }
    example = clone / "examples" / EXAMPLE.name
    blocks = re.findall(r"^```sh\n(.*?)^```$", (EXAMPLE / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    start, test = (block.splitlines() for block in blocks)
    run("sh", "-ec", "\n".join(start[:-1]), cwd=example, env=env)
    command = ["sh", "-c", f"exec {start[-1]}"]
    with subprocess.Popen(command, cwd=example, env=os.environ | env, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            assert any("listening" in line for line in server.stderr), "it ended at once"
            server.terminate()
            server.communicate(timeout=TIMEOUT_S)
        finally:
            server.kill()
    assert server.returncode == 0
    assert (example / "data").is_dir()
    assert " passed" in run("sh", "-ec", "\n".join(test), cwd=example, env=env)

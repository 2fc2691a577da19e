"""Set-up by ``make``: what is missing is said in a line, and whatever a run has left half done, the next one mends.

The Makefile, ``tools/venv.py``, make, venv and pip are the real ones; what they install is a package of a few lines, so
that it takes seconds and no network.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest

pytestmark = [
    pytest.mark.timeout(1200),
    pytest.mark.one_build,
    pytest.mark.skipif(find_spec("ensurepip") is None, reason="ensurepip is not installed"),
    pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed"),
]

ROOT: Final = Path(__file__).parents[2]
INSTALLED: Final = ".venv/.installed"
MINUTES_S: Final = 600
NO_NETWORK: Final = {"PIP_INDEX_URL": "http://127.0.0.1:1/", "PIP_NO_INDEX": "0", "PIP_RETRIES": "0"}
READY: Final = "ready"
PYTHON: Final = shlex.quote(sys.executable)  # for a shell: there may be blanks in its path

PYPROJECT: Final = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "kvs-server"
version = "0.1.0"
[dependency-groups]
tests = []
dev = [{ include-group = "tests" }]
programs = ["pip"]
"""

BACKEND: Final = """
import pathlib, time, zipfile

NAME = "kvs_server-0.1.0"

def build_wheel(directory, config_settings=None, metadata_directory=None):
    pathlib.Path("builds").open("a").write("x")
    while pathlib.Path("hold").exists():
        time.sleep(0.01)
    with zipfile.ZipFile(pathlib.Path(directory, f"{NAME}-py3-none-any.whl"), "w") as wheel:
        wheel.writestr("kvs/__main__.py", pathlib.Path("src/main.py").read_text())
        wheel.writestr(f"{NAME}.dist-info/METADATA", "Metadata-Version: 2.1\\nName: kvs-server\\nVersion: 0.1.0\\n")
        wheel.writestr(f"{NAME}.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{NAME}.dist-info/RECORD", "")
    return f"{NAME}-py3-none-any.whl"

build_editable = build_wheel
"""


class Tree:
    """A copy of what takes part in the set-up.

    Attributes:
        path: Where it is.
        venv: The environment that is worked on.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.venv = path / ".venv"
        (path / "tools").mkdir(parents=True)
        (path / "src").mkdir()
        shutil.copy(ROOT / "Makefile", path)
        shutil.copy(ROOT / "tools" / "venv.py", path / "tools")
        self.write("pyproject.toml", PYPROJECT)
        self.write("backend.py", BACKEND)
        self.write("setup.py", "")
        self.write("README.md", "")
        self.write("src/main.py", f"print({READY!r})")
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PIP_", "MAKE", "MFLAGS", "KVS_", "PYTHON", "VIRTUAL_ENV"))
        }
        self._env = {
            **inherited,
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_NO_COMPILE": "1",
        }

    def write(self, name: str, text: str) -> None:
        """Write a file."""
        (self.path / name).write_text(text, encoding="utf-8")

    def start(self, target: str, *variables: str, env: Mapping[str, str]) -> subprocess.Popen[str]:
        """Start make, in a group of processes of its own."""
        variables = (
            *variables,
            *([] if any("PYTHON=" in one for one in variables) else [f"PYTHON={PYTHON}"]),
        )
        return subprocess.Popen(
            ["make", target, "ARGS=", *variables],
            cwd=self.path,
            env={**self._env, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def make(self, target: str, *variables: str, env: Mapping[str, str] | None = None) -> tuple[int, list[str]]:
        """Run make to its end; return its exit code and what it said, without make's own words."""
        with self.start(target, *variables, env=env or {}) as process:
            output, errors = process.communicate(timeout=MINUTES_S)
        lines = (output + errors).splitlines()
        return process.returncode, [line for line in lines if not line.startswith("make: ")]

    def kill_at(self, path: Path) -> None:
        """Start a set-up and kill everything in it as soon as there is a file, or kvs is being built at the latest."""
        with self.start(INSTALLED, env={}) as process:
            try:
                while not path.exists() and not self.builds() and process.poll() is None:
                    time.sleep(0.001)
                assert process.poll() is None, process.communicate()
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

    def builds(self) -> int:
        """Return how many times it was built."""
        return len((self.path / "builds").read_text()) if (self.path / "builds").exists() else 0

    def assert_heals(self) -> None:
        """Assert that one run more makes the environment anew, if there is one, and that it works then."""
        there = self.venv.exists()
        code, lines = self.make(INSTALLED)
        assert code == 0, lines
        assert there == ("made anew" in lines[0])
        self.assert_works()

    def assert_works(self) -> None:
        """Assert that what was installed runs, and that another run has nothing to do."""
        assert self.output("-m", "kvs") == READY
        assert self.output("-m", "pip", "check") == "No broken requirements found."
        assert self.make(INSTALLED) == (0, [])

    def output(self, *arguments: str) -> str:
        """Run the environment's interpreter; return what it said."""
        command = [str(self.venv / "bin" / "python"), *arguments]
        return subprocess.run(command, env=self._env, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Return a tree without environments."""
    return Tree(tmp_path / "tree")


# What is missing.


def test_an_interpreter_that_is_not_there(tree: Tree) -> None:
    """Before anything is made."""
    code, lines = tree.make("test", "PYTHON=no-such-python")
    assert code == 2
    assert [line.partition(":")[0] for line in lines] == ["kvs"]
    assert "no-such-python is not there" in lines[0]
    assert not tree.venv.exists()


def test_an_interpreter_that_is_too_old(tree: Tree) -> None:
    """Likewise; that it is younger than it says is of no matter."""
    old = tree.path / "old-python"
    old.write_text(
        f"#!/bin/sh\nexec {PYTHON} -c 'import sys; sys.version_info = (3, 10, 13); exec(sys.argv[1])' \"$2\"\n"
    )
    old.chmod(0o755)
    code, (line,) = tree.make("run", f"PYTHON={old}")
    assert code == 2
    assert line.startswith("kvs: needs Python 3.11 or newer, and ")
    assert " is 3.10: " in line
    assert not (tree.path / ".venv-run").exists()


def test_debian_without_python3_venv(tree: Tree) -> None:
    """The package to install is named, and nothing is made."""
    tree.write("sitecustomize.py", "import sys\nsys.modules['ensurepip'] = None\n")
    code, (line,) = tree.make("test", env={"PYTHONPATH": str(tree.path)})
    assert code == 2
    assert line.endswith("apt install python3-venv")
    assert [path.name for path in tree.path.glob(".venv*/*")] == [".lock"]


def test_what_cannot_be_installed(tree: Tree) -> None:
    """There is no network, and then there is; the project cannot be built: what was there before can still be used."""
    tree.write("pyproject.toml", PYPROJECT.replace("requires = []", 'requires = ["not-there-at-all"]'))
    code, lines = tree.make("test", env=NO_NETWORK)
    assert code == 2, lines
    assert lines[-1].startswith("kvs: no network")
    assert not [line for line in lines if "Traceback" in line]
    tree.write("pyproject.toml", PYPROJECT)
    assert tree.make(INSTALLED)[0] == 0
    tree.assert_works()
    tree.write("backend.py", "raise SystemExit('no such compiler')")
    tree.write("pyproject.toml", PYPROJECT + "\n")
    code, lines = tree.make(INSTALLED)
    assert code == 2
    assert "no such compiler" in "".join(lines[:-1])
    assert lines[-1] == "kvs: pip could not install --editable . dev"
    assert tree.output("-m", "kvs") == READY
    tree.write("backend.py", BACKEND)
    tree.write("pyproject.toml", PYPROJECT)
    assert tree.make(INSTALLED) == (0, [])
    programs_are_a_step_of_their_own(tree)


def programs_are_a_step_of_their_own(tree: Tree) -> None:
    """Assert that they are taken once, into the environment that is worked on."""
    builds = tree.builds()
    code, (line,) = tree.make("programs")
    assert code == 0
    assert line.startswith("Installing the programs of others")
    assert tree.make("programs") == (0, [])
    assert tree.builds() == builds
    tree.assert_works()


# What was left half done.


def test_killed_again_and_again(tree: Tree) -> None:
    """As soon as there is this or that file, each of which a run makes later than those before."""
    tree.write("hold", "")
    site = "lib/python{}.{}/site-packages".format(*sys.version_info)
    for point in (
        ".lock",
        "bin/python",
        f"{site}/pip/__init__.py",
        "../builds",  # which is in the middle of an installation
    ):
        tree.kill_at(tree.venv / point)
    (tree.path / "hold").unlink()
    tree.assert_heals()


def test_what_is_not_whole_is_made_anew(tree: Tree, tmp_path: Path) -> None:
    """What a run has left that found no ensurepip, without its interpreter, copied: each time, and by one run only."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tree.venv], check=True)
    (tree.venv / ".installed").touch()
    with ThreadPoolExecutor() as threads:  # the other one waits
        both = list(threads.map(lambda _: tree.make(INSTALLED)[0], range(2)))
    assert both == [0, 0]
    assert tree.builds() == 1
    tree.assert_works()
    for name in ("python", "python3"):  # the system has a newer one now
        (tree.venv / "bin" / name).unlink()
        (tree.venv / "bin" / name).symlink_to("/no/such/python")
    tree.assert_heals()
    tree.path = Path(shutil.copytree(tree.path, tmp_path / "copy", symlinks=True))
    tree.venv = tree.path / ".venv"  # which would still run what is in the place where it was made
    tree.assert_heals()


# What has changed.


def test_it_is_installed_again_when_something_has_changed(tree: Tree) -> None:
    """A file, its name, or the kind of build; and not if it has merely been touched."""

    def builds(*variables: str) -> int:
        code, lines = tree.make(".venv-run/.installed", *variables)
        assert code == 0, lines
        return tree.builds() - before

    before = tree.builds()
    assert builds() == 1
    before = tree.builds()
    (tree.path / "src" / "main.py").touch()
    assert builds() == 0
    tree.write("src/more.py", "")
    assert [builds(), builds()] == [1, 1]
    (tree.path / "src" / "more.py").unlink()
    assert builds() == 2
    assert [builds("KVS_BUILD=pure"), builds("KVS_BUILD=pure"), builds()] == [3, 3, 4]


def test_tests_need_no_xdist() -> None:
    """For those who say ``-p no:xdist``, or run them in an environment of their own."""
    command = [sys.executable, "-m", "pytest", "-p", "no:xdist", "-p", "no:cacheprovider", "--collect-only", "-q"]
    run = subprocess.run(
        [*command, "tests/unit/resp/test_glob.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr

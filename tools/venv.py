"""Makes one of this project's virtual environments whole and up to date, whatever state it is in.

It may be absent, or of an interpreter that has gone or is not the one asked for, or copied from elsewhere with the
tree. It may be half made: by a run that was killed, or whose network dropped. A file in it says that it is whole. That
file is taken away before anything is changed, and comes back when the change is complete; an environment without it is
made anew.

Usage, in the project's root: ``python3 tools/venv.py DIRECTORY STEP``. It needs nothing but an interpreter.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from subprocess import PIPE
from time import monotonic
from typing import NoReturn

LOCK = ".lock"
NETWORK = re.compile(r"connection|timed? ?out|name resolution|proxy|ssl|from versions: none", re.IGNORECASE)
SOURCE = re.compile(r"\.(py|toml|md|typed)$")
ELSEWHERE = ("PIP_PREFIX", "PIP_ROOT", "PIP_TARGET", "PIP_USER")
"""Settings of pip that would have it install into another place."""


@dataclass(frozen=True)
class Step:
    """Something to install.

    Attributes:
        stamp: The file in the environment that tells what was installed.
        pip: What pip is to install.
        group: Likewise, by its name among the dependency groups of pyproject.toml, or nothing.
        sources: Files and directories; when they change, it is installed again.
        notice: What to say beforehand.
        pure_notice: The same where ``KVS_BUILD`` has a say in it, and says that nothing is compiled.
    """

    stamp: str
    pip: Sequence[str]
    group: str
    sources: Sequence[str]
    notice: str
    pure_notice: str = ""


STEPS = {
    "kvs": Step(
        ".installed",
        [".[admin]"],
        "",
        ["pyproject.toml", "setup.py", "README.md", "src"],
        "Installing kvs into {}, over the network. Where there is a C compiler, its performance-critical modules are "
        "compiled, which takes one to two minutes; KVS_BUILD=pure skips that, for a slower server.",
        "Installing kvs into {}, over the network, without compiling it (KVS_BUILD=pure): half a minute.",
    ),
    "tests": Step(
        ".tests",
        [],
        "tests",
        ["pyproject.toml"],
        "Installing what the tests need into {}, over the network: about a minute.",
    ),
    "programs": Step(
        ".programs",
        [],
        "programs",
        ["pyproject.toml"],
        "Installing the programs of others that some tests run into {}, over the network: about a minute.",
    ),
    "litellm": Step(
        ".litellm",
        [],
        "litellm",
        ["pyproject.toml"],
        "Installing litellm, which 4 tests run, into {}, over the network: about two minutes and 400 MB.",
    ),
    "dev": Step(
        ".installed",
        ["--editable", "."],
        "dev",
        ["pyproject.toml", "setup.py"],
        "Installing kvs and its tools into {}, over the network: about a minute.",
    ),
}


class Environment:
    """A virtual environment.

    Args:
        directory: Where it is.
        lock: The descriptor of its lock. Whoever changes the environment holds it open, even if this process is killed.
    """

    def __init__(self, directory: Path, lock: int) -> None:
        self._directory = directory
        self._lock = lock
        self._python = directory / "bin" / "python"
        self._whole = directory / ".whole"
        # Inside of an environment, be it this one, that is the interpreter it was made with.
        self._base = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
        version = "{}.{}".format(*sys.version_info)
        self._identity = f"Python {version}: {self._base}\n{directory.resolve()}\n"

    def install(self, step: Step) -> None:
        """Have what a step installs, as it is now."""
        if not self._is_whole():
            self._create()
        stamp = self._directory / step.stamp
        wanted = fingerprint(step)  # before pip reads the files: what changes meanwhile is installed the next time
        if content(stamp) == wanted:
            return
        say((step.pure_notice if step.pure_notice and build() == "pure" else step.notice).format(self._directory))
        if any(each.startswith(".") for each in step.pip):
            for leftover in ("build", "src/kvs.egg-info"):  # of deleted modules, and of the distribution's former name
                shutil.rmtree(leftover, ignore_errors=True)
        self._change(step)
        stamp.write_text(wanted)
        if step.pure_notice:
            subprocess.run([self._python, "-m", "kvs", "--version"], check=True)

    def _is_whole(self) -> bool:
        # A link to an interpreter that has gone does not exist.
        return content(self._whole) == self._identity and self._python.exists()

    def _create(self) -> None:
        if find_spec("ensurepip") is None or find_spec("venv") is None:
            fail(f"{self._base} has no ensurepip or venv. On Debian and Ubuntu: apt install python3-venv")
        leftovers = [path for path in self._directory.iterdir() if path.name != LOCK]
        if leftovers:
            say(f"{self._directory} is not whole, or of another interpreter or place; it is made anew.")
        for path in leftovers:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        made = self._run(self._base, "-m", "venv", str(self._directory))
        if made.returncode:
            fail(f"{self._base} cannot make a virtual environment", made.stdout + made.stderr)
        self._whole.write_text(self._identity)

    def _change(self, step: Step) -> None:
        """Have pip make a change, and note that the environment is whole if it is."""
        was_whole = self._is_whole()
        self._whole.unlink(missing_ok=True)
        pip = self._pip("install", "--quiet", *step.pip, *(requirements(step.group) if step.group else ()))
        if pip.returncode and was_whole and pip.returncode > 0 and not self._pip("check").returncode:
            self._whole.write_text(self._identity)  # nothing was changed yet, and what there is can still be used
        if pip.returncode and NETWORK.search(pip.stderr):
            fail("no network, or no package index there: pip could not download what is needed. Run this again later.")
        if pip.returncode:
            fail(f"pip could not install {' '.join([*step.pip, step.group])}".rstrip(), pip.stdout + pip.stderr)
        self._whole.write_text(self._identity)

    def _pip(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        # Isolated from PYTHONPATH, where pip might find something installed already.
        return self._run(str(self._python), "-I", "-m", "pip", "--disable-pip-version-check", *arguments)

    def _run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        env = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}
        with subprocess.Popen(command, env=env, pass_fds=[self._lock], stdout=PIPE, stderr=PIPE, text=True) as process:
            try:
                output, errors = outputs_of(process)
            except BaseException:
                process.kill()
                raise
        return subprocess.CompletedProcess(command, process.returncode, output, errors)


@contextmanager
def locked(directory: Path) -> Iterator[int]:
    """Make a directory and wait until nobody else works in it; yield the descriptor of the lock."""
    if directory.is_symlink() or directory.is_file():
        directory.unlink()
    directory.mkdir(exist_ok=True)
    lock = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"Waiting for another run that installs into {directory}.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
    finally:
        os.close(lock)


def requirements(group: str) -> Iterator[str]:
    """Yield what is in a dependency group, which pip understands from version 25.1 on only."""
    for each in tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"][group]:
        if isinstance(each, str):
            yield each
        else:
            yield from requirements(each["include-group"])


def fingerprint(step: Step) -> str:
    """Return what tells a state of a step's sources from any other."""
    digest = hashlib.sha256(build().encode() if step.pure_notice else b"")
    for source in step.sources:
        root = Path(source)
        for path in sorted(root.rglob("*")) if root.is_dir() else [root]:
            if SOURCE.search(path.name):
                digest.update(f"\0{path}\0".encode() + path.read_bytes())
    return digest.hexdigest() + "\n"


def build() -> str:
    """Return which kind of build was asked for."""
    return os.environ.get("KVS_BUILD") or "auto"


def outputs_of(process: "subprocess.Popen[str]") -> "tuple[str, str]":
    """Wait for a process, and show on a terminal that it is still at work, and for how long it has been."""
    started_s = monotonic()
    shown = ""
    while True:
        try:
            return process.communicate(timeout=1)
        except subprocess.TimeoutExpired:
            if sys.stdout.isatty():
                shown = f"{monotonic() - started_s:.0f} s"
                print(f"\r{shown}", end="", flush=True)
        finally:
            if shown and process.returncode is not None:
                print("\r" + " " * len(shown) + "\r", end="", flush=True)


def content(path: Path) -> "str | None":
    """Return what is in a file, None if there is none."""
    try:
        return path.read_text()
    except OSError:
        return None


def say(line: str) -> None:
    """Say what is being done."""
    print(line, flush=True)


def fail(line: str, output: str = "") -> NoReturn:
    """End with one line, behind what a program has said if that is of use."""
    sys.exit(f"{output.rstrip()}\nkvs: {line}" if output else f"kvs: {line}")


def main() -> None:
    """Do one step in the environment of a directory."""
    directory, step = Path(sys.argv[1]), STEPS[sys.argv[2]]
    with suppress(KeyboardInterrupt), locked(directory) as lock:
        Environment(directory, lock).install(step)
        return
    sys.exit(130)


if __name__ == "__main__":
    main()

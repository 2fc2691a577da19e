"""Builds a wheel for each version of Python that pyproject.toml names, and checks what is in it, and that it runs.

Usage, in the project's root: ``python3 tools/wheels.py [INTERPRETER ...]``; the wheels are in ``dist``. It needs the
interpreters with their headers, a C compiler, and a network. Interpreters that are not named are looked for: as
``python3.12`` and so on, among those of pyenv, and by uv. A wheel of Linux is for systems whose C library is as new as
that of this one, or newer; build it on the oldest that it is for.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from email.parser import Parser
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from zipfile import ZipFile

ROOT: Final = Path(__file__).parents[1]
SOURCES: Final = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "src")
NO_SOURCE: Final = ("__pycache__", "*.so", "*.pyc", "*.egg-info")
VERSION: Final = "import sys; print('%d.%d' % sys.version_info[:2])"
CLASSIFIER: Final = "Programming Language :: Python :: 3."


class WheelError(Exception):
    """Raised when a wheel cannot be built, or is not what it should be; the message is for people."""


def project(sources: Path = ROOT) -> Mapping[str, Any]:
    """Return what pyproject.toml says of the package."""
    described: Mapping[str, Any] = tomllib.loads((sources / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return described


def versions() -> list[str]:
    """Return the versions of Python that there are to be wheels for."""
    named = [each.removeprefix(CLASSIFIER) for each in project()["classifiers"] if each.startswith(CLASSIFIER)]
    return [f"3.{minor}" for minor in named]


def interpreter(version: str) -> str:
    """Return an interpreter of a version.

    Raises:
        WheelError: There is none.
    """
    for candidate in _candidates(version):
        if version_of(candidate) == version:
            return candidate
    raise WheelError(
        f"there is no Python {version} here: install python{version}-dev and python{version}-venv, or `pyenv install "
        f"{version}`, or uv, or name the interpreters: tools/wheels.py /path/to/python{version} ..."
    )


def _candidates(version: str) -> Iterator[str]:
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        yield getattr(sys, "_base_executable", None) or sys.executable
    found = shutil.which(f"python{version}")
    if found:
        yield found
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    yield from map(str, sorted(pyenv.glob(f"{version}.*/bin/python"), reverse=True))
    uv = shutil.which("uv")
    if uv:
        ran = subprocess.run([uv, "python", "find", version], capture_output=True, text=True, check=False)
        yield ran.stdout.strip() or "uv"


def version_of(python: str) -> str:
    """Return the version of an interpreter; empty if it does not run, as a shim of pyenv may not."""
    try:
        ran = subprocess.run([python, "-c", VERSION], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return ran.stdout.strip() if ran.returncode == 0 else ""


def copy_sources(target: Path) -> None:
    """Copy what a wheel is made of, so that nothing is left in the tree, and nothing changes meanwhile."""
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns(*NO_SOURCE))
        else:
            shutil.copy(source, target / name)


def build(python: str, kind: str, sources: Path, target: Path, *options: str) -> Path:
    """Build a wheel; return its path.

    Args:
        python: The interpreter, which has pip.
        kind: ``compiled`` or ``pure``.
        sources: A copy of the sources.
        target: Directory for the wheel.
        options: Further options for pip.

    Raises:
        WheelError: It cannot be built.
    """
    with TemporaryDirectory() as made:
        _run([python, "-m", "pip", "wheel", "--no-deps", "-q", "-w", made, *options, str(sources)], KVS_BUILD=kind)
        (wheel,) = Path(made).glob("*.whl")
        target.mkdir(parents=True, exist_ok=True)
        return Path(shutil.move(wheel, target / wheel.name))


def check(wheel: Path, sources: Path, compiled: Sequence[str], version: str) -> None:
    """Check that a wheel has all of the package, nothing else, and what pyproject.toml says of it.

    Args:
        wheel: The wheel.
        sources: What it was made of.
        compiled: Paths of the modules that have to be compiled, relative to the package.
        version: Version of Python that it is for, as in ``3.12``; of no matter if nothing is compiled.

    Raises:
        WheelError: It has not.
    """
    tag = f"cp{version.replace('.', '')}"
    with ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        (metadata_name,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        directory = metadata_name.removesuffix("METADATA")
        metadata = Parser().parsestr(archive.read(metadata_name).decode())
        entry_points = (
            archive.read(f"{directory}entry_points.txt").decode() if f"{directory}entry_points.txt" in names else ""
        )
    _check_files({name for name in names if not name.startswith(directory)}, sources, compiled, tag)
    _check_metadata(metadata, entry_points, project(sources))
    expected = f"-{tag}-{tag}-" if compiled else "-py3-none-any."
    if expected not in wheel.name:
        raise WheelError(f"{wheel.name}: its name should have {expected}")
    if not any(name.startswith(f"{directory}licenses/") for name in names):
        raise WheelError(f"{wheel.name}: there is no licence in it")


def _check_files(names: set[str], sources: Path, compiled: Sequence[str], tag: str) -> None:
    libraries = {name for name in names if name.endswith(".so")}
    _compare("files", names - libraries, set(_files(sources / "src")))
    modules = {f"kvs/{name.removesuffix('.py')}" for name in compiled}
    stems = {name.partition(f".cpython-{tag.removeprefix('cp')}")[0] for name in libraries}
    shared = {stem for stem in stems if stem.endswith("__mypyc")}
    _compare("compiled modules", stems - shared, modules)


def _files(root: Path) -> Iterator[str]:
    for path in root.rglob("*"):
        parts = path.relative_to(root).parts
        if (
            path.is_file()
            and parts[0] == "kvs"
            and not any(fnmatch(part, each) for part in parts for each in NO_SOURCE)
        ):
            yield "/".join(parts)


def _check_metadata(metadata: Any, entry_points: str, described: Mapping[str, Any]) -> None:
    needs = {_plain(need) for need in described["dependencies"]}
    for extra, more in described.get("optional-dependencies", {}).items():
        needs |= {_plain(f'{need}; extra == "{extra}"') for need in more}
    _compare("dependencies", {_plain(need) for need in metadata.get_all("Requires-Dist", [])}, needs)
    _compare("extras", set(metadata.get_all("Provides-Extra", [])), set(described.get("optional-dependencies", {})))
    told = {name: metadata[name] for name in ("Name", "Requires-Python", "License-Expression")}
    wanted = {
        "Name": described["name"],
        "Requires-Python": described["requires-python"],
        "License-Expression": described["license"],
    }
    if told != wanted:
        raise WheelError(f"the wheel says {told}, and pyproject.toml {wanted}")
    for name, target in described["scripts"].items():
        if f"{name} = {target}" not in entry_points:
            raise WheelError(f"the wheel has no command {name}")


def _plain(need: str) -> str:
    return re.sub(r"[\s()'\"]", "", need).replace("_", "-").lower()


def _compare(what: str, there: set[str], wanted: set[str]) -> None:
    if there != wanted:
        raise WheelError(f"{what}: missing {sorted(wanted - there)}, unexpected {sorted(there - wanted)}")


def try_out(python: str, wheel: Path) -> str:
    """Install a wheel into an environment of its own, and return what kvs says of its version.

    Raises:
        WheelError: It cannot be installed, or does not run.
    """
    with TemporaryDirectory() as scratch:
        _run([python, "-m", "venv", scratch])
        _run([f"{scratch}/bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check", str(wheel)])
        return _run([f"{scratch}/bin/kvs", "--version"]).strip()


def _run(command: Sequence[str], directory: str = "/", **env: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | env
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=directory)
    if ran.returncode:
        raise WheelError(f"{' '.join(command)} failed:\n{ran.stdout}{ran.stderr}".rstrip())
    return ran.stdout


def main() -> None:
    """Build, check and try a wheel for each version."""
    try:
        pythons = {version_of(name): name for name in sys.argv[1:]} or {each: interpreter(each) for each in versions()}
        for version, python in pythons.items():
            print(f"Python {version}: building, which takes some minutes", flush=True)
            with TemporaryDirectory() as scratch:
                copy_sources(Path(scratch))
                compiled = _run(
                    [sys.executable, "-c", "import setup; print(*setup.modules_to_compile())"], scratch
                ).split()
                wheel = build(python, "compiled", Path(scratch), ROOT / "dist")
                check(wheel, Path(scratch), compiled, version)
            print(f"Python {version}: {try_out(python, wheel)}: dist/{wheel.name}", flush=True)
    except WheelError as error:
        sys.exit(f"kvs: {error}")


if __name__ == "__main__":
    main()

"""Commands of documents that are not run: why, and what is checked of them instead."""

import io
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
from bench.__main__ import parser as bench_parser

from kvs.cli.main import commands
from kvs.config import BUILD_VARIABLE, CONFIG_FILE_VARIABLE, SETTINGS
from kvs.environment import PREFIX
from tests.documents.markdown import ROOT
from tests.support.harness import TIMEOUT_S

ASSIGNMENT: Final = re.compile(r"([A-Z_]+)=(.*)")


class NotRun(NamedTuple):
    """A kind of command that is not run.

    Attributes:
        begins: The words it begins with.
        reason: Why it is not run.
        check: Fails if it could not be run; gets where it stands, and its other words.
    """

    begins: tuple[str, ...]
    reason: str
    check: Callable[[str, Sequence[str]], None]


RUN: Final = frozenset({"cat", "curl", "grep", "head", "jq", "kvs", "nc", "printf", "python", "redis-cli", "sqlite3"})
"""The programs that are run. A command with any other is of a kind that is not run, or fails."""

OF_OTHERS: Final = ("curl", "jq", "nc", "redis-cli", "sqlite3")
"""Those among them that need not be installed."""


def programs(text: str) -> list[str]:
    """Return the programs that a command of the shell runs."""
    words = shlex.shlex(text, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    found, expected = [], True
    for word in words:
        if word in ("|", "||", "&&", ";"):
            expected = True
        elif expected and not ASSIGNMENT.fullmatch(word):
            found.append(word)
            expected = False
    return found


def kvs_command(name: str) -> click.Command | None:
    """Return a command of kvs, which is imported when it is used."""
    return commands.get_command(click.Context(commands), name)


def check_kvs(where: str, words: Sequence[str]) -> None:
    """Check that kvs has the command and its options; words in capitals and brackets stand for something."""
    name = words[0] if words and not words[0].startswith("-") else "serve"
    command = kvs_command(name)
    assert command is not None, f"{where}: there is no command kvs {name}"
    if isinstance(command, click.Group) and len(words) > 1 and words[1] != "--help":
        part = command.commands.get(words[1])
        assert part is not None, f"{where}: there is no command kvs {name} {words[1]}"
        command = part
    check_options(where, command, commands, words)


def check_options(where: str, command: click.Command, group: click.Command, words: Sequence[str]) -> None:
    """Check that a command, or the group, has the options among these words."""
    known = {"--help", *(option for part in (command, group) for each in part.params for option in each.opts)}
    for word in words:
        option = word.partition("=")[0]
        assert not option.startswith("--") or option in known, f"{where}: kvs {command.name} has no option {option}"


def check_make(where: str, words: Sequence[str]) -> None:
    """Check that the Makefile has the target, and what ARGS hands on to."""
    targets = [word for word in words if not ASSIGNMENT.fullmatch(word)]
    for target in targets:
        assert target in make_targets(), f"{where}: the Makefile has no target {target!r}"
    for word in words:
        variable = ASSIGNMENT.fullmatch(word)
        if variable is None:
            continue
        if variable[1] not in make_variables():
            check_variable(where, variable[1])
        if variable[1] == "ARGS":
            assert len(targets) == 1, f"{where}: ARGS of which target?"
            {"run": check_kvs, "bench": check_bench, "bench-full": check_bench}.get(targets[0], check_pytest)(
                where, shlex.split(variable[2])
            )


@cache
def make_targets() -> frozenset[str]:
    """Return the targets that are meant for people."""
    return frozenset(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


@cache
def make_variables() -> frozenset[str]:
    """Return the variables that may be given."""
    return frozenset(re.findall(r"^([A-Z]+) *\?=", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def check_pytest(where: str, words: Sequence[str]) -> None:
    """Check that there are the paths, that pytest takes the options, and that ``-k`` selects something there."""
    paths = [word for word in words if "/" in word]
    for path in paths:
        assert (ROOT / path).exists(), f"{where}: there is no {path}"
    for option in (word for word in words if word.startswith("-")):
        assert re.search(rf"(?<![\w-]){option}(?![\w-])", help_of_pytest()), f"{where}: pytest has no option {option}"
    if "-k" in words:
        expression = words[words.index("-k") + 1]
        names = _names_in(tuple(paths or ["tests"]))
        for word in set(re.findall(r"\w+", expression)) - {"and", "or", "not"}:
            found = any(word.lower() in name.lower() for name in names)
            assert found, f"{where}: -k {word} selects nothing in {', '.join(paths) or 'the tests'}"


@cache
def help_of_pytest() -> str:
    """Return what pytest says of its options."""
    command = [sys.executable, "-m", "pytest", "--help"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=True).stdout


@cache
def _names_in(paths: tuple[str, ...]) -> frozenset[str]:
    """Return the names that tests have: those of modules, and of all classes and functions in them."""
    modules = [
        module
        for path in paths
        for module in ((ROOT / path).rglob("*.py") if (ROOT / path).is_dir() else [ROOT / path])
    ]
    return frozenset(
        name
        for module in modules
        for name in (module.name, *re.findall(r"^ *(?:class|def) (\w+)", module.read_text("utf-8"), re.MULTILINE))
    )


def check_bench(where: str, words: Sequence[str]) -> None:
    """Check that the benchmark has the command and the options."""
    if not words:
        return
    complaint = io.StringIO()
    try:
        with redirect_stderr(complaint):
            bench_parser().parse_args(words)
    except SystemExit:
        raise AssertionError(f"{where}: python -m bench {shlex.join(words)}: {complaint.getvalue()}") from None


def check_install(where: str, words: Sequence[str]) -> None:
    """Check that only what is here is installed: a directory with these extras, or a package of this repository."""
    wanted = [word for word in words if not word.startswith("-")]
    assert wanted, f"{where}: nothing is installed"
    for word in wanted:
        target, _, extras = word.rstrip("]").partition("[")
        project = _project(where, target)
        assert project is not None, f"{where}: pip install {word} would fetch something of other people"
        for extra in filter(None, extras.split(",")):
            assert extra in project["optional-dependencies"], f"{where}: {target} has no extra {extra!r}"


def _project(where: str, target: str) -> dict[str, Any] | None:
    """Return what a package of this repository says of itself, by its path from a document or the root, or its name."""
    for directory in ((ROOT / where).parent / target, ROOT / target):
        if (directory / "pyproject.toml").is_file():
            return _described(directory)
    projects = map(_described, (ROOT, *(ROOT / "examples").iterdir()))
    return next((project for project in projects if project["name"] == target), None)


@cache
def _described(directory: Path) -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((directory / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project


def check_file(where: str, words: Sequence[str]) -> None:
    """Check that the program is there and may be run."""
    assert os.access(ROOT / ".ci" / "run", os.X_OK), f"{where}: .ci/run is no program"


def check_deploy(where: str, words: Sequence[str]) -> None:
    """Check that the files of ours that it names are there."""
    for word in words:
        assert not word.startswith("deploy/") or (ROOT / word).exists(), f"{where}: there is no {word}"


SYSTEM: Final = "it changes the system, or needs one that there is not; deploy/ has tests of what it names"

NOT_RUN: Final = (
    *(
        NotRun(words, SYSTEM, check_deploy)
        for words in (
            *(("install",), ("systemctl",), ("systemd-sysusers",), ("journalctl",), ("chown",), ("docker",)),
            *(("kubectl",), ("python3", "-m", "venv"), ("openssl",)),
        )
    ),
    NotRun(("/opt/kvs/bin/pip", "install"), SYSTEM, check_install),
    NotRun(("/opt/kvs/bin/kvs",), SYSTEM, check_kvs),
    NotRun(("make",), "it takes minutes to hours, and is what runs these tests", check_make),
    NotRun((".ci/run",), "it takes half an hour, and is what runs these tests", check_file),
    NotRun(("pip", "install"), "it needs a network; system/test_example_package.py does without", check_install),
    NotRun(("pytest",), "the example's tests are run by system/test_example_package.py", check_pytest),
    NotRun(("python", "-m", "pytest"), "likewise", check_pytest),
    NotRun(("python", "-m", "bench"), "it takes minutes, and needs Redis and memcached", check_bench),
)
"""Every kind of command in a block that is not run. All others are."""


def not_run(words: Sequence[str]) -> NotRun | None:
    """Return the entry for a command, if it is one of those that are not run."""
    return next((each for each in NOT_RUN if tuple(words[: len(each.begins)]) == each.begins), None)


def without_assignments(where: str, words: Sequence[str]) -> Sequence[str]:
    """Return a command without the variables that are set for it, which are checked."""
    words = list(words)
    while words and (found := ASSIGNMENT.fullmatch(words[0])):
        check_variable(where, found[1])
        words.pop(0)
    return words


def check_variable(where: str, name: str) -> None:
    """Check that an environment variable means something."""
    if name.startswith(PREFIX):
        known = {setting.variable for setting in SETTINGS.values()} | {CONFIG_FILE_VARIABLE, BUILD_VARIABLE}
        assert name in known or name.startswith("KVS_STORAGE_"), f"{where}: there is no setting {name}"
    else:
        assert name in _sources(), f"{where}: nothing here reads {name}"


@cache
def _sources() -> str:
    """Return everything that may read a variable, and that is no document."""
    paths = [ROOT / "Makefile", ROOT / ".ci" / "run", *(ROOT / "tests").rglob("*.py"), *(ROOT / "src").rglob("*.py")]
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)

"""Shell commands of documents, run for real: in a directory of their own, against servers of their own."""

import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.documents.agreement import agree
from tests.documents.commands import OF_OTHERS, RUN, check_make, not_run, programs, without_assignments
from tests.documents.conversations import prepare
from tests.documents.markdown import ROOT, Block
from tests.interop.conftest import missing, program
from tests.support.harness import TIMEOUT_S, Server
from tests.support.waiting import readable

PORTS: Final = ("4000", "4001")
"""The ports that documents have for a server, and for another one."""

GOES_ON: Final = "goes on"
"""In the note ``server``: the one of the block before, with all that it has in it."""

NEEDS_SERVER: Final = re.compile(rf"\b(?:{'|'.join(PORTS)})\b|\bkvs (?:dump|load)\b")
PROMPT: Final = re.compile(r"^(127\.0\.0\.1:\d+(?:\(TX\))?> )(.*)$", re.MULTILINE)


class Command(NamedTuple):
    """A command of a block.

    Attributes:
        where: Its place.
        text: The command.
        output: What it prints, lines with their ends; None where the document does not say.
    """

    where: str
    text: str
    output: str | None


def commands_of(block: Block) -> Iterator[Command]:
    """Return the commands of a block: after ``$`` and each followed by its output, or one a line with no output."""
    return _console(block) if block.kind == "console" else _script(block)


def _console(block: Block) -> Iterator[Command]:
    starts = [number for number, line in enumerate(block.lines) if line.startswith("$ ")]
    assert starts[:1] == [0], f"{block.where}: a console block begins with a command: $ ..."
    for start, end in zip(starts, [*starts[1:], len(block.lines)], strict=True):
        output = "".join(line + "\n" for line in block.lines[start + 1 : end])
        yield Command(f"{block.document}:{block.line + 1 + start}", block.lines[start][2:], output)


def _script(block: Block) -> Iterator[Command]:
    for number, line in enumerate(block.lines, block.line + 1):
        if line and not line.startswith("#"):
            yield Command(f"{block.document}:{number}", line, None)


def serves(words: Sequence[str]) -> bool:
    """Return whether a command is the server, which does not end by itself."""
    return words[:1] == ["kvs"] and (len(words) == 1 or (words[1].startswith("-") and words[1] != "--version"))


class Shell:
    """A directory, servers, and a shell that finds ``kvs`` under test. Use it as a context manager.

    Args:
        directory: The directory, which is the process's working directory, too.
        python_path: Where Python is to find further packages.
    """

    def __init__(self, directory: Path, python_path: str) -> None:
        self.directory: Final = directory
        self.python_path: Final = python_path
        self._stack = ExitStack()
        self._servers: dict[str, Server] = {}
        path = directory / ".bin"
        path.mkdir()
        for name, arguments in (("kvs", '-m kvs "$@"'), ("python", '"$@"'), ("python3", '"$@"')):
            (path / name).write_text(f"#!/bin/sh\nexec {shlex.quote(sys.executable)} {arguments}\n")
            (path / name).chmod(0o700)
        self._env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("KVS_") and not name.lower().endswith("_proxy")
        } | {
            "PATH": f"{path}:{os.environ['PATH']}",
            "PYTHONPATH": python_path,
            "HOME": str(directory),
            "TERM": "dumb",  # in which redis-cli is not in the way with escape sequences
        }

    def __enter__(self) -> "Shell":
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.__exit__(*exception)  # type: ignore[arg-type]

    def start(self, *flags: str) -> Server:
        """Start a server that listens wherever there is room."""
        return self._stack.enter_context(Server(*flags, env={"PYTHONPATH": self._env["PYTHONPATH"]}))

    def serve(self, block: Block) -> None:
        """Start the servers that a block needs, if they do not run."""
        flags = block.notes.get("server", "")
        here, elsewhere = PORTS
        if flags == GOES_ON:
            assert here in self._servers, f"{block.where}: there is no server to go on with"
        elif flags or NEEDS_SERVER.search(block.text):
            server = self._servers[here] = self.start(*shlex.split(flags))
            self._env["KVS_PORT"] = str(server.port)  # for dump and load, as if it were the default
            prepare(block, server)
        if elsewhere in block.text and elsewhere not in self._servers:
            self._servers[elsewhere] = self.start()

    def real(self, text: str) -> str:
        """Return text with the ports of the servers for those of the document."""
        return re.sub(rf"\b({'|'.join(PORTS)})\b", self._real_port, text)

    def _real_port(self, port: re.Match[str]) -> str:
        return str(self._servers[port[0]].port) if port[0] in self._servers else port[0]

    def _documented(self, text: str) -> str:
        for port, server in self._servers.items():
            text = re.sub(rf"\b{server.port}\b", port, text)
        return text

    def replay(self, block: Block) -> None:
        """Run the commands of a block."""
        self.serve(block)
        for command in commands_of(block):
            words = without_assignments(command.where, shlex.split(command.text, comments=True))
            if words[:2] == ["make", "run"]:
                check_make(command.where, words[1:])
                words = ["kvs", *(flag for word in words[2:] for flag in shlex.split(word.removeprefix("ARGS=")))]
            if command.output is None and serves(words):
                self._serve_and_stop(words[1:])
            elif kind := not_run(words):
                kind.check(command.where, words[len(kind.begins) :])
            elif unknown := set(programs(command.text)) - RUN:
                pytest.fail(f"{command.where}: enter it in RUN or in NOT_RUN of commands.py: {', '.join(unknown)}")
            elif command.output is not None and PROMPT.match(command.output):
                self._type(command)
            else:
                self._run(command)

    def _serve_and_stop(self, flags: Sequence[str]) -> None:
        """See that the server listens with these flags, on another port, and stops in order."""
        flags = list(flags)
        if "--port" in flags:
            del flags[flags.index("--port") : flags.index("--port") + 2]
        assert self.start(*flags).stop() == 0

    def run(self, text: str, **variables: str) -> tuple[int, str]:
        """Run a command with the ports of a document; return its exit code and what it prints, to both outputs."""
        _need_programs(text)
        ran = subprocess.run(
            ["/bin/sh", "-c", self.real(text)],
            cwd=self.directory,
            env=self._env | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT_S,
            check=False,
        )
        output = ran.stdout.decode(errors="backslashreplace").replace("\r\n", "\n")  # as a terminal shows it
        return ran.returncode, self._documented(output)

    def _run(self, command: Command) -> None:
        exit_code, output = self.run(command.text)
        if command.output is None:
            assert exit_code == 0, f"{command.where}: exit code {exit_code}: {command.text}\n{output}"
        else:
            agree(command.where, command.text, command.output, output)

    def _type(self, command: Command) -> None:
        """Type what stands after the prompts into a program on a terminal, and compare all that is then on it."""
        assert command.output is not None
        _need_programs(command.text)
        terminal, inner = pty.openpty()
        with subprocess.Popen(
            ["/bin/sh", "-c", "exec " + self.real(command.text)],
            cwd=self.directory,
            env=self._env,
            stdin=inner,
            stdout=inner,
            stderr=inner,
            start_new_session=True,
        ) as process:
            os.close(inner)
            try:
                typed = [line[1] for line in PROMPT.findall(command.output)]
                shown = ""
                for count, line in enumerate(typed, 1):
                    shown = _wait_for_prompt(terminal, shown, count)
                    os.write(terminal, line.encode() + b"\n")
                shown = _wait_for_prompt(terminal, shown, len(typed) + 1)
            finally:
                process.terminate()
                os.close(terminal)
        end = shown.rindex("\n") + 1
        agree(command.where, command.text, command.output, self._documented(shown[:end].replace("\r\n", "\n")))


def _wait_for_prompt(terminal: int, shown: str, count: int) -> str:
    """Return what is on the terminal once so many prompts are there, the last one at its end."""
    while len(PROMPT.findall(shown)) < count or not PROMPT.fullmatch(shown.splitlines()[-1]):
        assert readable(terminal, TIMEOUT_S), f"no prompt comes:\n{shown}"
        shown += os.read(terminal, 1 << 16).decode()
    return shown


def _need_programs(text: str) -> None:
    for name in programs(text):
        if name in OF_OTHERS:
            path = program(name)
            if name == "nc" and " -N" in text and not _has_n(path):
                missing("this nc has no -N")


def _has_n(path: str) -> bool:
    usage = subprocess.run([path, "-h"], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    return "-N" in usage.stderr + usage.stdout


def site_of_example(directory: Path) -> str:
    """Return a path with which Python finds the example of an engine, as if it were installed."""
    example = ROOT / "examples" / "kvs-wholefile"
    project = tomllib.loads((example / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    information = directory / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    (information / "entry_points.txt").write_text(
        "".join(
            f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in points.items())
            for group, points in project["entry-points"].items()
        )
    )
    shutil.copy(example / "src" / "kvs_wholefile.py", directory)
    return ":".join(filter(None, [str(directory), os.environ.get("PYTHONPATH")]))

"""strace: makes system calls of a server fail or kill it, and records them.

strace counts calls for each thread and each name by itself, so a fault names both. The main thread is traced from the
start; the others are attached to. Neither follows other threads, so nobody else is disturbed.

A signal reaches the process before the call takes effect. What is behind a call is before the next one.
"""

import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.faults.recovery import FORKING

CALLS: Final = (
    "mkdir",
    "openat",
    "pwrite64",
    "write",
    "fsync",
    "fdatasync",
    "ftruncate",
    "fallocate",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
)
"""What changes files, or makes changes last."""

SENDS: Final = ("sendto", "sendmsg")
"""Besides ``write``, what replies can be sent with."""

FILES: Final = ("kvs.db", "kvs.db-wal", "kvs.db-shm", "kvs.db-journal", "kvs.db-mark", "lock")
LONGEST_BYTES: Final = 1 << 24
TIMEOUT_S: Final = 40.0
STUCK_US: Final = 600_000_000
"""Longer than any test."""


def why_unusable() -> str:
    """Return why strace cannot be used here; empty if it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    probe = ["strace", "-o", "/dev/null", "-e", "inject=getppid:error=EIO:when=1", "true"]
    outcome = subprocess.run(probe, capture_output=True, text=True, check=False)
    return f"strace does not work here: {outcome.stderr.strip()}" if outcome.returncode else ""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is to happen, and at which call of a thread.

    Attributes:
        call: Name of the system call.
        number: Which of the thread's calls of that name, from 1.
        effect: ``signal=KILL``, ``error=EIO`` or ``error=ENOSPC``.
        lasting: Whether it happens at every call of that name from then on.
    """

    call: str
    number: int
    effect: str
    lasting: bool = False

    def flags(self, directory: Path) -> list[str]:
        """Return the flags of strace that bring it about, for the files of a data directory."""
        paths = [directory.parent, directory, *(directory / name for name in FILES)]
        inject = f"inject={self.call}:{self.effect}:when={self.number}{'+' * self.lasting}"
        return [*(flag for path in paths for flag in ("-P", str(path))), "-e", f"trace={self.call}", "-e", inject]


def launch_with(fault: Fault, directory: Path) -> list[str]:
    """Return what to put before a command so that its main thread meets a fault."""
    return ["strace", "-D", "-qqq", "-o", "/dev/null", *fault.flags(directory)]


@contextmanager
def attached(fault: Fault, directory: Path, thread: int) -> Iterator[None]:
    """Have a running thread meet a fault."""
    with _tracing([*fault.flags(directory), "-p", str(thread)]):
        yield


@contextmanager
def stuck_disk(process: int) -> Iterator[None]:
    """Have each sync of a process, on all of its threads, begin only when this ends."""
    syncs = "fsync,fdatasync"
    with _tracing(["-f", "-e", f"trace={syncs}", "-e", f"inject={syncs}:delay_enter={STUCK_US}", "-p", str(process)]):
        yield


@contextmanager
def _tracing(flags: Sequence[str]) -> Iterator[None]:
    with FORKING:
        tracer = subprocess.Popen(["strace", "-o", "/dev/null", *flags], stderr=subprocess.PIPE, text=True)
    with tracer:
        assert tracer.stderr is not None
        try:
            line = tracer.stderr.readline()
            while "attached" not in line:
                assert "resolved" in line, f"strace: {line}"
                line = tracer.stderr.readline()
            yield
        finally:
            tracer.terminate()  # which lets the threads go


def recording_to(output: Path) -> list[str]:
    """Return what to put before a command to record what it does to files and sends."""
    names = ",".join((*CALLS, *SENDS))
    shown = ["-yy", "-xx", "-s", str(LONGEST_BYTES)]
    return ["strace", "-D", "-f", "--seccomp-bpf", "-q", *shown, "-o", str(output), "-e", f"trace={names}"]


@dataclass(frozen=True, slots=True)
class Call:
    """A system call that was recorded.

    Attributes:
        thread: Number of the thread.
        name: Name of the call.
        target: Path or socket of its first argument, if that is a descriptor.
        text: Its first string.
        figures: The numbers behind that.
        arguments: All of them, as strace writes them.
        result: What it returned, negative for an error; None if it never returned.
        began: When it began, among all beginnings and ends.
        ended: When it returned.
    """

    thread: int
    name: str
    target: str
    text: bytes
    figures: tuple[int, ...]
    arguments: str
    result: int | None
    began: int
    ended: int


_LINE: Final = re.compile(r"(\d+) +(?:<\.\.\. (\w+) resumed>|(\w+)\()(.*)", re.DOTALL)
_RESULT: Final = re.compile(r"\) += (-?\d+|\?)([^=]*)$")
_TARGET: Final = re.compile(r"-?\w+<((?:[^>]|(?<=-)>)*)>")
_HEX: Final = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
_NUMBERS: Final = re.compile(r", (\d+)(?=$|,)")
_UNFINISHED: Final = " <unfinished ...>"


def parse(recording: Path, process: int) -> list[Call]:
    """Return the calls of a process that was recorded and has ended, in the order in which they began."""
    _await_end(recording, process)
    calls: list[Call] = []
    open_calls: dict[int, tuple[str, str, int]] = {}
    with recording.open(encoding="ascii") as lines:
        for number, line in enumerate(lines):
            found = _LINE.match(line.rstrip("\n"))
            if found is None:
                continue  # an exit or a signal
            thread, name, rest, began = int(found[1]), found[3], found[4], number
            if name is None:
                name, head, began = open_calls.pop(thread)
                rest = head + rest
            if rest.endswith(_UNFINISHED):
                open_calls[thread] = name, rest.removesuffix(_UNFINISHED), began
            else:
                calls.append(_parse_call(thread, name, rest, began, number))
    for thread, (name, rest, began) in open_calls.items():
        calls.append(_parse_call(thread, name, rest + ") = ?", began, 1 << 60))
    return sorted(calls, key=lambda call: call.began)


def _await_end(recording: Path, process: int) -> None:
    """Wait until strace has written everything down; as its own master it cannot be waited for."""
    end = re.compile(rb"^%d +\+\+\+ " % process, re.MULTILINE)
    deadline_s = time.monotonic() + TIMEOUT_S
    while True:
        with recording.open("rb") as file:
            file.seek(max(0, recording.stat().st_size - 1000))
            if end.search(file.read()):
                return
        assert time.monotonic() < deadline_s, "strace does not come to its end"
        time.sleep(0.002)


def _parse_call(thread: int, name: str, rest: str, began: int, ended: int) -> Call:
    result = _RESULT.search(rest)
    assert result is not None, rest[-200:]
    arguments = rest[: result.start()]
    target = _TARGET.match(arguments)
    string = _HEX.search(arguments, target.end() if target else 0)
    assert string is None or not string[2], "strace cut a string short"
    behind = arguments[string.end() if string else target.end() if target else 0 :]
    return Call(
        thread,
        name,
        _plain(target[1]) if target else "",
        bytes.fromhex(string[1].replace("\\x", "")) if string else b"",
        tuple(int(figure) for figure in _NUMBERS.findall(behind)),
        arguments,
        None if result[1] == "?" else int(result[1]),
        began,
        ended,
    )


def _plain(path: str) -> str:
    return bytes.fromhex(path.replace("\\x", "")).decode() if path.startswith("\\x") else path


def count_calls(calls: Sequence[Call], directory: Path, *, listening: bool) -> list[Counter[str]]:
    """Count the calls that change a data directory, by name, for each thread: the main thread first, then by age.

    Args:
        calls: What a server did.
        directory: Its data directory.
        listening: Whether to count only from where it listens on.
    """
    paths = {str(path) for path in (directory.parent, directory, *(directory / name for name in FILES))}
    counts: dict[int, Counter[str]] = {calls[0].thread: Counter()}
    for call in calls:
        if b'"listening"' in call.text:
            listening = False
        elif not listening and call.name in CALLS and {call.target, call.text.decode(errors="replace")} & paths:
            counts.setdefault(call.thread, Counter())[call.name] += 1
    return [counts[thread] for thread in sorted(counts)]

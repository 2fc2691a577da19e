"""The commands ``kvs dump`` and ``kvs load`` as processes, as tests use them."""

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO

from kvs.dump.format import HEADER, entry_line, trailer_line

from .harness import TIMEOUT_S, Client, Server

Run = subprocess.CompletedProcess[bytes]

SUMMARY = rb"kvs: loaded [0-9,]+ entr(y|ies)\n"
"""All that is said by a load that succeeds."""


def dump_of(data: Mapping[bytes, bytes]) -> bytes:
    """Return the dump of this data."""
    return b"".join([HEADER, *(entry_line(key, data[key]) for key in sorted(data)), trailer_line(len(data))])


def command(*arguments: str) -> list[str]:
    """Return a command line."""
    return [sys.executable, "-m", "kvs", *arguments]


def environment(variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment without what kvs would read from it."""
    return {name: value for name, value in os.environ.items() if not name.startswith("KVS_")} | dict(variables or {})


def run_kvs(*arguments: str, given: bytes = b"", env: Mapping[str, str] | None = None) -> Run:
    """Run a command to its end, with this as its input."""
    return subprocess.run(
        command(*arguments),
        input=given,
        env=environment(env),
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
    )


@contextmanager
def running_kvs(
    *arguments: str,
    stdin: int | IO[bytes] | None = subprocess.PIPE,
    stdout: int | IO[bytes] = subprocess.PIPE,
    stderr: int = subprocess.PIPE,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command whose input and output the test holds, unbuffered."""
    process = subprocess.Popen(
        command(*arguments),
        env=environment(),
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        bufsize=0,
    )
    try:
        with process:
            yield process
    finally:
        process.kill()


def pipe_of(stream: IO[bytes] | None) -> IO[bytes]:
    """Return an end that the test holds."""
    assert stream is not None
    return stream


def at(server: Server) -> tuple[str, ...]:
    """Return the flags that tell where a server is."""
    return "--host", server.host, "--port", str(server.port)


def dump_from(server: Server) -> bytes:
    """Return the dump of a server, which has to succeed without a word."""
    ran = run_kvs("dump", *at(server))
    assert (ran.returncode, ran.stderr) == (0, b"")
    return ran.stdout


def load_into(server: Server, dump: bytes) -> None:
    """Load a dump into a server, through a pipe, which has to succeed."""
    ran = run_kvs("load", *at(server), given=dump)
    assert (ran.returncode, ran.stdout) == (0, b""), ran.stderr
    assert re.fullmatch(SUMMARY, ran.stderr), ran.stderr


def told(ran: Run, code: int = 1) -> str:
    """Return the one line in which a command told why it failed, having checked that it did nothing else."""
    assert ran.returncode == code, ran
    assert ran.stdout == b""
    (line,) = ran.stderr.decode().splitlines()
    assert line.startswith("kvs: ")
    return line


def fill(client: Client, data: Iterable[tuple[str, str]]) -> None:
    """Put entries, many at a time."""
    lines = [f"PUT {key} {value}" for key, value in data]
    for first in range(0, len(lines), 100):
        client.ok(*lines[first : first + 100])

"""Runs three members of etcd and three servers of kvs on loopback, for a look around; Ctrl-C ends all of them.

Usage, in the project's root: ``python tools/cluster.py [PORT]``, with an interpreter that has kvs. The servers have the
ports from PORT on, 4001 by default, and the members of etcd ports behind these. A server that ends is started again, as
a supervisor would do. The data are in a temporary directory, which is deleted at the end.
"""

import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final, NoReturn

FIRST_PORT: Final = 4001
SIZE: Final = 3
HOST: Final = "127.0.0.1"
SPAN: Final = 20 + SIZE
"""From the first port to the one behind the last."""

PAUSE_S: Final = 5.0
"""Before a server is started again: longer than a lease, so that another one takes over."""

SHOWN: Final = ("port", "leader", "term", "keys", "seconds", "reason", "exit_code")


class Program:
    """A program that is started again when it ends.

    Args:
        name: What its lines begin with.
        command: How it is started.
    """

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self._name = name
        self._command = command
        self._process: subprocess.Popen[str] | None = None
        self._starting = threading.Lock()
        self._ending = threading.Event()
        self._runner = threading.Thread(target=self._run)
        self._runner.start()

    def end(self) -> None:
        """End it."""
        with self._starting:
            self._ending.set()
            if self._process is not None:
                self._process.terminate()
        self._runner.join()

    def _start(self) -> "subprocess.Popen[str] | None":
        """Start it, unless it is to end. Ctrl-C in a terminal does not reach it."""
        with self._starting:
            if not self._ending.is_set():
                self._process = subprocess.Popen(
                    self._command,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    start_new_session=True,
                )
                return self._process
        return None

    def _run(self) -> None:
        while process := self._start():
            last = ""
            with process:
                for line in process.stdout or ():
                    last = line
                    self._show(line, process.pid)
            if not self._ending.wait(PAUSE_S):
                print(f"{self._name}: ended, and is started again: {last}", end="", flush=True)

    def _show(self, line: str, pid: int) -> None:
        """Show the events of a server, but for those of clients."""
        try:
            event = json.loads(line)
        except ValueError:
            return
        if isinstance(event, dict) and "event" in event and not str(event["event"]).startswith("client_"):
            said = " ".join(f"{key}={event[key]}" for key in SHOWN if key in event)
            print(f"{self._name}, process {pid}: {event['event']} {said}", flush=True)


def main(arguments: Sequence[str]) -> None:
    """Run the cluster until a signal comes."""
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # it is a text stream
    port = _first_port(arguments)
    if shutil.which("etcd") is None:
        _fail("there is no etcd; on Debian and Ubuntu: apt install etcd-server")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with (
        suppress(KeyboardInterrupt),
        tempfile.TemporaryDirectory(prefix="kvs-cluster-") as directory,
        ExitStack() as stack,
    ):
        clients = [f"http://{HOST}:{port + 10 + at}" for at in range(SIZE)]
        peers = [f"http://{HOST}:{port + 20 + at}" for at in range(SIZE)]
        together = ",".join(f"etcd{at}={peer}" for at, peer in enumerate(peers))
        for at in range(SIZE):
            member = ["etcd", "--name", f"etcd{at}", "--data-dir", str(Path(directory, f"etcd{at}"))]
            member += ["--listen-client-urls", clients[at], "--advertise-client-urls", clients[at]]
            member += ["--listen-peer-urls", peers[at], "--initial-advertise-peer-urls", peers[at]]
            member += ["--initial-cluster", together, "--initial-cluster-state", "new"]
            stack.callback(Program(f"etcd{at}", member).end)
        endpoints = ",".join(client.removeprefix("http://") for client in clients)
        for at in range(SIZE):
            server = [sys.executable, "-m", "kvs", "--port", str(port + at), "--log-format", "json"]
            server += ["--storage", "etcd", "--storage-option", f"endpoints={endpoints}"]
            stack.callback(Program(f"kvs{at}", server).end)
        ports = f"{port} to {port + SIZE - 1}"
        print(f"kvs on ports {ports}, which all take clients. End the process that leads, and see who is next.")
        try:
            threading.Event().wait()
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: None)  # all are being ended already


def _first_port(arguments: Sequence[str]) -> int:
    """Return the first port, behind which all that are needed are free."""
    text = arguments[0] if arguments else str(FIRST_PORT)
    last = 65_536 - SPAN
    if len(arguments) > 1 or not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= last:
        _fail(f"give no argument, or the first port, from 1 to {last}; not {' '.join(arguments)}")
    port = int(text)
    for each in (port + behind + at for behind in (0, 10, 20) for at in range(SIZE)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, each))
            except OSError as error:
                _fail(f"port {each}: {error.strerror}; give another first port")
    return port


def _fail(reason: str) -> NoReturn:
    print(f"tools/cluster.py: {reason}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])

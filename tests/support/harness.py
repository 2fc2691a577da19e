"""A server process and its line clients, as tests use them.

Nothing here sleeps to let something happen. What a test waits for is an event in the server's log, a reply, the end of
a connection or of the process; ``TIMEOUT_S`` only turns a hang into a failure. Where several things have to reach the
server at once, they are sent while it is stopped (see :meth:`Server.paused`), which makes the order of events certain.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.support.launcher import ENGINES, KVS, Event, LoggedProcess, engines_path, environment
from tests.support.line_client import CODES, OK, PONG, Client, Reply, agrees, codes, error, parse_reply, to_bytes
from tests.support.waiting import TIMEOUT_S, polling

__all__ = [
    "CODES",
    "ENGINES",
    "OK",
    "PONG",
    "TIMEOUT_S",
    "Client",
    "Event",
    "Reply",
    "Server",
    "agrees",
    "codes",
    "error",
    "parse_reply",
    "polling",
    "run_to_end",
    "slow_engine",
    "to_bytes",
]

GRACE_S: Final = 10.0
DELAY_VARIABLE: Final = "TEST_ENGINE_DELAY_S"


def slow_engine(delay_s: float) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return flags and environment of a server whose engine blocks, and takes so long for each call."""
    return ("--storage", "slow"), {"PYTHONPATH": engines_path(), DELAY_VARIABLE: str(delay_s)}


class Server(LoggedProcess):
    """A ``python -m kvs`` process. Use it as a context manager: it ends the process on every way out.

    At the end it fails the test if the server logged an error that was not expected, or wrote anything but events.

    Args:
        flags: Command line, without ``--port``.
        env: Further environment variables; those of kvs are not inherited.
        before: What to put before the command.
        open_files: ``ulimit -n`` arguments, such as ``("-S", "64")`` for the soft limit only.
        expect: Events of level error or critical that the test provokes.
        listens: Whether the process is to be waited for until it listens.
        json_log: Whether its log is JSON; if not, there are no events to be had.
        command: What runs kvs.
        stderr: A descriptor to log to, in place of one that the test reads; -1 for none. There are no events then, and
            the port is found where the kernel keeps it.
    """

    def __init__(
        self,
        *flags: str,
        env: Mapping[str, str] | None = None,
        before: tuple[str, ...] = (),
        open_files: tuple[str, ...] = (),
        expect: tuple[str, ...] = (),
        listens: bool = True,
        json_log: bool = True,
        command: Sequence[str] = KVS,
        stderr: int | None = None,
    ) -> None:
        self.host = "127.0.0.1"
        self.port = 0
        self._directory = tempfile.TemporaryDirectory(prefix="kvs-test-")
        if "sqlite" in flags and "--data-dir" not in flags:
            flags = ("--data-dir", self._directory.name, *flags)
        if "etcd" in flags:
            flags = ("--storage-option", f"namespace={Path(self._directory.name).name}", *flags)
        command = [*before, *command, *(() if "--port" in flags else ("--port", "0")), *flags]
        if open_files:
            command = ["/bin/sh", "-c", f'ulimit {" ".join(open_files)}; exec "$@"', "sh", *command]
        if stderr == -1:
            command = ["/bin/sh", "-c", 'exec "$@" 2>&-', "sh", *command]
        super().__init__(command, slow_engine(0.0)[1] | dict(env or {}), subprocess.DEVNULL if stderr == -1 else stderr)
        self._logs_elsewhere = stderr is not None
        self._expect = frozenset(expect)
        self._listens = listens
        self._json_log = json_log
        self._clients: list[Client] = []

    def __enter__(self) -> Self:
        self.start()
        try:
            if self._listens and self._logs_elsewhere:
                self.port = self._find_port()
            elif self._listens and self._json_log:
                listening = self.wait_for("listening")
                self.host, self.port = listening["host"], listening["port"]
            elif self._listens:
                self.port = self._wait_for_port()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        self._end()
        self.show_log()
        if kind is None:
            self.check_log()

    # The process.

    def _end(self) -> None:
        self.close_clients()
        self.end(GRACE_S)
        self._directory.cleanup()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the process, so that what is done meanwhile reaches it all at once."""
        self.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)
        try:
            yield
        finally:
            self.send_signal(signal.SIGCONT)

    def rss_bytes(self) -> int:
        """Return the resident memory."""
        return self._status_kib("VmRSS") << 10

    def peak_rss_bytes(self) -> int:
        """Return the most resident memory there has been."""
        return self._status_kib("VmHWM") << 10

    def _status_kib(self, name: str) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        found = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
        assert found is not None
        return int(found[1])

    # Its log.

    def wait_for_one(self, name: str, /, **fields: object) -> Event:
        """Wait for an event of that name, with those fields, and check that it is the only one so far; return it."""
        event = self.wait_for(name, 1, **fields)
        assert len(self.events(name, **fields)) == 1
        return event

    def wait_left(self, client: Client) -> Event:
        """Wait until the server has seen a client leave; return that event."""
        return self.wait_for("client_disconnected", peer=client.name)

    def show_log(self) -> None:
        """Print the end of the log, which is shown if the test fails."""
        sys.stdout.write(self.log[-4000:].decode(errors="backslashreplace"))

    def check_log(self) -> None:
        """Fail if there was anything in the log that should not be there."""
        assert not (self._json_log and self.other_lines), "\n".join(self.other_lines)
        for event in self.events():
            assert event["level"] in ("debug", "info", "warning") or event["event"] in self._expect, event

    def _wait_for_port(self) -> int:
        for _ in polling("the server listens"):
            found = re.search(r"\blistening\b.* port=(\d+)", "\n".join(self.other_lines))
            if found is not None:
                return int(found[1])
        raise AssertionError

    def _find_port(self) -> int:
        """Return the port of the socket that the process listens on."""
        for _ in polling("the server listens"):
            assert self.exit_code is None, "the server ended"
            inodes = self._socket_inodes()
            if not inodes:  # it has not come that far
                continue
            # Its columns: number, local address, remote address, state (0A listens), ..., inode.
            for row in map(str.split, Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]):
                if row[3] == "0A" and row[9] in inodes:
                    return int(row[1].partition(":")[2], 16)
        raise AssertionError

    def _socket_inodes(self) -> set[str]:
        """Return the inodes of its sockets, as the kernel calls them."""
        found = set()
        for descriptor in Path(f"/proc/{self.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                kind, _, inode = str(descriptor.readlink()).partition(":")
                if kind == "socket":
                    found.add(inode.strip("[]"))
        return found

    # Its clients.

    def close_clients(self) -> None:
        """Close every client that is still connected."""
        for client in self._clients:
            client.close()
        self._clients.clear()

    def clear(self) -> None:
        """Close every client, delete every key, and forget the log so far, so that another test may use the server.

        Fails if the tests so far have left anything in the server that should not be there.
        """
        self.close_clients()
        with Client(self.host, self.port) as client:
            while keys := client.ask("KEYS")["result"]:
                client.ok(*(f"DEL {key}\r" for key in keys))  # the server drops one CR, which a key may end in
        self.wait_left(client)
        with Client(self.host, self.port) as client:  # another: what one has sent much by may be off by 4 KiB
            for _ in polling("nothing is left of the clients there were"):
                figures = client.info("server")
                if figures["clients"] == 1 and not figures.get("history_bytes"):
                    break
            assert figures["open_transactions"] == 0
            assert figures["clients_bytes"] < 1 << 10
        self.wait_left(client)
        self.check_log()
        self.forget_log()

    def connect(self, receive_buffer_bytes: int | None = None, host: str | None = None) -> Client:
        """Connect a client, which is closed with the server at the latest."""
        client = Client(host or self.host, self.port, receive_buffer_bytes)
        self._clients.append(client)
        return client

    def connect_known(self) -> tuple[Client, Event]:
        """Connect a client and wait until the server has logged it."""
        client = self.connect()
        return client, self.wait_for("client_connected", peer=client.name)


def run_to_end(*arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run ``python -m kvs`` with arguments it is to give up on, and return what became of it."""
    return subprocess.run(
        [*KVS, *arguments],
        env=environment(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )

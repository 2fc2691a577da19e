"""A server process and its line clients, as tests use them.

Nothing here sleeps to let something happen. What a test waits for is an event in the server's log, a reply, the end of
a connection or of the process; ``TIMEOUT_S`` only turns a hang into a failure. Where several things have to reach the
server at once, they are sent while it is stopped (see :meth:`Server.paused`), which makes the order of events certain.
"""

import array
import contextlib
import fcntl
import json
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeAlias

Reply: TypeAlias = dict[str, Any]
Event: TypeAlias = dict[str, Any]

TIMEOUT_S: Final = float(os.environ.get("TEST_TIMEOUT_S", "40"))
"""How long to wait for what should happen before it counts as a hang; less is of use when faults are planted."""
GRACE_S: Final = 10.0
ENGINES: Final = Path(__file__).parent / "engines"

DELAY_VARIABLE: Final = "TEST_ENGINE_DELAY_S"

OK: Final[Reply] = {"status": "Ok"}
PONG: Final[Reply] = {"status": "Ok", "result": "PONG"}

CODES: Final = frozenset(
    {
        "usage",
        "unknown_command",
        "encoding",
        "too_large",
        "no_transaction",
        "conflict",
        "limit",
        "timeout",
        "protocol",
        "unavailable",
        "outcome_unknown",
        "internal",
    }
)
"""Every code that the protocol has."""

_FIELDS: Final = (
    ("status",),
    ("status", "result"),
    ("status", "result", "mesg"),
    ("status", "mesg"),
    ("status", "code", "mesg"),
)


def parse_reply(line: bytes) -> Reply:
    """Return a reply, having checked that it is one: one line of JSON, its fields in their order, a known code."""
    assert line.endswith(b"\n"), f"a reply was cut short: {line[-80:]!r}"
    fields: list[str] = []

    def note_order(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields[:] = [name for name, _ in pairs]  # the outermost object comes last
        return dict(pairs)

    reply = json.loads(line.decode(), object_pairs_hook=note_order)
    assert isinstance(reply, dict)
    assert tuple(fields) in _FIELDS, line
    assert reply["status"] == ("Error" if "code" in reply else "Ok"), line
    assert reply.get("code", "limit") in CODES, line
    return reply


def error(code: str) -> Reply:
    """Return what :func:`agrees` takes for any error of a code; its wording is open."""
    return {"status": "Error", "code": code}


def agrees(actual: Reply, expected: Reply) -> bool:
    """Return whether a reply is the expected one, its fields in the order that is promised."""
    if expected["status"] == "Ok":
        return list(actual.items()) == list(expected.items())
    named = list(actual) == ["status", "code", "mesg"] and isinstance(actual["mesg"], str) and actual["mesg"] != ""
    return named and actual["status"] == "Error" and actual["code"] == expected["code"]


def slow_engine(delay_s: float) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return flags and environment of a server whose engine blocks, and takes so long for each call."""
    path = ":".join(filter(None, [str(ENGINES), os.environ.get("PYTHONPATH")]))
    return ("--storage", "slow"), {"PYTHONPATH": path, DELAY_VARIABLE: str(delay_s)}


def to_bytes(line: str | bytes) -> bytes:
    """Return text as it goes over the wire."""
    return line.encode() if isinstance(line, str) else line


class Client:
    """One connection to the server, speaking the line protocol.

    Args:
        host: Address to connect to.
        port: Port to connect to.
        receive_buffer_bytes: Size of the kernel's receive buffer, to make a client that takes little without reading.
    """

    def __init__(self, host: str, port: int, receive_buffer_bytes: int | None = None) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        try:
            if receive_buffer_bytes is not None:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
            self.socket.settimeout(TIMEOUT_S)
            self.socket.connect((host, port))
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            self.socket.close()
            raise
        own = self.socket.getsockname()
        self.name = f"[{own[0]}]:{own[1]}" if family == socket.AF_INET6 else f"{own[0]}:{own[1]}"
        self._received = bytearray()
        self._scanned = 0
        self._senders: list[threading.Thread] = []

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Sending.

    def send(self, *lines: str | bytes) -> None:
        """Send lines, in one packet if they fit."""
        self.send_raw(b"".join(to_bytes(line) + b"\n" for line in lines))

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def send_behind(self, data: bytes) -> None:
        """Send bytes from a thread of its own; that the server stops listening meanwhile is no failure."""

        def run() -> None:
            with contextlib.suppress(OSError):
                self.socket.sendall(data)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self._senders.append(thread)

    def wait_sent(self) -> None:
        """Wait until everything that was sent has arrived in the server's receive buffer."""
        for thread in self._senders:
            thread.join(TIMEOUT_S)
            assert not thread.is_alive(), "the server does not take its input"
        left = array.array("i", [0])
        for _ in polling("everything sent has arrived"):
            fcntl.ioctl(self.socket.fileno(), termios.TIOCOUTQ, left)
            if left[0] == 0:
                return

    def half_close(self) -> None:
        """Tell the server that no more input comes."""
        self.socket.shutdown(socket.SHUT_WR)

    # Receiving.

    def reply(self) -> Reply:
        """Return the next reply."""
        line = self._line()
        assert line, "the connection has ended and no reply came"
        return parse_reply(line)

    def replies(self, count: int) -> list[Reply]:
        """Return the next replies."""
        return [self.reply() for _ in range(count)]

    def raw_reply(self) -> bytes:
        """Return the next reply as it came."""
        return self._line()

    def ask(self, line: str | bytes) -> Reply:
        """Send a line and return its reply."""
        self.send(line)
        return self.reply()

    def ok(self, *lines: str | bytes) -> None:
        """Send lines in one packet; every one of them has to succeed."""
        self.send(*lines)
        for line in lines:
            reply = self.reply()
            assert reply["status"] == "Ok", (line, reply)

    def get(self, key: str) -> str | None:
        """Return the value of a key."""
        reply = self.ask(f"GET {key}")
        assert reply["status"] == "Ok", reply
        value = reply["result"]
        assert value is None or isinstance(value, str)
        return value

    def info(self, part: str) -> dict[str, Any]:
        """Return what INFO says of the ``session`` or the ``server``."""
        figures = self.ask("INFO")["result"][part]
        assert isinstance(figures, dict)
        return figures

    def rest(self) -> list[Reply]:
        """Return every reply up to the end of the connection, which has to be an orderly one."""
        return [parse_reply(line) for line in self.raw_rest().splitlines(keepends=True)]

    def raw_rest(self) -> bytes:
        """Return everything up to the end of the connection, which has to be an orderly one."""
        while self._receive():
            pass
        rest = bytes(self._received)
        self._received.clear()
        self._scanned = 0
        return rest

    def wait_ended(self) -> None:
        """Read until the connection is over, orderly or not; what came is dropped."""
        with contextlib.suppress(ConnectionError):
            while self._receive():
                self._received.clear()
                self._scanned = 0

    def nothing_has_come(self) -> bool:
        """Return whether there is nothing to read now."""
        return not self._received and not select.select([self.socket], [], [], 0)[0]

    def _line(self) -> bytes:
        while True:
            end = self._received.find(b"\n", self._scanned)
            if end >= 0:
                line = bytes(self._received[: end + 1])
                del self._received[: end + 1]
                self._scanned = 0
                return line
            self._scanned = len(self._received)
            if not self._receive():
                line = bytes(self._received)
                self._received.clear()
                self._scanned = 0
                return line

    def _receive(self) -> bool:
        data = self.socket.recv(1 << 18)
        self._received += data
        return bool(data)

    # Leaving.

    def close(self) -> None:
        """Leave without a word."""
        # Before the close: it would free the descriptor under a thread that still sends on it.
        with contextlib.suppress(OSError):
            if self._senders:
                self.socket.shutdown(socket.SHUT_RDWR)
        for thread in self._senders:
            thread.join(TIMEOUT_S)
        self._senders.clear()
        self.socket.close()

    def reset(self) -> None:
        """Leave as a killed process may: the server sees a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()


class Server:
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
        stderr: int | None = None,
    ) -> None:
        self.host = "127.0.0.1"
        self.port = 0
        self._directory = tempfile.TemporaryDirectory(prefix="kvs-test-")
        if "sqlite" in flags and "--data-dir" not in flags:
            flags = ("--data-dir", self._directory.name, *flags)
        self._arguments = [
            *before,
            sys.executable,
            "-m",
            "kvs",
            *(() if "--port" in flags else ("--port", "0")),
            *flags,
        ]
        if open_files:
            self._arguments = ["/bin/sh", "-c", f'ulimit {" ".join(open_files)}; exec "$@"', "sh", *self._arguments]
        if stderr == -1:
            self._arguments = ["/bin/sh", "-c", 'exec "$@" 2>&-', "sh", *self._arguments]
            stderr = subprocess.DEVNULL
        self._stderr = stderr
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("KVS_")}
        self._env = inherited | slow_engine(0.0)[1] | dict(env or {})
        self._expect = frozenset(expect)
        self._listens = listens
        self._json_log = json_log
        self._changed = threading.Condition()
        self._events: list[Event] = []
        self._other_lines: list[str] = []
        self._raw = bytearray()
        self._log_ended = False
        self._clients: list[Client] = []

    def __enter__(self) -> "Server":
        self._process = subprocess.Popen(
            self._arguments,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE if self._stderr is None else self._stderr,
        )
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        try:
            if self._listens and self._stderr is not None:
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

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code, None while it runs."""
        return self._process.poll()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def wait_exit(self) -> int:
        """Wait until the process has ended; return its exit code."""
        code = self._process.wait(TIMEOUT_S)
        self._reader.join(TIMEOUT_S)
        return code

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.send_signal(number)
        return self.wait_exit()

    def kill(self) -> None:
        """End the process as the kernel does when memory runs out."""
        self._process.kill()
        self._process.wait()

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

    def _end(self) -> None:
        self.close_clients()
        process = self._process
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            try:
                process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._reader.join(TIMEOUT_S)
        if process.stderr is not None:
            process.stderr.close()
        self._directory.cleanup()

    # Its log.

    @property
    def log(self) -> bytes:
        """Everything written to standard error so far."""
        with self._changed:
            return bytes(self._raw)

    @property
    def other_lines(self) -> list[str]:
        """What was written to standard error and is no event."""
        with self._changed:
            return list(self._other_lines)

    def events(self, name: str | None = None, /, **fields: object) -> list[Event]:
        """Return the events so far, of that name and with those fields."""
        with self._changed:
            return [event for event in self._events if _matches(event, name, fields)]

    def wait_for(self, name: str, count: int = 1, /, **fields: object) -> Event:
        """Wait until an event of that name, with those fields, has been logged ``count`` times; return that one."""
        deadline = time.monotonic() + TIMEOUT_S
        with self._changed:
            while True:
                found = [event for event in self._events if _matches(event, name, fields)]
                if len(found) >= count:
                    return found[count - 1]
                left = deadline - time.monotonic()
                assert left > 0, f"{len(found)} of {count} events {name!r} {fields} came"
                assert not self._log_ended, f"the server ended, with {len(found)} of {count} events {name!r} {fields}"
                self._changed.wait(left)

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
            # Its columns: number, local address, remote address, state (0A listens), ..., inode.
            rows = [line.split() for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]]
            ports = {row[9]: row[1].partition(":")[2] for row in rows if row[3] == "0A"}
            for descriptor in Path(f"/proc/{self.pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    inode = descriptor.readlink().name.removeprefix("socket:[").removesuffix("]")
                    if inode in ports:
                        return int(ports[inode], 16)
        raise AssertionError

    def _read_log(self) -> None:
        for line in self._process.stderr or ():
            with self._changed:
                self._raw += line
                try:
                    event = json.loads(line)
                except ValueError:
                    self._other_lines.append(line.decode(errors="backslashreplace").rstrip("\n"))
                else:
                    self._events.append(event)
                self._changed.notify_all()
        with self._changed:
            self._log_ended = True
            self._changed.notify_all()

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
        with self._changed:
            self._events.clear()
            self._raw.clear()

    def connect(self, receive_buffer_bytes: int | None = None, host: str | None = None) -> Client:
        """Connect a client, which is closed with the server at the latest."""
        client = Client(host or self.host, self.port, receive_buffer_bytes)
        self._clients.append(client)
        return client

    def connect_known(self) -> tuple[Client, Event]:
        """Connect a client and wait until the server has logged it."""
        client = self.connect()
        return client, self.wait_for("client_connected", peer=client.name)


def _matches(event: Event, name: str | None, fields: Mapping[str, object]) -> bool:
    return (name is None or event["event"] == name) and all(
        field in event and event[field] == value for field, value in fields.items()
    )


def codes(client: Client, *lines: str | bytes) -> list[str | None]:
    """Send lines and return the codes of their replies, None for those that succeed."""
    client.send(*lines)
    return [reply.get("code") for reply in client.replies(len(lines))]


def polling(what: str) -> Iterator[None]:
    """Yield again and again, for what can only be asked for and not awaited; fail when it takes too long."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        yield
        time.sleep(0.005)  # gives the processor to those who are to get there
    raise AssertionError(f"it did not come to this: {what}")


def run_to_end(*arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run ``python -m kvs`` with arguments it is to give up on, and return what became of it."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("KVS_")}
    return subprocess.run(
        [sys.executable, "-m", "kvs", *arguments],
        env=inherited | dict(env or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )

"""Starts servers: they die with the test process, however that ends, and their log is read."""

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final, TypeAlias

from tests.support.waiting import TIMEOUT_S

Event: TypeAlias = dict[str, Any]

KVS: Final = (sys.executable, "-m", "kvs")
ENGINES: Final = Path(__file__).parent / "engines"
"""The folder of the package of engines that tests run servers over."""

_GUARD: Final = """
import os, signal, sys
pids = set()
for line in sys.stdin:  # it ends with the process that holds the other end
    pid = int(line)
    pids.add(pid) if pid > 0 else pids.discard(-pid)
for pid in pids:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
"""


class _Guard:
    """A process that waits for the end of this one, and then kills what this one has started."""

    def __init__(self) -> None:
        self._pid = 0
        self._stdin: IO[bytes] | None = None
        self._lock = threading.Lock()

    def say(self, number: int) -> None:
        """Name a process to kill, or with a minus one that has ended."""
        with self._lock:
            if self._pid != os.getpid():  # there is none yet, or it is that of a process which this one was forked from
                self._pid = os.getpid()
                # In a session by itself, where no Ctrl-C reaches it. It ends with this process, so nobody waits for it.
                guard = subprocess.Popen(
                    [sys.executable, "-S", "-c", _GUARD],
                    stdin=subprocess.PIPE,
                    bufsize=0,
                    cwd="/",
                    start_new_session=True,
                )
                guard.returncode = 0
                assert guard.stdin is not None
                self._stdin = guard.stdin
                atexit.register(guard.stdin.close)
            assert self._stdin is not None
            self._stdin.write(b"%d\n" % number)


_guard: Final = _Guard()


def engines_path() -> str:
    """Return the ``PYTHONPATH`` with which a server has the engines of the tests."""
    return ":".join(filter(None, [str(ENGINES), os.environ.get("PYTHONPATH")]))


def environment(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for kvs: that of this process without the variables of kvs, and some more."""
    return {name: value for name, value in os.environ.items() if not name.startswith("KVS_")} | dict(env or {})


class LoggedProcess:
    """A server process, to be started, and its log.

    Args:
        command: The command.
        env: What the environment has besides what it inherits; see :func:`environment`.
        stderr: A descriptor to log to, in place of one that is read here.
        lock: To be held while it is started.
    """

    def __init__(
        self,
        command: Sequence[str],
        env: Mapping[str, str] | None = None,
        stderr: int | None = None,
        lock: "threading.Lock | None" = None,
    ) -> None:
        self._command = command
        self._env = environment(env)
        self._stderr = stderr
        self._lock = lock
        self._changed = threading.Condition()
        self._events: list[Event] = []
        self._other_lines: list[str] = []
        self._raw = bytearray()
        self._log_ended = False

    # The process.

    def start(self) -> None:
        """Start it."""
        with self._lock or contextlib.nullcontext():
            self._process = subprocess.Popen(
                self._command,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE if self._stderr is None else self._stderr,
            )
        _guard.say(self.pid)
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

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

    def end(self, grace_s: float = 0.0) -> None:
        """See to it that the process has ended, in an orderly way if there is time for that."""
        process = self._process
        if grace_s and process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(grace_s)
        process.kill()
        process.wait()
        _guard.say(-self.pid)
        self._reader.join(TIMEOUT_S)
        if process.stderr is not None:
            process.stderr.close()

    # Its log.

    @property
    def log(self) -> bytes:
        """Everything written to standard error so far."""
        with self._changed:
            return bytes(self._raw)

    @property
    def log_ended(self) -> bool:
        """Whether it can log no more: it has ended."""
        with self._changed:
            return self._log_ended

    @property
    def other_lines(self) -> list[str]:
        """What was written to standard error and is no event."""
        with self._changed:
            return list(self._other_lines)

    def events(self, name: str | None = None, /, **fields: object) -> list[Event]:
        """Return the events so far, of that name and with those fields."""
        with self._changed:
            return [event for event in self._events if _matches(event, name, fields)]

    def failures(self) -> list[Event]:
        """Return the events so far that tell of errors."""
        return [event for event in self.events() if event["level"] in ("error", "critical")]

    def wait_for(self, name: str, count: int = 1, /, **fields: object) -> Event:
        """Wait until an event of that name, with those fields, has been logged ``count`` times; return that one."""
        found = self.wait_for_any((name,), count, **fields)
        assert found is not None, f"the server ended, without {count} events {name!r} {fields}"
        return found

    def wait_for_any(self, names: Collection[str], count: int = 1, /, **fields: object) -> Event | None:
        """Wait until there have been ``count`` events of these names; return that one, or None if it ends first."""
        deadline_s = time.monotonic() + TIMEOUT_S
        with self._changed:
            while True:
                found = [event for event in self._events if event["event"] in names and _matches(event, None, fields)]
                if len(found) >= count:
                    return found[count - 1]
                if self._log_ended:
                    return None
                left_s = deadline_s - time.monotonic()
                assert left_s > 0, f"{len(found)} of {count} events {names} {fields} came"
                self._changed.wait(left_s)

    def forget_log(self) -> None:
        """Forget the log so far."""
        with self._changed:
            self._events.clear()
            self._raw.clear()

    def _event(self, line: Event) -> Event:
        """Return the event of a line; of other programs, in our words."""
        return line

    def _read_log(self) -> None:
        for line in self._process.stderr or ():
            with self._changed:
                self._raw += line
                try:
                    event = self._event(json.loads(line))
                except ValueError:
                    self._other_lines.append(line.decode(errors="backslashreplace").rstrip("\n"))
                else:
                    self._events.append(event)
                self._changed.notify_all()
        with self._changed:
            self._log_ended = True
            self._changed.notify_all()


def _matches(event: Event, name: str | None, fields: Mapping[str, object]) -> bool:
    return (name is None or event["event"] == name) and all(
        field in event and event[field] == value for field, value in fields.items()
    )

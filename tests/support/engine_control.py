"""The test's end of ``watched`` and ``blocking``: what these engines were asked, in order, and what they are to do."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple

from .harness import TIMEOUT_S

CONTROL_VARIABLE: Final = "TEST_ENGINE_CONTROL"


class Call(NamedTuple):
    """One call that the engine got."""

    name: str
    keys: tuple[str, ...]


class EngineControl:
    """Listens for the engine of one server. Every call goes through unless it is to be held or to fail.

    Args:
        engines: Folder of the engine's package.
        inherited_path: ``PYTHONPATH`` to put behind it.
        name: The engine.
    """

    def __init__(self, engines: Path, inherited_path: str | None, name: str = "watched") -> None:
        self.name: Final = name
        self.calls: list[Call] = []
        self._held_names: set[str] = set()
        self._answers: dict[str, str] = {}
        self._held: list[Call] = []  # the oldest first
        self._changed = threading.Condition()
        self._connected = False
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.flags: Final = ("--storage", name)
        self.env: Final = {
            "PYTHONPATH": ":".join(filter(None, [str(engines), inherited_path])),
            CONTROL_VARIABLE: str(self._listening.getsockname()[1]),
        }

    def __enter__(self) -> "EngineControl":
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.let_go()
        if not self._connected:  # or it ends with the engine, which may outlive this
            self._stop_listening()

    # What the engine is to do.

    def hold(self, name: str) -> None:
        """Hold up every call of that name from now on. Unless the engine blocks, that holds up the whole server."""
        with self._changed:
            self._held_names.add(name)

    def wait_held(self, count: int = 1) -> Call:
        """Wait until so many calls are being held up; return the last of them."""
        self._wait(lambda: len(self._held) >= count, f"{count} calls to hold")
        with self._changed:
            return self._held[count - 1]

    def held(self) -> int:
        """Return how many calls are being held up."""
        with self._changed:
            return len(self._held)

    def step(self) -> None:
        """Let the call pass that has been held up longest, and only that."""
        with self._changed:
            del self._held[0]
            self._changed.notify_all()

    def let_go(self) -> None:
        """Hold up nothing any more."""
        with self._changed:
            self._held_names.clear()
            self._changed.notify_all()

    def answer(self, name: str, answer: str) -> None:
        """Have every call of that name fail from now on (``raise_...``, ``return_nonsense``), or ``go``."""
        with self._changed:
            self._answers[name] = answer

    # What it was asked.

    def names(self) -> list[str]:
        """Return the names of the calls so far."""
        with self._changed:
            return [call.name for call in self.calls]

    def keys(self, name: str) -> list[str]:
        """Return the keys of the calls of that name so far."""
        with self._changed:
            return [key for call in self.calls if call.name == name for key in call.keys]

    def ticks(self) -> list[list[Call]]:
        """Return the calls so far, cut behind each ``sync``, which is left out."""
        ticks: list[list[Call]] = [[]]
        with self._changed:
            for call in self.calls:
                if call.name == "sync":
                    ticks.append([])
                else:
                    ticks[-1].append(call)
        return ticks

    def clear(self) -> None:
        """Forget the calls so far."""
        with self._changed:
            self.calls.clear()

    def reset(self) -> None:
        """Let every call pass again, and forget the calls so far."""
        self.let_go()
        with self._changed:
            self._answers.clear()
            self.calls.clear()

    def wait_for(self, name: str, count: int = 1) -> None:
        """Wait until there have been that many calls of that name."""
        self._wait(lambda: sum(call.name == name for call in self.calls) >= count, f"{count} calls of {name}")

    def wait_closed(self) -> None:
        """Wait until the engine has been closed: once, after all other calls, each snapshot closed and used rightly."""
        self.wait_for("close")
        assert self.names().count("close") == 1
        assert self.names()[-1] == "close"
        assert self.keys("close") == [], "calls were under way"
        assert self.keys("misuse") == []
        assert self.names().count("snapshot") == self.names().count("snapshot.close")

    def _wait(self, there: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        with self._changed:
            while not there():
                left = deadline - time.monotonic()
                assert left > 0, f"the engine did not get {what}; it got {self.calls[-20:]}"
                self._changed.wait(left)

    def _serve(self) -> None:
        """Take the engine's first connection, which lasts as long as it does, and others of threads that call it."""
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listening.accept()
                hear = self._hear if self._connected else self._hear_to_the_end
                self._connected = True
                threading.Thread(target=hear, args=(sock,), daemon=True).start()

    def _hear_to_the_end(self, sock: socket.socket) -> None:
        self._hear(sock)
        self._stop_listening()

    def _stop_listening(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # ends accept()
        self._listening.close()

    def _hear(self, sock: socket.socket) -> None:
        with contextlib.suppress(ConnectionError), sock, sock.makefile("rb") as lines:
            for line in lines:
                told = json.loads(line)
                answer = self._obey(Call(told["call"], tuple(told["keys"])))
                sock.sendall(answer.encode() + b"\n")

    def _obey(self, call: Call) -> str:
        with self._changed:
            self.calls.append(call)
            if call.name in self._held_names:
                self._held.append(call)
                self._changed.notify_all()
                while call.name in self._held_names and any(held is call for held in self._held):
                    self._changed.wait()
                self._held = [held for held in self._held if held is not call]
            self._changed.notify_all()
            return self._answers.get(call.name, "go")

"""MONITOR: clients that see the commands of all others."""

from collections.abc import Callable
from typing import Final, final

from kvs.adapters.inbound.protocol.command import Command
from kvs.adapters.inbound.protocol.peer import Peer
from kvs.adapters.inbound.protocol.printing import shown

MAX_ARGUMENTS: Final = 64
MAX_ARGUMENT_BYTES: Final = 1024

BYTES_PER_UNIT: Final = 100
"""Bytes of a line per unit of work: they are escaped, which takes up to 30 ns each."""

MAX_WAITING_BYTES: Final = 1 << 20
"""Lines that workers may leave for the loop, which sends them."""

_NAMED: Final = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t", "\a": "\\a", "\b": "\\b"}
_ESCAPES: Final[dict[int, str]] = {
    **{code: f"\\x{code:02x}" for code in range(256) if not 0x20 <= code < 0x7F},
    **{ord(character): escape for character, escape in _NAMED.items()},
}


@final
class Monitors:
    """The clients that see the commands of all.

    Args:
        clock: Seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._listeners: dict[int, Callable[[bytes], None]] = {}
        self._waits = False
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0

    def __len__(self) -> int:
        return len(self._listeners)

    def use_workers(self) -> None:
        """Let lines wait for :meth:`flush`, because workers may not send anything."""
        self._waits = True

    def add(self, number: int, push: Callable[[bytes], None]) -> None:
        """Send every line to a client from now on, by the number of its session."""
        self._listeners[number] = push

    def remove(self, number: int) -> None:
        """Send nothing more to a client."""
        self._listeners.pop(number, None)

    def show(self, peer: Peer, command: Command, request: list[bytes]) -> int:
        """Show a command; return the units of work that took."""
        arguments = shown(command, request, MAX_ARGUMENTS, MAX_ARGUMENT_BYTES, values=True)
        words = " ".join([f'"{argument.decode("latin-1").translate(_ESCAPES)}"' for argument in arguments])
        line = f"+{self._clock():.6f} [0 {peer.address}] {words}\r\n".encode(errors="replace")
        if not self._waits:
            self._send(line)
        elif self._waiting_bytes <= MAX_WAITING_BYTES:
            self._waiting.append(line)
            self._waiting_bytes += len(line)
        return len(line) // BYTES_PER_UNIT + len(self._listeners)

    def flush(self) -> None:
        """Send the lines that wait. Only the loop calls it."""
        waiting, self._waiting = self._waiting, []
        self._waiting_bytes = 0
        for line in waiting:
            self._send(line)

    def _send(self, line: bytes) -> None:
        for push in list(self._listeners.values()):
            push(line)

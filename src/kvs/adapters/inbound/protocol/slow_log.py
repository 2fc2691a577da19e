"""The slow log: commands that have taken longer than a threshold, as many of the latest as it may hold."""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple, final

from kvs.adapters.inbound.protocol.command import Command
from kvs.adapters.inbound.protocol.peer import Peer
from kvs.adapters.inbound.protocol.printing import shown

if TYPE_CHECKING:
    from mypy_extensions import i64  # an int in a register, to the compiler

OFF: Final = -1
NEVER_NS: Final = 1 << 62

MAX_ARGUMENTS: Final = 32
MAX_ARGUMENT_BYTES: Final = 128
"""As in Redis."""


class SlowCommand(NamedTuple):
    """A command that took long.

    Attributes:
        number: Its number; they are never used again.
        unix_s: When it ended, in seconds since 1970.
        duration_us: How long it took.
        arguments: What may be shown of the request.
        address: Of the client.
        name: Of the client, as it has set it.
    """

    number: int
    unix_s: int
    duration_us: int
    arguments: list[bytes]
    address: bytes
    name: bytes


@final
class SlowLog:
    """The latest slow commands.

    Args:
        clock: Seconds since 1970.
        threshold_us: Duration from which on a command is slow, in microseconds; -1: none is.
        max_length: Number of commands that it holds.

    Attributes:
        threshold_ns: The same, in nanoseconds.
        entries: The commands, the latest first.
    """

    def __init__(self, clock: Callable[[], float], threshold_us: int, max_length: int) -> None:
        self._clock = clock
        self._next = 0
        self.threshold_us = threshold_us
        self.threshold_ns: i64 = NEVER_NS
        self.entries: deque[SlowCommand] = deque(maxlen=max_length)
        self.set_threshold(threshold_us)

    @property
    def noted(self) -> int:
        """How many commands have been slow so far."""
        return self._next

    def set_threshold(self, threshold_us: int) -> None:
        """Change what is slow."""
        self.threshold_us = threshold_us
        self.threshold_ns = NEVER_NS if threshold_us < 0 else min(threshold_us * 1000, NEVER_NS)

    def set_max_length(self, max_length: int) -> None:
        """Change how many commands are held; the oldest are dropped."""
        self.entries = deque(list(self.entries)[:max_length], maxlen=max_length)

    def add(self, peer: Peer, command: Command, request: list[bytes], duration_ns: "i64") -> None:
        """Note a command that was slow."""
        entry = SlowCommand(
            self._next,
            int(self._clock()),
            duration_ns // 1000,
            shown(command, request, MAX_ARGUMENTS, MAX_ARGUMENT_BYTES, values=False),
            peer.address.encode(),
            peer.name,
        )
        self._next += 1
        self.entries.appendleft(entry)
